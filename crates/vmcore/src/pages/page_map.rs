//! Every page of the dump, with each virtual address that maps it.

use super::present::PresentRun;
use super::{Mapping, MappingVisitor, VisitSummary, all, present, visit_mappings};
use crate::memory::{Memory, PageReadError};
use crate::space::AddressSpace;
use crate::translation::WindowKind;
use std::ops::ControlFlow;
use vmcore_format::addr::{FileOffset, Pfn, PhysAddr, VirtAddr};
use vmcore_format::header::DirectMap;
use vmcore_format::paging::Prot;

/// Mappings that a [`PageMap`] keeps at least, and for each page of the file.
const MAPPINGS_BASE: u64 = 1 << 16;
const MAPPINGS_PER_PAGE: u64 = 4;
/// No mapping, in the lists of a [`PageMap`].
const NONE: u32 = u32::MAX;

/// Every page of the dump with all its known virtual addresses. Of pages past the end of a
/// truncated file it keeps only whether they have any.
#[derive(Debug)]
pub struct PageMap<'a> {
    memory: &'a Memory,
    direct_map: Option<DirectMap>,
    /// The first and the last mapping of each page in the file, by its number there.
    heads: Vec<(u32, u32)>,
    nodes: Vec<Node>,
    /// Pages that the kernel map names.
    mapped: Bits,
    /// Pages that hold page-table entries.
    tables: Bits,
    summary: VisitSummary,
    absent_pages: u64,
    is_cut_short: bool,
}

/// One bit for each page, by its number in the file.
#[derive(Debug)]
struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    fn new(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
            len,
        }
    }

    fn set(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    fn is_set(&self, number: usize) -> bool {
        let word = self.words.get(number / 64);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

/// A mapping of one page.
#[derive(Clone, Copy, Debug)]
struct Node {
    va: u64,
    prot: Prot,
    /// The next mapping of the same page.
    next: u32,
}

/// A page of the dump.
#[derive(Clone, Copy, Debug)]
pub struct Page<'m> {
    map: &'m PageMap<'m>,
    /// Its number; `None` for a set bit that is not a page of any RAM range.
    pub pfn: Option<Pfn>,
    /// Where it starts in the file, which may be past the end of a truncated one.
    pub offset: FileOffset,
    /// Its address in the direct map, if there is one and it reaches the page.
    pub direct_map: Option<VirtAddr>,
    /// Whether the kernel map has an address of it.
    pub is_mapped: bool,
    /// Whether it holds page-table entries.
    pub is_table: bool,
    first: u32,
}

impl<'a> PageMap<'a> {
    /// Goes through the page tables once.
    ///
    /// # Errors
    /// Returns an error if the bitmap cannot be read.
    pub fn build(space: AddressSpace<'a>) -> Result<Self, PageReadError> {
        let memory = space.memory();
        let pages = present::numbered(memory)?;
        let direct_map =
            space
                .translation()
                .windows()
                .iter()
                .find_map(|window| match window.kind {
                    WindowKind::Linear(map) => Some(map),
                    _ => None,
                });
        let in_file = present::in_file(memory)?;
        let len = usize::try_from(pages).unwrap_or(0);
        let limit = (MAPPINGS_PER_PAGE * in_file + MAPPINGS_BASE).min(u64::from(NONE) - 1);
        let map = Self {
            memory,
            direct_map,
            heads: vec![(NONE, NONE); usize::try_from(in_file).unwrap_or(0)],
            nodes: Vec::new(),
            mapped: Bits::new(len),
            tables: Bits::new(len),
            summary: VisitSummary::default(),
            absent_pages: 0,
            is_cut_short: false,
        };
        let mut builder = Builder {
            map,
            limit,
            failed: Ok(()),
        };
        let summary = visit_mappings(space, &mut builder)?;
        builder.failed?;
        let is_cut_short = builder.map.is_cut_short || summary.budget_exhausted;
        Ok(Self {
            summary,
            is_cut_short,
            ..builder.map
        })
    }

    /// Adds a mapping of pages that lie together in the file; breaks off at the limit.
    fn add(&mut self, run: PresentRun, mapping: Mapping, limit: u64) -> ControlFlow<()> {
        let size = self.memory.page_size();
        let first_va = run.va.0.wrapping_sub(run.skipped_bytes);
        for page in 0..run.len_pages {
            let Ok(number) = usize::try_from(run.number + page) else {
                continue;
            };
            self.mapped.set(number);
            let Some((first, last)) = self.heads.get_mut(number) else {
                continue;
            };
            if self.nodes.len() as u64 >= limit {
                self.is_cut_short = true;
                return ControlFlow::Break(());
            }
            // Below the limit, which is below `NONE`.
            let node = u32::try_from(self.nodes.len()).unwrap_or(NONE);
            if *first == NONE {
                *first = node;
            } else if let Some(last) = usize::try_from(*last)
                .ok()
                .and_then(|last| self.nodes.get_mut(last))
            {
                last.next = node;
            }
            *last = node;
            let va = first_va.wrapping_add(page << size.shift());
            self.nodes.push(Node {
                va,
                prot: mapping.prot,
                next: NONE,
            });
        }
        ControlFlow::Continue(())
    }

    /// What the visit of the page tables met.
    #[must_use]
    pub const fn summary(&self) -> &VisitSummary {
        &self.summary
    }

    /// Pages that the kernel map names and the dump does not have: device memory, no-dump memory.
    #[must_use]
    pub const fn absent_pages(&self) -> u64 {
        self.absent_pages
    }

    /// Whether mappings are missing here, because the tables hold more than a sound kernel would.
    #[must_use]
    pub const fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// How many pages there are: see [`crate::pages::numbered_page_count`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.len
    }

    /// Whether the dump has no pages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every page, in the order of the file.
    pub fn pages(&self) -> impl Iterator<Item = Page<'_>> {
        (0..)
            .zip(all(self.memory))
            .map_while(|(number, (pfn, offset))| self.page(number, pfn, offset))
    }

    /// The page that holds file offset `offset`, which lies among the pages.
    #[must_use]
    pub fn page_at(&self, offset: FileOffset) -> Option<Page<'_>> {
        let (number, pa, start) = present::at(self.memory, offset)?;
        let pfn = pa.map(|pa| self.memory.page_size().pfn(pa));
        self.page(usize::try_from(number).ok()?, pfn, start)
    }

    fn page(&self, number: usize, pfn: Option<Pfn>, offset: FileOffset) -> Option<Page<'_>> {
        if number >= self.len() {
            return None;
        }
        let head = self.heads.get(number);
        Some(Page {
            map: self,
            pfn,
            offset,
            direct_map: self.direct_of(pfn),
            is_mapped: self.mapped.is_set(number),
            is_table: self.tables.is_set(number),
            first: head.map_or(NONE, |(first, _)| *first),
        })
    }

    fn direct_of(&self, pfn: Option<Pfn>) -> Option<VirtAddr> {
        self.direct_map?.virt_of(self.memory.page_size().base(pfn?))
    }
}

/// Fills a [`PageMap`] from what the visit finds.
struct Builder<'a> {
    map: PageMap<'a>,
    limit: u64,
    failed: Result<(), PageReadError>,
}

impl MappingVisitor for Builder<'_> {
    fn mapping(&mut self, mapping: Mapping) -> ControlFlow<()> {
        let Self { map, limit, failed } = self;
        let (mut present, mut flow) = (0, ControlFlow::Continue(()));
        let result = present::runs(map.memory, mapping, |run| {
            present += run.len_pages;
            if flow.is_continue() {
                flow = map.add(run, mapping, *limit);
            }
        });
        let named = map.memory.page_size().pages(mapping.len_bytes);
        map.absent_pages = map
            .absent_pages
            .saturating_add(named.saturating_sub(present));
        *failed = failed.and(result);
        flow
    }

    fn table(&mut self, pa: PhysAddr) {
        let map = &mut self.map;
        let number =
            present::number_of(map.memory, pa).and_then(|number| usize::try_from(number).ok());
        if let Some(number) = number {
            map.tables.set(number);
        }
    }
}

impl<'m> Page<'m> {
    /// Its physical address; `None` for a set bit that is not a page of any RAM range.
    #[must_use]
    pub fn pa(&self) -> Option<PhysAddr> {
        self.pfn.map(|pfn| self.map.memory.page_size().base(pfn))
    }

    /// Its addresses in the kernel map, ascending, with what each mapping allows.
    pub fn mappings(&self) -> impl Iterator<Item = (VirtAddr, Prot)> + use<'m> {
        let map = self.map;
        let mut next = self.first;
        std::iter::from_fn(move || {
            let node = map.nodes.get(usize::try_from(next).ok()?)?;
            next = node.next;
            Some((VirtAddr(node.va), node.prot))
        })
    }
}
