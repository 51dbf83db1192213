//! The ranges of a full dump: program headers of an ELF core, by physical address.

use super::Absence;
use std::collections::BTreeSet;
use vmcore_format::addr::{FileOffset, PageSize, PhysAddr, PhysRange};
use vmcore_format::elf::{PT_LOAD, Segment};

/// A range of physical memory in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysSegment {
    /// Physical addresses.
    pub range: PhysRange,
    /// Where it starts in the file.
    pub offset: FileOffset,
    /// Bytes in the file; addresses behind them are in no dump.
    pub file_bytes: u64,
    /// Pages of the segments before it: the number of its first page.
    pub first_page: u64,
}

/// Memory as ranges, in ascending order.
#[derive(Debug)]
pub struct SegmentMemory {
    segments: Vec<PhysSegment>,
}

impl SegmentMemory {
    /// Takes the `PT_LOAD` headers. Of overlapping ones the first in the file wins for the
    /// addresses that it holds. Headers whose arithmetic overflows are left out and counted.
    pub(crate) fn new(headers: &[Segment], page_size: PageSize) -> (Self, usize) {
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
                first_page: 0,
            });
        }
        let mut segments = without_overlaps(&segments);
        let mut next_page = 0u64;
        for segment in &mut segments {
            segment.first_page = next_page;
            next_page = next_page.saturating_add(page_size.pages(segment.file_bytes));
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

    /// Where the byte at `pa` lies.
    #[inline]
    pub(super) fn locate(&self, pa: PhysAddr, file_len: u64) -> Result<FileOffset, Absence> {
        let segment = self.from(pa).first().ok_or(Absence::NotRam { pa })?;
        let inside = pa
            .checked_sub(segment.range.start)
            .ok_or(Absence::NotRam { pa })?;
        if inside >= segment.file_bytes {
            return Err(Absence::NotDumped { pa });
        }
        // Checked not to overflow when the segment was taken.
        let offset = FileOffset(segment.offset.0 + inside);
        if offset.0 >= file_len {
            return Err(Absence::Truncated {
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
            first_page: 0,
        })
    };
    parts.into_iter().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(headers: &[Segment]) -> (SegmentMemory, usize) {
        SegmentMemory::new(headers, PageSize::SIZE_4K)
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
            Err(Absence::NotRam {
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
            Err(Absence::NotRam { .. })
        ));
        assert!(matches!(
            memory.locate(PhysAddr(0x5800), 0x800),
            Err(Absence::Truncated { .. })
        ));
    }

    /// What a search through the headers in their order finds.
    fn naive(headers: &[Segment], pa: u64) -> Result<FileOffset, Absence> {
        let holds =
            |header: &&Segment| header.p_paddr <= pa && pa < header.p_paddr + header.p_memsz;
        let pa = PhysAddr(pa);
        let header = headers.iter().find(holds).ok_or(Absence::NotRam { pa })?;
        let inside = pa.0 - header.p_paddr;
        match inside < header.p_filesz {
            true => Ok(FileOffset(header.p_offset + inside)),
            false => Err(Absence::NotDumped { pa }),
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
