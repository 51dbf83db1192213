//! What is particular to an architecture's dumps: its minidump versions, and whether it has full
//! dumps. A new architecture is a file here and its lines below.
//!
//! ```
//! use vmcore_format::arch::Arch;
//! use vmcore_writer::arch::WRITTEN;
//! let amd64 = WRITTEN.iter().find(|written| written.arch == Arch::Amd64);
//! assert_eq!(amd64.map(|written| written.formats[0].version), Some(3));
//! ```

mod amd64;
mod arm;
mod arm64;
mod i386;
mod powerpc64;
mod riscv64;

pub use arm::ArmV6Big;

use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Endian;
use vmcore_format::extension::kernel::TableKind;
use vmcore_format::header::Mmu;
use vmcore_format::paging::{
    Amd64, Arm64Granule4K, Arm64Granule16K, ArmV6, I386, I386Pae, Paging, Powerpc64Radix,
    Powerpc64RadixSwapped, Riscv64,
};

/// A version of an architecture's minidumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinidumpFormat {
    /// Version of the header.
    pub version: u32,
    /// Level of the entries in the page-table section. Tables below that level are pages of the dump.
    /// If it is the level of the root, the section is the root itself.
    pub section_level: u32,
}

/// The dumps that are written of one kind of page tables.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// The architecture.
    pub arch: Arch,
    /// The byte order of the kernel.
    pub endian: Endian,
    /// The size of its pages.
    pub page_size: PageSize,
    /// The minidump versions, newest first.
    pub formats: &'static [MinidumpFormat],
    /// Whether there are full dumps.
    pub has_full_dumps: bool,
}

impl Written {
    const fn of<P: KernelPaging>() -> Self {
        Self {
            arch: P::ARCH,
            endian: P::ENDIAN,
            page_size: P::PAGE_SIZE,
            formats: P::FORMATS,
            has_full_dumps: P::HAS_FULL_DUMPS,
        }
    }
}

/// Everything that is written.
pub const WRITTEN: [Written; 10] = [
    Written::of::<Amd64>(),
    Written::of::<ArmV6>(),
    Written::of::<ArmV6Big>(),
    Written::of::<Arm64Granule4K>(),
    Written::of::<Arm64Granule16K>(),
    Written::of::<I386>(),
    Written::of::<I386Pae>(),
    Written::of::<Powerpc64Radix>(),
    Written::of::<Powerpc64RadixSwapped>(),
    Written::of::<Riscv64>(),
];

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
    /// What the dump calls the tables.
    const TABLES: TableKind;
    /// The minidump versions that are written, newest first.
    const FORMATS: &'static [MinidumpFormat];
    /// Whether readers can do anything with its full dumps.
    const HAS_FULL_DUMPS: bool;
}
