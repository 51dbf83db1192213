//! amd64: four or five levels; version 1 of its minidumps holds PTEs, later ones PDEs.

use super::common::{FullDumps, Windows, direct_map, section};
use crate::image::AMD64_HOLE;
use crate::memory::Memory;
use crate::translation::root::{KernelDelta, RootError, read};
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::Width;
use vmcore_format::header::Header;
use vmcore_format::paging::{Amd64, Entry, Paging, Radix, TableRef, Tables as _, lookup};

/// How far a relocated kernel is looked for, in 2 MiB steps: 4 GiB.
const RELOCATION_STEPS: u64 = 2048;

pub(super) const WINDOWS: Windows = Windows {
    windows,
    full_dumps: FullDumps::Physical(root),
    paging,
};

fn windows(header: &Header, _: &Memory, _: Option<&RootSymbols>) -> Vec<Window> {
    let level = u32::from(header.version > 1);
    let tables = section(header, PagingMode::Amd64, level);
    [Some(tables), direct_map(header)]
        .into_iter()
        .flatten()
        .collect()
}

fn paging(header: &Header) -> String {
    let is_la57 = header
        .direct_map
        .is_some_and(|map| map.base.0 >> 48 == 0xff01);
    match is_la57 {
        true => "5-level".to_owned(),
        false => "4-level (the dump holds the lower ones)".to_owned(),
    }
}

/// The root: `KPML4phys`, or `KPML5phys` with five levels, a variable of the kernel image. Its physical
/// address follows from where the image was loaded: the dump's `PT_DUMP_DELTA` header says it, else the
/// image was not relocated (up to 13.0 always so), else 2 MiB steps are tried.
fn root(
    memory: &Memory,
    delta: Option<KernelDelta>,
    symbols: &RootSymbols,
) -> Result<(PagingMode, Radix), RootError> {
    let kernbase = symbols.kernbase.ok_or(RootError::NoSymbol("kernbase"))?;
    let root4 = symbols.KPML4phys.ok_or(RootError::NoSymbol("KPML4phys"))?;
    let offset = root4
        .checked_sub(kernbase)
        .ok_or(RootError::NoSymbol("KPML4phys"))?;
    let from_header = delta.map(|delta| delta.paddr.0.wrapping_sub(delta.hole));
    let deltas = match from_header {
        Some(delta) => delta..=delta,
        None => 0..=RELOCATION_STEPS * AMD64_HOLE,
    };
    let mut first_error = None;
    for delta in deltas.step_by(2 << 20) {
        match root_at(memory, PhysAddr(offset.wrapping_add(delta)), kernbase) {
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
fn root_at(memory: &Memory, pa: PhysAddr, kernbase: VirtAddr) -> Result<Radix, RootError> {
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
    let image = VirtAddr(kernbase.0.wrapping_add(AMD64_HOLE));
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
