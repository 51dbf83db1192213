//! arm: descriptors of two levels, 4 bytes each (`sys/arm/include/pte.h`; ARM Architecture Reference
//! Manual, short-descriptor format).

use super::{Entry, Leaf, MAX_LEVELS, Paging, Prot};
use crate::addr::PhysAddr;
use crate::endian::Width;

/// arm since version 6 of the architecture: 4 KiB and 64 KiB pages, sections of 1 MiB and 16 MiB.
#[derive(Clone, Copy, Debug)]
pub struct ArmV6;

/// arm before: a descriptor of type 3 is a tiny page, which kernels do not use.
#[derive(Clone, Copy, Debug)]
pub struct ArmV4;

/// Types in the low two bits: of level 0, then of level 1.
const L2_LARGE: u64 = 1;
const L2_SMALL: u64 = 2;
const L2_SMALL_XN: u64 = 3;
const L1_COARSE: u64 = 1;
const L1_SECTION: u64 = 2;
const L1_SECTION_PXN: u64 = 3;
/// A section of 16 MiB.
const L1_SUPER: u64 = 1 << 18;
/// V6, level 0: FreeBSD's read-only bit, and no execution (large and small pages have it elsewhere).
const V6_RO: u64 = 0x80;
const V6_XN_LARGE: u64 = 1 << 15;
/// V6, level 1: read-only, no execution.
const V6_L1_RO: u64 = 1 << 13;
const V6_L1_XN: u64 = 1 << 4;
/// V4: the kernel may write.
const V4_W: u64 = 0x10;
const V4_L1_W: u64 = 1 << 10;
/// Bits of a level-0 descriptor that a fabricated one gets: accessed, small page.
const FABRICATED: u64 = 0x10 | L2_SMALL;

const SHIFT_64K: u32 = 16;
const SHIFT_16M: u32 = 24;

const fn leaf(raw: u64, size_shift: u32, write: bool, execute: bool) -> Entry {
    Entry::Leaf(Leaf {
        pa: PhysAddr(raw & 0xffff_ffff & (u64::MAX << size_shift)),
        size_shift,
        prot: Prot { write, execute },
    })
}

/// Level 1: sections, and tables of level 0.
const fn first_level(raw: u64, write: bool, execute: bool, section_pxn: bool) -> Entry {
    match raw & 3 {
        L1_COARSE => Entry::Table(PhysAddr(raw & 0xffff_fc00)),
        L1_SECTION if raw & L1_SUPER != 0 => leaf(raw, SHIFT_16M, write, execute),
        L1_SECTION => leaf(raw, 20, write, execute),
        L1_SECTION_PXN if section_pxn => leaf(raw, 20, write, false),
        _ => Entry::Absent,
    }
}

impl Paging for ArmV6 {
    const ENTRY: Width = Width::W32;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 8;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = ["L2 descriptor", "L1 descriptor", "", "", ""];

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        if level > 0 {
            return first_level(raw, raw & V6_L1_RO == 0, raw & V6_L1_XN == 0, true);
        }
        let write = raw & V6_RO == 0;
        match raw & 3 {
            L2_LARGE => leaf(raw, SHIFT_64K, write, raw & V6_XN_LARGE == 0),
            L2_SMALL => leaf(raw, Self::PAGE_SHIFT, write, true),
            L2_SMALL_XN => leaf(raw, Self::PAGE_SHIFT, write, false),
            _ => Entry::Absent,
        }
    }

    /// Section attributes are translated as the kernel's pmap does: read-only and execution stay.
    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        let Entry::Leaf(section) = Self::decode(from, raw) else {
            return 0;
        };
        let read_only = if section.prot.write { 0 } else { V6_RO };
        let no_execution = if section.prot.execute { 0 } else { 1 };
        (section.pa.0 + (k << Self::shift(level))) | FABRICATED | read_only | no_execution
    }
}

impl Paging for ArmV4 {
    const ENTRY: Width = Width::W32;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 8;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = ["L2 descriptor", "L1 descriptor", "", "", ""];

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        if level > 0 {
            return first_level(raw, raw & V4_L1_W != 0, true, false);
        }
        let write = raw & V4_W != 0;
        match raw & 3 {
            L2_LARGE => leaf(raw, SHIFT_64K, write, true),
            L2_SMALL => leaf(raw, Self::PAGE_SHIFT, write, true),
            _ => Entry::Absent,
        }
    }

    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        match Self::decode(from, raw) {
            Entry::Leaf(section) => (section.pa.0 + (k << Self::shift(level))) | FABRICATED,
            _ => 0,
        }
    }
}
