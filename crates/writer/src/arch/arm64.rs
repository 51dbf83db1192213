//! arm64: version 3, with 4 KiB and 16 KiB pages (`sys/arm64/arm64/minidump_machdep.c`). FreeBSD has
//! no full dumps of arm64.

use super::{KernelPaging, MinidumpFormat};
use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::extension::kernel::TableKind;
use vmcore_format::paging::{Arm64Granule4K, Arm64Granule16K};

const FORMATS: &[MinidumpFormat] = &[MinidumpFormat {
    version: 3,
    section_level: 0,
}];

impl KernelPaging for Arm64Granule4K {
    const TABLES: TableKind = TableKind::Arm64Granule4K;
    const ARCH: Arch = Arch::Arm64;
    const PAGE_SIZE: PageSize = PageSize::SIZE_4K;
    const FORMATS: &'static [MinidumpFormat] = FORMATS;
    const HAS_FULL_DUMPS: bool = false;
}

impl KernelPaging for Arm64Granule16K {
    const TABLES: TableKind = TableKind::Arm64Granule16K;
    const ARCH: Arch = Arch::Arm64;
    const PAGE_SIZE: PageSize = PageSize::SIZE_16K;
    const FORMATS: &'static [MinidumpFormat] = FORMATS;
    const HAS_FULL_DUMPS: bool = false;
}
