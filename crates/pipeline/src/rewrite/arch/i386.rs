//! i386, with PAE and without.

use super::super::kernel::{KernelMemory, Tables};
use super::{ArchConversion, Qemu, narrow};
use std::borrow::Cow;
use vmcore::translation::PagingMode;
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::Width;
use vmcore_format::paging::{I386, I386Pae, Paging as _, Radix, TableRef};
use vmcore_writer::machine::Kernel;

/// `KERNBASE` up to 11.x; and since then, where the image is mapped at its physical address.
const KERNBASE: u64 = 0xc000_0000;
const SPLIT_KERNBASE: u64 = 0x80_0000;
/// `CR4`: page tables with 64-bit entries.
const CR4_PAE: u64 = 1 << 5;

pub(super) const CONVERSION: ArchConversion = ArchConversion {
    mode: PagingMode::I386,
    has_direct_map: false,
    // Without PAE 32 bits, before one kernel could do both.
    physical_address: |kernel| match kernel.mode {
        PagingMode::I386 if kernel.symbol("vm_page_dump_pages").is_none() => Width::W32,
        _ => Width::W64,
    },
    image: |_| None,
    address_space,
    qemu: Some(Qemu {
        pcpu: [Some("fs_base"), None],
        name_on_amd64,
        page_tables,
        // Where its image starts differs by version, and it is the only thing at such addresses.
        maps_a_kernel: |tables| {
            [SPLIT_KERNBASE, 0xc040_0000, 0xc100_0000]
                .into_iter()
                .any(|va| tables.lookup(va).is_some())
        },
    }),
};

fn address_space(tables: &Tables<'_>, kernel: Option<&KernelMemory<'_>>) -> Kernel {
    let shift = match tables.mode {
        PagingMode::I386Pae => I386Pae::shift(1),
        _ => I386::shift(1),
    };
    let symbol = kernel.and_then(|kernel| kernel.symbol("kernbase"));
    let split = PhysAddr(SPLIT_KERNBASE);
    let is_split = tables.lookup(split.0) == Some(split);
    let kernbase = match (symbol, is_split) {
        (Some(symbol), _) => symbol.address.0,
        (None, true) => SPLIT_KERNBASE,
        (None, false) => KERNBASE,
    };
    narrow(tables.radix, kernbase, shift, kernel)
}

/// `eax` is the lower half of `rax`.
fn name_on_amd64(name: &str) -> Cow<'_, str> {
    match name.strip_prefix('e') {
        Some(rest) if name != "es" => format!("r{rest}").into(),
        _ => name.into(),
    }
}

fn page_tables(cr3: u64, cr4: u64) -> (PagingMode, Radix) {
    let is_pae = cr4 & CR4_PAE != 0;
    let (mode, mask, level, entries) = match is_pae {
        true => (PagingMode::I386Pae, 0xffff_ffe0, 2, 4),
        false => (PagingMode::I386, 0xffff_f000, 1, 1 << I386::INDEX_BITS),
    };
    let radix = Radix {
        top: TableRef::At(PhysAddr(cr3 & mask)),
        level,
        first_va: VirtAddr(0),
        entries,
        va_bits: 64,
    };
    (mode, radix)
}
