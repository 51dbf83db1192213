//! What the writer could not read, or found damaged: a list of fixed length, told in the extension.

use vmcore_format::addr::{PageSize, PhysAddr, VirtAddr};
use vmcore_format::extension::{Damage, DamageKind};

/// Entries there is room for. More damage is counted, not listed.
pub(crate) const CAPACITY: usize = 32;

const NONE: Damage = Damage {
    kind: DamageKind::Other(0),
    level: 0,
    va: VirtAddr(0),
    pa: PhysAddr(0),
    count: 0,
};

/// The first [`CAPACITY`] pieces of damage, and how many there were.
#[derive(Debug)]
pub(crate) struct DamageList {
    entries: [Damage; CAPACITY],
    len: usize,
    found: u64,
}

impl DamageList {
    pub(crate) const fn new() -> Self {
        Self {
            entries: [NONE; CAPACITY],
            len: 0,
            found: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.found = 0;
    }

    /// Pieces of damage found, listed or not.
    pub(crate) const fn found(&self) -> u64 {
        self.found
    }

    pub(crate) fn entries(&self) -> &[Damage] {
        self.entries.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn add(&mut self, damage: Damage) {
        self.found = self.found.saturating_add(1);
        if let Some(slot) = self.entries.get_mut(self.len) {
            *slot = damage;
            self.len += 1;
        }
    }

    /// Adds an unreadable page; a row of them is one entry.
    pub(crate) fn add_page(&mut self, kind: DamageKind, pa: PhysAddr, page_size: PageSize) {
        let last = self
            .len
            .checked_sub(1)
            .and_then(|last| self.entries.get_mut(last));
        if let Some(last) = last.filter(|last| last.kind == kind)
            && last
                .count
                .checked_mul(page_size.bytes())
                .and_then(|len| last.pa.checked_add(len))
                == Some(pa)
        {
            last.count += 1;
            self.found = self.found.saturating_add(1);
            return;
        }
        self.add(Damage {
            kind,
            pa,
            count: 1,
            ..NONE
        });
    }

    /// Adds a page-table page.
    pub(crate) fn add_table(&mut self, kind: DamageKind, level: u32, va: VirtAddr, pa: PhysAddr) {
        self.add(Damage {
            kind,
            level,
            va,
            pa,
            count: 1,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_in_a_row_are_one_entry_and_all_are_counted() {
        let mut list = DamageList::new();
        let mut page =
            |pa| list.add_page(DamageKind::PageUnreadable, PhysAddr(pa), PageSize::SIZE_4K);
        page(0x1000);
        page(0x2000);
        page(0x4000);
        assert_eq!(list.found(), 3);
        let rows: std::vec::Vec<_> = list
            .entries()
            .iter()
            .map(|entry| (entry.pa.0, entry.count))
            .collect();
        assert_eq!(rows, [(0x1000, 2), (0x4000, 1)]);
    }

    #[test]
    fn more_damage_than_there_is_room_for_is_counted() {
        let mut list = DamageList::new();
        for index in 0..100 {
            list.add_table(
                DamageKind::TableNotRam,
                1,
                VirtAddr(index << 30),
                PhysAddr(0),
            );
        }
        assert_eq!((list.found(), list.entries().len()), (100, CAPACITY));
        list.clear();
        assert_eq!((list.found(), list.entries().len()), (0, 0));
    }
}
