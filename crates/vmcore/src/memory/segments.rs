//! The ranges of a full dump: program headers of an ELF core, by physical address.

use super::PageReadError;
use std::collections::BTreeSet;
use vmcore_format::addr::{FileOffset, PageSize, PhysAddr, PhysRange};
use vmcore_format::elf::{PT_LOAD, Segment};

/// How often a byte of the file may be memory, on average: once in a sound dump. Many headers over
/// the same bytes would make a large dump of a small file.
const MAX_ALIASES: u64 = 2;

/// A range of physical memory in the file. It starts at the start of a page, or ends in the page in
/// which it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysSegment {
    /// Physical addresses.
    pub range: PhysRange,
    /// Where it starts in the file.
    pub offset: FileOffset,
    /// Bytes in the dump; addresses after them are in none.
    pub file_bytes: u64,
    /// How many of them the file has: fewer if it is truncated.
    pub present_bytes: u64,
    /// Pages that the file has of the segments before it: the number of its first page.
    pub first_page: u64,
}

/// Memory as ranges, in ascending order.
#[derive(Debug)]
pub struct SegmentMemory {
    segments: Vec<PhysSegment>,
}

impl SegmentMemory {
    /// Takes the `PT_LOAD` headers. Of overlapping ones the first in the file wins for the
    /// addresses that it holds. Headers whose arithmetic overflows, or that claim the same bytes of
    /// the file over and over, are left out and counted.
    pub(crate) fn new(headers: &[Segment], page_size: PageSize, file_len: u64) -> (Self, usize) {
        let mut segments = Vec::new();
        let mut refused = 0;
        for header in headers
            .iter()
            .filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0)
        {
            let ends = (
                header.p_paddr.checked_add(header.p_memsz),
                header.p_offset.checked_add(header.p_filesz),
            );
            let (Some(end), Some(_)) = ends else {
                refused += 1;
                continue;
            };
            segments.push(PhysSegment {
                range: PhysRange {
                    start: PhysAddr(header.p_paddr),
                    end: PhysAddr(end),
                },
                offset: FileOffset(header.p_offset),
                file_bytes: header.p_filesz.min(header.p_memsz),
                present_bytes: 0,
                first_page: 0,
            });
        }
        let whole = without_overlaps(&segments);
        let mut segments: Vec<PhysSegment> = Vec::with_capacity(whole.len());
        let mut bytes_left = file_len.saturating_mul(MAX_ALIASES);
        let mut first_page = 0;
        for segment in whole {
            let have = file_len.saturating_sub(segment.offset.0);
            let Some(left) = bytes_left.checked_sub(segment.file_bytes.min(have)) else {
                refused += 1;
                continue;
            };
            bytes_left = left;
            for part in split(segment, page_size) {
                let have = file_len.saturating_sub(part.offset.0);
                let present_bytes = part.file_bytes.min(have);
                segments.push(PhysSegment {
                    present_bytes,
                    first_page,
                    ..part
                });
                // Bounded by the lengths of the file and of the list.
                first_page += page_size.pages(present_bytes);
            }
        }
        (Self { segments }, refused)
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn segments(&self) -> &[PhysSegment] {
        &self.segments
    }

    /// The ranges from the one that holds `pa`, or follows it, on.
    pub(crate) fn from(&self, pa: PhysAddr) -> &[PhysSegment] {
        let first = self
            .segments
            .partition_point(|segment| segment.range.end <= pa);
        self.segments.get(first..).unwrap_or_default()
    }

    /// Where `len` bytes from `pa` lie, if one segment has them all.
    #[inline]
    pub(super) fn find(&self, pa: PhysAddr, len: u64) -> Option<FileOffset> {
        let segment = self.from(pa).first()?;
        let inside = pa.checked_sub(segment.range.start)?;
        let has_all = inside.checked_add(len)? <= segment.file_bytes;
        // Checked not to overflow when the segment was taken, for the bytes that it has.
        has_all.then(|| FileOffset(segment.offset.0 + inside))
    }

    /// Where the byte at `pa` lies.
    #[inline]
    pub(super) fn locate(&self, pa: PhysAddr, file_len: u64) -> Result<FileOffset, PageReadError> {
        let segment = self.from(pa).first().ok_or(PageReadError::NotRam { pa })?;
        let inside = pa
            .checked_sub(segment.range.start)
            .ok_or(PageReadError::NotRam { pa })?;
        if inside >= segment.file_bytes {
            return Err(PageReadError::NotDumped { pa });
        }
        // Checked not to overflow when the segment was taken.
        let offset = FileOffset(segment.offset.0 + inside);
        if offset.0 >= file_len {
            return Err(PageReadError::Truncated {
                pa,
                offset,
                file_len: FileOffset(file_len),
            });
        }
        Ok(offset)
    }

    /// How many of `want_bytes` from `pa` the segment of `pa` holds.
    pub(super) fn contiguous(&self, pa: PhysAddr, want_bytes: usize) -> usize {
        let left = self.from(pa).first().and_then(|segment| {
            segment
                .file_bytes
                .checked_sub(pa.checked_sub(segment.range.start)?)
        });
        usize::try_from(left.unwrap_or(0)).map_or(want_bytes, |left| left.min(want_bytes))
    }
}

/// Sorts by address; where several overlap, an address belongs to the first of them.
fn without_overlaps(segments: &[PhysSegment]) -> Vec<PhysSegment> {
    let edges = |(order, segment): (usize, &PhysSegment)| {
        [(segment.range.start, order), (segment.range.end, order)]
    };
    let mut edges: Vec<(PhysAddr, usize)> = segments.iter().enumerate().flat_map(edges).collect();
    edges.sort_unstable();
    // Which segments hold the addresses from an edge to the next one.
    let mut holders = BTreeSet::new();
    let mut parts: Vec<(usize, PhysRange)> = Vec::new();
    let nexts = edges.iter().skip(1).map(|(next, _)| *next);
    for ((start, order), end) in edges.iter().copied().zip(nexts) {
        if !holders.remove(&order) {
            holders.insert(order);
        }
        let Some(first) = holders.first().copied().filter(|_| start < end) else {
            continue;
        };
        match parts.last_mut() {
            Some((last, range)) if *last == first && range.end == start => range.end = end,
            _ => parts.push((first, PhysRange { start, end })),
        }
    }
    let part = |(order, range): (usize, PhysRange)| {
        let segment = segments.get(order)?;
        let cut = range.start.checked_sub(segment.range.start)?;
        Some(PhysSegment {
            range,
            offset: FileOffset(segment.offset.0.saturating_add(cut)),
            file_bytes: segment
                .file_bytes
                .saturating_sub(cut)
                .min(range.len_bytes()),
            present_bytes: 0,
            first_page: 0,
        })
    };
    parts.into_iter().filter_map(part).collect()
}

/// A segment as it is, or its first page and the rest if it starts inside a page and goes on.
fn split(segment: PhysSegment, page_size: PageSize) -> impl Iterator<Item = PhysSegment> {
    let PhysRange { start, end } = segment.range;
    let page_end = page_size.round_up(start.0).map_or(end, PhysAddr).min(end);
    let cut = page_end.0 - start.0;
    let part = |start, end, file_bytes| PhysSegment {
        range: PhysRange { start, end },
        file_bytes,
        ..segment
    };
    let first = part(start, page_end, segment.file_bytes.min(cut));
    let rest = PhysSegment {
        offset: FileOffset(segment.offset.0.saturating_add(cut)),
        ..part(page_end, end, segment.file_bytes.saturating_sub(cut))
    };
    [first, rest]
        .into_iter()
        .filter(|part| part.range.len_bytes() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(headers: &[Segment]) -> (SegmentMemory, usize) {
        SegmentMemory::new(headers, PageSize::SIZE_4K, u64::MAX)
    }

    fn load(p_paddr: u64, p_memsz: u64, p_offset: u64) -> Segment {
        Segment {
            p_type: PT_LOAD,
            p_paddr,
            p_memsz,
            p_filesz: p_memsz,
            p_offset,
            ..Segment::default()
        }
    }

    #[test]
    fn the_first_header_wins_where_two_overlap() {
        let (memory, refused) = new(&[load(0x1000, 0x2000, 0x1000), load(0x2000, 0x2000, 0x9000)]);
        assert_eq!(refused, 0);
        assert_eq!(
            memory.locate(PhysAddr(0x2000), u64::MAX),
            Ok(FileOffset(0x2000))
        );
        assert_eq!(
            memory.locate(PhysAddr(0x3000), u64::MAX),
            Ok(FileOffset(0xa000))
        );
        assert_eq!(
            memory.locate(PhysAddr(0x4000), u64::MAX),
            Err(PageReadError::NotRam {
                pa: PhysAddr(0x4000)
            })
        );
    }

    #[test]
    fn an_earlier_header_behind_wins_over_a_later_one_before() {
        let (memory, _) = new(&[load(0x2000, 0x2000, 0x9000), load(0x1000, 0x2000, 0x1000)]);
        assert_eq!(
            memory.locate(PhysAddr(0x1fff), u64::MAX),
            Ok(FileOffset(0x1fff))
        );
        assert_eq!(
            memory.locate(PhysAddr(0x2000), u64::MAX),
            Ok(FileOffset(0x9000))
        );
    }

    #[test]
    fn overflowing_headers_are_refused_and_gaps_are_not_ram() {
        let (memory, refused) = new(&[
            load(u64::MAX, 2, 0),
            load(0, 1, u64::MAX),
            load(0x5000, 0x1000, 0),
        ]);
        assert_eq!(refused, 2);
        assert!(matches!(
            memory.locate(PhysAddr(0), u64::MAX),
            Err(PageReadError::NotRam { .. })
        ));
        assert!(matches!(
            memory.locate(PhysAddr(0x5800), 0x800),
            Err(PageReadError::Truncated { .. })
        ));
    }

    #[test]
    fn memory_without_bytes_may_claim_to_lie_at_the_end_of_all_offsets() {
        let header = Segment {
            p_filesz: 0,
            ..load(0x1000, 0x1_0000, u64::MAX - 0x10)
        };
        let (memory, refused) = new(&[header]);
        assert_eq!(refused, 0);
        let pa = PhysAddr(0x5000);
        assert_eq!(memory.find(pa, 1), None);
        assert_eq!(
            memory.locate(pa, u64::MAX),
            Err(PageReadError::NotDumped { pa })
        );
    }

    #[test]
    fn headers_over_the_same_bytes_are_refused_after_the_second() {
        let headers: Vec<Segment> = (0..9)
            .map(|number| load(number * 0x8000, 0x8000, 0))
            .collect();
        let (memory, refused) = SegmentMemory::new(&headers, PageSize::SIZE_4K, 0x8000);
        assert_eq!((memory.segments().len(), refused), (2, 7));
    }

    #[test]
    fn pages_are_numbered_as_far_as_the_file_has_them() {
        let headers = [
            load(0x10_0000, 1 << 60, 0x3000),
            load(0x1800, 0x2000, 0x1000),
        ];
        let (memory, refused) = SegmentMemory::new(&headers, PageSize::SIZE_4K, 0x5000);
        assert_eq!(refused, 0);
        let parts: Vec<_> = memory
            .segments()
            .iter()
            .map(|part| {
                (
                    part.range.start.0,
                    part.offset.0,
                    part.present_bytes,
                    part.first_page,
                )
            })
            .collect();
        let expected = [
            (0x1800, 0x1000, 0x800, 0),
            (0x2000, 0x1800, 0x1800, 1),
            (0x10_0000, 0x3000, 0x2000, 3),
        ];
        assert_eq!(parts, expected);
    }

    /// What a search through the headers in their order finds.
    fn naive(headers: &[Segment], pa: u64) -> Result<FileOffset, PageReadError> {
        let holds =
            |header: &&Segment| header.p_paddr <= pa && pa < header.p_paddr + header.p_memsz;
        let pa = PhysAddr(pa);
        let header = headers
            .iter()
            .find(holds)
            .ok_or(PageReadError::NotRam { pa })?;
        let inside = pa.0 - header.p_paddr;
        match inside < header.p_filesz {
            true => Ok(FileOffset(header.p_offset + inside)),
            false => Err(PageReadError::NotDumped { pa }),
        }
    }

    proptest::proptest! {
        #[test]
        fn any_headers_agree_with_a_search_through_them(
            headers in proptest::collection::vec((0u64..40, 0u64..20, 0u64..25, 0u64..1000), 0..12),
            probes in proptest::collection::vec(0u64..64, 16),
        ) {
            let headers: Vec<Segment> = headers
                .into_iter()
                .map(|(p_paddr, p_memsz, p_filesz, p_offset)| {
                    Segment { p_filesz, ..load(p_paddr, p_memsz, p_offset) }
                })
                .collect();
            let (memory, refused) = new(&headers);
            proptest::prop_assert_eq!(refused, 0);
            for pa in probes {
                let found = memory.locate(PhysAddr(pa), u64::MAX);
                proptest::prop_assert_eq!(found, naive(&headers, pa));
            }
            for pair in memory.segments().windows(2) {
                proptest::prop_assert!(pair[0].range.end <= pair[1].range.start);
                proptest::prop_assert!(pair[0].first_page <= pair[1].first_page);
            }
        }
    }
}
