//! Which parts of physical ranges are in the dump, and the number of each page in the file.

use super::Mapping;
use crate::memory::{Absence, Memory, PhysSegment, SegmentMemory, SparseMemory};
use vmcore_format::addr::{FileOffset, PageSize, Pfn, PhysAddr, VirtAddr};

/// A part of a mapping whose pages are in the dump and lie together in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentRun {
    /// First virtual address.
    pub va: VirtAddr,
    /// First physical address.
    pub pa: PhysAddr,
    /// Pages.
    pub len_pages: u64,
    /// Number of the first page in the file, from 0.
    pub number: u64,
    /// Where the first page starts in the file, which may be behind the end of a truncated one.
    pub offset: FileOffset,
}

/// Pages that the dump has by its headers and bitmap. Bounded by the bitmap's size in the file.
pub(super) fn page_count(memory: &Memory) -> Result<u64, Absence> {
    if let Some(sparse) = memory.sparse() {
        return sparse.set_bits(memory.source());
    }
    Ok(memory.segments().map_or(0, |segments| {
        let pages = segments
            .segments()
            .iter()
            .map(|segment| memory.page_size().pages(segment.file_bytes));
        pages
            .sum::<u64>()
            .min(memory.page_size().pages(memory.source().len()))
    }))
}

/// The parts of `mapping` that are in the dump.
pub(super) fn runs(
    memory: &Memory,
    mapping: Mapping,
    on_run: impl FnMut(PresentRun),
) -> Result<(), Absence> {
    match (memory.sparse(), memory.segments()) {
        (Some(sparse), _) => sparse_runs(memory, sparse, mapping, on_run),
        (_, Some(segments)) => {
            segment_runs(memory.page_size(), segments, mapping, on_run);
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

fn sparse_runs(
    memory: &Memory,
    sparse: &SparseMemory,
    mapping: Mapping,
    mut on_run: impl FnMut(PresentRun),
) -> Result<(), Absence> {
    let size = memory.page_size();
    let source = memory.source();
    let first = size.pfn(mapping.pa).0;
    let end = first + size.pages(mapping.len_bytes);
    let bitmap = sparse.bitmap(source)?;
    let run = |pfn: u64, len_pages: u64, number: u64| PresentRun {
        va: VirtAddr(mapping.va.0.wrapping_add((pfn - first) << size.shift())),
        pa: size.base(Pfn(pfn)),
        len_pages,
        number,
        offset: sparse.offset_of_rank(number),
    };
    if end == first + 1 {
        // The common case: one page.
        if let Some(bit) = sparse.numbering().bit_of(Pfn(first))
            && bitmap.contains(bit)
        {
            on_run(run(first, 1, sparse.rank(source, bit)?));
        }
        return Ok(());
    }
    for range in &sparse.ranges {
        let from = range.first.0.max(first);
        let to = range.end.0.min(end);
        if from >= to {
            continue;
        }
        let bit_of = |pfn: u64| range.first_bit + (pfn - range.first.0);
        let pfn_of = |bit: u64| range.first.0 + (bit - range.first_bit);
        let mut bits = bitmap.ones(bit_of(from)..bit_of(to)).peekable();
        let Some(first_bit) = bits.peek() else {
            continue;
        };
        let mut number = sparse.rank(source, *first_bit)?;
        while let Some(start) = bits.next() {
            let mut next = start + 1;
            while bits.next_if_eq(&next).is_some() {
                next += 1;
            }
            on_run(run(pfn_of(start), next - start, number));
            number += next - start;
        }
    }
    Ok(())
}

fn segment_runs(
    size: PageSize,
    segments: &SegmentMemory,
    mapping: Mapping,
    mut on_run: impl FnMut(PresentRun),
) {
    let start = mapping.pa.0;
    let Some(end) = start.checked_add(mapping.len_bytes) else {
        return;
    };
    for segment in segments.from(mapping.pa) {
        let segment_start = segment.range.start.0;
        if segment_start >= end {
            break;
        }
        let segment_end = segment_start + segment.file_bytes;
        let (from, to) = (start.max(segment_start), end.min(segment_end));
        if from < to {
            on_run(PresentRun {
                va: VirtAddr(mapping.va.0.wrapping_add(from - start)),
                pa: PhysAddr(from),
                len_pages: size.pages(to - from),
                number: segment.first_page + ((from - segment_start) >> size.shift()),
                offset: FileOffset(segment.offset.0 + (from - segment_start)),
            });
        }
    }
}

/// The number of the page at `pa`; `None` if it is not in the dump.
pub(super) fn number_of(memory: &Memory, pa: PhysAddr) -> Option<u64> {
    let size = memory.page_size();
    if let Some(sparse) = memory.sparse() {
        let offset = sparse.page_offset(memory.source(), size.pfn(pa)).ok()?;
        return Some(offset.checked_sub(sparse.offset_of_rank(0))? >> size.shift());
    }
    let segment = memory.segments()?.from(pa).first()?;
    let inside = pa
        .checked_sub(segment.range.start)
        .filter(|inside| *inside < segment.file_bytes)?;
    Some(segment.first_page + (inside >> size.shift()))
}

/// A part of the file that holds pages, whole but for its last one.
pub(super) struct Extent {
    /// Where its first page starts.
    pub(super) start: FileOffset,
    /// Where its last page ends, which may be behind the end of the file.
    pub(super) end: FileOffset,
    /// Number of its first page in the dump.
    pub(super) first_page: u64,
    /// Physical address of its first page; `None` where the bitmap tells the pages.
    pa: Option<PhysAddr>,
}

/// The pages of an extent and where each starts, in the order of the file.
pub(super) fn pages_of<'m>(
    memory: &'m Memory,
    extent: &Extent,
) -> impl Iterator<Item = (Option<Pfn>, FileOffset)> + use<'m> {
    let size = memory.page_size();
    let sparse = memory.sparse().into_iter().flat_map(move |sparse| {
        let bitmap = sparse.bitmap(memory.source()).ok();
        let bits = bitmap
            .into_iter()
            .flat_map(|bitmap| bitmap.ones(0..bitmap.len_bits()));
        let mut pfns = Pfns {
            ranges: &sparse.ranges,
        };
        bits.zip(0..)
            .map(move |(bit, number)| (pfns.of(bit), sparse.offset_of_rank(number)))
    });
    let start = extent.start;
    let count = size.pages(extent.end.0 - start.0);
    let segment = extent.pa.into_iter().flat_map(move |pa| {
        (0..count).map(move |number| {
            let inside = number << size.shift();
            let pa = PhysAddr(pa.0.wrapping_add(inside));
            (Some(size.pfn(pa)), FileOffset(start.0 + inside))
        })
    });
    sparse.chain(segment)
}

/// Page numbers of ascending bits: the ranges are gone through once.
struct Pfns<'a> {
    ranges: &'a [vmcore_format::dump_avail::NumberedRange],
}

impl Pfns<'_> {
    fn of(&mut self, bit: u64) -> Option<Pfn> {
        while let Some(range) = self.ranges.first() {
            if bit < range.first_bit + range.len_pages() {
                return Some(Pfn(range.first.0 + (bit - range.first_bit)));
            }
            self.ranges = self.ranges.get(1..).unwrap_or_default();
        }
        None
    }
}

/// The number, page and start of the page that holds `offset` of the file.
pub(super) fn at(memory: &Memory, offset: FileOffset) -> Option<(u64, Option<Pfn>, FileOffset)> {
    let size = memory.page_size();
    if let Some(sparse) = memory.sparse() {
        let number = offset.checked_sub(sparse.offset_of_rank(0))? >> size.shift();
        let bit = sparse.bit_of_rank(memory.source(), number)?;
        return Some((
            number,
            sparse.numbering().pfn_of(bit),
            sparse.offset_of_rank(number),
        ));
    }
    for segment in memory.segments()?.segments() {
        if let Some(inside) = offset
            .checked_sub(segment.offset)
            .filter(|at| *at < segment.file_bytes)
        {
            let page = inside >> size.shift();
            let start = page << size.shift();
            let pfn = size.pfn(PhysAddr(segment.range.start.0 + start));
            return Some((
                segment.first_page + page,
                Some(pfn),
                FileOffset(segment.offset.0 + start),
            ));
        }
    }
    None
}

/// Where in the file the pages lie, by ascending physical addresses.
pub(super) fn extents(memory: &Memory) -> Result<Vec<Extent>, Absence> {
    if let Some(sparse) = memory.sparse() {
        let pages = sparse.set_bits(memory.source())?;
        return Ok(vec![Extent {
            start: sparse.offset_of_rank(0),
            end: sparse.offset_of_rank(pages),
            first_page: 0,
            pa: None,
        }]);
    }
    let segments = memory
        .segments()
        .map(SegmentMemory::segments)
        .unwrap_or_default();
    let extent = |segment: &PhysSegment| Extent {
        start: segment.offset,
        end: FileOffset(segment.offset.0.saturating_add(segment.file_bytes)),
        first_page: segment.first_page,
        pa: Some(segment.range.start),
    };
    Ok(segments.iter().map(extent).collect())
}
