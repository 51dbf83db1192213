//! `dump_avail`: the RAM ranges of the machine, which number the bits of the bitmap.
//!
//! On disk an array of pairs of 64-bit byte addresses in the kernel's byte order, `end` exclusive,
//! ended by the first pair whose `end` is 0 (`sys/vm/vm_dumpset.h`; r365978). Boundaries need not
//! be page aligned: a range stands forevery page that it touches. Versions without the array
//! number their pages from physical page 0.
//!
//! ```
//! use vmcore_format::addr::{PageSize, Pfn, PhysAddr, PhysRange};
//! use vmcore_format::dump_avail::{NumberedRange, Numbering};
//! let ranges = [(0x1000, 0x9f800), (0x100800, 0x800000)]
//!     .map(|(start, end)| PhysRange { start: PhysAddr(start), end: PhysAddr(end) });
//! let mut numbered = [NumberedRange::default(); 2];
//! let count = NumberedRange::number(PageSize::SIZE_4K, ranges, &mut numbered);
//! let numbering = Numbering::new(&numbered[..count.accepted]);
//! assert_eq!(numbering.bit_of(Pfn(0x100)), Some(159));
//! assert_eq!(numbering.bit_of(Pfn(0xa0)), None); // in a hole
//! assert_eq!(numbering.pfn_of(159), Some(Pfn(0x100)));
//! ```

use crate::addr::{PageSize, Pfn, PhysAddr, PhysRange};
use crate::endian::{Endian, Width};

/// No 32-bit machine has RAM above this address.
const NARROW_MAX: u64 = 1 << 40;

/// The pairs of a `dump_avail` section up to its terminator or its end, raw: not checked
/// for order. Half a pair at the end is ignored.
pub fn decode(bytes: &[u8], endian: Endian, width: Width) -> impl Iterator<Item = PhysRange> + '_ {
    let pair_bytes = match width {
        Width::W32 => 8,
        Width::W64 => 16,
    };
    bytes
        .chunks_exact(pair_bytes)
        .map_while(move |pair| {
            let start = PhysAddr(width.item(endian, pair, 0)?);
            let end = PhysAddr(width.item(endian, pair, 1)?);
            Some(PhysRange { start, end })
        })
        .take_while(|range| range.end.0 != 0)
}

/// Whether the pairs are of 32 bits. Kernels of arm and 32-bit mips wrote such for ten weeks in 2020,
/// and nothing says so but the numbers: as 64-bit ones they are not a range of such a machine.
#[must_use]
pub fn is_narrow(bytes: &[u8], endian: Endian) -> bool {
    let pair = |width: Width, index: usize| {
        let item = |index| width.item(endian, bytes, index);
        Some((item(2 * index)?, item(2 * index + 1)?))
    };
    let is_range = |(start, end): (u64, u64)| start < end && end <= NARROW_MAX;
    match (
        pair(Width::W64, 0),
        pair(Width::W32, 0),
        pair(Width::W32, 1),
    ) {
        (Some(wide), Some(first), Some(second)) => {
            // The high halves of big-endian addresses look like starts, but two at 0 are none.
            let are_halves = first.0 == 0 && second.0 == 0 && second.1 != 0;
            !is_range(wide) && is_range(first) && !are_halves
        }
        _ => false,
    }
}

/// A range of pages, and the number of its first bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumberedRange {
    /// First page.
    pub first: Pfn,
    /// First page after the range.
    pub end: Pfn,
    /// Bit of the first page.
    pub first_bit: u64,
}

/// What became of the ranges of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberedCount {
    /// Ranges written to the output.
    pub accepted: usize,
    /// Ranges that were reversed, descending or overlapping, or found no room: not numbered.
    pub refused: usize,
}

impl NumberedRange {
    /// Numbers `ranges` into `out`, in their order. Reversed, descending and overlapping ranges
    /// are left out and counted: nothing sensible can be said about their bits.
    pub fn number(
        page_size: PageSize,
        ranges: impl IntoIterator<Item = PhysRange>,
        out: &mut [Self],
    ) -> NumberedCount {
        let mut count = NumberedCount {
            accepted: 0,
            refused: 0,
        };
        let mut next_bit = 0u64;
        let mut last_end = PhysAddr(0);
        for range in ranges {
            let slot = out.get_mut(count.accepted);
            let (Some(slot), true) = (slot, range.start >= last_end && range.start < range.end)
            else {
                count.refused += 1;
                continue;
            };
            let first = page_size.pfn(range.start);
            let end = Pfn(page_size.pages(range.end.0));
            *slot = Self {
                first,
                end,
                first_bit: next_bit,
            };
            // Pages are below 2^52 and ranges do not overlap by more than a page: no overflow.
            next_bit += end.0 - first.0;
            last_end = range.end;
            count.accepted += 1;
        }
        count
    }

    /// The one range of versions without `dump_avail`: `bits` pages from physical page 0.
    #[must_use]
    pub const fn linear(bits: u64) -> Self {
        Self {
            first: Pfn(0),
            end: Pfn(bits),
            first_bit: 0,
        }
    }

    /// Pages in the range.
    #[must_use]
    pub const fn len_pages(&self) -> u64 {
        self.end.0 - self.first.0
    }
}

/// Ranges in ascending order, numbered: physical page to bit and back.
#[derive(Clone, Copy, Debug)]
pub struct Numbering<'a> {
    ranges: &'a [NumberedRange],
}

impl<'a> Numbering<'a> {
    /// `ranges` as [`NumberedRange::number`] left them.
    #[must_use]
    pub const fn new(ranges: &'a [NumberedRange]) -> Self {
        Self { ranges }
    }

    /// The bit of a page, or `None` in a hole.
    #[inline]
    #[must_use]
    pub fn bit_of(&self, pfn: Pfn) -> Option<u64> {
        // Machines have a handful of ranges; where two meet inside a page, the first wins.
        let range = match self.ranges {
            short if short.len() <= 8 => short.iter().find(|range| pfn < range.end)?,
            long => long.get(long.partition_point(|range| range.end <= pfn))?,
        };
        let offset = pfn.checked_sub(range.first)?;
        Some(range.first_bit + offset)
    }

    /// The page of a bit, or `None` for padding after the last range.
    #[inline]
    #[must_use]
    pub fn pfn_of(&self, bit: u64) -> Option<Pfn> {
        let after = self.ranges.partition_point(|range| range.first_bit <= bit);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        let pfn = range.first.checked_add(bit - range.first_bit)?;
        (pfn < range.end).then_some(pfn)
    }

    /// Pages in all ranges: the first padding bit.
    #[must_use]
    pub fn total_pages(&self) -> u64 {
        self.ranges
            .last()
            .map_or(0, |range| range.first_bit + range.len_pages())
    }

    /// The ranges.
    #[must_use]
    pub const fn ranges(&self) -> &'a [NumberedRange] {
        self.ranges
    }
}

#[cfg(test)]
mod tests;
