//! arm since version 6 of the architecture, of either byte order: version 2
//! (`sys/arm/arm/minidump_machdep.c`). Its tables are smaller than pages, so that a page of the section
//! has four of them; unlike the kernel, this writer fills up the last page, which readers that round
//! the section up and readers that do not read alike.

use super::{KernelPaging, MinidumpFormat};
use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::endian::{Endian, Width};
use vmcore_format::extension::kernel::TableKind;
use vmcore_format::paging::{ArmV6, Entry, MAX_LEVELS, Paging};

/// Page tables of a big-endian arm kernel: [`ArmV6`]'s in its own byte order.
#[derive(Clone, Copy, Debug)]
pub struct ArmV6Big;

impl Paging for ArmV6Big {
    const ENTRY: Width = ArmV6::ENTRY;
    const PAGE_SHIFT: u32 = ArmV6::PAGE_SHIFT;
    const INDEX_BITS: u32 = ArmV6::INDEX_BITS;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = ArmV6::ENTRY_NAMES;

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        ArmV6::decode(level, raw)
    }

    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        ArmV6::fabricate(from, raw, level, k)
    }
}

const FORMATS: &[MinidumpFormat] = &[MinidumpFormat {
    version: 2,
    section_level: 0,
}];

impl KernelPaging for ArmV6 {
    const TABLES: TableKind = TableKind::ArmV6;
    const ARCH: Arch = Arch::Arm;
    const PAGE_SIZE: PageSize = PageSize::SIZE_4K;
    const FORMATS: &'static [MinidumpFormat] = FORMATS;
    const HAS_FULL_DUMPS: bool = true;
}

impl KernelPaging for ArmV6Big {
    const TABLES: TableKind = TableKind::ArmV6;
    const ARCH: Arch = Arch::Arm;
    const PAGE_SIZE: PageSize = PageSize::SIZE_4K;
    const ENDIAN: Endian = Endian::Big;
    const FORMATS: &'static [MinidumpFormat] = FORMATS;
    const HAS_FULL_DUMPS: bool = true;
}
