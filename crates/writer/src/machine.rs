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
pub use vmcore_format::extension::kernel::ThreadState;
pub use vmcore_format::registers::MAX_REGISTERS;

/// The most processes, threads and modules that a dump tells of, of each kind.
pub const MAX_ENTRIES: u32 = 8192;

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

/// A part of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First address.
    pub first: VirtAddr,
    /// Last address.
    pub last: VirtAddr,
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
    /// The name of the system: `MOROS`.
    System,
    /// What compiled the kernel.
    Compiler,
}

/// A name in a fixed field, padded with zeros; see [`name`].
pub type Name = [u8; 32];

/// A text as a [`Name`], cut if it is too long.
#[must_use]
pub fn name(text: &str) -> Name {
    let mut name = [0; 32];
    for (to, from) in name.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    name
}

/// A process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Its number.
    pub id: u64,
    /// That of its parent; 0: none, or not known.
    pub parent: u64,
    /// Address of what the kernel has of it; 0: not known.
    pub address: VirtAddr,
    /// Its name.
    pub name: Name,
}

/// A thread that is on no CPU, or on one.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Its number, from 1 on.
    pub id: u64,
    /// That of its process; 0: the kernel.
    pub process: u64,
    /// Address of what the kernel has of it; 0: not known.
    pub address: VirtAddr,
    /// What it does.
    pub state: ThreadState,
    /// The CPU that it runs on: its registers are those of [`Machine::cpu`].
    pub cpu: Option<u32>,
    /// Its stack: first byte and length in bytes; 0: not known.
    pub stack: (VirtAddr, u64),
    /// Its name.
    pub name: Name,
    /// What it waits for, in the kernel's words.
    pub wait: Name,
}

impl Thread {
    /// One with a number and a name; nothing else is known of it.
    #[must_use]
    pub const fn new(id: u64, name: Name) -> Self {
        Self {
            id,
            process: 0,
            address: VirtAddr(0),
            state: ThreadState::Unknown,
            cpu: None,
            stack: (VirtAddr(0), 0),
            name,
            wait: [0; 32],
        }
    }
}

/// Code that was loaded beside the kernel: a module, or a program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Module {
    /// Its first address.
    pub base: VirtAddr,
    /// Its bytes in memory.
    pub len_bytes: u64,
    /// Its name.
    pub name: Name,
    /// The build id of its file, and how many bytes of it count; 0: not known.
    pub build_id: ([u8; 32], usize),
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

    /// Part number `index` of the address space that the kernel has to itself, for kernels whose image,
    /// heap and stacks are far apart: a minidump then holds what these parts map and every page table down
    /// from the root, and its records tell a reader so. `None` for all: the kernel map of
    /// [`Machine::kernel`] is all there is, which FreeBSD's readers know.
    fn window(&self, index: u32) -> Option<Window> {
        let _ = index;
        None
    }

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

    /// Copies as much of a text as fits into `to`, without a NUL, and returns its length in bytes; 0
    /// for one that the kernel does not have.
    fn text(&self, text: Text, to: &mut [u8]) -> usize {
        let _ = (text, to);
        0
    }

    /// Who, when and why. A `dump_id` of zeros is filled in; the flags are the writer's.
    fn identity(&self) -> Identity {
        Identity::default()
    }

    /// Number of CPUs.
    fn cpus(&self) -> u32 {
        1
    }

    /// CPU number `cpu`.
    fn cpu(&self, cpu: u32) -> Cpu;

    /// The process after `cursor`, which is 0 for the first one and moves on: an index, or the address
    /// of what follows in a list. `None` ends the list, as does what cannot be read. It is asked twice,
    /// and for at most [`MAX_ENTRIES`] processes.
    fn process(&self, cursor: &mut u64) -> Option<Process> {
        let _ = cursor;
        None
    }

    /// The thread after `cursor`, as for [`Machine::process`]. Those that run may be among them.
    fn thread(&self, cursor: &mut u64) -> Option<Thread> {
        let _ = cursor;
        None
    }

    /// A register of a thread that is on no CPU, by its place in `vmcore_format::registers::names`; `None`
    /// if it was not saved. Program counter, stack and frame pointer are enough for a backtrace.
    fn thread_register(&self, thread: &Thread, place: usize) -> Option<u64> {
        let _ = (thread, place);
        None
    }

    /// The module or program after `cursor`, as for [`Machine::process`].
    fn module(&self, cursor: &mut u64) -> Option<Module> {
        let _ = cursor;
        None
    }

    /// Called at least once for each buffer that is written, and often while pages are chosen.
    fn pat_watchdog(&self) {}

    /// Whether the operator aborts the dump.
    fn poll_abort(&self) -> bool {
        false
    }

    /// Called for each buffer that is written.
    fn progress(&self, progress: Progress) {
        let _ = progress;
    }
}
