//! mips: software-managed entries of 4 or 8 bytes; dumps hold the last level only
//! (`sys/mips/include/pte.h`).

use super::{Entry, Leaf, MAX_LEVELS, Paging, Prot};
use crate::addr::PhysAddr;
use crate::endian::Width;

/// mips with 4-byte entries: o32 kernels.
#[derive(Clone, Copy, Debug)]
pub struct Mips32;

/// mips with 8-byte entries: n32 and n64 kernels.
#[derive(Clone, Copy, Debug)]
pub struct Mips64;

const PTE_V: u64 = 0x2;
/// Six bits of attributes are below the page number.
const PFN_SHIFT: u32 = 6;
const PFN_32: u64 = 0x1fff_ffc0;
const PFN_64: u64 = 0x0003_ffff_ffc0;
/// The kernel's software bit for read-only pages.
const PTE_RO_32: u64 = 1 << 29;
const PTE_RO_64: u64 = 1 << 55;

const fn decode(level: u32, raw: u64, pfn: u64, read_only: u64) -> Entry {
    if level > 0 || raw & PTE_V == 0 {
        return Entry::Absent;
    }
    Entry::Leaf(Leaf {
        pa: PhysAddr((raw & pfn) >> PFN_SHIFT << 12),
        size_shift: 12,
        prot: Prot {
            write: raw & read_only == 0,
            execute: true,
        },
    })
}

impl Paging for Mips32 {
    const ENTRY: Width = Width::W32;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 10;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = ["PTE", "", "", "", ""];

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        decode(level, raw, PFN_32, PTE_RO_32)
    }

    /// Kernels here have no large pages.
    fn fabricate(_: u32, _: u64, _: u32, _: u64) -> u64 {
        0
    }
}

impl Paging for Mips64 {
    const ENTRY: Width = Width::W64;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: u32 = 9;
    const ENTRY_NAMES: [&'static str; MAX_LEVELS] = ["PTE", "", "", "", ""];

    #[inline]
    fn decode(level: u32, raw: u64) -> Entry {
        decode(level, raw, PFN_64, PTE_RO_64)
    }

    /// Kernels here have no large pages.
    fn fabricate(_: u32, _: u64, _: u32, _: u64) -> u64 {
        0
    }
}
