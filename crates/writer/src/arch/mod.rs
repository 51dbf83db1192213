//! What is particular to an architecture's dumps: its minidump versions, and whether it has full
//! dumps. A new architecture is a file here and a line below.

mod amd64;
mod arm;
mod arm64;
mod i386;
mod powerpc64;
mod riscv64;

use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Endian;
use vmcore_format::header::Mmu;
use vmcore_format::paging::Paging;

/// A version of an architecture's minidumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinidumpFormat {
    /// Version of the header.
    pub version: u32,
    /// Level of the entries in the page-table section. Tables below that level are pages of the dump.
    /// If it is the level of the root, the section is the root itself.
    pub section_level: u32,
}

/// Page tables of a kernel that can be dumped.
pub trait KernelPaging: Paging {
    /// The architecture.
    const ARCH: Arch;
    /// The size of its pages.
    const PAGE_SIZE: PageSize;
    /// The byte order of the kernel's integers, and of what a dump has of them.
    const ENDIAN: Endian = Endian::Little;
    /// What the header says of the tables, if that is the same on every machine.
    const MMU: Mmu = Mmu::Usual;
    /// The minidump versions that are written, newest first.
    const FORMATS: &'static [MinidumpFormat];
    /// Whether readers can do anything with its full dumps.
    const HAS_FULL_DUMPS: bool;
}
