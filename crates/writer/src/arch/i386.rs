//! i386: version 2, with and without PAE (`sys/i386/i386/minidump_machdep.c`).

use super::{KernelPaging, MinidumpFormat};
use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::extension::kernel::TableKind;
use vmcore_format::header::Mmu;
use vmcore_format::paging::{I386, I386Pae};

const FORMATS: &[MinidumpFormat] = &[MinidumpFormat {
    version: 2,
    section_level: 0,
}];

impl KernelPaging for I386 {
    const TABLES: TableKind = TableKind::I386;
    const ARCH: Arch = Arch::I386;
    const PAGE_SIZE: PageSize = PageSize::SIZE_4K;
    const FORMATS: &'static [MinidumpFormat] = FORMATS;
    const HAS_FULL_DUMPS: bool = true;
}

impl KernelPaging for I386Pae {
    const TABLES: TableKind = TableKind::I386Pae;
    const ARCH: Arch = Arch::I386;
    const PAGE_SIZE: PageSize = PageSize::SIZE_4K;
    const MMU: Mmu = Mmu::Pae;
    const FORMATS: &'static [MinidumpFormat] = FORMATS;
    const HAS_FULL_DUMPS: bool = true;
}
