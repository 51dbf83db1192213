//! The root of a full dump's page tables: found by the kernel's symbols, and checked.
//!
//! amd64: `KPML4phys` (and `KPML5phys` with five levels), a variable of the kernel image whose
//! physical address follows from where the image was loaded: the dump's `PT_DUMP_DELTA` header
//! says it, else the image was not relocated (up to 13.0 always so), else 2 MiB steps are tried.
//! i386: `IdlePDPT` or `IdlePTD`, and `pae_mode` where one kernel does both.

use super::PagingMode;
use crate::dump::FullHeader;
use crate::memory::{Absence, Memory};
use thiserror::Error;
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::Width;
use vmcore_format::paging::{Amd64, Entry, I386, Paging, Radix, TableRef, Tables, lookup};

/// Entries of a kernel page directory at level 0 of PAE: always four.
const PAE_POINTERS: u64 = 4;
/// How far a relocated kernel is looked for, in 2 MiB steps: 4 GiB.
const RELOCATION_STEPS: u64 = 2048;
/// Alignment of a relocated amd64 kernel, and the hole between `KERNBASE` and its image.
const AMD64_IMAGE_HOLE: u64 = 2 << 20;
/// i386 kernels of 12.0 and later are mapped at their physical addresses.
const I386_SPLIT: u64 = 0x8000_0000;

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
    #[error("{symbol} at physical {pa} cannot be read: {absence}")]
    Unreadable {
        /// The symbol.
        symbol: &'static str,
        /// Where it should be.
        pa: PhysAddr,
        /// Why not.
        absence: Absence,
    },
    /// The variable leads to no plausible root.
    #[error("{symbol} leads to {root}, which is no page-table root: wrong kernel file?")]
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
        .map_err(|absence| RootError::Unreadable {
            symbol,
            pa,
            absence,
        })
}

pub(crate) fn amd64(
    memory: &Memory,
    header: &FullHeader,
    symbols: &RootSymbols,
) -> Result<(PagingMode, Radix), RootError> {
    let kernbase = symbols.kernbase.ok_or(RootError::NoSymbol("kernbase"))?;
    let root4 = symbols.KPML4phys.ok_or(RootError::NoSymbol("KPML4phys"))?;
    let offset = root4
        .checked_sub(kernbase)
        .ok_or(RootError::NoSymbol("KPML4phys"))?;
    let from_header = header
        .delta
        .map(|delta| delta.paddr.0.wrapping_sub(delta.hole));
    let deltas = match from_header {
        Some(delta) => delta..=delta,
        None => 0..=RELOCATION_STEPS * AMD64_IMAGE_HOLE,
    };
    let mut first_error = None;
    for delta in deltas.step_by(2 << 20) {
        match amd64_root_at(memory, PhysAddr(offset.wrapping_add(delta)), kernbase) {
            Ok(radix) => {
                let five = five_levels(memory, kernbase, delta, symbols)?;
                return Ok((PagingMode::Amd64, five.unwrap_or(radix)));
            }
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or(RootError::NoSymbol("KPML4phys")))
}

/// The 4-level root that the variable at `pa` names, if it maps the kernel's image.
fn amd64_root_at(memory: &Memory, pa: PhysAddr, kernbase: VirtAddr) -> Result<Radix, RootError> {
    let symbol = "KPML4phys";
    let root = PhysAddr(read(memory, symbol, pa, Width::W64)?);
    let implausible = RootError::Implausible { symbol, root };
    if root.0 == 0 || !root.0.is_multiple_of(4096) {
        return Err(implausible);
    }
    // The last entry maps the kernel's image and is always valid.
    let last = memory
        .entry(TableRef::At(root), 511, Width::W64)
        .map_err(|_| implausible)?;
    if !matches!(Amd64::decode(3, last), Entry::Table(_)) {
        return Err(implausible);
    }
    let radix = Radix::root::<Amd64>(root, 3);
    // Sparse copies of dumps lack parts of the tables: only a contradiction speaks against it.
    let image = VirtAddr(kernbase.0.wrapping_add(AMD64_IMAGE_HOLE));
    match lookup::<Amd64, _>(&radix, memory, image) {
        Ok(leaf) if memory.locate(leaf.pa).is_err() => Err(implausible),
        _ => Ok(radix),
    }
}

/// The 5-level root, if the kernel ran with five levels.
fn five_levels(
    memory: &Memory,
    kernbase: VirtAddr,
    delta: u64,
    symbols: &RootSymbols,
) -> Result<Option<Radix>, RootError> {
    let Some(offset) = symbols.KPML5phys.and_then(|va| va.checked_sub(kernbase)) else {
        return Ok(None);
    };
    let root = read(
        memory,
        "KPML5phys",
        PhysAddr(offset.wrapping_add(delta)),
        Width::W64,
    )?;
    Ok((root != 0).then(|| Radix::root::<Amd64>(PhysAddr(root), 4)))
}

pub(crate) fn i386(
    memory: &Memory,
    _: &FullHeader,
    symbols: &RootSymbols,
) -> Result<(PagingMode, Radix), RootError> {
    let kernbase = symbols.kernbase.unwrap_or(VirtAddr(0xc000_0000));
    let phys = |va: VirtAddr| match kernbase.0 {
        low if low < I386_SPLIT => PhysAddr(va.0),
        high => PhysAddr(va.0.wrapping_sub(high)),
    };
    let variable = |symbol, va: Option<VirtAddr>| {
        let va = va.ok_or(RootError::NoSymbol(symbol))?;
        read(memory, symbol, phys(va), Width::W32).map(PhysAddr)
    };
    let pae = match symbols.pae_mode {
        Some(va) => read(memory, "pae_mode", phys(va), Width::W32)? != 0,
        None => symbols.IdlePDPT.is_some(),
    };
    let (mode, symbol, root) = if pae {
        (
            PagingMode::I386Pae,
            "IdlePDPT",
            variable("IdlePDPT", symbols.IdlePDPT)?,
        )
    } else if symbols.IdlePTD_nopae.is_some() {
        (
            PagingMode::I386,
            "IdlePTD_nopae",
            variable("IdlePTD_nopae", symbols.IdlePTD_nopae)?,
        )
    } else {
        (
            PagingMode::I386,
            "IdlePTD",
            variable("IdlePTD", symbols.IdlePTD)?,
        )
    };
    let (level, entries) = match mode {
        PagingMode::I386Pae => (2, PAE_POINTERS),
        _ => (1, 1 << I386::INDEX_BITS),
    };
    if root.0 == 0 || memory.locate(root).is_err() {
        return Err(RootError::Implausible { symbol, root });
    }
    let radix = Radix {
        top: TableRef::At(root),
        level,
        first_va: VirtAddr(0),
        entries,
        va_bits: 64,
    };
    Ok((mode, radix))
}
