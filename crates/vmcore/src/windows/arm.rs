//! arm: kernels of either byte order; no direct map. Full dumps start from the variable
//! `kernel_l1pa`.

use super::common::{FullDumps, Windows, page_words, section};
use crate::memory::Memory;
use crate::translation::root::{KernelDelta, RootError, read};
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::Width;
use vmcore_format::header::{Header, Mmu};
use vmcore_format::paging::{Radix, TableRef};

/// Entries of the first level, one for each MiB.
const L1_ENTRIES: u64 = 4096;
/// Its alignment.
const L1_ALIGN: u64 = 16384;

pub(super) const WINDOWS: Windows = Windows {
    windows,
    full_dumps: FullDumps::Physical(root),
    paging: page_words,
};

fn windows(header: &Header, _: &Memory, _: Option<&RootSymbols>) -> Vec<Window> {
    let mode = match header.mmu {
        Mmu::ArmV4 => PagingMode::ArmV4,
        _ => PagingMode::ArmV6,
    };
    vec![section(header, mode, 0)]
}

/// The first-level table, whose address is in a variable of the kernel; where that is in physical
/// memory the dump's `PT_DUMP_DELTA` header says, or the absolute symbols `kernbase` and `physaddr`.
fn root(
    memory: &Memory,
    delta: Option<KernelDelta>,
    symbols: &RootSymbols,
) -> Result<(PagingMode, Radix), RootError> {
    let symbol = "kernel_l1pa";
    let variable = symbols.kernel_l1pa.ok_or(RootError::NoSymbol(symbol))?;
    let (virt, phys) = match delta {
        Some(delta) => (delta.vaddr, delta.paddr.0),
        None => (
            symbols.kernbase.ok_or(RootError::NoSymbol("kernbase"))?,
            symbols.physaddr.ok_or(RootError::NoSymbol("physaddr"))?.0,
        ),
    };
    let pa = variable.0.wrapping_sub(virt.0).wrapping_add(phys);
    let root = PhysAddr(read(memory, symbol, PhysAddr(pa), Width::W32)?);
    if root.0 == 0 || !root.0.is_multiple_of(L1_ALIGN) || memory.locate(root).is_err() {
        return Err(RootError::Implausible { symbol, root });
    }
    let radix = Radix {
        top: TableRef::At(root),
        level: 1,
        first_va: VirtAddr(0),
        entries: L1_ENTRIES,
        va_bits: 64,
    };
    Ok((PagingMode::ArmV6, radix))
}
