//! The dump map: one bit for each page of RAM, which any CPU may set or clear at any time.
//!
//! Memory that the kernel maps is found at dump time, by walking its page tables. What it reaches
//! only through the direct map (slabs of one page, for instance) must be registered: the allocator
//! calls [`DumpMap::add_page`] when such a page is handed out and [`DumpMap::drop_page`] before it
//! is given back. Both are one atomic operation. The map is over memory that the kernel gives at
//! boot, and is never freed.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use vmcore_format::addr::{PageSize, PhysAddr, PhysRange};
//! use vmcore_format::dump_avail::NumberedRange;
//! use vmcore_writer::map::{DumpMap, OutsideRam};
//! let ranges = [PhysRange { start: PhysAddr(0x10_0000), end: PhysAddr(0x80_0000) }];
//! let mut numbered = [NumberedRange::default(); 1];
//! let words = [const { AtomicU64::new(0) }; 28];
//! assert_eq!(DumpMap::words_needed(PageSize::SIZE_4K, &ranges), Some(words.len()));
//! let map = DumpMap::new(PageSize::SIZE_4K, &ranges, &mut numbered, &words)?;
//! assert_eq!(map.add_page(PhysAddr(0x12_3000)), Ok(()));
//! assert!(map.contains(PhysAddr(0x12_3456)));
//! assert_eq!(map.add_page(PhysAddr(0x9_f000)), Err(OutsideRam(PhysAddr(0x9_f000))));
//! # Ok::<(), vmcore_writer::map::MapError>(())
//! ```

// The crate in loom/ has this file too, with a model checker's atomics.
use crate::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use vmcore_format::addr::{PageSize, PhysAddr, PhysRange};
use vmcore_format::dump_avail::{NumberedRange, Numbering};

/// Why a map cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// No range of RAM.
    #[error("there is no RAM to map")]
    NoRam,
    /// The ranges are not ascending and apart from each other, or there are more than slots.
    #[error("RAM range {index} is reversed, out of order or overlapping, or finds no slot")]
    BadRange {
        /// The first range that is wrong, counted from 0.
        index: usize,
    },
    /// Too little memory for the bits.
    #[error("the map needs {need} words of memory and was given {have}")]
    TooSmall {
        /// 64-bit words needed.
        need: usize,
        /// 64-bit words given.
        have: usize,
    },
}

/// An address that is not RAM: its page cannot be dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} is not RAM")]
pub struct OutsideRam(pub PhysAddr);

/// Which pages are to be dumped although no page table of the kernel maps them.
#[derive(Clone, Copy, Debug)]
pub struct DumpMap<'a> {
    page_size: PageSize,
    ranges: &'a [PhysRange],
    numbering: Numbering<'a>,
    words: &'a [AtomicU64],
}

impl<'a> DumpMap<'a> {
    /// Words that the map of these ranges needs, or `None` beyond what can be counted.
    #[must_use]
    pub fn words_needed(page_size: PageSize, ranges: &[PhysRange]) -> Option<usize> {
        let pages = total_pages(page_size, ranges)?;
        usize::try_from(pages.div_ceil(64)).ok()
    }

    /// The map of `ranges`, the RAM of the machine in ascending order (`dump_avail`), whose numbering
    /// is written to `numbered`: one slot for each range. `words` must be zero unless pages were
    /// added before.
    ///
    /// # Errors
    /// Returns an error if a range is wrong, or if there is too little memory.
    pub fn new(
        page_size: PageSize,
        ranges: &'a [PhysRange],
        numbered: &'a mut [NumberedRange],
        words: &'a [AtomicU64],
    ) -> Result<Self, MapError> {
        if ranges.is_empty() {
            return Err(MapError::NoRam);
        }
        let count = NumberedRange::number(page_size, ranges.iter().copied(), numbered);
        if count.refused > 0 {
            let apart = |pair: &[PhysRange]| pair.is_sorted_by(|a, b| a.end <= b.start);
            let is_wrong = |index: &usize| {
                let pair = ranges
                    .get(index.saturating_sub(1)..=*index)
                    .unwrap_or_default();
                pair.iter().any(|range| range.start >= range.end) || !apart(pair)
            };
            let index = (0..ranges.len()).find(is_wrong).unwrap_or(numbered.len());
            return Err(MapError::BadRange { index });
        }
        let numbered: &'a [NumberedRange] = numbered;
        let numbering = Numbering::new(numbered.get(..count.accepted).unwrap_or_default());
        let need = usize::try_from(numbering.total_pages().div_ceil(64)).unwrap_or(usize::MAX);
        let have = words.len();
        let words = words.get(..need).ok_or(MapError::TooSmall { need, have })?;
        Ok(Self {
            page_size,
            ranges,
            numbering,
            words,
        })
    }

    /// Has the page that holds `pa` dumped. Any CPU may call it, at any time.
    ///
    /// # Errors
    /// Returns an error, and changes nothing, if `pa` is not RAM.
    pub fn add_page(&self, pa: PhysAddr) -> Result<(), OutsideRam> {
        let (word, bit) = self.word_of(pa)?;
        word.fetch_or(bit, Ordering::Release);
        Ok(())
    }

    /// Has the page that holds `pa` not dumped, unless it is mapped. Any CPU may call it, at any time.
    ///
    /// # Errors
    /// Returns an error, and changes nothing, if `pa` is not RAM.
    pub fn drop_page(&self, pa: PhysAddr) -> Result<(), OutsideRam> {
        let (word, bit) = self.word_of(pa)?;
        word.fetch_and(!bit, Ordering::Release);
        Ok(())
    }

    /// Whether the page that holds `pa` was added.
    #[must_use]
    pub fn contains(&self, pa: PhysAddr) -> bool {
        self.word_of(pa)
            .is_ok_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Copies the map into `to`, word by word: what other CPUs do meanwhile is in the copy or not.
    /// Words of `to` beyond the map are cleared.
    pub fn snapshot(&self, to: &mut [u64]) {
        let mut words = self.words.iter();
        for to in to {
            *to = words.next().map_or(0, |word| word.load(Ordering::Acquire));
        }
    }

    fn word_of(&self, pa: PhysAddr) -> Result<(&'a AtomicU64, u64), OutsideRam> {
        let bit = self
            .numbering
            .bit_of(self.page_size.pfn(pa))
            .ok_or(OutsideRam(pa))?;
        let index = usize::try_from(bit / 64).map_err(|_| OutsideRam(pa))?;
        let word = self.words.get(index).ok_or(OutsideRam(pa))?;
        Ok((word, 1 << (bit % 64)))
    }

    /// The page size of the machine.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The RAM ranges, as they were given.
    #[must_use]
    pub const fn ranges(&self) -> &'a [PhysRange] {
        self.ranges
    }

    /// How their pages are numbered.
    #[must_use]
    pub const fn numbering(&self) -> Numbering<'a> {
        self.numbering
    }
}

/// Pages that the ranges touch, or `None` beyond 2^64.
pub(crate) fn total_pages(page_size: PageSize, ranges: &[PhysRange]) -> Option<u64> {
    ranges.iter().try_fold(0u64, |sum, range| {
        let pages = page_size
            .pages(range.end.0)
            .saturating_sub(page_size.pfn(range.start).0);
        sum.checked_add(pages)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange {
            start: PhysAddr(start),
            end: PhysAddr(end),
        }
    }

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn bits_are_numbered_over_the_ranges_and_not_over_the_holes() {
        let ranges = [range(0x1000, 0x9_f800), range(0x10_0800, 0x80_0000)];
        let (mut numbered, bits) = ([NumberedRange::default(); 2], words(31));
        let map = DumpMap::new(PageSize::SIZE_4K, &ranges, &mut numbered, &bits).unwrap();
        for pa in [0x1000, 0x9_f7ff, 0x10_0000, 0x7f_ffff] {
            assert_eq!(map.add_page(PhysAddr(pa)), Ok(()));
        }
        let mut copy = vec![u64::MAX; 40];
        map.snapshot(&mut copy);
        let ones: Vec<usize> = (0..40 * 64)
            .filter(|bit| copy[bit / 64] >> (bit % 64) & 1 == 1)
            .collect();
        assert_eq!(ones, [0, 158, 159, 1950]);
        assert_eq!(map.drop_page(PhysAddr(0x9_f123)), Ok(()));
        assert!(!map.contains(PhysAddr(0x9_f000)) && map.contains(PhysAddr(0x10_0fff)));
    }

    #[test]
    fn addresses_outside_ram_are_refused_and_change_nothing() {
        let ranges = [range(0x1000, 0x2000), range(0x4000, 0x5000)];
        let (mut numbered, bits) = ([NumberedRange::default(); 2], words(1));
        let map = DumpMap::new(PageSize::SIZE_4K, &ranges, &mut numbered, &bits).unwrap();
        for pa in [0, 0xfff, 0x2000, 0x3fff, 0x5000, u64::MAX] {
            assert_eq!(map.add_page(PhysAddr(pa)), Err(OutsideRam(PhysAddr(pa))));
            assert_eq!(map.drop_page(PhysAddr(pa)), Err(OutsideRam(PhysAddr(pa))));
        }
        assert_eq!(bits[0].load(Ordering::Relaxed), 0);
    }

    #[test]
    fn wrong_ranges_and_too_little_memory_are_refused() {
        let make = |ranges: &[PhysRange], slots: usize, count: usize| {
            let (mut numbered, bits) = (vec![NumberedRange::default(); slots], words(count));
            DumpMap::new(PageSize::SIZE_4K, ranges, &mut numbered, &bits).map(|_| ())
        };
        assert_eq!(make(&[], 1, 1), Err(MapError::NoRam));
        let bad = |index| Err(MapError::BadRange { index });
        assert_eq!(make(&[range(0x2000, 0x1000)], 1, 1), bad(0));
        assert_eq!(
            make(&[range(0, 0x3000), range(0x2000, 0x4000)], 2, 1),
            bad(1)
        );
        assert_eq!(
            make(&[range(0, 0x1000), range(0x2000, 0x4000)], 1, 1),
            bad(1)
        );
        assert_eq!(
            make(&[range(0, 65 * 4096)], 1, 1),
            Err(MapError::TooSmall { need: 2, have: 1 })
        );
    }
}
