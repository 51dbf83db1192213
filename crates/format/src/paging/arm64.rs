//! arm64: 8-byte descriptors, 4 KiB or 16 KiB granule
//! (`sys/arm64/include/pte.h`; Arm Architecture Reference Manual, chapter D8).

use super::{Entry, Leaf, MAX_LEVELS, Paging, Prot};
use crate::addr::PhysAddr;
use crate::endian::Width;

/// arm64 with 4 KiB pages; level 0 is what Arm calls level 3.
#[derive(Clone, Copy, Debug)]
pub struct Arm64Granule4K;

/// arm64 with 16 KiB pages.
#[derive(Clone, Copy, Debug)]
pub struct Arm64Granule16K;

const ATTR_DESCR_MASK: u64 = 3;
const L3_PAGE: u64 = 3;
const TABLE: u64 = 3;
const BLOCK: u64 = 1;
/// `ATTR_S1_AP_RW_BIT`: set means read-only.
const AP_READ_ONLY: u64 = 1 << 7;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
/// Output address; bits 50 and up are attributes and FreeBSD's software bits.
const OUTPUT_ADDRESS: u64 = 0x0003_ffff_ffff_f000;

const NAMES: [&str; MAX_LEVELS] = ["L3 entry", "L2 entry", "L1 entry", "L0 entry", "L-1 entry"];

/// The highest level (from the bottom) with blocks: L1 for 4 KiB pages, L2 for 16 KiB pages.
fn decode(level: u32, raw: u64, size_shift: u32, page_shift: u32, highest_block: u32) -> Entry {
    let descriptor = raw & ATTR_DESCR_MASK;
    let is_leaf = match level {
        0 if descriptor == L3_PAGE => true,
        0 => return Entry::Absent,
        _ if descriptor == BLOCK && level <= highest_block => true,
        _ if descriptor == TABLE => false,
        _ => return Entry::Absent,
    };
    if !is_leaf {
        return Entry::Table(PhysAddr(raw & OUTPUT_ADDRESS & (u64::MAX << page_shift)));
    }
    Entry::Leaf(Leaf {
        pa: PhysAddr(raw & OUTPUT_ADDRESS & (u64::MAX << size_shift)),
        size_shift,
        prot: Prot {
            write: raw & AP_READ_ONLY == 0,
            execute: raw & (UXN | PXN) == 0,
        },
    })
}

/// Attributes of a fabricated descriptor: accessed, inner shareable, a page.
const FABRICATED: u64 = 0x703;

/// A made-up level 3 descriptor: the block's attributes are lost.
fn fabricate(raw: u64, size_shift: u32, step: u64) -> u64 {
    (raw & OUTPUT_ADDRESS & (u64::MAX << size_shift)) | step | FABRICATED
}

impl Paging for Arm64Granule4K {
    const ENTRY: Width = Width::W64;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 9;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = NAMES;

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        decode(level, raw, Self::shift(level), Self::PAGE_SHIFT, 2)
    }

    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        fabricate(raw, Self::shift(from), k << Self::shift(level))
    }
}

impl Paging for Arm64Granule16K {
    const ENTRY: Width = Width::W64;
    const PAGE_SHIFT: u32 = 14;
    const INDEX_BITS: u32 = 11;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = NAMES;

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        decode(level, raw, Self::shift(level), Self::PAGE_SHIFT, 1)
    }

    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        fabricate(raw, Self::shift(from), k << Self::shift(level))
    }
}
