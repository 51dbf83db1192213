//! i386: with PAE and without; no direct map.

use super::common::{FullDumps, Windows, section};
use crate::memory::Memory;
use crate::translation::root::{KernelDelta, RootError, read};
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::Width;
use vmcore_format::header::Header;
use vmcore_format::paging::{I386, Paging as _, Radix, TableRef};

/// Entries of a kernel page directory at level 0 of PAE: always four.
const PAE_POINTERS: u64 = 4;
/// Kernels of 12.0 and later are mapped at their physical addresses.
const SPLIT: u64 = 0x8000_0000;

pub(super) const WINDOWS: Windows = Windows {
    windows,
    full_dumps: FullDumps::Physical(root),
    paging: |header| match header.is_pae() {
        true => "PAE".to_owned(),
        false => "two-level (no PAE)".to_owned(),
    },
};

fn windows(header: &Header, _: &Memory, _: Option<&RootSymbols>) -> Vec<Window> {
    let mode = match header.is_pae() {
        true => PagingMode::I386Pae,
        false => PagingMode::I386,
    };
    vec![section(header, mode, 0)]
}

/// The root: `IdlePDPT` or `IdlePTD`, and `pae_mode` where one kernel does both.
fn root(
    memory: &Memory,
    _: Option<KernelDelta>,
    symbols: &RootSymbols,
) -> Result<(PagingMode, Radix), RootError> {
    let kernbase = symbols.kernbase.unwrap_or(VirtAddr(0xc000_0000));
    let phys = |va: VirtAddr| match kernbase.0 {
        low if low < SPLIT => PhysAddr(va.0),
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
