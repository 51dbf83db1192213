//! The windows of each architecture's dumps: how its virtual addresses are translated.
//!
//! ```
//! use vmcore::format::arch::Arch;
//! use vmcore::windows::{FullDumps, full_dumps};
//! assert!(matches!(full_dumps(Arch::Amd64), FullDumps::Physical(_)));
//! assert!(matches!(full_dumps(Arch::Arm64), FullDumps::None));
//! ```

mod amd64;
mod arm;
mod arm64;
mod common;
mod i386;
mod mips;
mod mips64;
mod powerpc64;
mod riscv64;

pub(crate) use common::Windows;
pub use common::{FullDumps, Root};

use crate::memory::Memory;
use crate::translation::{PagingMode, WindowKind};
use vmcore_format::arch::Arch;
use vmcore_format::header::Header;
use vmcore_format::paging::TableRef;

/// The windows of `arch`.
pub(crate) const fn of(arch: Arch) -> &'static Windows {
    match arch {
        Arch::Amd64 => &amd64::WINDOWS,
        Arch::Arm => &arm::WINDOWS,
        Arch::Arm64 => &arm64::WINDOWS,
        Arch::I386 => &i386::WINDOWS,
        Arch::Mips => &mips::WINDOWS,
        Arch::Mips64 => &mips64::WINDOWS,
        // Its dumps are ELF cores of virtual memory.
        Arch::Powerpc => &const { Windows::of_full_dumps(FullDumps::Virtual) },
        Arch::Powerpc64 => &powerpc64::WINDOWS,
        Arch::Riscv64 => &riscv64::WINDOWS,
        // Its dumps have a header of their own, which names the kernel's translation buffer.
        Arch::Sparc64 => &const { Windows::of_full_dumps(FullDumps::TranslationBuffer) },
    }
}

/// The full dumps of an architecture.
#[must_use]
pub const fn full_dumps(arch: Arch) -> FullDumps {
    of(arch).full_dumps
}

/// The page tables whose upper levels are a minidump's page-table section, and the level of its
/// entries, which name tables that are pages of the dump; `None` where they name no tables.
pub(crate) fn tables_in_section(header: &Header, memory: &Memory) -> Option<(PagingMode, u32)> {
    let windows = (of(header.arch).windows)(header, memory, None);
    windows.iter().find_map(|window| match &window.kind {
        WindowKind::Radix { mode, radix } if radix.top == TableRef::Section && radix.level > 0 => {
            Some((*mode, radix.level))
        }
        _ => None,
    })
}
