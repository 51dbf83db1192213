//! amd64: version 3 (page directories; page-table pages are pages of the dump) and version 1 (the
//! final level for each 4 KiB, bitmap from physical page 0), as `sys/amd64/amd64/minidump_machdep.c`
//! wrote them from 2020 and from 2006 on.

use super::{KernelPaging, MinidumpFormat};
use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::extension::kernel::TableKind;
use vmcore_format::paging::Amd64;

impl KernelPaging for Amd64 {
    const TABLES: TableKind = TableKind::Amd64;
    const ARCH: Arch = Arch::Amd64;
    const PAGE_SIZE: PageSize = PageSize::SIZE_4K;
    const FORMATS: &'static [MinidumpFormat] = &[
        MinidumpFormat {
            version: 3,
            section_level: 1,
        },
        MinidumpFormat {
            version: 1,
            section_level: 0,
        },
    ];
    const HAS_FULL_DUMPS: bool = true;
}
