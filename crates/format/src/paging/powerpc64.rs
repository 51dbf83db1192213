//! powerpc64's radix tables: 8-byte entries, big-endian whatever the kernel's byte order is
//! (`sys/powerpc/include/pte.h`; Power ISA, Book III, radix tree translation).
//!
//! The root has 8192 entries of 512 GiB, the tables below 512 each.

use super::{Entry, Leaf, MAX_LEVELS, Paging, Prot};
use crate::addr::PhysAddr;
use crate::endian::Width;

/// Radix tables as a big-endian kernel reads them.
#[derive(Clone, Copy, Debug)]
pub struct Powerpc64Radix;

/// The same as a little-endian kernel reads them: each entry with its bytes swapped.
#[derive(Clone, Copy, Debug)]
pub struct Powerpc64RadixSwapped;

/// Entries of the root.
pub const ROOT_ENTRIES: u64 = 8192;
/// Level of the root's entries.
pub const ROOT_LEVEL: u32 = 3;

const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
const FRAME: u64 = 0x00ff_ffff_ffff_f000;
const TABLE: u64 = 0x00ff_ffff_ffff_ff00;
/// The kernel may write; it may execute.
const EAA_W: u64 = 0x2;
const EAA_X: u64 = 0x1;

impl Paging for Powerpc64Radix {
    const ENTRY: Width = Width::W64;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 9;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] =
        ["L4 entry", "L3 entry", "L2 entry", "L1 entry", ""];

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        if raw & VALID == 0 {
            return Entry::Absent;
        }
        if raw & LEAF == 0 {
            return match level {
                0 => Entry::Absent,
                _ => Entry::Table(PhysAddr(raw & TABLE)),
            };
        }
        let size_shift = Self::shift(level);
        Entry::Leaf(Leaf {
            pa: PhysAddr(raw & FRAME & (u64::MAX << size_shift)),
            size_shift,
            prot: Prot {
                write: raw & EAA_W != 0,
                execute: raw & EAA_X != 0,
            },
        })
    }

    /// Flags stay; dumps hold the root, so that none is made in practice.
    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        let inside = FRAME & !(u64::MAX << Self::shift(from));
        (raw & !inside) | k << Self::shift(level)
    }
}

impl Paging for Powerpc64RadixSwapped {
    const ENTRY: Width = Width::W64;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 9;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = Powerpc64Radix::ENTRY_NAMES;

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        Powerpc64Radix::decode(level, raw.swap_bytes())
    }

    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        Powerpc64Radix::fabricate(from, raw.swap_bytes(), level, k).swap_bytes()
    }
}
