//! amd64: where the direct map is differs by version; which of the known places it is, the page tables
//! tell: the direct map maps the root of the page tables to its own address.

use super::super::kernel::{KernelMemory, Tables};
use super::{ArchConversion, Qemu};
use vmcore::translation::PagingMode;
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::Width;
use vmcore_format::header::DirectMap;
use vmcore_format::paging::{Amd64, Radix, TableRef};
use vmcore_writer::machine::{Kernel, KernelImage};

/// `KERNBASE`, and the distance of the image from it (`KERNLOAD`).
const KERNBASE: u64 = 0xffff_ffff_8000_0000;
const KERNLOAD: u64 = 2 << 20;
/// Most page-table pages for the image: 2 GiB in 2 MiB each.
const NKPT_MAX: u64 = 1024;
/// `CR4`: five levels.
const CR4_LA57: u64 = 1 << 12;

/// Direct map from, to, and first address of the kernel map: 15.x with five levels, 10.0 and later,
/// 9.x, older.
const LAYOUTS: [[u64; 3]; 4] = [
    [
        0xff01_0000_0000_0000,
        0xff21_0000_0000_0000,
        0xffff_fe00_0000_0000,
    ],
    [
        0xffff_f800_0000_0000,
        0xffff_fc00_0000_0000,
        0xffff_fe00_0000_0000,
    ],
    [
        0xffff_fe00_0000_0000,
        0xffff_ff00_0000_0000,
        0xffff_ff80_0000_0000,
    ],
    [
        0xffff_ff00_0000_0000,
        0xffff_ff80_0000_0000,
        0xffff_ff80_0000_0000,
    ],
];

pub(super) const CONVERSION: ArchConversion = ArchConversion {
    mode: PagingMode::Amd64,
    has_direct_map: true,
    physical_address: |_| Width::W64,
    image,
    address_space,
    qemu: Some(Qemu {
        pcpu: [Some("gs_base"), Some("kernel_gs_base")],
        name_on_amd64: |name| name.into(),
        page_tables: |cr3, cr4| {
            let level = if cr4 & CR4_LA57 == 0 { 3 } else { 4 };
            let root = PhysAddr(cr3 & 0x000f_ffff_ffff_f000);
            (PagingMode::Amd64, Radix::root::<Amd64>(root, level))
        },
        maps_a_kernel: |tables| image(tables).is_some(),
    }),
};

fn image(tables: &Tables<'_>) -> Option<KernelImage> {
    Some(KernelImage {
        vaddr: VirtAddr(KERNBASE),
        paddr: tables.lookup(KERNBASE + KERNLOAD)?,
        hole: KERNLOAD,
    })
}

fn address_space(tables: &Tables<'_>, kernel: Option<&KernelMemory<'_>>) -> Kernel {
    let [base, end, kernbase] = layout(tables);
    Kernel {
        radix: tables.radix,
        kernbase: VirtAddr(kernbase),
        kernend: VirtAddr(end_of_map(kernel, kernbase).unwrap_or(u64::MAX)),
        direct_map: Some(DirectMap {
            base: VirtAddr(base),
            end: VirtAddr(end),
            phys: PhysAddr(0),
        }),
        image: image(tables),
    }
}

/// The layout whose direct map the page tables have.
fn layout(tables: &Tables<'_>) -> [u64; 3] {
    let TableRef::At(root) = tables.radix.top else {
        return LAYOUTS[1];
    };
    let is_mapped = |layout: &&[u64; 3]| {
        let [base, ..] = **layout;
        tables.lookup(base.saturating_add(root.0)) == Some(root)
    };
    let found = LAYOUTS.iter().find(is_mapped);
    found.copied().unwrap_or(LAYOUTS[1])
}

/// Where the kernel map ends, as `cpu_minidumpsys` has it: past what was ever mapped, and past
/// the image.
fn end_of_map(kernel: Option<&KernelMemory<'_>>, kernbase: u64) -> Option<u64> {
    let kernel = kernel?;
    let nkpt = u64::from(kernel.u32("nkpt")?);
    let vm_end = kernel.word("kernel_vm_end")?;
    let is_sound = (1..=NKPT_MAX).contains(&nkpt) && vm_end >= kernbase;
    let image_end = KERNBASE.checked_add(nkpt.checked_mul(2 << 20)?)?;
    is_sound.then_some(image_end.max(vm_end))
}
