//! Page-table entries of each architecture, and the one descent through tables.
//!
//! Writer and reader use the same code: [`lookup`] finds the leaf of one address, [`visit`]
//! finds all of them. Both are generic over the architecture ([`Paging`]) and over the memory that
//! holds the tables ([`Tables`]), which may be a dump, a running kernel or a test.
//!
//! Levels count from the bottom: level 0 is the table of smallest pages. A descent starts at a
//! top array ([`Radix`]), which is a section of the dump (minidumps store only the last levels) or
//! a physical page (the root register's). Every entry is checked before it is followed; the depth
//! is fixed by the architecture, and [`Budget`] bounds the work on aliased or cyclic tables.
//!
//! ```
//! use vmcore_format::addr::{PhysAddr, VirtAddr};
//! use vmcore_format::endian::Width;
//! use vmcore_format::paging::{Amd64, Radix, TableRef, Tables, lookup};
//! struct OneTable([u64; 2]);
//! impl Tables for OneTable {
//!     type Error = ();
//!     fn entry(&self, _: TableRef, index: u64, _: Width) -> Result<u64, ()> {
//!         self.0.get(usize::try_from(index).unwrap_or(2)).copied().ok_or(())
//!     }
//!     fn load<'b>(&'b self, _: TableRef, _: u64, _: u64, _: Width, _: &'b mut [u8]) -> Result<&'b [u8], ()> {
//!         Err(())
//!     }
//! }
//! let radix = Radix::section(0, VirtAddr(0xffff_ffff_8000_0000), 2);
//! let found = lookup::<Amd64, _>(&radix, &OneTable([0, 0x23_4003]), VirtAddr(0xffff_ffff_8000_1010));
//! assert_eq!(found.map(|leaf| leaf.pa), Ok(PhysAddr(0x23_4010)));
//! ```

mod amd64;
mod arm;
mod arm64;
mod hashed;
mod i386;
mod mips;
mod powerpc64;
mod riscv64;
mod visit;

pub use amd64::Amd64;
pub use arm::{ArmV4, ArmV6};
pub use arm64::{Arm64Granule4K, Arm64Granule16K};
pub use hashed::{GROUP_LEN, Hashed, HashedError, HashedMapping, PageKind, Probe};
pub use i386::{I386, I386Pae};
pub use mips::{Mips32, Mips64};
pub use powerpc64::{Powerpc64Radix, Powerpc64RadixSwapped, ROOT_ENTRIES, ROOT_LEVEL};
pub use riscv64::Riscv64;
pub use visit::{Budget, Visitor, visit, visit_range};

use crate::addr::{PhysAddr, VirtAddr};
use crate::endian::{Endian, Width};
use core::fmt;

/// The most levels that any architecture has.
pub const MAX_LEVELS: usize = 5;

/// What a mapping allows, as far as its entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prot {
    /// The kernel may write.
    pub write: bool,
    /// The kernel may execute.
    pub execute: bool,
}

impl fmt::Display for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("r")?;
        f.write_str(if self.write { "w" } else { "-" })?;
        f.write_str(if self.execute { "x" } else { "-" })
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Prot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A mapping: a whole page of any size from an entry, or one address in it from a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Physical address.
    pub pa: PhysAddr,
    /// log2 of the page's size in bytes.
    pub size_shift: u32,
    /// What it allows.
    pub prot: Prot,
}

impl Leaf {
    /// Bytes of the page.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        1 << self.size_shift
    }
}

/// The meaning of a raw page-table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Not valid: nothing is mapped.
    Absent,
    /// The physical address of the next lower table.
    Table(PhysAddr),
    /// A page.
    Leaf(Leaf),
}

/// An architecture's page tables.
pub trait Paging {
    /// Width of an entry.
    const ENTRY: Width;
    /// log2 of the smallest page's size in bytes.
    const PAGE_SHIFT: u32;
    /// log2 of the entries in a table.
    const INDEX_BITS: u32;
    /// What people call the entries of each level, lowest first.
    const ENTRY_NAMES: [&'static str; MAX_LEVELS];

    /// The meaning of entry `raw` of a table at `level`.
    fn decode(level: u32, raw: u64) -> Entry;

    /// Entry number `k` of the table at `level` that would map what the leaf `raw` of the higher
    /// level `from` maps, as FreeBSD's minidumps have it: those that store the lowest level make up
    /// page-table entries with fixed flags, those of a higher level keep the leaf's.
    #[must_use]
    fn fabricate(from: u32, raw: u64, level: u32, k: u64) -> u64;

    /// log2 of the bytes that an entry at `level` covers.
    #[must_use]
    fn shift(level: u32) -> u32 {
        Self::PAGE_SHIFT + level * Self::INDEX_BITS
    }
}

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableRef {
    /// The page-table section of a minidump.
    Section,
    /// The table at this physical address.
    At(PhysAddr),
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Section => f.write_str("the page-table section"),
            Self::At(pa) => write!(f, "the table at {pa}"),
        }
    }
}

/// The memory that holds page tables.
pub trait Tables {
    /// Why an entry cannot be read.
    type Error;

    /// Byte order of the entries that [`Tables::load`] gives.
    #[inline]
    fn endian(&self) -> Endian {
        Endian::Little
    }

    /// Entry `index` of `table`, zero-extended.
    ///
    /// # Errors
    /// Returns an error if the memory of the table is not there.
    fn entry(&self, table: TableRef, index: u64, width: Width) -> Result<u64, Self::Error>;

    /// Entries `first .. first + count` of `table` as raw bytes, borrowed from the memory itself or
    /// read into `buf`, which has room for them. A table that ends early gives what it has;
    /// [`Tables::entry`] says why there is no more.
    ///
    /// # Errors
    /// Returns an error if the memory of the table is not there.
    fn load<'b>(
        &'b self,
        table: TableRef,
        first: u64,
        count: u64,
        width: Width,
        buf: &'b mut [u8],
    ) -> Result<&'b [u8], Self::Error>;
}

/// Where a descent starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Radix {
    /// The top array.
    pub top: TableRef,
    /// Level of its entries.
    pub level: u32,
    /// Virtual address that entry 0 covers.
    pub first_va: VirtAddr,
    /// Entries in the array.
    pub entries: u64,
    /// Bits of a virtual address that the tables translate; higher bits must repeat the highest of
    /// them (a canonical address). 64 where the array just starts at `first_va`.
    pub va_bits: u32,
}

impl Radix {
    /// A page-table section whose entry 0 maps `first_va`.
    #[must_use]
    pub const fn section(level: u32, first_va: VirtAddr, entries: u64) -> Self {
        Self {
            top: TableRef::Section,
            level,
            first_va,
            entries,
            va_bits: 64,
        }
    }

    /// The root page of a whole tree of tables, for canonical addresses.
    #[must_use]
    pub fn root<P: Paging>(pa: PhysAddr, level: u32) -> Self {
        Self {
            top: TableRef::At(pa),
            level,
            first_va: VirtAddr(0),
            entries: 1 << P::INDEX_BITS,
            va_bits: P::shift(level) + P::INDEX_BITS,
        }
    }

    /// Distance of `va` from the first address, or `None` below it or if it is not canonical.
    #[inline]
    fn offset_of(&self, va: VirtAddr) -> Option<u64> {
        if self.va_bits >= 64 {
            return va.checked_sub(self.first_va);
        }
        let low = va.0 & !(u64::MAX << self.va_bits);
        (self.sign_extend(low) == va.0).then_some(low)
    }

    /// The virtual address at `offset` from the first, or `None` beyond the last address.
    fn va_at(&self, offset: u64) -> Option<VirtAddr> {
        if self.va_bits >= 64 {
            return self.first_va.checked_add(offset);
        }
        Some(VirtAddr(self.sign_extend(offset)))
    }

    fn sign_extend(&self, low: u64) -> u64 {
        let negative = low >> (self.va_bits - 1) & 1 == 1;
        if negative {
            low | u64::MAX << self.va_bits
        } else {
            low
        }
    }
}

/// One step of a descent, for those who want to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Level of the entry.
    pub level: u32,
    /// The table that holds it.
    pub table: TableRef,
    /// Its number in the table.
    pub index: u64,
    /// The entry as it is in memory.
    pub raw: u64,
    /// What it means.
    pub entry: Entry,
}

/// Why a virtual address has no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkError<E> {
    /// The tables do not cover the address.
    Outside,
    /// An entry is not valid.
    Absent {
        /// Level of the entry.
        level: u32,
        /// The table that holds it.
        table: TableRef,
        /// Its number in the table.
        index: u64,
        /// The entry as it is in memory.
        raw: u64,
    },
    /// A table cannot be read.
    Table {
        /// Level of the table's entries.
        level: u32,
        /// The table.
        table: TableRef,
        /// Why.
        source: E,
    },
}

/// Finds the leaf that maps `va`; the result's address is that of `va` itself.
///
/// # Errors
/// Returns an error if the tables do not cover the address, an entry on the way is not valid, or a
/// table cannot be read.
#[inline]
pub fn lookup<P: Paging, T: Tables>(
    radix: &Radix,
    tables: &T,
    va: VirtAddr,
) -> Result<Leaf, WalkError<T::Error>> {
    lookup_with::<P, T>(radix, tables, va, |_| {})
}

/// As [`lookup`], and shows every entry on the way to `on_step`.
///
/// # Errors
/// As [`lookup`].
#[inline]
pub fn lookup_with<P: Paging, T: Tables>(
    radix: &Radix,
    tables: &T,
    va: VirtAddr,
    mut on_step: impl FnMut(Step),
) -> Result<Leaf, WalkError<T::Error>> {
    let offset = radix.offset_of(va).ok_or(WalkError::Outside)?;
    let mut level = radix.level;
    let mut table = radix.top;
    let mut index = offset >> P::shift(level);
    if index >= radix.entries {
        return Err(WalkError::Outside);
    }
    loop {
        let raw = tables
            .entry(table, index, P::ENTRY)
            .map_err(|source| WalkError::Table {
                level,
                table,
                source,
            })?;
        let entry = P::decode(level, raw);
        on_step(Step {
            level,
            table,
            index,
            raw,
            entry,
        });
        match entry {
            Entry::Leaf(leaf) => {
                let inside = offset & (leaf.len_bytes() - 1);
                // A frame is aligned to its size, so this never carries.
                return Ok(Leaf {
                    pa: PhysAddr(leaf.pa.0 | inside),
                    ..leaf
                });
            }
            Entry::Table(next) if level > 0 => {
                level -= 1;
                table = TableRef::At(next);
                index = (offset >> P::shift(level)) & ((1 << P::INDEX_BITS) - 1);
            }
            Entry::Table(_) | Entry::Absent => {
                return Err(WalkError::Absent {
                    level,
                    table,
                    index,
                    raw,
                });
            }
        }
    }
}

/// The part of the tables that is one table's worth of entries at some level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covering {
    /// Nothing is mapped there.
    Absent,
    /// The table.
    Table(PhysAddr),
    /// There is no table: a larger page maps all of it.
    Leaf {
        /// Level of its entry.
        level: u32,
        /// The entry as it is in memory.
        raw: u64,
    },
}

/// Finds the table whose entries have `level` and cover `va`; `va` is the first address that such a
/// table can cover.
///
/// # Errors
/// Returns an error if the tables do not cover the address, or if a table on the way cannot be read.
pub fn table_for<P: Paging, T: Tables>(
    radix: &Radix,
    tables: &T,
    va: VirtAddr,
    level: u32,
) -> Result<Covering, WalkError<T::Error>> {
    let offset = radix.offset_of(va).ok_or(WalkError::Outside)?;
    let mut at = radix.level;
    let mut table = radix.top;
    let mut index = offset >> P::shift(at);
    if index >= radix.entries || at <= level {
        return Err(WalkError::Outside);
    }
    loop {
        let raw = tables
            .entry(table, index, P::ENTRY)
            .map_err(|source| WalkError::Table {
                level: at,
                table,
                source,
            })?;
        match P::decode(at, raw) {
            Entry::Absent => return Ok(Covering::Absent),
            Entry::Leaf(_) => return Ok(Covering::Leaf { level: at, raw }),
            Entry::Table(next) => {
                at -= 1;
                if at == level {
                    return Ok(Covering::Table(next));
                }
                table = TableRef::At(next);
                index = (offset >> P::shift(at)) & ((1 << P::INDEX_BITS) - 1);
            }
        }
    }
}

#[cfg(test)]
mod fabricated;
#[cfg(test)]
mod tests;
