//! Which parts of physical ranges are in the dump, and the number of each page in the file.

use super::Mapping;
use crate::memory::{Memory, PageReadError, PhysSegment, SegmentMemory, SparseMemory};
use vmcore_format::addr::{FileOffset, PageSize, Pfn, PhysAddr, VirtAddr};
use vmcore_format::bitmap::Ones;

/// A part of a mapping whose pages are in the dump and lie together in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentRun {
    /// First virtual address.
    pub va: VirtAddr,
    /// First physical address.
    pub pa: PhysAddr,
    /// Bytes: whole pages, but for the first and last one in a range of a full dump.
    pub len_bytes: u64,
    /// Pages of which bytes are in it.
    pub len_pages: u64,
    /// Bytes of the first page before it.
    pub skipped_bytes: u64,
    /// Number of the first page in the file, from 0.
    pub number: u64,
    /// Where the first byte is in the file, which may be past the end of a truncated one.
    pub offset: FileOffset,
}

/// Pages that the dump has by its headers and bitmap.
pub(super) fn page_count(memory: &Memory) -> Result<u64, PageReadError> {
    if let Some(sparse) = memory.sparse() {
        return sparse.set_bits(memory.source());
    }
    Ok(segments_of(memory).iter().fold(0, |pages, segment| {
        memory
            .page_size()
            .pages(segment.file_bytes)
            .saturating_add(pages)
    }))
}

/// Pages that have a number: all of a minidump, those in the file of a full dump. Bounded by the
/// bitmap's size, or by the file's.
pub(super) fn numbered(memory: &Memory) -> Result<u64, PageReadError> {
    if let Some(sparse) = memory.sparse() {
        return sparse.set_bits(memory.source());
    }
    Ok(segments_of(memory).last().map_or(0, |last| {
        last.first_page + memory.page_size().pages(last.present_bytes)
    }))
}

/// Numbered pages of which at least a byte is in the file. They come first.
pub(super) fn in_file(memory: &Memory) -> Result<u64, PageReadError> {
    let Some(sparse) = memory.sparse() else {
        return numbered(memory);
    };
    let bytes = memory
        .source()
        .len()
        .saturating_sub(sparse.offset_of_rank(0).0);
    Ok(numbered(memory)?.min(memory.page_size().pages(bytes)))
}

/// Pages of RAM of which the dump says something. Bounded like [`numbered`].
pub(super) fn described(memory: &Memory) -> Result<u64, PageReadError> {
    match memory.sparse() {
        Some(sparse) => {
            let bits = sparse.bitmap(memory.source())?.len_bits();
            Ok(sparse.numbering().total_pages().min(bits))
        }
        None => numbered(memory),
    }
}

fn segments_of(memory: &Memory) -> &[PhysSegment] {
    memory
        .segments()
        .map(SegmentMemory::segments)
        .unwrap_or_default()
}

/// Pages of a mapping by what the dump has of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Named by the mapping.
    pub(crate) named: u64,
    /// Of RAM.
    pub(crate) ram: u64,
    /// In the dump by its headers and bitmap.
    pub(crate) in_dump: u64,
    /// Whole in the file.
    pub(crate) in_file: u64,
    /// Ranges that were looked at.
    ranges: u64,
}

impl Census {
    /// What it costs to go through the mapping: 1, and 1 for each range, and for each 16 pages.
    pub(crate) fn work(&self) -> u64 {
        1 + self.ranges + self.in_dump / 16
    }
}

/// Counts the pages of a mapping, without going through them.
pub(crate) fn census(memory: &Memory, mapping: Mapping) -> Result<Census, PageReadError> {
    let size = memory.page_size();
    let mut census = Census {
        named: size.pages(mapping.len_bytes),
        ..Census::default()
    };
    let Some(sparse) = memory.sparse() else {
        for segment in overlapped(segments_of(memory), mapping) {
            let start = segment.range.start.0;
            let pages = |end: u64| {
                let from = start.max(mapping.pa.0);
                let to = end.min(mapping.pa.0.saturating_add(mapping.len_bytes));
                size.pages(to.saturating_sub(from))
            };
            census.ranges += 1;
            census.ram += pages(segment.range.end.0);
            census.in_dump += pages(start + segment.file_bytes);
            census.in_file += pages(start + segment.present_bytes);
        }
        return Ok(census);
    };
    let source = memory.source();
    let whole_pages = source.len().saturating_sub(sparse.offset_of_rank(0).0) >> size.shift();
    for (from, to) in sparse_overlaps(size, sparse, mapping) {
        let (first, end) = (sparse.rank(source, from)?, sparse.rank(source, to)?);
        census.ranges += 1;
        census.ram += to - from;
        census.in_dump += end - first;
        census.in_file += end.min(whole_pages).saturating_sub(first);
    }
    Ok(census)
}

/// The bits of the pages of `mapping`, by RAM range: first, and first after.
fn sparse_overlaps(
    size: PageSize,
    sparse: &SparseMemory,
    mapping: Mapping,
) -> impl Iterator<Item = (u64, u64)> + '_ {
    let first = size.pfn(mapping.pa).0;
    let end = first + size.pages(mapping.len_bytes);
    let skipped = sparse.ranges.partition_point(|range| range.end.0 <= first);
    let ranges = sparse.ranges.get(skipped..).unwrap_or_default();
    ranges
        .iter()
        .take_while(move |range| range.first.0 < end)
        .map(move |range| {
            let from = range.first.0.max(first) - range.first.0;
            let to = range.end.0.min(end) - range.first.0;
            (range.first_bit + from, range.first_bit + to)
        })
}

/// The segments that `mapping` touches.
fn overlapped(segments: &[PhysSegment], mapping: Mapping) -> impl Iterator<Item = &PhysSegment> {
    let end = mapping.pa.0.saturating_add(mapping.len_bytes);
    let first = segments.partition_point(|segment| segment.range.end <= mapping.pa);
    let segments = segments.get(first..).unwrap_or_default();
    segments
        .iter()
        .take_while(move |segment| segment.range.start.0 < end)
}

/// The parts of `mapping` that are in the dump; of a full dump, in its file.
pub(super) fn runs(
    memory: &Memory,
    mapping: Mapping,
    on_run: impl FnMut(PresentRun),
) -> Result<(), PageReadError> {
    match memory.sparse() {
        Some(sparse) => sparse_runs(memory, sparse, mapping, on_run),
        None => {
            segment_runs(memory.page_size(), segments_of(memory), mapping, on_run);
            Ok(())
        }
    }
}

fn sparse_runs(
    memory: &Memory,
    sparse: &SparseMemory,
    mapping: Mapping,
    mut on_run: impl FnMut(PresentRun),
) -> Result<(), PageReadError> {
    let size = memory.page_size();
    let source = memory.source();
    let first = size.pfn(mapping.pa).0;
    let bitmap = sparse.bitmap(source)?;
    let run = |pfn: u64, len_pages: u64, number: u64| PresentRun {
        va: VirtAddr(mapping.va.0.wrapping_add((pfn - first) << size.shift())),
        pa: size.base(Pfn(pfn)),
        len_bytes: len_pages << size.shift(),
        len_pages,
        skipped_bytes: 0,
        number,
        offset: sparse.offset_of_rank(number),
    };
    if mapping.len_bytes == size.bytes() {
        // The common case: one page.
        if let Some(bit) = sparse.numbering().bit_of(Pfn(first))
            && bitmap.contains(bit)
        {
            on_run(run(first, 1, sparse.rank(source, bit)?));
        }
        return Ok(());
    }
    for (from, to) in sparse_overlaps(size, sparse, mapping) {
        let mut bits = bitmap.ones(from..to).peekable();
        let (Some(first_bit), Some(first_pfn)) = (bits.peek(), sparse.numbering().pfn_of(from))
        else {
            continue;
        };
        let mut number = sparse.rank(source, *first_bit)?;
        while let Some(start) = bits.next() {
            let mut next = start + 1;
            while bits.next_if_eq(&next).is_some() {
                next += 1;
            }
            on_run(run(first_pfn.0 + (start - from), next - start, number));
            number += next - start;
        }
    }
    Ok(())
}

fn segment_runs(
    size: PageSize,
    segments: &[PhysSegment],
    mapping: Mapping,
    mut on_run: impl FnMut(PresentRun),
) {
    let start = mapping.pa.0;
    let end = start.saturating_add(mapping.len_bytes);
    for segment in overlapped(segments, mapping) {
        let segment_start = segment.range.start.0;
        let segment_end = segment_start + segment.present_bytes;
        let (from, to) = (start.max(segment_start), end.min(segment_end));
        if from < to {
            let inside = from - segment_start;
            let first_page = inside >> size.shift();
            on_run(PresentRun {
                va: VirtAddr(mapping.va.0.wrapping_add(from - start)),
                pa: PhysAddr(from),
                len_bytes: to - from,
                len_pages: size.pages(to - segment_start) - first_page,
                skipped_bytes: size.offset_in_page(inside),
                number: segment.first_page + first_page,
                offset: FileOffset(segment.offset.0 + inside),
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
        .filter(|inside| *inside < segment.present_bytes)?;
    Some(segment.first_page + (inside >> size.shift()))
}

/// A part of the file that holds pages, whole but for its last one.
pub(super) struct Extent {
    /// Where its first page starts.
    pub(super) start: FileOffset,
    /// Where its last page ends, which may be past the end of a truncated minidump.
    pub(super) end: FileOffset,
    /// Number of its first page in the dump.
    pub(super) first_page: u64,
    /// Physical address of its first byte; `None` where the bitmap gives the pages.
    pa: Option<PhysAddr>,
}

/// The pages of an extent, by their first byte, and where each starts, in the order of the file.
pub(super) fn pages_of<'m>(memory: &'m Memory, extent: &Extent) -> Pages<'m> {
    let size = memory.page_size();
    let bits = memory.sparse().and_then(|sparse| {
        let bitmap = sparse.bitmap(memory.source()).ok()?;
        let pfns = Pfns {
            ranges: &sparse.ranges,
        };
        Some((bitmap.ones(0..bitmap.len_bits()), pfns))
    });
    let pages = match (bits, extent.pa) {
        (Some((bits, pfns)), _) => Addresses::Bits(bits, pfns),
        (None, Some(pa)) => Addresses::Range(pa, size.pages(extent.end.0 - extent.start.0)),
        (None, None) => Addresses::Range(PhysAddr(0), 0),
    };
    Pages {
        pages,
        next: extent.start,
        size,
    }
}

/// The pages of an extent.
pub(super) struct Pages<'m> {
    pages: Addresses<'m>,
    /// Where the next page starts in the file.
    next: FileOffset,
    size: PageSize,
}

/// Where the pages of an extent are in memory.
enum Addresses<'m> {
    /// By the set bits of the bitmap.
    Bits(Ones<'m>, Pfns<'m>),
    /// So many from an address on.
    Range(PhysAddr, u64),
}

impl Iterator for Pages<'_> {
    type Item = (Option<PhysAddr>, FileOffset);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let pa = match &mut self.pages {
            Addresses::Bits(bits, pfns) => pfns.of(bits.next()?).map(|pfn| self.size.base(pfn)),
            Addresses::Range(pa, left) => {
                *left = left.checked_sub(1)?;
                let next = PhysAddr(pa.0.wrapping_add(self.size.bytes()));
                Some(std::mem::replace(pa, next))
            }
        };
        let offset = self.next;
        self.next.0 = offset.0.saturating_add(self.size.bytes());
        Some((pa, offset))
    }
}

/// Page numbers of ascending bits: the ranges are gone through once.
struct Pfns<'a> {
    ranges: &'a [vmcore_format::dump_avail::NumberedRange],
}

impl Pfns<'_> {
    #[inline]
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

/// The page that holds `offset` of the file: its number, its first byte, and where that is.
pub(super) fn at(
    memory: &Memory,
    offset: FileOffset,
) -> Option<(u64, Option<PhysAddr>, FileOffset)> {
    let size = memory.page_size();
    if let Some(sparse) = memory.sparse() {
        let number = offset.checked_sub(sparse.offset_of_rank(0))? >> size.shift();
        let bit = sparse.bit_of_rank(memory.source(), number)?;
        return Some((
            number,
            sparse.numbering().pfn_of(bit).map(|pfn| size.base(pfn)),
            sparse.offset_of_rank(number),
        ));
    }
    for segment in segments_of(memory) {
        if let Some(inside) = offset
            .checked_sub(segment.offset)
            .filter(|at| *at < segment.present_bytes)
        {
            let page = inside >> size.shift();
            let start = page << size.shift();
            return Some((
                segment.first_page + page,
                Some(PhysAddr(segment.range.start.0 + start)),
                FileOffset(segment.offset.0 + start),
            ));
        }
    }
    None
}

/// Where in the file the pages lie, by ascending physical addresses.
pub(super) fn extents(memory: &Memory) -> Result<Vec<Extent>, PageReadError> {
    if let Some(sparse) = memory.sparse() {
        let pages = sparse.set_bits(memory.source())?;
        return Ok(vec![Extent {
            start: sparse.offset_of_rank(0),
            end: sparse.offset_of_rank(pages),
            first_page: 0,
            pa: None,
        }]);
    }
    let extent = |segment: &PhysSegment| Extent {
        start: segment.offset,
        end: FileOffset(segment.offset.0.saturating_add(segment.present_bytes)),
        first_page: segment.first_page,
        pa: Some(segment.range.start),
    };
    Ok(segments_of(memory).iter().map(extent).collect())
}
