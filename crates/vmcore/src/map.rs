//! Which memory of the machine is in the dump, by RAM range and along the physical addresses.
//!
//! Every page of RAM is of one kind ([`Kinds`]): mapped by the kernel map, a page table, reached
//! only through the direct map, in the dump by the bitmap but cut off by the file's end, or not in
//! the dump. The machine is also divided into cells of equal size, so that a picture of bounded
//! size can be drawn of it.
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session, map};
//! let session = Session::open("vmcore.0".as_ref(), KernelChoice::None, &OpenOptions::default())?;
//! for range in map::map(&session, 4096)?.ranges {
//!     println!("{}: {} of {} pages", range.range, range.pages.in_dump(), range.pages.ram);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::info;
use crate::memory::{PageReadError, PhysSegment};
use crate::pages::{self, Page, PageMap};
use crate::session::Session;
use serde::Serialize;
use vmcore_format::addr::{FileOffset, PageSize, Pfn, PhysAddr, PhysRange};

/// How many pages of each kind. `ram` is the sum of all others and of the pages that are not in
/// the dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kinds {
    /// Pages of RAM.
    pub ram: u64,
    /// In the dump, with an address in the kernel map.
    pub kernel_map: u64,
    /// In the dump, holding page-table entries, without an address in the kernel map.
    pub page_tables: u64,
    /// In the dump, reached only through the direct map.
    pub direct_map_only: u64,
    /// In the dump, but without the kernel file the reason is unknown.
    pub unclassified: u64,
    /// In the dump by its bitmap or headers, but the file ends before or inside them.
    pub truncated: u64,
}

impl Kinds {
    /// Pages whose bytes are in the file.
    #[must_use]
    pub const fn in_dump(&self) -> u64 {
        self.kernel_map + self.page_tables + self.direct_map_only + self.unclassified
    }

    fn add(&mut self, other: Self) {
        self.ram += other.ram;
        self.kernel_map += other.kernel_map;
        self.page_tables += other.page_tables;
        self.direct_map_only += other.direct_map_only;
        self.unclassified += other.unclassified;
        self.truncated += other.truncated;
    }
}

/// A RAM range of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RangeMap {
    /// Its addresses, whole pages.
    pub range: PhysRange,
    /// Its pages.
    pub pages: Kinds,
    /// The same for each [`MemoryMap::cell_pages`] pages of it; the last cell may be smaller.
    pub cells: Vec<Kinds>,
}

/// The memory of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryMap {
    /// Bytes of a page.
    pub page_size_bytes: u64,
    /// Pages of a cell.
    pub cell_pages: u64,
    /// All pages.
    pub total: Kinds,
    /// RAM, ascending.
    pub ranges: Vec<RangeMap>,
    /// Set bits of the bitmap after the last page of RAM: pages of the file without an address.
    pub padding_pages: u64,
    /// Pages that the kernel map names and the dump does not have; absent if the kernel map is not
    /// known.
    pub mapped_but_absent: Option<u64>,
    /// Whether the page tables hold more than a sound kernel would, so that kinds may be wrong.
    pub is_cut_short: bool,
}

/// The map of a dump, in about `cells` cells (at least one for each range).
///
/// # Errors
/// Returns an error if the bitmap cannot be read.
pub fn map(session: &Session, cells: u64) -> Result<MemoryMap, PageReadError> {
    let memory = session.dump().memory();
    let size = memory.page_size();
    let mut ranges = info::ram(session.dump());
    ranges.sort_by_key(|range| range.start);
    let all: u64 = ranges
        .iter()
        .map(|range| size.pages(range.len_bytes()))
        .sum();
    let cell_pages = all.div_ceil(cells.max(1)).max(1);
    let mut canvas = Canvas {
        size,
        cell_pages,
        file_len: memory.source().len(),
        padding_pages: 0,
        ranges: ranges
            .into_iter()
            .map(|range| blank(range, size, cell_pages))
            .collect(),
        current: 0,
    };
    let page_map = session.space().ok().map(PageMap::build).transpose()?;
    match &page_map {
        Some(pages) => pages
            .pages()
            .for_each(|page| canvas.add(page.pfn, page.offset, kind_of(&page))),
        None => {
            let kind = Kinds {
                unclassified: 1,
                ..Kinds::default()
            };
            pages::all(memory).for_each(|(pfn, offset)| canvas.add(pfn, offset, kind));
        }
    }
    if let Some(segments) = memory.segments() {
        let segments = segments.segments().iter();
        segments.for_each(|segment| canvas.add_truncated(segment));
    }
    Ok(canvas.finish(page_map.as_ref()))
}

/// The kind of a page that is in the file.
fn kind_of(page: &Page<'_>) -> Kinds {
    let mut kinds = Kinds::default();
    if page.is_mapped {
        kinds.kernel_map = 1;
    } else if page.is_table {
        kinds.page_tables = 1;
    } else if page.direct_map.is_some() {
        kinds.direct_map_only = 1;
    } else {
        kinds.unclassified = 1;
    }
    kinds
}

/// A range of which nothing is in the dump yet.
fn blank(range: PhysRange, size: PageSize, cell_pages: u64) -> RangeMap {
    let ram = size.pages(range.len_bytes());
    let cell = |first| Kinds {
        ram: cell_pages.min(ram - first),
        ..Kinds::default()
    };
    let step = usize::try_from(cell_pages).unwrap_or(usize::MAX);
    RangeMap {
        range,
        pages: Kinds {
            ram,
            ..Kinds::default()
        },
        cells: (0..ram).step_by(step).map(cell).collect(),
    }
}

/// The map while pages are added in ascending order.
struct Canvas {
    size: PageSize,
    cell_pages: u64,
    file_len: u64,
    padding_pages: u64,
    ranges: Vec<RangeMap>,
    /// The range of the page before.
    current: usize,
}

impl Canvas {
    fn add(&mut self, pfn: Option<Pfn>, offset: FileOffset, kind: Kinds) {
        let Some(pa) = pfn.map(|pfn| self.size.base(pfn)) else {
            self.padding_pages += 1;
            return;
        };
        let end = offset.checked_add(self.size.bytes());
        let kind = match end {
            Some(end) if end.0 <= self.file_len => kind,
            _ => Kinds {
                truncated: 1,
                ..Kinds::default()
            },
        };
        let (size, cell_pages) = (self.size, self.cell_pages);
        let Some(range) = self.range_of(pa) else {
            return;
        };
        range.pages.add(kind);
        let inside = pa.checked_sub(start_page(range, size)).unwrap_or(0) >> size.shift();
        let cell = usize::try_from(inside / cell_pages).ok();
        if let Some(cell) = cell.and_then(|cell| range.cells.get_mut(cell)) {
            cell.add(kind);
        }
    }

    /// Adds the pages of a full dump that its file does not have at all.
    fn add_truncated(&mut self, segment: &PhysSegment) {
        let (size, cell_pages) = (self.size, self.cell_pages);
        let all = size.pages(segment.file_bytes);
        let have = size.pages(segment.present_bytes);
        let Some(range) = self.range_of(segment.range.start).filter(|_| have < all) else {
            return;
        };
        let start = segment.range.start.checked_sub(start_page(range, size));
        let before = start.unwrap_or(0) >> size.shift();
        let (first, end) = (before + have, before + all);
        range.pages.truncated += end - first;
        let first_cell = usize::try_from(first / cell_pages).unwrap_or(usize::MAX);
        let cells = range.cells.iter_mut().enumerate().skip(first_cell);
        for (number, cell) in cells {
            let cell_first = number as u64 * cell_pages;
            if cell_first >= end {
                break;
            }
            cell.truncated += end.min(cell_first + cell_pages) - first.max(cell_first);
        }
    }

    /// The range that holds `pa`, or follows it.
    fn range_of(&mut self, pa: PhysAddr) -> Option<&mut RangeMap> {
        if self
            .ranges
            .get(self.current)
            .is_none_or(|range| !range.range.contains(pa))
        {
            self.current = self.ranges.partition_point(|range| range.range.end <= pa);
        }
        self.ranges.get_mut(self.current)
    }

    fn finish(self, page_map: Option<&PageMap<'_>>) -> MemoryMap {
        let mut total = Kinds::default();
        self.ranges.iter().for_each(|range| total.add(range.pages));
        MemoryMap {
            page_size_bytes: self.size.bytes(),
            cell_pages: self.cell_pages,
            total,
            ranges: self.ranges,
            padding_pages: self.padding_pages,
            mapped_but_absent: page_map.map(PageMap::absent_pages),
            is_cut_short: page_map.is_some_and(PageMap::is_cut_short),
        }
    }
}

/// Start of the first page of a range.
fn start_page(range: &RangeMap, size: PageSize) -> PhysAddr {
    size.base(size.pfn(range.range.start))
}
