//! amd64: 8-byte entries, 512 to a table, 4 KiB, 2 MiB and 1 GiB pages, 4 or 5 levels
//! (`sys/amd64/include/pmap.h`; AMD64 Architecture Programmer's Manual, volume 2, chapter 5).

use super::{Entry, Leaf, MAX_LEVELS, Paging, Prot};
use crate::addr::PhysAddr;
use crate::endian::Width;

/// amd64's page tables. Level 2 is the 1 GiB level, level 3 the PML4, level 4 the PML5.
#[derive(Clone, Copy, Debug)]
pub struct Amd64;

const PG_V: u64 = 1;
const PG_RW: u64 = 1 << 1;
/// Large page in a PDE or PDPE; the same bit is PAT in a PTE.
const PG_PS: u64 = 1 << 7;
const PG_NX: u64 = 1 << 63;
/// Flags of a fabricated PTE: valid, writable, accessed, modified.
const PG_FABRICATED: u64 = 0x63;
const PG_FRAME: u64 = 0x000f_ffff_ffff_f000;

impl Paging for Amd64 {
    const ENTRY: Width = Width::W64;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 9;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = ["PTE", "PDE", "PDPE", "PML4E", "PML5E"];

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        if raw & PG_V == 0 {
            return Entry::Absent;
        }
        let is_leaf = match level {
            0 => true,
            1 | 2 => raw & PG_PS != 0,
            _ => false,
        };
        if !is_leaf {
            return Entry::Table(PhysAddr(raw & PG_FRAME));
        }
        let size_shift = Self::shift(level);
        // Low frame bits of a large page hold PAT and reserved bits.
        let frame = raw & PG_FRAME & (u64::MAX << size_shift);
        Entry::Leaf(Leaf {
            pa: PhysAddr(frame),
            size_shift,
            prot: Prot {
                write: raw & PG_RW != 0,
                execute: raw & PG_NX == 0,
            },
        })
    }

    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        let step = k << Self::shift(level);
        if level > 0 {
            return raw.wrapping_add(step);
        }
        (raw & PG_FRAME & (u64::MAX << Self::shift(from))) | step | PG_FABRICATED
    }
}
