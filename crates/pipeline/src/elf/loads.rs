//! The segments of the core: runs of pages that are contiguous everywhere.

use std::ops::ControlFlow;
use vmcore::format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore::format::header::DirectMap;
use vmcore::format::paging::Prot;
use vmcore::memory::{Memory, PageReadError};
use vmcore::pages::{self, Mapping, PresentRun};
use vmcore::space::AddressSpace;
use vmcore::translation::WindowKind;

/// What the direct map allows.
const DIRECT_MAP_PROT: Prot = Prot {
    write: true,
    execute: false,
};

/// A segment to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) va: VirtAddr,
    pub(super) pa: PhysAddr,
    pub(super) prot: Prot,
    /// Number of its first page in the dump.
    pub(super) number: u64,
    /// Bytes of that page before it.
    pub(super) skipped_bytes: u64,
    /// Bytes that the dump's file has of it.
    pub(super) len_bytes: u64,
}

/// All segments of a dump, in ascending order of virtual addresses. They are computed on every
/// pass: a large dump has more of them than should be held in memory.
pub(super) struct Loads<'a> {
    space: AddressSpace<'a>,
    direct_map: Option<DirectMap>,
    pages: u64,
}

impl<'a> Loads<'a> {
    pub(super) fn new(space: AddressSpace<'a>, pages: u64) -> Self {
        let mut windows = space.translation().windows().iter();
        let direct_map = windows.find_map(|window| match window.kind {
            WindowKind::Linear(map) => Some(map),
            _ => None,
        });
        Self {
            space,
            direct_map,
            pages,
        }
    }

    /// How many segments there are, and how many pages they reach.
    pub(super) fn count(&self) -> Result<(u64, u64), PageReadError> {
        let mut reached = vec![0u64; usize::try_from(self.pages.div_ceil(64)).unwrap_or(0)];
        let page_size = self.space.memory().page_size();
        let mut segments = 0;
        self.each(|load| {
            segments += 1;
            let pages = page_size.pages(load.skipped_bytes + load.len_bytes);
            for number in load.number..load.number + pages {
                let word = usize::try_from(number / 64).ok();
                if let Some(word) = word.and_then(|word| reached.get_mut(word)) {
                    *word |= 1 << (number % 64);
                }
            }
        })?;
        let pages = reached
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum();
        Ok((segments, pages))
    }

    /// Shows every segment.
    pub(super) fn each(&self, on_load: impl FnMut(Load)) -> Result<(), PageReadError> {
        let memory = self.space.memory();
        let mut merge = Merge::new(memory, on_load);
        let tables_first = self
            .space
            .translation()
            .windows()
            .iter()
            .find(|window| !matches!(window.kind, WindowKind::Linear(_)))
            .map_or(VirtAddr(0), |window| window.first);
        match self.direct_map {
            Some(map) if map.base < tables_first => {
                self.direct_map(&mut merge, map);
                self.kernel_map(&mut merge)?;
            }
            Some(map) => {
                self.kernel_map(&mut merge)?;
                self.direct_map(&mut merge, map);
            }
            None => self.kernel_map(&mut merge)?,
        }
        merge.flush();
        Ok(())
    }

    fn kernel_map(&self, merge: &mut Merge<'_, impl FnMut(Load)>) -> Result<(), PageReadError> {
        let memory = self.space.memory();
        let mut failed = Ok(());
        pages::visit_mappings(self.space, &mut |mapping: Mapping| {
            if !self.is_linear(mapping.va) {
                let runs = pages::present_runs(memory, mapping, |run| {
                    merge.add(run, mapping.prot);
                });
                failed = failed.and(runs);
            }
            ControlFlow::Continue(())
        })?;
        failed
    }

    /// The direct map, page by page in the order of the file.
    fn direct_map(&self, merge: &mut Merge<'_, impl FnMut(Load)>, map: DirectMap) {
        let memory = self.space.memory();
        let size = memory.page_size();
        for ((pfn, offset), number) in pages::all(memory).zip(0..) {
            let Some(pa) = pfn.map(|pfn| size.base(pfn)) else {
                continue;
            };
            let Some(va) = map.virt_of(pa).filter(|va| self.is_linear(*va)) else {
                continue;
            };
            let run = PresentRun {
                va,
                pa,
                len_bytes: size.bytes(),
                len_pages: 1,
                skipped_bytes: 0,
                number,
                offset,
            };
            merge.add(run, DIRECT_MAP_PROT);
        }
        merge.flush();
    }

    /// Whether the direct map translates `va`: windows may cover each other, and the first decides.
    fn is_linear(&self, va: VirtAddr) -> bool {
        let window = self.space.translation().window(va);
        window.is_some_and(|window| matches!(window.kind, WindowKind::Linear(_)))
    }
}

/// Merges runs as they come.
struct Merge<'m, F> {
    memory: &'m Memory,
    pending: Option<(PresentRun, Prot)>,
    on_load: F,
}

impl<'m, F: FnMut(Load)> Merge<'m, F> {
    const fn new(memory: &'m Memory, on_load: F) -> Self {
        Self {
            memory,
            pending: None,
            on_load,
        }
    }

    fn add(&mut self, run: PresentRun, prot: Prot) {
        if let Some((pending, pending_prot)) = &mut self.pending {
            let bytes = pending.len_bytes;
            // The core keeps room for whole pages: only those are adjacent in it.
            let page_size = self.memory.page_size();
            let end = page_size.offset_in_page(pending.skipped_bytes + bytes);
            if *pending_prot == prot
                && (run.skipped_bytes, end) == (0, 0)
                && pending.va.checked_add(bytes) == Some(run.va)
                && pending.pa.checked_add(bytes) == Some(run.pa)
                && pending.offset.checked_add(bytes) == Some(run.offset)
                && pending.number + pending.len_pages == run.number
            {
                pending.len_pages += run.len_pages;
                pending.len_bytes += run.len_bytes;
                return;
            }
        }
        self.flush();
        self.pending = Some((run, prot));
    }

    /// Hands out what is pending, as far as the file has it.
    fn flush(&mut self) {
        let Some((run, prot)) = self.pending.take() else {
            return;
        };
        let file_len = FileOffset(self.memory.source().len());
        let have = file_len.checked_sub(run.offset).unwrap_or(0);
        let len_bytes = have.min(run.len_bytes);
        if len_bytes > 0 {
            (self.on_load)(Load {
                va: run.va,
                pa: run.pa,
                prot,
                number: run.number,
                skipped_bytes: run.skipped_bytes,
                len_bytes,
            });
        }
    }
}
