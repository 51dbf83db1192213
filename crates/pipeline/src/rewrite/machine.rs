//! A file as the machine that is dumped.

use super::source_machine::SourceMachine;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use vmcore::memory::{Memory, PhysSegment};
use vmcore_format::addr::{PageSize, Pfn, PhysAddr};
use vmcore_format::identity::Identity;
use vmcore_writer::Machine;
use vmcore_writer::arch::KernelPaging;
use vmcore_writer::machine::{Cpu, Kernel, MessageBuffer, Progress, Text, Unreadable};

/// Reads up to this size are cheaper by the mapping, if the file has one.
const SMALL_READ: usize = 4096;

/// The memory of a full dump, with what is known of its kernel.
pub(super) struct DumpMachine<'m, P, F> {
    memory: &'m Memory,
    segments: &'m [PhysSegment],
    source: &'m SourceMachine,
    page_size: PageSize,
    /// Chosen pages that the file lacks.
    missing: Cell<u64>,
    on_progress: RefCell<F>,
    paging: PhantomData<P>,
}

impl<'m, P: KernelPaging, F: FnMut(u64, u64)> DumpMachine<'m, P, F> {
    pub(super) fn new(memory: &'m Memory, source: &'m SourceMachine, on_progress: F) -> Self {
        let segments = memory.segments();
        Self {
            memory,
            segments: segments.map(|all| all.segments()).unwrap_or_default(),
            source,
            page_size: P::PAGE_SIZE,
            missing: Cell::new(0),
            on_progress: RefCell::new(on_progress),
            paging: PhantomData,
        }
    }

    /// Chosen pages that the file lacks.
    pub(super) const fn missing_pages(&self) -> u64 {
        self.missing.get()
    }

    /// Where `len` bytes from `pa` are in the file, if one segment has them all.
    fn find(&self, pa: PhysAddr, len: u64) -> Option<u64> {
        let at = self
            .segments
            .partition_point(|segment| segment.range.end <= pa);
        let segment = self.segments.get(at)?;
        let inside = pa.checked_sub(segment.range.start)?;
        let has_all = inside.checked_add(len)? <= segment.present_bytes;
        has_all.then(|| segment.offset.0.saturating_add(inside))
    }

    /// Whether the file has at least the beginning of a page: one that it ends in is kept.
    fn has(&self, page: Pfn) -> bool {
        let start = self.page_size.base(page);
        self.find(start, 1).is_some()
    }
}

impl<P: KernelPaging, F: FnMut(u64, u64)> Machine for DumpMachine<'_, P, F> {
    type Paging = P;

    fn kernel(&self) -> Kernel {
        self.source.kernel
    }

    fn message_buffer(&self) -> MessageBuffer {
        self.source.message_buffer
    }

    fn copy(&self, from: PhysAddr, to: &mut [u8]) -> Result<(), Unreadable> {
        let source = self.memory.source();
        if let Some(offset) = self.find(from, to.len() as u64) {
            let read = match to.len() {
                ..=SMALL_READ => source.read_at(offset, to),
                _ => source.read_positional(offset, to),
            };
            return match read {
                Ok(len) if len == to.len() => Ok(()),
                _ => Err(Unreadable),
            };
        }
        self.memory.read(from, to).exact().map_err(|_| Unreadable)
    }

    /// Of the page that the file ends in.
    fn copy_beginning(&self, from: PhysAddr, to: &mut [u8]) -> usize {
        self.memory.read(from, to).len
    }

    fn dumpable(&self, page: Pfn) -> bool {
        let has = self.has(page);
        if !has {
            self.missing.set(self.missing.get().saturating_add(1));
        }
        has
    }

    /// Texts are in the header of a dump's device, and a file has none.
    fn text(&self, _: Text, _: &mut [u8]) -> usize {
        0
    }

    fn identity(&self) -> Identity {
        self.source.identity
    }

    fn cpus(&self) -> u32 {
        u32::try_from(self.source.cpus.len()).unwrap_or(0)
    }

    fn cpu(&self, cpu: u32) -> Cpu {
        let cpu = usize::try_from(cpu).ok();
        let cpu = cpu.and_then(|cpu| self.source.cpus.get(cpu));
        cpu.copied().unwrap_or(Cpu::RUNNING)
    }

    fn pat_watchdog(&self) {}

    fn poll_abort(&self) -> bool {
        false
    }

    fn progress(&self, progress: Progress) {
        if let Ok(mut on_progress) = self.on_progress.try_borrow_mut() {
            on_progress(progress.done_bytes, progress.total_bytes);
        }
    }
}
