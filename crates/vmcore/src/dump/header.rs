//! The header of either kind of dump.

use crate::translation::{KernelDelta, Tsb};
use vmcore_format::arch::Arch;
use vmcore_format::elf::{FileHeader, Segment};
use vmcore_format::header::Header;

/// The header of either kind of dump.
#[derive(Clone, Debug)]
pub enum DumpFormat {
    /// A minidump.
    Mini(Header),
    /// A full dump, or another ELF core of physical memory.
    Full(FullHeader),
}

impl DumpFormat {
    /// `minidump`, `full dump`, or `ELF core` for one with virtual addresses.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Mini(_) => "minidump",
            Self::Full(header) if header.virtual_segments.is_empty() => "full dump",
            Self::Full(_) => "ELF core",
        }
    }
}

/// A full dump's headers.
#[derive(Clone, Debug)]
pub struct FullHeader {
    /// Architecture, from `e_machine`.
    pub arch: Arch,
    /// The ELF header; sparc64's dumps have another one.
    pub elf: Option<FileHeader>,
    /// Where the kernel was loaded, if the dump says.
    pub delta: Option<KernelDelta>,
    /// sparc64: the kernel's translation storage buffer.
    pub tsb: Option<Tsb>,
    /// The segments of a core that was made for debuggers: their virtual addresses are not the
    /// physical ones, and translate the kernel's memory. Empty in FreeBSD's full dumps.
    pub virtual_segments: Vec<Segment>,
}
