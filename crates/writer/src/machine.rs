//! What the kernel tells the writer, and does for it.
//!
//! [`Machine`] is implemented by the kernel's panic path; on the host by a dump or a hypervisor's
//! memory file. Everything is copied: the writer holds no reference into memory that is being
//! dumped, because it may still change, be poisoned, or be the writer's own.

use crate::arch::KernelPaging;
use crate::latch::Stage;
use thiserror::Error;
use vmcore_format::addr::{Pfn, PhysAddr, VirtAddr};
use vmcore_format::header::{DirectMap, Mmu};
use vmcore_format::identity::Identity;
use vmcore_format::paging::Radix;

pub use vmcore_format::extension::CpuState;
pub use vmcore_format::registers::MAX_REGISTERS;

/// Memory that cannot be read: poisoned, not there, or on a broken bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("memory cannot be read")]
pub struct Unreadable;

/// The kernel's address space.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The root of the page tables: that of the kernel, not of the process that ran.
    pub radix: Radix,
    /// First address of the kernel map; aligned to what a page of the dump's page-table section
    /// covers.
    pub kernbase: VirtAddr,
    /// First address after the kernel map and the kernel image.
    pub kernend: VirtAddr,
    /// The direct map; `None` where the architecture has none.
    pub direct_map: Option<DirectMap>,
    /// Where the kernel image was loaded, for full dumps (`PT_DUMP_DELTA`); `None` leaves it out.
    pub image: Option<KernelImage>,
}

/// Where the kernel image was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelImage {
    /// `KERNBASE`.
    pub vaddr: VirtAddr,
    /// Physical address of the image.
    pub paddr: PhysAddr,
    /// Distance of the image from `KERNBASE`, in bytes (`KERNLOAD` on amd64); on arm, which has none,
    /// the size of a page.
    pub hole: u64,
}

/// The message buffer's ring. It must be contiguous in physical memory; what follows it up to the end
/// of its last page is dumped as well, and should be `struct msgbuf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageBuffer {
    /// First byte.
    pub start: PhysAddr,
    /// Bytes (`msg_size`).
    pub len_bytes: u32,
}

/// A text of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The host's name.
    Hostname,
    /// The kernel's version string, with its newline.
    Version,
    /// The panic message; empty if there was no panic.
    Panic,
}

/// A CPU, and its registers.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// What became of it.
    pub state: CpuState,
    /// The thread that ran on it; 0 if it is not known.
    pub thread: u64,
    /// Its registers, in the order of `vmcore_format::registers::names`.
    pub registers: [u64; MAX_REGISTERS],
}

impl Cpu {
    /// A CPU that did not stop.
    pub const RUNNING: Self = Self {
        state: CpuState::Running,
        thread: 0,
        registers: [0; MAX_REGISTERS],
    };
}

/// How far the dump has come, for the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes handed to the device.
    pub done_bytes: u64,
    /// Bytes of the whole dump.
    pub total_bytes: u64,
}

/// The dying kernel.
///
/// None of the methods may panic, take a lock, allocate, or wait without a bound. A method that
/// faults is a panic in the panic path: it ends in [`crate::latch::Latch::enter`], which refuses.
pub trait Machine {
    /// The page tables of its architecture.
    type Paging: KernelPaging;

    /// The kernel's address space.
    fn kernel(&self) -> Kernel;

    /// What the header says of the page tables. powerpc64 says where its kernel runs, which no other
    /// architecture does.
    fn mmu(&self) -> Mmu {
        Self::Paging::MMU
    }

    /// The message buffer.
    fn message_buffer(&self) -> MessageBuffer;

    /// Copies physical memory into `to`. Other CPUs may be writing it: the copy must be volatile. The
    /// contents of `to` after an error do not matter.
    ///
    /// # Errors
    /// Returns an error if any byte cannot be read; where the machine can trap, it must recover from
    /// that trap.
    fn copy(&self, from: PhysAddr, to: &mut [u8]) -> Result<(), Unreadable>;

    /// Copies as much as can be read of the beginning of a page that [`Machine::copy`] could not copy
    /// whole, and returns how many bytes that is. The dump has zeros after it, and says so.
    fn copy_beginning(&self, from: PhysAddr, to: &mut [u8]) -> usize {
        let _ = (from, to);
        0
    }

    /// Whether a page of RAM may be dumped. Pages for which this is false are in no minidump, even if
    /// they are mapped or were added to the map: memory that its owner marked so, and the writer's
    /// own. Full dumps do not ask.
    fn dumpable(&self, page: Pfn) -> bool;

    /// Copies as much of a text as fits into `to`, without a NUL, and returns its length in bytes.
    fn text(&self, text: Text, to: &mut [u8]) -> usize;

    /// Who, when and why. A `dump_id` of zeros is filled in; the flags are the writer's.
    fn identity(&self) -> Identity;

    /// Number of CPUs.
    fn cpus(&self) -> u32;

    /// CPU number `cpu`.
    fn cpu(&self, cpu: u32) -> Cpu;

    /// Called at least once for each buffer that is written, and often while pages are chosen.
    fn pat_watchdog(&self);

    /// Whether the operator aborts the dump.
    fn poll_abort(&self) -> bool;

    /// Called for each buffer that is written.
    fn progress(&self, progress: Progress) {
        let _ = progress;
    }
}
