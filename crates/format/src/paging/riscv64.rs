//! riscv64: Sv39, Sv48 and Sv57, 8-byte entries
//! (`sys/riscv/include/pte.h`; RISC-V Privileged Architecture, chapter 12).

use super::{Entry, Leaf, MAX_LEVELS, Paging, Prot};
use crate::addr::PhysAddr;
use crate::endian::Width;

/// riscv64's page tables: an entry with none of R, W, X points at the next table.
#[derive(Clone, Copy, Debug)]
pub struct Riscv64;

const PTE_V: u64 = 1;
const PTE_W: u64 = 1 << 2;
const PTE_X: u64 = 1 << 3;
const PTE_RWX: u64 = 0xe;
/// 44 bits of page number; the bits above are memory attributes (Svnapot, Svpbmt).
const PPN: u64 = 0x003f_ffff_ffff_fc00;

impl Paging for Riscv64 {
    const ENTRY: Width = Width::W64;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 9;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] =
        ["L3 entry", "L2 entry", "L1 entry", "L0 entry", "L-1 entry"];

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        if raw & PTE_V == 0 {
            return Entry::Absent;
        }
        let frame = (raw & PPN) >> 10 << 12;
        if raw & PTE_RWX == 0 {
            return if level == 0 {
                Entry::Absent
            } else {
                Entry::Table(PhysAddr(frame))
            };
        }
        let size_shift = Self::shift(level);
        Entry::Leaf(Leaf {
            pa: PhysAddr(frame & (u64::MAX << size_shift)),
            size_shift,
            prot: Prot {
                write: raw & PTE_W != 0,
                execute: raw & PTE_X != 0,
            },
        })
    }

    /// All flags are kept; the low bits of a large page's number are zero.
    #[inline]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64 {
        let inside = !(u64::MAX << (Self::shift(from) - Self::PAGE_SHIFT)) << 10;
        (raw & !inside) | (k << (Self::shift(level) - Self::PAGE_SHIFT) << 10)
    }
}
