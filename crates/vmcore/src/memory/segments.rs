//! The ranges of a full dump: program headers of an ELF core, by physical address.

use super::Absence;
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
        let mut segments = without_overlaps(segments);
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

/// Sorts by address and cuts from each segment what an earlier header already holds.
fn without_overlaps(segments: Vec<PhysSegment>) -> Vec<PhysSegment> {
    let mut sorted: Vec<(usize, PhysSegment)> = segments.into_iter().enumerate().collect();
    sorted.sort_by_key(|(order, segment)| (segment.range.start, *order));
    let mut kept: Vec<(usize, PhysSegment)> = Vec::with_capacity(sorted.len());
    for (order, mut segment) in sorted {
        while let Some((last_order, last)) = kept.last_mut() {
            if segment.range.start >= last.range.end {
                break;
            }
            if order < *last_order && segment.range.end >= last.range.end {
                // The later header loses its tail, or all of it.
                last.range.end = segment.range.start;
                if last.range.len_bytes() == 0 {
                    kept.pop();
                    continue;
                }
                break;
            }
            // The earlier header keeps its bytes; a tail behind it stays.
            let cut = last.range.end.0 - segment.range.start.0;
            segment.range.start = last.range.end.min(segment.range.end);
            segment.offset.0 = segment.offset.0.saturating_add(cut);
            segment.file_bytes = segment.file_bytes.saturating_sub(cut);
            break;
        }
        if segment.range.len_bytes() > 0 {
            kept.push((order, segment));
        }
    }
    kept.into_iter()
        .map(|(_, mut segment)| {
            segment.file_bytes = segment.file_bytes.min(segment.range.len_bytes());
            segment
        })
        .collect()
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
}
