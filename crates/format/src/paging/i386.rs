//! i386: two levels of 4-byte entries, or PAE's three levels of 8-byte entries
//! (`sys/i386/include/pmap_nopae.h`, `pmap_pae.h`).

use super::{Entry, Leaf, MAX_LEVELS, Paging, Prot};
use crate::addr::PhysAddr;
use crate::endian::Width;

/// i386 without PAE: 1024 entries to a table, 4 KiB and 4 MiB pages.
#[derive(Clone, Copy, Debug)]
pub struct I386;

/// i386 with PAE: 512 entries to a table, 4 KiB and 2 MiB pages, four directory pointers on top.
#[derive(Clone, Copy, Debug)]
pub struct I386Pae;

const PG_V: u64 = 1;
const PG_RW: u64 = 1 << 1;
/// Large page in a directory entry; PAT in a PTE.
const PG_PS: u64 = 1 << 7;
const PG_NX: u64 = 1 << 63;
/// Flags of a fabricated PTE: valid, writable, accessed, modified.
const PG_FABRICATED: u64 = 0x63;
const FRAME: u64 = 0xffff_f000;
const PAE_FRAME: u64 = 0x000f_ffff_ffff_f000;

impl Paging for I386 {
    const ENTRY: Width = Width::W32;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 10;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = ["PTE", "PDE", "", "", ""];

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        if raw & PG_V == 0 {
            return Entry::Absent;
        }
        if level > 0 && raw & PG_PS == 0 {
            return Entry::Table(PhysAddr(raw & FRAME));
        }
        let size_shift = Self::shift(level);
        Entry::Leaf(Leaf {
            pa: PhysAddr(raw & FRAME & (u64::MAX << size_shift)),
            size_shift,
            prot: Prot {
                write: raw & PG_RW != 0,
                execute: true,
            },
        })
    }

    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        let frame = raw & FRAME & (u64::MAX << Self::shift(from));
        frame | k << Self::shift(level) | PG_FABRICATED
    }
}

impl Paging for I386Pae {
    const ENTRY: Width = Width::W64;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 9;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = ["PTE", "PDE", "PDPTE", "", ""];

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        if raw & PG_V == 0 {
            return Entry::Absent;
        }
        let is_leaf = level == 0 || (level == 1 && raw & PG_PS != 0);
        if !is_leaf {
            return Entry::Table(PhysAddr(raw & PAE_FRAME));
        }
        let size_shift = Self::shift(level);
        Entry::Leaf(Leaf {
            pa: PhysAddr(raw & PAE_FRAME & (u64::MAX << size_shift)),
            size_shift,
            prot: Prot {
                write: raw & PG_RW != 0,
                execute: raw & PG_NX == 0,
            },
        })
    }

    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        let frame = raw & PAE_FRAME & (u64::MAX << Self::shift(from));
        frame | k << Self::shift(level) | PG_FABRICATED
    }
}
