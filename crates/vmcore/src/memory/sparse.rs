//! The sparse pages of a minidump: bitmap, numbering, rank.

use super::{PageCache, PageReadError};
use crate::source::Source;
use std::sync::OnceLock;
use vmcore_format::addr::{FileOffset, PageSize, Pfn, PhysAddr};
use vmcore_format::bitmap::{Bitmap, RankIndex, WordOrder};
use vmcore_format::dump_avail::{NumberedRange, Numbering};
use vmcore_format::layout::{Layout, Section};

/// A bitmap up to this size is read; a larger one is mapped.
const READ_BITMAP_UP_TO: u64 = 1 << 20;
/// Page-table pages whose place is remembered.
const TABLES_REMEMBERED: u64 = 1 << 11;

/// Pages of a minidump.
#[derive(Debug)]
pub struct SparseMemory {
    pub(crate) layout: Layout,
    pub(crate) order: WordOrder,
    pub(crate) ranges: Vec<NumberedRange>,
    pub(crate) page_size: PageSize,
    /// Where the sections start that every read needs.
    pages: FileOffset,
    tables: FileOffset,
    /// Pages that the bitmap of the file names, but its writer left out.
    lost: Vec<LostPage>,
    index: OnceLock<Result<Index, PageReadError>>,
}

/// The bitmap and its rank, built when first needed.
#[derive(Debug)]
struct Index {
    /// The bitmap, if it is not mapped.
    copy: Option<Vec<u8>>,
    rank: RankIndex<Box<[u64]>>,
    set_bits: u64,
    /// The ranks of pages that hold page tables.
    tables: PageCache,
}

/// A page that the bitmap names, but that its writer left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostPage {
    /// Its bit, as far as known: it may be that of another page between the two.
    pub bit: u64,
    /// It is after this one,
    pub from: PhysAddr,
    /// and before this one.
    pub to: PhysAddr,
}

/// One RAM range and how much of it is in the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSummary {
    /// The range.
    pub range: NumberedRange,
    /// Pages of it that are in the dump.
    pub dumped_pages: u64,
}

impl SparseMemory {
    pub(crate) fn new(
        layout: Layout,
        order: WordOrder,
        ranges: Vec<NumberedRange>,
        page_size: PageSize,
    ) -> Self {
        Self {
            pages: layout.section(Section::Pages).offset,
            tables: layout.section(Section::PageTables).offset,
            layout,
            order,
            ranges,
            page_size,
            lost: Vec::new(),
            index: OnceLock::new(),
        }
    }

    /// The same with its sections elsewhere.
    pub(crate) fn with_layout(self, layout: Layout) -> Self {
        Self {
            pages: layout.section(Section::Pages).offset,
            tables: layout.section(Section::PageTables).offset,
            layout,
            ..self
        }
    }

    /// The same without `lost`: what follows them moves to where it is in the file.
    pub(crate) fn without(self, lost: Vec<LostPage>) -> Self {
        Self {
            lost,
            ..Self::new(self.layout, self.order, self.ranges, self.page_size)
        }
    }

    /// Pages that the bitmap of the file names, but its writer left out. They are not in
    /// [`SparseMemory::bitmap`].
    #[must_use]
    pub fn lost(&self) -> &[LostPage] {
        &self.lost
    }

    /// Where each section lies.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The numbering of pages.
    #[inline]
    #[must_use]
    pub fn numbering(&self) -> Numbering<'_> {
        Numbering::new(&self.ranges)
    }

    pub(crate) const fn tables_offset(&self) -> FileOffset {
        self.tables
    }

    #[inline]
    fn index(&self, source: &Source) -> Result<&Index, PageReadError> {
        self.index
            .get_or_init(|| self.build(source))
            .as_ref()
            .map_err(|reason| *reason)
    }

    #[cold]
    fn build(&self, source: &Source) -> Result<Index, PageReadError> {
        let extent = self.layout.section(Section::Bitmap);
        let range = extent.offset.0..extent.offset.0 + extent.len_bytes;
        let truncated = PageReadError::SectionTruncated {
            section: Section::Bitmap,
        };
        if !source.reaches(range.end) {
            return Err(truncated);
        }
        let mapped = if extent.len_bytes > READ_BITMAP_UP_TO && self.lost.is_empty() {
            source.mapped(range.clone())
        } else {
            None
        };
        let mut copy = match mapped {
            Some(_) => {
                source.expect_mapped_reads(range.clone());
                None
            }
            None => {
                let mut copy = vec![0; usize::try_from(extent.len_bytes).map_err(|_| truncated)?];
                match source.read_positional(range.start, &mut copy) {
                    Ok(read) if read == copy.len() => Some(copy),
                    Ok(_) => return Err(truncated),
                    Err(error) => {
                        return Err(PageReadError::io(extent.offset, &error));
                    }
                }
            }
        };
        for lost in &self.lost {
            let byte = usize::try_from(self.order.byte_of(lost.bit)).ok();
            let copy = copy.as_deref_mut().unwrap_or_default();
            if let Some(byte) = byte.and_then(|byte| copy.get_mut(byte)) {
                *byte &= !(1 << (lost.bit % 8));
            }
        }
        let bitmap = Bitmap::new(copy.as_deref().or(mapped).unwrap_or_default(), self.order);
        let mut entries = vec![0; RankIndex::len_words(&bitmap)].into_boxed_slice();
        let set_bits = RankIndex::fill(&bitmap, &mut entries);
        Ok(Index {
            copy,
            rank: RankIndex::new(entries),
            set_bits,
            tables: PageCache::for_pages(TABLES_REMEMBERED),
        })
    }

    #[inline]
    fn bitmap_of<'a>(&self, source: &'a Source, index: &'a Index) -> Bitmap<'a> {
        let bytes = match &index.copy {
            Some(copy) => copy,
            None => {
                let extent = self.layout.section(Section::Bitmap);
                source
                    .mapped(extent.offset.0..extent.offset.0 + extent.len_bytes)
                    .unwrap_or_default()
            }
        };
        Bitmap::new(bytes, self.order)
    }

    /// The bitmap.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn bitmap<'a>(&'a self, source: &'a Source) -> Result<Bitmap<'a>, PageReadError> {
        Ok(self.bitmap_of(source, self.index(source)?))
    }

    /// Pages that the bitmap says are in the dump, padding bits included, lost ones not.
    ///
    /// # Errors
    /// Returns an error if the bitmap cannot be read.
    pub fn set_bits(&self, source: &Source) -> Result<u64, PageReadError> {
        Ok(self.index(source)?.set_bits)
    }

    /// Where the page starts in the file, which may end before.
    #[inline(always)]
    pub(crate) fn page_offset(
        &self,
        source: &Source,
        pfn: Pfn,
    ) -> Result<FileOffset, PageReadError> {
        let index = self.index(source)?;
        Ok(self.offset_of_rank(self.rank_of(source, index, pfn)?))
    }

    /// As [`SparseMemory::page_offset`], of a page-table page: remembered.
    #[inline(always)]
    pub(super) fn table_offset(
        &self,
        source: &Source,
        pfn: Pfn,
    ) -> Result<FileOffset, PageReadError> {
        let index = self.index(source)?;
        let rank = match index.tables.get(pfn.0) {
            Some(rank) => rank,
            None => {
                let rank = self.rank_of(source, index, pfn)?;
                index.tables.put(pfn.0, rank);
                rank
            }
        };
        Ok(self.offset_of_rank(rank))
    }

    /// Pages before the page, if it is in the dump.
    #[inline(always)]
    fn rank_of(&self, source: &Source, index: &Index, pfn: Pfn) -> Result<u64, PageReadError> {
        let bit = self.numbering().bit_of(pfn);
        let rank = bit.and_then(|bit| {
            let bitmap = self.bitmap_of(source, index);
            index.rank.rank_of_set(&bitmap, bit)
        });
        rank.ok_or_else(|| self.absence(pfn, bit))
    }

    /// Why a page is not in the dump.
    #[cold]
    fn absence(&self, pfn: Pfn, bit: Option<u64>) -> PageReadError {
        let pa = self.page_size.base(pfn);
        let Some(bit) = bit else {
            return PageReadError::NotRam { pa };
        };
        let lost = self.lost.iter().find(|lost| lost.bit == bit);
        lost.map_or(PageReadError::NotDumped { pa }, |lost| {
            PageReadError::Lost {
                pa,
                from: lost.from,
                to: lost.to,
            }
        })
    }

    /// Pages before bit `bit`.
    pub(crate) fn rank(&self, source: &Source, bit: u64) -> Result<u64, PageReadError> {
        let index = self.index(source)?;
        let bitmap = self.bitmap_of(source, index);
        // Ranges may go on after the bitmap: nothing is counted for each of them.
        if bit >= bitmap.len_bits() {
            return Ok(index.set_bits);
        }
        Ok(index.rank.rank(&bitmap, bit))
    }

    /// The bit of sparse page `rank`; `None` if there are not so many, or the bitmap is unreadable.
    pub(crate) fn bit_of_rank(&self, source: &Source, rank: u64) -> Option<u64> {
        let index = self.index(source).ok()?;
        index.rank.select(&self.bitmap_of(source, index), rank)
    }

    /// Where sparse page `rank` starts. A rank is below 2^35 (the bitmap's size is 32-bit).
    #[inline]
    pub(crate) const fn offset_of_rank(&self, rank: u64) -> FileOffset {
        FileOffset(self.pages.0 + (rank << self.page_size.shift()))
    }

    /// Each RAM range with the pages that the dump has of it.
    ///
    /// # Errors
    /// Returns an error if the bitmap cannot be read.
    pub fn summary(&self, source: &Source) -> Result<Vec<RangeSummary>, PageReadError> {
        let mut summary = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            let before = self.rank(source, range.first_bit)?;
            let after = self.rank(source, range.first_bit + range.len_pages())?;
            summary.push(RangeSummary {
                range: *range,
                dumped_pages: after - before,
            });
        }
        Ok(summary)
    }
}
