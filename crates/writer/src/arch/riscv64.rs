//! riscv64: version 2 (`sys/riscv/riscv/minidump_machdep.c`). No reader knows its full dumps.

use super::{KernelPaging, MinidumpFormat};
use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::extension::kernel::TableKind;
use vmcore_format::paging::Riscv64;

impl KernelPaging for Riscv64 {
    const TABLES: TableKind = TableKind::Riscv64;
    const ARCH: Arch = Arch::Riscv64;
    const PAGE_SIZE: PageSize = PageSize::SIZE_4K;
    const FORMATS: &'static [MinidumpFormat] = &[MinidumpFormat {
        version: 2,
        section_level: 0,
    }];
    const HAS_FULL_DUMPS: bool = false;
}
