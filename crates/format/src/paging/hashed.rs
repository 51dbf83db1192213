//! powerpc64's hashed page table: where an address is looked for follows from a hash of it
//! (`sys/powerpc/aim/moea64_native.c`, `sys/powerpc/include/pte.h`; Power ISA, Book III).
//!
//! The table is an array of groups of eight entries, two 64-bit words each. A segment of 256 MiB has
//! a number (VSID) that the kernel derives from the address; group and entry name it. The kernel
//! map uses 4 KiB pages; the direct map, and the array of physical pages, 16 MiB ones where the
//! hardware has them. The table is a cache: where both groups of an address are full, an entry is
//! thrown out, and the kernel puts it back when it is next needed.
//!
//! ```
//! use vmcore_format::addr::VirtAddr;
//! use vmcore_format::paging::{Probe, PageKind};
//! let probe = Probe::of(VirtAddr(0xe000_0000_0012_3000), PageKind::Small);
//! assert_eq!(probe.vsid, 0x10_0011_43a0);
//! assert_eq!(probe.group(256, false), 131);
//! assert_eq!(probe.group(256, true), 124);
//! ```

use super::{Leaf, Prot, TableRef, Tables};
use crate::addr::{PhysAddr, VirtAddr};
use crate::endian::Width;

/// Entries of a group.
const GROUP_ENTRIES: u64 = 8;
/// Bytes of a group.
pub const GROUP_LEN: u64 = 128;
/// log2 of a segment's bytes.
const SEGMENT_SHIFT: u32 = 28;
/// The kernel's multiplier for VSIDs, and its inverse modulo 2^36.
const VSID_HASH: u64 = 0x13bb;
const VSID_HASH_INVERSE: u64 = inverse_of(VSID_HASH);
/// VSIDs of the kernel have this bit, and 36 below it.
const VSID_KERNEL: u64 = 1 << 36;
const VSID_BITS: u64 = VSID_KERNEL - 1;
/// Bits of a hash.
const HASH: u64 = 0x7f_ffff_ffff;

/// First word of an entry: valid, found by the second hash, a large page, segment size, VSID, and
/// the page's number as far as the hash does not have it.
const HI_VALID: u64 = 1;
const HI_SECONDARY: u64 = 1 << 1;
const HI_LARGE: u64 = 1 << 2;
const HI_SEGMENT_SIZE: u64 = 3 << 62;
const HI_VSID: u64 = 0x03ff_ffff_ffff_f000;
const HI_AVA: u64 = 0xf80;
/// Second word: page number, protection.
const LO_FRAME: u64 = 0x0fff_ffff_ffff_f000;
const LO_PROT: u64 = 3;
const LO_PROT_RW: u64 = 2;
const LO_NO_EXECUTE: u64 = 1 << 2;

/// The inverse of an odd number modulo 2^36, by Newton's iteration.
const fn inverse_of(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut round = 0;
    while round < 6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        round += 1;
    }
    inverse & VSID_BITS
}

/// The page size that a segment is mapped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// 4 KiB.
    Small,
    /// 16 MiB.
    Large,
}

impl PageKind {
    const fn shift(self) -> u32 {
        match self {
            Self::Small => 12,
            Self::Large => 24,
        }
    }
}

/// A hashed table in the page-table section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// Groups: a power of two.
    pub groups: u64,
    /// Whether the words are in the byte order that the kernel does not have.
    pub swapped: bool,
    /// Last address of the kernel map. The array of physical pages may be past it.
    pub last: VirtAddr,
}

/// An address as the table knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Number of its segment.
    pub vsid: u64,
    /// Number of its page in the segment.
    pub page: u64,
    kind: PageKind,
}

impl Probe {
    /// How an address is looked up.
    #[must_use]
    pub const fn of(va: VirtAddr, kind: PageKind) -> Self {
        let esid = va.0 >> SEGMENT_SHIFT;
        let spread = (esid << 8 | esid >> 28) & VSID_BITS;
        Self {
            vsid: spread.wrapping_mul(VSID_HASH) & VSID_BITS | VSID_KERNEL,
            page: (va.0 & ((1 << SEGMENT_SHIFT) - 1)) >> kind.shift(),
            kind,
        }
    }

    /// The group in a table of so many, by the first hash or the second.
    #[must_use]
    pub const fn group(&self, groups: u64, secondary: bool) -> u64 {
        let hash = (self.vsid & HASH) ^ self.page;
        let hash = if secondary { !hash & HASH } else { hash };
        hash & groups.wrapping_sub(1)
    }

    /// Whether the first word of an entry is for this page.
    const fn is_in(&self, hi: u64, secondary: bool) -> bool {
        // The entry has the highest 5 bits of a small page's number, the 4 of a large one's and a 0.
        let ava = match self.kind {
            PageKind::Small => self.page >> 11,
            PageKind::Large => self.page << 1,
        };
        let ava_in_entry = match self.kind {
            PageKind::Small => (hi & HI_AVA) >> 7,
            PageKind::Large => (hi & HI_AVA) >> 7 & !1,
        };
        hi & HI_VALID != 0
            && (hi & HI_SECONDARY != 0) == secondary
            && hi & HI_SEGMENT_SIZE == 0
            && (hi & HI_VSID) >> 12 == self.vsid
            && (hi & HI_LARGE != 0) == matches!(self.kind, PageKind::Large)
            && ava_in_entry == ava
    }
}

/// Why an address is in no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashedError<E> {
    /// No entry is for it.
    Absent {
        /// The group of the first hash.
        group: u64,
    },
    /// The table cannot be read.
    Table(E),
}

/// A mapping of a hashed table, found by going through all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedMapping {
    /// Virtual address of the page.
    pub va: VirtAddr,
    /// The page.
    pub leaf: Leaf,
}

impl Hashed {
    /// The words of entry `slot` of `group`.
    fn words<T: Tables>(&self, tables: &T, group: u64, slot: u64) -> Result<(u64, u64), T::Error> {
        let index = (group * GROUP_ENTRIES + slot) * 2;
        let word = |index| {
            let raw = tables.entry(TableRef::Section, index, Width::W64)?;
            Ok(if self.swapped { raw.swap_bytes() } else { raw })
        };
        Ok((word(index)?, word(index + 1)?))
    }

    /// Finds the mapping of `va`; the result's address is that of `va` itself.
    ///
    /// # Errors
    /// Returns an error if neither group has an entry for it, or the table cannot be read.
    pub fn lookup<T: Tables>(
        &self,
        tables: &T,
        va: VirtAddr,
    ) -> Result<Leaf, HashedError<T::Error>> {
        // An entry says of which kind it is.
        for kind in [PageKind::Small, PageKind::Large] {
            let probe = Probe::of(va, kind);
            for secondary in [false, true] {
                let group = probe.group(self.groups, secondary);
                for slot in 0..GROUP_ENTRIES {
                    let (hi, lo) = self
                        .words(tables, group, slot)
                        .map_err(HashedError::Table)?;
                    if probe.is_in(hi, secondary) {
                        let page = leaf(lo, kind);
                        let inside = va.0 & (page.len_bytes() - 1);
                        return Ok(Leaf {
                            pa: PhysAddr(page.pa.0 | inside),
                            ..page
                        });
                    }
                }
            }
        }
        Err(HashedError::Absent {
            group: Probe::of(va, PageKind::Small).group(self.groups, false),
        })
    }

    /// The mapping in entry `slot` of `group`: nothing in an empty entry, in one of another segment
    /// than the kernel's, and in one whose address a table of so few groups does not tell.
    ///
    /// # Errors
    /// Returns an error if the table cannot be read.
    pub fn mapping<T: Tables>(
        &self,
        tables: &T,
        group: u64,
        slot: u64,
    ) -> Result<Option<HashedMapping>, T::Error> {
        let (hi, lo) = self.words(tables, group, slot)?;
        Ok(self.decode(group, hi, lo))
    }

    fn decode(&self, group: u64, hi: u64, lo: u64) -> Option<HashedMapping> {
        let vsid = (hi & HI_VSID) >> 12;
        if hi & HI_VALID == 0 || hi & HI_SEGMENT_SIZE != 0 || vsid & !VSID_BITS != VSID_KERNEL {
            return None;
        }
        let kind = if hi & HI_LARGE == 0 {
            PageKind::Small
        } else {
            PageKind::Large
        };
        let spread = (vsid & VSID_BITS).wrapping_mul(VSID_HASH_INVERSE) & VSID_BITS;
        let esid = spread >> 8 | (spread & 0xff) << 28;
        let ava = (hi & HI_AVA) >> 7;
        let page = match kind {
            PageKind::Large => ava >> 1,
            PageKind::Small => {
                // The lower bits are in the group's number, as far as it has so many.
                let hash = if hi & HI_SECONDARY == 0 {
                    group
                } else {
                    !group
                };
                if self.groups < 1 << 11 {
                    return None;
                }
                ava << 11 | (hash ^ vsid) & 0x7ff
            }
        };
        let va = VirtAddr(esid << SEGMENT_SHIFT | page << kind.shift());
        // The entry is where this address is looked for, or it is rubbish.
        let secondary = hi & HI_SECONDARY != 0;
        let probe = Probe::of(va, kind);
        let is_home = probe.vsid == vsid && probe.group(self.groups, secondary) == group;
        is_home.then(|| HashedMapping {
            va,
            leaf: leaf(lo, kind),
        })
    }
}

/// The page that the second word of an entry names.
const fn leaf(lo: u64, kind: PageKind) -> Leaf {
    let size_shift = kind.shift();
    Leaf {
        pa: PhysAddr(lo & LO_FRAME & (u64::MAX << size_shift)),
        size_shift,
        prot: Prot {
            write: lo & LO_PROT == LO_PROT_RW,
            execute: lo & LO_NO_EXECUTE == 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the format's description.
    #[test]
    fn hashes_are_the_known_ones() {
        let first = Probe::of(VirtAddr(0xe000_0000_0012_3000), PageKind::Small);
        assert_eq!((first.vsid, first.page), (0x10_0011_43a0, 0x123));
        assert!(first.is_in(0x0001_0001_143a_0001, false));
        assert!(!first.is_in(0x0001_0001_143a_0001, true));
        let second = Probe::of(VirtAddr(0xe000_0000_1045_6000), PageKind::Small);
        assert_eq!(second.vsid, 0x10_0024_fea0);
        assert_eq!(
            (second.group(256, false), second.group(256, true)),
            (246, 9)
        );
        let large = Probe::of(VirtAddr(0xc000_0000_0300_0000), PageKind::Large);
        assert_eq!(large.vsid, 0x10_000e_cc40);
        assert!(large.is_in(0x0001_0000_ecc4_0305, false));
    }

    #[test]
    fn addresses_are_found_again_from_their_entries() {
        let table = Hashed {
            groups: 1 << 16,
            swapped: false,
            last: VirtAddr(0xe000_0007_ffff_ffff),
        };
        for va in [
            0xe000_0000_0012_3000,
            0xe000_0007_fffe_d000,
            0xc008_0000_1234_5000,
        ] {
            let probe = Probe::of(VirtAddr(va), PageKind::Small);
            for secondary in [false, true] {
                let hi = probe.vsid << 12 | (probe.page >> 11) << 7 | 1 | u64::from(secondary) << 1;
                let found = table.decode(probe.group(table.groups, secondary), hi, 0x5002);
                assert_eq!(found.map(|found| found.va), Some(VirtAddr(va)));
                assert_eq!(found.map(|found| found.leaf.pa), Some(PhysAddr(0x5000)));
            }
        }
        // A small table does not tell.
        let small = Hashed {
            groups: 256,
            ..table
        };
        assert_eq!(small.decode(131, 0x0001_0001_143a_0001, 0x5002), None);
    }
}
