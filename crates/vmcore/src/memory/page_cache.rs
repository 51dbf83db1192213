//! Where pages are, remembered: one slot for each page, by its number, without a lock.
//!
//! An entry is one word, the rest of the page's number above what is remembered of it, so that
//! threads that share the table see a whole entry or another whole one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a page's number: pages are of 4 KiB or larger.
const NUMBER_BITS: u32 = 52;
/// 2 MiB of entries: what fits the second-level cache of a CPU.
const MAX_INDEX_BITS: u32 = 18;

/// A direct-mapped table from page numbers to smaller numbers.
#[derive(Debug)]
pub(crate) struct PageCache {
    index_bits: u32,
    is_roomy: bool,
    /// Made when the first page is remembered.
    entries: OnceLock<Vec<AtomicU64>>,
}

impl PageCache {
    /// A table in which about `pages` pages find room.
    pub(crate) fn for_pages(pages: u64) -> Self {
        let wanted = u64::BITS - pages.leading_zeros() + 1;
        Self {
            index_bits: wanted.min(MAX_INDEX_BITS),
            is_roomy: wanted <= MAX_INDEX_BITS,
            entries: OnceLock::new(),
        }
    }

    /// Whether all the pages find room.
    pub(crate) const fn is_roomy(&self) -> bool {
        self.is_roomy
    }

    /// Bits of an entry that hold what is remembered, plus 1: 0 is an empty slot.
    const fn value_bits(&self) -> u32 {
        u64::BITS - NUMBER_BITS + self.index_bits
    }

    #[inline(always)]
    fn slot<'a>(&self, entries: &'a [AtomicU64], page: u64) -> Option<&'a AtomicU64> {
        let index = page & !(u64::MAX << self.index_bits);
        entries.get(usize::try_from(index).ok()?)
    }

    #[inline(always)]
    const fn tag(&self, page: u64) -> u64 {
        page >> self.index_bits << self.value_bits()
    }

    /// What is remembered of `page`.
    #[inline(always)]
    pub(crate) fn get(&self, page: u64) -> Option<u64> {
        let entry = self
            .slot(self.entries.get()?, page)?
            .load(Ordering::Relaxed);
        let rest = entry ^ self.tag(page);
        (rest != 0 && rest >> self.value_bits() == 0).then(|| rest - 1)
    }

    /// Remembers `value` of `page`, if it is small enough.
    pub(crate) fn put(&self, page: u64, value: u64) {
        let entries = self.entries.get_or_init(|| {
            // Zeroed by the allocator: no page of it is touched until used.
            zerocopy::FromZeros::new_vec_zeroed(1 << self.index_bits).unwrap_or_default()
        });
        let is_small = (value + 1) >> self.value_bits() == 0 && page >> NUMBER_BITS == 0;
        if let (Some(slot), true) = (self.slot(entries, page), is_small) {
            slot.store(self.tag(page) | (value + 1), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_one_slot_replace_each_other_and_are_never_confused() {
        let cache = PageCache::for_pages(4);
        let slots = 1 << cache.index_bits;
        assert_eq!(cache.get(5), None);
        for page in [5, 5 + slots, (1 << NUMBER_BITS) - 1 - slots + 6] {
            cache.put(page, 0);
            assert_eq!(cache.get(page), Some(0), "{page:#x}");
        }
        assert_eq!(cache.get(5), None);
        assert_eq!(cache.get(5 + slots), None);
    }

    #[test]
    fn an_empty_slot_is_no_page() {
        let cache = PageCache::for_pages(4);
        cache.put(1, 7);
        let slots = 1 << cache.index_bits;
        for page in [0, 2, slots, 2 * slots + 3, (1 << NUMBER_BITS) - 1] {
            assert_eq!(cache.get(page), None, "{page:#x}");
        }
    }

    #[test]
    fn what_an_entry_cannot_hold_is_not_remembered() {
        let cache = PageCache::for_pages(4);
        let most = (1 << cache.value_bits()) - 2;
        cache.put(1, most);
        assert_eq!(cache.get(1), Some(most));
        cache.put(2, most + 1);
        assert_eq!(cache.get(2), None);
        cache.put(1 << NUMBER_BITS, 3);
        assert_eq!(cache.get(1 << NUMBER_BITS), None);
    }
}
