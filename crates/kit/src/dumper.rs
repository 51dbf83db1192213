//! Dump map, reserve, latch, writer and disk, as one static that is filled at boot and asked in a panic.
//!
//! ```
//! use vmcore_kit::Dumper;
//! # use vmcore_writer::device::{BlockDevice, DeviceError, Geometry};
//! # struct Disk;
//! # impl BlockDevice for Disk {
//! #     fn geometry(&self) -> Geometry {
//! #         Geometry { block_bytes: 512, max_transfer_bytes: 512, media_offset: 0, media_bytes: 0 }
//! #     }
//! #     fn prepare(&mut self, _: u32) -> Result<(), DeviceError> { Ok(()) }
//! #     fn submit(&mut self, _: u64, _: &[u8]) -> Result<(), DeviceError> { Ok(()) }
//! #     fn complete(&mut self, _: u32) -> Result<usize, DeviceError> { Ok(0) }
//! #     fn flush(&mut self, _: u32) -> Result<(), DeviceError> { Ok(()) }
//! # }
//! static DUMPER: Dumper<Disk> = Dumper::new();
//! // At boot `init`, in the allocator `map`, in the panic handler `dump`.
//! assert!(DUMPER.map().is_none());
//! ```

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use thiserror::Error;
use vmcore_writer::device::BlockDevice;
use vmcore_writer::disk::DiskSink;
use vmcore_writer::format::addr::{PageSize, Pfn, PhysAddr, PhysRange};
use vmcore_writer::format::dump_avail::NumberedRange;
use vmcore_writer::latch::Reentry;
use vmcore_writer::reserve::{Reserve, reserve_size};
use vmcore_writer::settings::{Patience, Settings};
use vmcore_writer::writer::Summary;
use vmcore_writer::{DumpError, DumpMap, Latch, Machine, Writer};
use zerocopy::FromBytes as _;

/// The most ranges of RAM.
pub const MAX_RANGES: usize = 64;

/// Why the memory of a dumper cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InitError {
    /// There are more than [`MAX_RANGES`], they are not sorted, or too large.
    #[error("the RAM ranges cannot be numbered")]
    Ranges,
    /// Less memory than [`memory_needed`] says, or not aligned to a page.
    #[error("the memory is too small, or not aligned to a page")]
    Memory,
    /// It was done before.
    #[error("it has its memory already")]
    Again,
}

/// Why there is no dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// It has no memory yet.
    #[error("the dumper has no memory yet")]
    NotReady,
    /// A dump is going on, or it panicked: reset the machine.
    #[error("{0}")]
    Again(Reentry),
    /// The writer says why.
    #[error(transparent)]
    Failed(#[from] DumpError),
}

/// Bytes that a dumper needs on a machine with this RAM, page aligned; `None` beyond what can be counted.
#[must_use]
pub fn memory_needed(page_size: PageSize, ranges: &[PhysRange]) -> Option<u64> {
    let Reserve { len_bytes, .. } = reserve_size(page_size, ranges)?;
    len_bytes.checked_add(map_bytes(page_size, ranges)?)
}

/// Bytes of the dump map, whole pages.
fn map_bytes(page_size: PageSize, ranges: &[PhysRange]) -> Option<u64> {
    let words = DumpMap::words_needed(page_size, ranges)? as u64;
    page_size.round_up(words.checked_mul(8)?)
}

/// What is made at boot.
struct Parts<D: 'static> {
    numbered: [NumberedRange; MAX_RANGES],
    map: Option<DumpMap<'static>>,
    writer: Option<(Writer<'static>, DiskSink<D>)>,
    reserve: PhysRange,
}

/// Dump map, reserve, latch, writer and disk.
pub struct Dumper<D: 'static> {
    latch: Latch,
    is_taken: AtomicBool,
    is_ready: AtomicBool,
    parts: UnsafeCell<Parts<D>>,
}

// SAFETY: the parts are written by the first caller of `init` alone, before `is_ready`; afterwards the map
// and the reserve are only read, and the writer and the disk belong to the owner of the latch.
unsafe impl<D: Send> Sync for Dumper<D> {}

impl<D> fmt::Debug for Dumper<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dumper")
            .field("is_ready", &self.is_ready)
            .finish_non_exhaustive()
    }
}

impl<D: BlockDevice> Dumper<D> {
    /// One without memory.
    #[must_use]
    pub const fn new() -> Self {
        const NONE: NumberedRange = NumberedRange {
            first: Pfn(0),
            end: Pfn(0),
            first_bit: 0,
        };
        Self {
            latch: Latch::new(),
            is_taken: AtomicBool::new(false),
            is_ready: AtomicBool::new(false),
            parts: UnsafeCell::new(Parts {
                numbered: [NONE; MAX_RANGES],
                map: None,
                writer: None,
                reserve: PhysRange {
                    start: PhysAddr(0),
                    end: PhysAddr(0),
                },
            }),
        }
    }

    /// Gives it memory of [`memory_needed`] bytes, which is at `memory_at`, and the disk. The memory must be
    /// contiguous, mapped for good and reachable by the disk; nothing else may write it, and it is in no
    /// minidump if [`Machine::dumpable`] asks [`Dumper::is_reserve`].
    ///
    /// # Errors
    /// Returns an error if the ranges or the memory cannot be used, or if it was done before.
    pub fn init(
        &'static self,
        page_size: PageSize,
        ranges: &'static [PhysRange],
        memory: &'static mut [u8],
        memory_at: PhysAddr,
        disk: D,
    ) -> Result<(), InitError> {
        let needed = map_bytes(page_size, ranges).ok_or(InitError::Ranges)?;
        let needed = usize::try_from(needed).map_err(|_| InitError::Ranges)?;
        if ranges.len() > MAX_RANGES {
            return Err(InitError::Ranges);
        }
        let len = memory.len() as u64;
        let (words, reserve) = memory
            .split_at_mut_checked(needed)
            .ok_or(InitError::Memory)?;
        words.fill(0);
        let words = <[AtomicU64]>::mut_from_bytes(words).map_err(|_| InitError::Memory)?;
        if self.is_taken.swap(true, Ordering::AcqRel) {
            return Err(InitError::Again);
        }
        // SAFETY: nobody else comes here, and nobody looks at the parts before `is_ready`.
        let parts: &'static mut Parts<D> = unsafe { &mut *self.parts.get() };
        let numbered = parts
            .numbered
            .get_mut(..ranges.len())
            .ok_or(InitError::Ranges)?;
        let map = DumpMap::new(page_size, ranges, numbered, words);
        let map = &*parts.map.insert(map.map_err(|_| InitError::Ranges)?);
        let writer = Writer::new(map, Settings::default(), reserve);
        let sink = DiskSink::new(disk, Patience::default());
        parts.writer = Some((writer.map_err(|_| InitError::Memory)?, sink));
        parts.reserve = PhysRange {
            start: memory_at,
            end: PhysAddr(memory_at.0.saturating_add(len)),
        };
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    /// The dump map: for allocators, with `add_page` and `drop_page`.
    pub fn map(&self) -> Option<&DumpMap<'static>> {
        self.ready()?;
        // SAFETY: it is ready, and this part is only read since.
        unsafe { &*self.parts.get() }.map.as_ref()
    }

    /// Whether a page is the dumper's own memory.
    pub fn is_reserve(&self, page_size: PageSize, page: Pfn) -> bool {
        // SAFETY: it is ready, and this part is only read since.
        let reserve = self
            .ready()
            .map(|()| unsafe { (*self.parts.get()).reserve });
        reserve.is_some_and(|reserve| reserve.contains(page_size.base(page)))
    }

    fn ready(&self) -> Option<()> {
        self.is_ready.load(Ordering::Acquire).then_some(())
    }

    /// Writes a dump of `machine` to the disk: in a panic, with interrupts off and the other CPUs stopped.
    /// After any failure the machine is to be reset.
    ///
    /// # Errors
    /// Returns an error if there is no valid dump on the disk.
    pub fn dump<M: Machine>(&self, machine: &M, settings: Settings) -> Result<Summary, Failure> {
        self.ready().ok_or(Failure::NotReady)?;
        let owner = self.latch.enter().map_err(Failure::Again)?;
        // SAFETY: the owner of the latch is the only one who gets at the writer and the disk.
        let writer = unsafe { &mut (*self.parts.get()).writer };
        let (writer, sink) = writer.as_mut().ok_or(Failure::NotReady)?;
        *writer.settings_mut() = settings;
        Ok(writer.dump(&owner, machine, sink)?)
    }
}

impl<D: BlockDevice> Default for Dumper<D> {
    fn default() -> Self {
        Self::new()
    }
}
