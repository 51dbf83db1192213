//! Every mapping of the kernel, and every page of the dump with all its virtual addresses.
//!
//! [`visit_mappings`] goes through the kernel's page tables in the order of virtual addresses and
//! costs no memory. [`PageMap`] turns that around: every page of the dump, in the order of the
//! file, exactly once, with each address that maps it; pages that only the direct map reaches are
//! among them. Both bound their work on damaged tables, and say when they were cut short.
//!
//! ```no_run
//! use vmcore::pages::PageMap;
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session};
//! let session = Session::open("vmcore.0".as_ref(), KernelChoice::None, &OpenOptions::default())?;
//! let map = PageMap::build(session.space()?)?;
//! let direct_only = map.pages().filter(|page| !page.is_mapped).count();
//! println!("{direct_only} pages have no address in the kernel map");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod non_radix;
mod page_map;
mod present;

pub use page_map::{Page, PageMap};
pub use present::PresentRun;
pub(crate) use present::{Census, census};

use crate::memory::{Memory, PageReadError};
use crate::space::AddressSpace;
use crate::translation::{WindowKind, with_paging};
use std::ops::ControlFlow;
use vmcore_format::addr::{FileOffset, Pfn, PhysAddr, VirtAddr};
use vmcore_format::elf::{PF_W, PF_X};
use vmcore_format::paging::{self, Budget, Leaf, MAX_LEVELS, Prot, Visitor, WalkError};

/// Table loads that are always allowed, and how many there may be for each page of the file: each
/// real page table is named once, or a few times where address spaces share it. Tables that the
/// file lacks are named, too: at most one for each so many pages of the dump.
const TABLE_LOADS_BASE: u64 = 1 << 12;
const TABLE_LOADS_PER_PAGE: u64 = 4;
const PAGES_PER_ABSENT_TABLE: u64 = 64;
/// Work on mappings that is always allowed: see [`Census::work`].
const MAPPING_WORK_BASE: u64 = 1 << 18;
/// Each mapping has an entry in the file, of four bytes at least: so many may share one.
const MAPPINGS_PER_ENTRY: u64 = 2;
/// Pages in large ones cost 1/16 each, and all RAM may be mapped by large ones four times.
const PAGES_PER_WORK: u64 = 4;
/// Bytes read in one go by [`scan`]: positional reads of this size beat a fresh mapping.
const SCAN_BYTES: usize = 1 << 20;

/// A mapping that the page tables hold, of any page size, in the dump or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First virtual address.
    pub va: VirtAddr,
    /// First physical address.
    pub pa: PhysAddr,
    /// Bytes.
    pub len_bytes: u64,
    /// What it allows.
    pub prot: Prot,
}

/// What a visit met besides mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VisitSummary {
    /// Page-table pages below the top array.
    pub table_pages: u64,
    /// Page tables that could not be read, because their page is not in the dump or cut.
    pub unreadable_tables: u64,
    /// Whether the visit stopped because the tables are damaged beyond its budget.
    pub budget_exhausted: bool,
}

/// Receives what a visit finds.
pub trait MappingVisitor {
    /// A mapping, in ascending order of virtual addresses.
    fn mapping(&mut self, mapping: Mapping) -> ControlFlow<()>;

    /// A page-table page.
    fn table(&mut self, pa: PhysAddr) {
        let _ = pa;
    }
}

impl<F: FnMut(Mapping) -> ControlFlow<()>> MappingVisitor for F {
    fn mapping(&mut self, mapping: Mapping) -> ControlFlow<()> {
        self(mapping)
    }
}

/// Visits every mapping of the kernel map: page tables, or the segments of an ELF core. The direct
/// map of a minidump is not visited: it maps everything.
///
/// # Errors
/// Returns an error if the bitmap cannot be read.
pub fn visit_mappings(
    space: AddressSpace<'_>,
    visitor: &mut impl MappingVisitor,
) -> Result<VisitSummary, PageReadError> {
    let memory = space.memory();
    let mut summary = VisitSummary::default();
    let pages = present::page_count(memory)?;
    let in_file = pages.min(memory.page_size().pages(memory.source().len()));
    let table_loads =
        TABLE_LOADS_BASE + TABLE_LOADS_PER_PAGE * in_file + pages / PAGES_PER_ABSENT_TABLE;
    let mut adapter = Adapter {
        memory,
        visitor,
        summary: &mut summary,
        work_left: MAPPING_WORK_BASE
            + MAPPINGS_PER_ENTRY * (memory.source().len() / 4)
            + present::described(memory)? / PAGES_PER_WORK,
        failed: Ok(()),
    };
    for window in space.translation().windows() {
        let flow = match &window.kind {
            WindowKind::Linear(_) => ControlFlow::Continue(()),
            WindowKind::Segments(segments) => segments.iter().try_for_each(|segment| {
                let prot = Prot {
                    write: segment.p_flags & PF_W != 0,
                    execute: segment.p_flags & PF_X != 0,
                };
                adapter.mapping(Mapping {
                    va: VirtAddr(segment.p_vaddr),
                    pa: PhysAddr(segment.p_paddr),
                    len_bytes: segment.p_memsz,
                    prot,
                })
            }),
            WindowKind::Hashed(table, _) => {
                non_radix::visit_hashed(table, window, space.translation(), &mut adapter)
            }
            WindowKind::Tsb(tsb) => non_radix::visit_tsb(tsb, memory, &mut adapter),
            WindowKind::Radix { mode, radix } => {
                let mut budget = Budget { table_loads };
                let page = memory.page_size().bytes();
                let len = usize::try_from(page).unwrap_or(0) * MAX_LEVELS;
                let mut buf = vec![0; len];
                let flow = with_paging!(*mode, P => {
                    paging::visit::<P, _>(radix, memory, &mut buf, &mut budget, &mut adapter)
                });
                adapter.summary.budget_exhausted |= flow.is_break() && budget.table_loads == 0;
                flow
            }
        };
        adapter.failed?;
        if flow.is_break() {
            break;
        }
    }
    Ok(summary)
}

/// Passes what the descent finds on to a [`MappingVisitor`], and stops where it is too much.
struct Adapter<'a, V> {
    memory: &'a Memory,
    visitor: &'a mut V,
    summary: &'a mut VisitSummary,
    work_left: u64,
    failed: Result<(), PageReadError>,
}

impl<V: MappingVisitor> Adapter<'_, V> {
    #[inline]
    fn mapping(&mut self, mapping: Mapping) -> ControlFlow<()> {
        let work = if mapping.len_bytes == self.memory.page_size().bytes() {
            1
        } else {
            match census(self.memory, mapping) {
                Ok(census) => census.work(),
                Err(reason) => {
                    self.failed = Err(reason);
                    return ControlFlow::Break(());
                }
            }
        };
        let Some(left) = self.work_left.checked_sub(work) else {
            self.summary.budget_exhausted = true;
            return ControlFlow::Break(());
        };
        self.work_left = left;
        self.visitor.mapping(mapping)
    }
}

impl<V: MappingVisitor> Visitor<PageReadError> for Adapter<'_, V> {
    #[inline]
    fn leaf(&mut self, va: VirtAddr, leaf: Leaf) -> ControlFlow<()> {
        self.mapping(Mapping {
            va,
            pa: leaf.pa,
            len_bytes: leaf.len_bytes(),
            prot: leaf.prot,
        })
    }

    fn table(&mut self, pa: PhysAddr, _level: u32) -> ControlFlow<()> {
        self.summary.table_pages += 1;
        self.visitor.table(pa);
        ControlFlow::Continue(())
    }

    fn unreadable(&mut self, _va: VirtAddr, _error: WalkError<PageReadError>) -> ControlFlow<()> {
        self.summary.unreadable_tables += 1;
        ControlFlow::Continue(())
    }
}

/// The parts of a mapping that are in the dump, in ascending order; of a full dump, those in its
/// file.
pub fn present_runs(
    memory: &Memory,
    mapping: Mapping,
    on_run: impl FnMut(PresentRun),
) -> Result<(), PageReadError> {
    present::runs(memory, mapping, on_run)
}

/// Pages that the dump has by its headers and bitmap, whether the file has them or not.
///
/// # Errors
/// Returns an error if the bitmap cannot be read.
pub fn page_count(memory: &Memory) -> Result<u64, PageReadError> {
    present::page_count(memory)
}

/// Pages that have a number in [`PresentRun`] and [`Chunk`]: those of [`page_count`], but of a full
/// dump only those in its file.
///
/// # Errors
/// Returns an error if the bitmap cannot be read.
pub fn numbered_page_count(memory: &Memory) -> Result<u64, PageReadError> {
    present::numbered(memory)
}

/// Pages of the file that hold nothing but zeros. Reads them all.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn count_zeros(memory: &Memory) -> Result<u64, PageReadError> {
    let mut zeros = 0;
    scan(memory, |page| {
        zeros += u64::from(is_zero(page.bytes));
        ControlFlow::Continue(())
    })?;
    Ok(zeros)
}

/// Whether all bytes are zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    let zero = |chunk: &[u8; 64]| chunk.iter().fold(0, |all, byte| all | byte) == 0;
    chunks.iter().all(zero) && rest.iter().all(|byte| *byte == 0)
}

/// A page as [`scan`] shows it.
#[derive(Clone, Copy, Debug)]
pub struct ScannedPage<'a> {
    /// Where its first byte is in memory; `None` for a set bit that is not a page of any RAM range.
    pub pa: Option<PhysAddr>,
    /// Where it starts in the file.
    pub offset: FileOffset,
    /// Its bytes; fewer than a page at the ends of a full dump's range, and at the end of a
    /// truncated file.
    pub bytes: &'a [u8],
}

/// Reads the pages of the dump in the order of the file, in large pieces, and shows each until
/// `on_page` breaks off.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn scan(
    memory: &Memory,
    on_page: impl FnMut(ScannedPage<'_>) -> ControlFlow<()>,
) -> Result<(), PageReadError> {
    scan_past(memory, on_page, Err)
}

/// As [`scan`], but goes on after a page that cannot be read if `on_absent` says so.
pub(crate) fn scan_past(
    memory: &Memory,
    mut on_page: impl FnMut(ScannedPage<'_>) -> ControlFlow<()>,
    mut on_absent: impl FnMut(PageReadError) -> Result<(), PageReadError>,
) -> Result<(), PageReadError> {
    let page = usize::try_from(memory.page_size().bytes()).unwrap_or(4096);
    let mut buf = scan_buffer(memory);
    for extent in present::extents(memory)? {
        let mut pages = present::pages_of(memory, &extent);
        let on_chunk = |chunk: Chunk<'_>| {
            let mut offset = chunk.offset;
            for bytes in chunk.bytes.chunks(page) {
                let pa = pages.find(|(_, at)| *at >= offset).and_then(|(pa, _)| pa);
                on_page(ScannedPage { pa, offset, bytes })?;
                offset.0 += bytes.len() as u64;
            }
            ControlFlow::Continue(())
        };
        let flow = chunks_of(memory, &extent, &mut buf, on_chunk, &mut on_absent)?;
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

/// Pages that lie together in the file, as [`scan_chunks`] shows them.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Number of the first page in the dump.
    pub number: u64,
    /// Where the first page starts in the file.
    pub offset: FileOffset,
    /// Their bytes, at most a MiB; the last page may be cut.
    pub bytes: &'a [u8],
}

/// As [`scan`], but in the large pieces in which the file is read.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn scan_chunks(
    memory: &Memory,
    mut on_chunk: impl FnMut(Chunk<'_>) -> ControlFlow<()>,
) -> Result<(), PageReadError> {
    let mut buf = scan_buffer(memory);
    for extent in present::extents(memory)? {
        if chunks_of(memory, &extent, &mut buf, &mut on_chunk, Err)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Room for a chunk, or for all pages of a small dump.
fn scan_buffer(memory: &Memory) -> Vec<u8> {
    let page = memory.page_size();
    let all = page.round_up(memory.source().len());
    let len = all.and_then(|all| usize::try_from(all).ok());
    vec![0; len.map_or(SCAN_BYTES, |len| len.min(SCAN_BYTES))]
}

/// Reads one extent, up to its end or the file's. What cannot be read is tried again page by page,
/// and each page that cannot be read is reported.
fn chunks_of(
    memory: &Memory,
    extent: &present::Extent,
    buf: &mut [u8],
    mut on_chunk: impl FnMut(Chunk<'_>) -> ControlFlow<()>,
    mut on_absent: impl FnMut(PageReadError) -> Result<(), PageReadError>,
) -> Result<ControlFlow<()>, PageReadError> {
    let page = usize::try_from(memory.page_size().bytes()).unwrap_or(4096);
    let mut at = extent.start;
    let mut number = extent.first_page;
    // Up to here page by page.
    let mut careful_until = at;
    while at < extent.end {
        let most = match at < careful_until {
            true => page.min(buf.len()),
            false => buf.len(),
        };
        let want = usize::try_from(extent.end.0 - at.0)
            .unwrap_or(most)
            .min(most);
        let part = buf.get_mut(..want).unwrap_or_default();
        let read = match memory.source().read_positional(at.0, part) {
            Ok(read) => read,
            Err(_) if want > page => {
                careful_until.0 = at.0 + want as u64;
                continue;
            }
            Err(error) => {
                on_absent(PageReadError::io(at, &error))?;
                at.0 += want as u64;
                number += 1;
                continue;
            }
        };
        let bytes = part.get(..read).unwrap_or_default();
        if !bytes.is_empty() {
            let chunk = Chunk {
                number,
                offset: at,
                bytes,
            };
            if on_chunk(chunk).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if read < want {
            break;
        }
        at.0 += read as u64;
        number += (read as u64) >> memory.page_size().shift();
    }
    Ok(ControlFlow::Continue(()))
}

/// Every numbered page and where it starts in the file, in the order of the file.
pub fn all(memory: &Memory) -> impl Iterator<Item = (Option<Pfn>, FileOffset)> + '_ {
    let size = memory.page_size();
    let pages = present::extents(memory)
        .unwrap_or_default()
        .into_iter()
        .flat_map(|extent| present::pages_of(memory, &extent));
    pages.map(move |(pa, offset)| (pa.map(|pa| size.pfn(pa)), offset))
}

/// The page that holds file offset `offset`, which lies among the pages: where its first byte is in
/// memory, and in the file.
#[must_use]
pub fn page_at(memory: &Memory, offset: FileOffset) -> Option<(Option<PhysAddr>, FileOffset)> {
    present::at(memory, offset).map(|(_, pa, start)| (pa, start))
}
