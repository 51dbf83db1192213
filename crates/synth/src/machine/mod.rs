//! A small machine that has crashed, its dump, its kernel file, and the truth about it.
//!
//! It looks like a FreeBSD machine wherever a reader looks: processes and threads with saved
//! registers and stacks, per-CPU data, a message buffer, page tables with small, large and 1 GiB
//! pages, pages that only the direct map reaches, holes in RAM, a mapped device, a page that must
//! not be dumped. [`Truth`] says what a reader must find.
//!
//! ```
//! use vmcore_synth::Arch;
//! use vmcore_synth::machine::{Machine, Options};
//! let machine = Machine::new(&Options::new(Arch::Arm64, 3));
//! assert_eq!(machine.truth.processes[0].comm, "sysctl");
//! assert!(machine.dump.build().starts_with(b"minidump FreeBSD/arm64\0"));
//! ```

mod build;
mod dumps;
mod era;
mod image;
pub(crate) mod info;
mod layout;
mod log;
mod memory;
mod processes;
mod threads;
mod truth;

pub(crate) use build::Build;
pub use layout::DirectMap;
pub use threads::OTHER;
pub use truth::{CRASH_TIME, HOST, PANIC, Page, Pcb, Process, Thread, Truth, UPTIME, UPTIME_TEXT};

use crate::Arch;
use crate::elf::{FullDump, Kernel};
use crate::header::DumpHeader;
use crate::minidump::Minidump;
use crate::sparc64::RegionDump;

/// `MAXCPU` of the synthetic kernels.
const MAX_CPUS: u64 = 8;

/// What kind of dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpKind {
    /// A minidump.
    Mini,
    /// A full dump, in the form that the architecture has: amd64, i386, powerpc and sparc64 only.
    Full,
}

/// How large the kernel map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As small as can be, so that page tables and message buffer take few pages.
    Compact,
    /// As in real kernels: on amd64 the page-table section has 8 MiB.
    Real,
}

/// Which machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Architecture.
    pub arch: Arch,
    /// Version of the minidump; of full dumps, 1 is an older kernel.
    pub version: u32,
    /// Minidump or full dump.
    pub kind: DumpKind,
    /// Size of the kernel map.
    pub shape: Shape,
    /// Bytes of a page; of arm64 4096 or 16384.
    pub page_size: u64,
    /// i386: with PAE.
    pub pae: bool,
    /// mips, 32-bit: an n32 kernel, whose page-table entries have 8 bytes.
    pub n32: bool,
    /// powerpc64: radix tables instead of a hashed one.
    pub radix: bool,
    /// powerpc64 with a hashed table: without large pages, so that the allocator maps each page at its
    /// physical address, and some of them have lost their entry.
    pub one_to_one: bool,
    /// amd64: 5 levels of page tables.
    pub la57: bool,
    /// amd64: maps a page of 1 GiB (not in version 1).
    pub has_giga: bool,
    /// amd64: how far the kernel image is moved in physical memory; a multiple of 2 MiB.
    pub load_offset: u64,
    /// amd64 full dumps: stores where the kernel is.
    pub has_delta: bool,
    /// Number of CPUs; 2 to 8.
    pub cpus: u32,
    /// A CPU that did not stop at the panic.
    pub unstopped_cpu: Option<u32>,
    /// Only the processes that cannot be missing.
    pub is_tiny: bool,
    /// How often the boot messages are repeated; enough of them let the ring wrap.
    pub log_repeats: usize,
    /// Bytes of RAM by the boot messages.
    pub ram_bytes: u64,
}

impl Options {
    /// A compact minidump with 4 CPUs.
    #[must_use]
    pub const fn new(arch: Arch, version: u32) -> Self {
        Self {
            arch,
            version,
            kind: DumpKind::Mini,
            shape: Shape::Compact,
            page_size: match arch {
                Arch::Sparc64 => 8192,
                _ => 4096,
            },
            pae: false,
            n32: false,
            radix: false,
            one_to_one: false,
            la57: false,
            has_giga: true,
            load_offset: 0,
            has_delta: false,
            cpus: 4,
            unstopped_cpu: None,
            is_tiny: false,
            log_repeats: 1,
            ram_bytes: 8 << 30,
        }
    }

    /// A full dump of the newest kernel.
    #[must_use]
    pub const fn full(arch: Arch) -> Self {
        Self {
            kind: DumpKind::Full,
            ..Self::new(arch, arch.newest_version())
        }
    }
}

/// The dump of a machine; both kinds can be changed before they are built.
#[derive(Clone, Debug)]
pub enum DumpFile {
    /// A minidump.
    Mini(Box<Minidump>),
    /// A full dump.
    Full(FullDump),
    /// A dump of sparc64.
    Regions(RegionDump),
}

impl DumpFile {
    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        match self {
            Self::Mini(dump) => dump.build(),
            Self::Full(dump) => dump.build(),
            Self::Regions(dump) => dump.build(),
        }
    }

    /// File offset of the byte at `pa`, by counting.
    #[must_use]
    pub fn offset_of(&self, pa: u64) -> Option<u64> {
        match self {
            Self::Mini(dump) => dump.offset_of(pa),
            Self::Full(dump) => dump.offset_of(pa),
            Self::Regions(dump) => dump.offset_of(pa),
        }
    }
}

/// A crashed machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its dump.
    pub dump: DumpFile,
    /// Its kernel file.
    pub kernel: Kernel,
    /// The dump header that surrounds the dump on a device.
    pub header: DumpHeader,
    /// The text of `info.N`.
    pub info: String,
    /// What is true about it.
    pub truth: Truth,
}

impl Machine {
    /// Makes a machine.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Build::new(options).finish()
    }
}

#[cfg(test)]
mod tests;
