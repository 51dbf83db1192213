//! RAM ranges, as the writer wants them: ascending, none touching another.
//!
//! ```
//! use vmcore_kit::ranges::RamRanges;
//! use vmcore_writer::format::addr::PhysAddr;
//! let mut ranges = RamRanges::<4>::new();
//! ranges.add(PhysAddr(0x1000), 0x1000)?;
//! ranges.add(PhysAddr(0x2000), 0x1000)?;
//! assert_eq!(ranges.as_slice().len(), 1);
//! # Ok::<(), vmcore_kit::ranges::TooMany>(())
//! ```

use thiserror::Error;
use vmcore_writer::format::addr::{PhysAddr, PhysRange};

/// Up to `N` ranges of RAM.
#[derive(Clone, Copy, Debug)]
pub struct RamRanges<const N: usize> {
    list: [PhysRange; N],
    len: usize,
}

/// There are more ranges than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("more RAM ranges than there is room for")]
pub struct TooMany;

const NONE: PhysRange = PhysRange {
    start: PhysAddr(0),
    end: PhysAddr(0),
};

impl<const N: usize> RamRanges<N> {
    /// No RAM yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            list: [NONE; N],
            len: 0,
        }
    }

    /// Adds a range, which may touch or overlap others, in any order. What reaches beyond 2^64 is cut.
    ///
    /// # Errors
    /// Returns an error if there is no room for one more; then nothing has changed.
    pub fn add(&mut self, start: PhysAddr, len_bytes: u64) -> Result<(), TooMany> {
        let mut new = PhysRange {
            start,
            end: PhysAddr(start.0.saturating_add(len_bytes)),
        };
        if new.start >= new.end {
            return Ok(());
        }
        let mut kept = Self::new();
        let mut is_placed = false;
        for range in self.as_slice() {
            if range.end < new.start {
                kept.push(*range)?;
            } else if new.end < range.start {
                if !is_placed {
                    kept.push(new)?;
                    is_placed = true;
                }
                kept.push(*range)?;
            } else {
                new.start = new.start.min(range.start);
                new.end = new.end.max(range.end);
            }
        }
        if !is_placed {
            kept.push(new)?;
        }
        *self = kept;
        Ok(())
    }

    fn push(&mut self, range: PhysRange) -> Result<(), TooMany> {
        *self.list.get_mut(self.len).ok_or(TooMany)? = range;
        self.len += 1;
        Ok(())
    }

    /// The ranges.
    #[must_use]
    pub fn as_slice(&self) -> &[PhysRange] {
        self.list.get(..self.len).unwrap_or(&self.list)
    }
}

impl<const N: usize> Default for RamRanges<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn any_order_gives_the_same_ranges() {
        let parts = [(5, 1), (0, 2), (8, 2), (1, 2), (6, 2), (20, 0)];
        // Pages 0 to 2 and 5 to 9, whatever comes first.
        for turn in 0..parts.len() {
            let mut ranges = RamRanges::<3>::new();
            for (start, len) in parts.iter().cycle().skip(turn).take(parts.len()) {
                ranges.add(PhysAddr(start * 4096), len * 4096).unwrap();
            }
            let found: Vec<_> = ranges
                .as_slice()
                .iter()
                .map(|range| (range.start.0 / 4096, range.end.0 / 4096))
                .collect();
            assert_eq!(found, [(0, 3), (5, 10)], "turn {turn}");
        }
    }

    #[test]
    fn one_too_many_changes_nothing() {
        let mut ranges = RamRanges::<2>::new();
        ranges.add(PhysAddr(0), 1).unwrap();
        ranges.add(PhysAddr(10), 1).unwrap();
        assert_eq!(ranges.add(PhysAddr(20), 1), Err(TooMany));
        assert_eq!(ranges.as_slice().len(), 2);
        ranges.add(PhysAddr(u64::MAX - 1), 100).unwrap_err();
        ranges.add(PhysAddr(1), 9).unwrap();
        assert_eq!(ranges.as_slice().len(), 1);
    }
}
