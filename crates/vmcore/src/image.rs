//! The kernel's image: where each architecture maps and loads it, and what its file's header says of it.

use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::header::{Header, Mmu};

/// Where the kernel image's ELF header is.
pub(crate) struct Image {
    /// Where it is mapped.
    pub(crate) va: VirtAddr,
    /// Where it is loaded, unless the kernel was moved.
    pub(crate) pa: PhysAddr,
}

/// amd64: the hole between `KERNBASE` and the image, which is also the alignment of a relocated kernel.
pub(crate) const AMD64_HOLE: u64 = 2 << 20;
/// mips: where boards load the kernel (`KERNLOADADDR` in `sys/mips/conf`), in the segment KSEG0.
const MIPS_LOADED_AT: [u64; 3] = [0x10_0000, 0x5_0000, 0x1000];
/// mips: `e_flags` of kernels that follow the n32 convention.
const EF_MIPS_ABI2: u32 = 0x20;
/// `KERNBASE` of `sys/sparc64/include/vmparam.h`: the start of the image.
const SPARC64_KERNBASE: VirtAddr = VirtAddr(0xc000_0000);

/// Where the image certainly is, if every kernel of the architecture has it at the same place.
pub(crate) const fn fixed(arch: Arch) -> Option<Image> {
    match arch {
        Arch::Amd64 => Some(Image {
            va: VirtAddr(0xffff_ffff_8000_0000 + AMD64_HOLE),
            pa: PhysAddr(AMD64_HOLE),
        }),
        _ => None,
    }
}

/// Where the image's ELF header may be mapped; given is a minidump's header.
pub(crate) fn starts(arch: Arch, header: Option<&Header>) -> Vec<VirtAddr> {
    let in_kseg0 = |segment| MIPS_LOADED_AT.map(|pa| VirtAddr(segment + pa)).to_vec();
    let kernbase = header.map(|header| header.kernbase);
    let from = |bases: &[u64], offsets: &[u64]| {
        let starts = bases.iter().flat_map(|base| {
            let starts = offsets.iter();
            starts.filter_map(|offset| base.checked_add(*offset))
        });
        starts.map(VirtAddr).collect()
    };
    match arch {
        Arch::Amd64 => fixed(arch).map(|image| image.va).into_iter().collect(),
        // Loaders put the image a few MiB after the start, or at it.
        Arch::Arm => from(
            kernbase.map(|base| base.0).as_slice(),
            &[0, 1 << 20, 2 << 20, 3 << 20],
        ),
        Arch::Arm64 | Arch::Riscv64 => kernbase.into_iter().collect(),
        // 0x00800000 + a page directory's room (4/4 GB split), or 0xc0000000 + KERNLOAD: a full dump
        // does not say which.
        Arch::I386 => from(
            &kernbase.map_or(vec![0, 0xc000_0000], |base| vec![base.0]),
            &[0, 0x1000, 0x40_0000, 0x80_0000, 0x100_0000],
        ),
        Arch::Mips => in_kseg0(0x8000_0000),
        Arch::Mips64 => in_kseg0(0xffff_ffff_8000_0000),
        // The first page of the image, which starts with the file's headers.
        Arch::Powerpc64 => {
            let start = header.and_then(|header| match header.mmu {
                Mmu::Powerpc64(mmu) => Some(VirtAddr(mmu.startkernel.0 & !0xfff)),
                _ => None,
            });
            start.into_iter().collect()
        }
        Arch::Sparc64 => vec![SPARC64_KERNBASE],
        Arch::Powerpc => Vec::new(),
    }
}

/// Flags of a 32-bit kernel file (`e_flags`) that say that page-table entries have 64 bits.
pub(crate) const fn wide_entries(arch: Arch) -> u32 {
    match arch {
        Arch::Mips => EF_MIPS_ABI2,
        _ => 0,
    }
}

/// Whether all kernels are in the upper half of a 64-bit address space.
pub(crate) const fn kernels_are_high(arch: Arch) -> bool {
    matches!(arch, Arch::Amd64 | Arch::Arm64 | Arch::Riscv64)
}
