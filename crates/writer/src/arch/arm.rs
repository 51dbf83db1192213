//! arm since version 6 of the architecture, little-endian: version 2 (`sys/arm/arm/minidump_machdep.c`).
//! Its tables are smaller than pages, so that a page of the section has four of them.

use super::{KernelPaging, MinidumpFormat};
use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::paging::ArmV6;

impl KernelPaging for ArmV6 {
    const ARCH: Arch = Arch::Arm;
    const PAGE_SIZE: PageSize = PageSize::SIZE_4K;
    const FORMATS: &'static [MinidumpFormat] = &[MinidumpFormat {
        version: 2,
        section_level: 0,
    }];
    const HAS_FULL_DUMPS: bool = true;
}
