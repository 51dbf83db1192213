//! The memory that the writer needs: reserved at boot, because a dying kernel has none to give.
//!
//! In it are a private copy of the dump map, checksums, a page for each level of page tables, and two
//! staging buffers. It must be physically contiguous where the device's DMA needs that, reachable by
//! the device, mapped for good, and should not be dumped itself (see `Machine::dumpable`).
//!
//! ```
//! use vmcore_format::addr::{PageSize, PhysAddr, PhysRange};
//! use vmcore_writer::reserve::reserve_size;
//! let all = PhysRange { start: PhysAddr(0), end: PhysAddr(8 << 30) };
//! let reserve = reserve_size(PageSize::SIZE_4K, &[all]).ok_or("too large")?;
//! assert!(reserve.len_bytes < 820 << 10); // for 8 GiB of RAM
//! # Ok::<(), &str>(())
//! ```

use crate::map::{DumpMap, total_pages};
use thiserror::Error;
use vmcore_format::addr::{PageSize, PhysRange};
use vmcore_format::paging::MAX_LEVELS;
use zerocopy::FromBytes;

/// Bytes of a staging buffer.
pub const STAGING_BYTES: u64 = 256 << 10;
/// Pages of RAM for which there is one checksum of a run of pages.
const PAGES_PER_SUM: u64 = 1024;
/// The fewest checksums: small machines get finer ones.
const MIN_SUMS: u64 = 512;

/// How much memory, and how aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Bytes.
    pub len_bytes: u64,
    /// Alignment in bytes: a page.
    pub align_bytes: u64,
}

/// Bytes of each part, all page multiples.
struct Parts {
    bits: u64,
    sums: u64,
    tables: u64,
    staging: u64,
}

impl Parts {
    fn of(page_size: PageSize, pages: u64) -> Option<Self> {
        Some(Self {
            bits: page_size.round_up(pages.div_ceil(64).checked_mul(8)?)?,
            sums: page_size.round_up(pages.div_ceil(PAGES_PER_SUM).max(MIN_SUMS) * 8)?,
            tables: page_size.bytes() * MAX_LEVELS as u64,
            staging: STAGING_BYTES,
        })
    }
}

/// What the writer needs on a machine with this RAM, or `None` beyond what can be counted.
#[must_use]
pub fn reserve_size(page_size: PageSize, ranges: &[PhysRange]) -> Option<Reserve> {
    let parts = Parts::of(page_size, total_pages(page_size, ranges)?)?;
    let len_bytes = parts
        .bits
        .checked_add(parts.sums)?
        .checked_add(parts.tables)?
        .checked_add(2 * parts.staging)?;
    Some(Reserve {
        len_bytes,
        align_bytes: page_size.bytes(),
    })
}

/// Why reserved memory cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReserveError {
    /// Less than [`reserve_size`] says.
    #[error("the reserved memory is too small: {have} bytes")]
    TooSmall {
        /// Bytes given.
        have: usize,
    },
    /// Not aligned to eight bytes.
    #[error("the reserved memory is not aligned")]
    Misaligned,
}

/// The reserved memory, in its parts.
#[derive(Debug)]
pub(crate) struct Workspace<'a> {
    /// The private map.
    pub(crate) bits: &'a mut [u64],
    /// Checksums of runs of pages.
    pub(crate) sums: &'a mut [u64],
    /// A page-table page for each level.
    pub(crate) tables: &'a mut [u8],
    /// Two buffers of whole pages.
    pub(crate) staging: (&'a mut [u8], &'a mut [u8]),
}

impl<'a> Workspace<'a> {
    pub(crate) fn carve(map: &DumpMap<'_>, memory: &'a mut [u8]) -> Result<Self, ReserveError> {
        let too_small = ReserveError::TooSmall { have: memory.len() };
        let pages = map.numbering().total_pages();
        let parts = Parts::of(map.page_size(), pages).ok_or(too_small)?;
        let mut rest = memory;
        let mut take = |len: u64| -> Result<&'a mut [u8], ReserveError> {
            let len = usize::try_from(len).map_err(|_| too_small)?;
            let (part, tail) = core::mem::take(&mut rest)
                .split_at_mut_checked(len)
                .ok_or(too_small)?;
            rest = tail;
            Ok(part)
        };
        // Staging first: the parts that devices read are page aligned if the memory is.
        let staging = (take(parts.staging)?, take(parts.staging)?);
        let tables = take(parts.tables)?;
        let words = |bytes| <[u64]>::mut_from_bytes(bytes).map_err(|_| ReserveError::Misaligned);
        Ok(Self {
            bits: words(take(parts.bits)?)?,
            sums: words(take(parts.sums)?)?,
            tables,
            staging,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::vec;
    use vmcore_format::addr::PhysAddr;
    use vmcore_format::dump_avail::NumberedRange;
    use zerocopy::IntoBytes;

    #[test]
    fn what_is_reserved_is_just_enough() {
        let ranges = [PhysRange {
            start: PhysAddr(0),
            end: PhysAddr(0x100_0000),
        }];
        let mut numbered = [NumberedRange::default(); 1];
        let words = [const { AtomicU64::new(0) }; 64];
        let map = DumpMap::new(PageSize::SIZE_4K, &ranges, &mut numbered, &words).unwrap();
        let reserve = reserve_size(PageSize::SIZE_4K, &ranges).unwrap();
        let len = usize::try_from(reserve.len_bytes).unwrap();
        let mut memory = vec![0u64; len / 8];
        let bytes = memory.as_mut_bytes();
        let space = Workspace::carve(&map, bytes).unwrap();
        assert!(space.bits.len() >= 64 && space.tables.len() == 5 * 4096);
        assert_eq!(
            (space.staging.0.len(), space.staging.1.len()),
            (262_144, 262_144)
        );
        let short = Workspace::carve(&map, &mut bytes[..len - 1]);
        assert_eq!(short.err(), Some(ReserveError::TooSmall { have: len - 1 }));
        assert_eq!(
            Workspace::carve(&map, &mut vec![0u64; len / 8 + 1].as_mut_bytes()[1..]).err(),
            Some(ReserveError::Misaligned)
        );
    }
}
