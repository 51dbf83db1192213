//! The root of a full dump's page tables: what leads to it, and why it was not found. How it is found
//! each architecture says.

use crate::memory::{Memory, PageReadError};
use thiserror::Error;
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::Width;
use vmcore_format::paging::{TableRef, Tables as _};

/// Addresses of the kernel's symbols that lead to the root. Any of them may be missing.
#[derive(Clone, Copy, Debug, Default)]
#[expect(non_snake_case, reason = "the symbols' own names")]
pub struct RootSymbols {
    /// Start of the kernel's part of the address space.
    pub kernbase: Option<VirtAddr>,
    /// amd64: variable with the root's physical address.
    pub KPML4phys: Option<VirtAddr>,
    /// amd64: the same for five levels; 0 if they are off.
    pub KPML5phys: Option<VirtAddr>,
    /// i386: variable with the physical address of the PAE pointers.
    pub IdlePDPT: Option<VirtAddr>,
    /// i386: variable with the physical address of the page directory.
    pub IdlePTD: Option<VirtAddr>,
    /// i386 since 13.0: the page directory without PAE.
    pub IdlePTD_nopae: Option<VirtAddr>,
    /// i386 since 13.0: whether PAE is on.
    pub pae_mode: Option<VirtAddr>,
    /// arm: variable with the first-level table's physical address.
    pub kernel_l1pa: Option<VirtAddr>,
    /// arm: where the kernel was loaded; the value of an absolute symbol.
    pub physaddr: Option<VirtAddr>,
    /// mips: a 32-bit kernel with 64-bit page-table entries (n32), by its ELF flags.
    pub has_wide_entries: bool,
}

/// Where the kernel was loaded, from the dump's `PT_DUMP_DELTA` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelDelta {
    /// `p_vaddr`: `KERNBASE`.
    pub vaddr: VirtAddr,
    /// `p_paddr`: where the image was loaded.
    pub paddr: PhysAddr,
    /// `p_align`: on amd64 the hole between `KERNBASE` and the image.
    pub hole: u64,
}

/// Why the root of a full dump was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RootError {
    /// No kernel file.
    #[error(
        "a full dump needs its kernel file to translate virtual addresses (physical ones can be read without)"
    )]
    NeedsKernel,
    /// The kernel file lacks a symbol.
    #[error("the kernel file has no symbol {0}, which leads to the page tables")]
    NoSymbol(&'static str),
    /// The variable cannot be read.
    #[error("{symbol} at physical {pa} cannot be read: {reason}")]
    Unreadable {
        /// The symbol.
        symbol: &'static str,
        /// Where it should be.
        pa: PhysAddr,
        /// The reason.
        reason: PageReadError,
    },
    /// The variable leads to no plausible root.
    #[error("{symbol} = {root} is not a page-table root; wrong kernel file?")]
    Implausible {
        /// The symbol.
        symbol: &'static str,
        /// What it holds.
        root: PhysAddr,
    },
    /// The architecture has no full dumps.
    #[error("full dumps of {0} cannot be translated; physical addresses can be read")]
    NoFullDumps(&'static str),
}

/// A variable that names a table.
pub(crate) fn read(
    memory: &Memory,
    symbol: &'static str,
    pa: PhysAddr,
    width: Width,
) -> Result<u64, RootError> {
    memory
        .entry(TableRef::At(pa), 0, width)
        .map_err(|reason| RootError::Unreadable { symbol, pa, reason })
}
