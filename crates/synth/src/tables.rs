//! Page tables: whole trees in physical pages, and what a dumping kernel writes of them.
//!
//! A [`Tree`] is what the kernel ran on: full dumps hold it as it is. [`Tree::section`] makes the
//! page-table section of a minidump from it as the kernels do: last-level tables copied, large
//! pages expanded into fabricated entries, zeros for what is not mapped. Levels count from the
//! bottom: level 0 is the table of smallest pages.
//!
//! ```
//! use vmcore_synth::tables::{Frames, Mapping, Paging, Tree};
//! let mut tree = Tree::new(Paging::Riscv64, Frames::new(&[(0x8030_0000, 0x8031_0000)], 4096));
//! tree.map(&Mapping::page(0xffff_ffc0_0000_1000, 0x8020_5000, 4096));
//! assert_eq!(tree.translate(0xffff_ffc0_0000_1234), Some(0x8020_5234));
//! let section = tree.section(2, 0xffff_ffc0_0000_0000, 0xffff_ffc0_0020_0000);
//! assert_eq!(section.len(), 4096);
//! assert_eq!(section[8..16], (0x8020_5000_u64 >> 2 | 0xe7).to_le_bytes());
//! ```

mod paging;

pub use paging::Paging;

use crate::bytes::{index, put_word, word};
use paging::TableEntry;
use std::collections::BTreeMap;

/// A page of the kernel's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Virtual address.
    pub va: u64,
    /// Physical address.
    pub pa: u64,
    /// Bytes of the page: one of the sizes that the architecture has.
    pub size: u64,
    /// Whether the kernel may write to it.
    pub write: bool,
    /// Whether the kernel may execute it.
    pub execute: bool,
}

impl Mapping {
    /// A page of data.
    #[must_use]
    pub const fn page(va: u64, pa: u64, size: u64) -> Self {
        Self {
            va,
            pa,
            size,
            write: true,
            execute: false,
        }
    }

    /// A page of instructions.
    #[must_use]
    pub const fn code(va: u64, pa: u64, size: u64) -> Self {
        Self {
            va,
            pa,
            size,
            write: false,
            execute: true,
        }
    }
}

/// Free physical pages, handed out from the lowest one up.
#[derive(Clone, Debug)]
pub struct Frames {
    ranges: Vec<(u64, u64)>,
    page_size: u64,
}

impl Frames {
    /// The pages in these ranges, which start and end at pages.
    #[must_use]
    pub fn new(ranges: &[(u64, u64)], page_size: u64) -> Self {
        let mut ranges = ranges.to_vec();
        ranges.reverse();
        Self { ranges, page_size }
    }

    /// The next page.
    ///
    /// # Panics
    /// Panics if none is left: the machine was given too little memory.
    #[must_use]
    pub fn take(&mut self) -> u64 {
        while self.ranges.last().is_some_and(|range| range.0 >= range.1) {
            self.ranges.pop();
        }
        let range = self.ranges.last_mut();
        assert!(range.is_some(), "no physical page is left");
        let page = range.as_ref().map_or(0, |range| range.0);
        if let Some(range) = range {
            range.0 += self.page_size;
        }
        page
    }
}

/// A page of a [`Tree`].
#[derive(Clone, Debug)]
pub struct Table {
    /// Its level.
    pub level: u32,
    /// First address that it maps.
    pub first_va: u64,
    /// Its entries.
    pub bytes: Vec<u8>,
}

/// The kernel's page tables.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Kind.
    pub paging: Paging,
    /// Physical address of the root table.
    pub root: u64,
    /// Every table by its physical address.
    pub tables: BTreeMap<u64, Table>,
    frames: Frames,
}

impl Tree {
    /// Tables that map nothing; pages for them are taken from `frames`.
    #[must_use]
    pub fn new(paging: Paging, mut frames: Frames) -> Self {
        let has_levels = paging.levels() > 0;
        let root = if has_levels { frames.take() } else { 0 };
        let mut tree = Self {
            paging,
            root,
            tables: BTreeMap::new(),
            frames,
        };
        if has_levels {
            tree.add_table(root, paging.levels() - 1, 0);
        }
        tree
    }

    fn add_table(&mut self, pa: u64, level: u32, first_va: u64) {
        let len = match (self.paging, level) {
            (Paging::Arm, 0) => 1 << 10,
            (Paging::Arm, _) => 1 << 14,
            (Paging::Radix, 3) => 1 << 16,
            (paging, _) => paging.span(0),
        };
        let bytes = vec![0; index(len)];
        self.tables.insert(
            pa,
            Table {
                level,
                first_va,
                bytes,
            },
        );
    }

    fn entry(&self, table: u64, va: u64, level: u32) -> u64 {
        let width = self.paging.entry_bytes();
        let at = self.paging.entry_index(va, level) * width;
        self.tables
            .get(&table)
            .map_or(0, |table| word(&table.bytes, at, width))
    }

    fn put_entry(&mut self, table: u64, va: u64, level: u32, raw: u64) {
        let width = self.paging.entry_bytes();
        let at = self.paging.entry_index(va, level) * width;
        if let Some(table) = self.tables.get_mut(&table) {
            put_word(&mut table.bytes, at, width, raw);
        }
    }

    /// Follows `va` to the table or page that its entry at `down_to` or above names.
    fn descend(&self, va: u64, down_to: u32) -> TableEntry {
        let mut table = self.root;
        for level in (down_to..self.paging.levels()).rev() {
            match self.paging.decode(level, self.entry(table, va, level)) {
                TableEntry::Table(next) => table = next,
                other => return other,
            }
        }
        TableEntry::Table(table)
    }

    /// Maps a page.
    pub fn map(&mut self, mapping: &Mapping) {
        let paging = self.paging;
        let sizes = (0..paging.levels()).map(|level| (level, paging.span(level)));
        let found = sizes.clone().find(|(_, span)| *span == mapping.size);
        assert!(
            found.is_some(),
            "{paging:?} has no pages of {:#x} bytes",
            mapping.size
        );
        let level = found.map_or(0, |(level, _)| level);
        self.set_entry(mapping.va, level, paging.leaf_entry(level, mapping));
    }

    /// Puts a raw entry for `va` into its table at `level`; tables above are made.
    pub fn set_entry(&mut self, va: u64, level: u32, raw: u64) {
        let mut table = self.root;
        for above in (level + 1..self.paging.levels()).rev() {
            table = match self.paging.decode(above, self.entry(table, va, above)) {
                TableEntry::Table(next) => next,
                _ => {
                    let next = self.frames.take();
                    let span = self.paging.span(above);
                    self.add_table(next, above - 1, va / span * span);
                    self.put_entry(table, va, above, self.paging.table_entry(above, next));
                    next
                }
            };
        }
        self.put_entry(table, va, level, raw);
    }

    /// Lets entry 256 of an amd64 root lead to the root itself, as the kernel does.
    pub fn add_recursive_slot(&mut self) {
        let level = self.paging.levels() - 1;
        let va = 256 * self.paging.span(level);
        let raw = self.paging.table_entry(level, self.root);
        self.put_entry(self.root, va, level, raw);
    }

    /// Physical address of the table at `level` that maps `va`.
    #[must_use]
    pub fn table_of(&self, va: u64, level: u32) -> Option<u64> {
        match self.descend(va, level + 1) {
            TableEntry::Table(pa) => Some(pa),
            TableEntry::Absent | TableEntry::Leaf { .. } => None,
        }
    }

    /// Physical address of the byte at `va`.
    #[must_use]
    pub fn translate(&self, va: u64) -> Option<u64> {
        match self.descend(va, 0) {
            TableEntry::Leaf { level, raw } => {
                Some(self.paging.frame(level, raw) + va % self.paging.span(level))
            }
            TableEntry::Absent | TableEntry::Table(_) => None,
        }
    }

    /// The page-table section of a minidump for the addresses from `first` up to `end`:
    /// one page for each table of the section's level. `u64::MAX` is the end of all addresses.
    #[must_use]
    pub fn section(&self, version: u32, first: u64, end: u64) -> Vec<u8> {
        let (paging, level) = (self.paging, self.paging.section_level(version));
        if level + 1 == paging.levels() {
            let root = self.tables.get(&self.root);
            return root.map(|root| root.bytes.clone()).unwrap_or_default();
        }
        let page_len = match paging {
            Paging::Arm => 1 << 10,
            _ => index(paging.span(0)),
        };
        let width = paging.entry_bytes();
        let span = paging.span(level + 1);
        let mut section = Vec::new();
        for number in 0..(end - first).div_ceil(span) {
            let va = first + number * span;
            match self.descend(va, level + 1) {
                TableEntry::Absent => section.resize(section.len() + page_len, 0),
                TableEntry::Table(pa) => {
                    let table = self.tables.get(&pa).map(|table| table.bytes.as_slice());
                    section.extend_from_slice(table.unwrap_or_default());
                }
                TableEntry::Leaf {
                    level: leaf_level,
                    raw,
                } => {
                    let inside = va % paging.span(leaf_level);
                    let mut page = vec![0; page_len];
                    for k in 0..page_len as u64 / width {
                        let entry = paging.fabricated(leaf_level, raw, level, inside, k);
                        put_word(&mut page, k * width, width, entry);
                    }
                    section.extend(page);
                }
            }
        }
        section
    }
}

#[cfg(test)]
mod tests;
