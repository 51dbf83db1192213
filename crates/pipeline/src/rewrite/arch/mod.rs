//! What making a dump of a full dump takes of each architecture.
//!
//! A new architecture is a line in the table below, and a file here if it has full dumps of physical
//! memory.

mod amd64;
mod arm;
mod i386;

use super::kernel::{KernelMemory, Tables};
use std::borrow::Cow;
use vmcore::translation::PagingMode;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Width;
use vmcore_format::paging::Radix;
use vmcore_writer::machine::{Kernel, KernelImage};

/// What is particular to an architecture.
#[derive(Debug)]
pub(in crate::rewrite) struct ArchConversion {
    /// Its page tables, if nothing tells which of several they are.
    pub(in crate::rewrite) mode: PagingMode,
    /// Whether RAM is mapped besides the kernel map.
    pub(in crate::rewrite) has_direct_map: bool,
    /// Width of `vm_paddr_t`.
    pub(in crate::rewrite) physical_address: fn(&KernelMemory<'_>) -> Width,
    /// Where the image was loaded, if a full dump has to say so.
    pub(in crate::rewrite) image: fn(&Tables<'_>) -> Option<KernelImage>,
    /// The kernel's address space, by its page tables and what is known of its memory.
    pub(in crate::rewrite) address_space: fn(&Tables<'_>, Option<&KernelMemory<'_>>) -> Kernel,
    /// The CPUs in a file of QEMU's, if such files are read.
    pub(in crate::rewrite) qemu: Option<Qemu>,
}

/// The CPUs in a file of QEMU's.
#[derive(Debug)]
pub(in crate::rewrite) struct Qemu {
    /// The register with the address of `struct pcpu`, in the kernel and in a process.
    pub(in crate::rewrite) pcpu: [Option<&'static str>; 2],
    /// A register's name on amd64.
    pub(in crate::rewrite) name_on_amd64: fn(&str) -> Cow<'_, str>,
    /// Page tables by the control registers 3 and 4.
    pub(in crate::rewrite) page_tables: fn(u64, u64) -> (PagingMode, Radix),
    /// Whether page tables map a kernel's image.
    pub(in crate::rewrite) maps_a_kernel: fn(&Tables<'_>) -> bool,
}

/// What is particular to `arch`; `None` if it has no full dumps that can be made into others.
pub(in crate::rewrite) const fn of(arch: Arch) -> Option<&'static ArchConversion> {
    match arch {
        Arch::Amd64 => Some(&amd64::CONVERSION),
        Arch::Arm => Some(&arm::CONVERSION),
        Arch::I386 => Some(&i386::CONVERSION),
        Arch::Arm64
        | Arch::Mips
        | Arch::Mips64
        | Arch::Powerpc
        | Arch::Powerpc64
        | Arch::Riscv64
        | Arch::Sparc64 => None,
    }
}

/// The kernel map of a 32-bit kernel: without a direct map, and all of it above `kernbase`, where the
/// image is, too. It starts with a whole table, and ends with what was ever mapped.
fn narrow(
    radix: Radix,
    kernbase: u64,
    table_shift: u32,
    kernel: Option<&KernelMemory<'_>>,
) -> Kernel {
    let kernbase = (kernbase & u64::from(u32::MAX)) >> table_shift << table_shift;
    let end = kernel
        .and_then(|kernel| kernel.word("kernel_vm_end"))
        .filter(|end| *end > kernbase);
    Kernel {
        radix,
        kernbase: VirtAddr(kernbase),
        kernend: VirtAddr(end.unwrap_or(1 << 32)),
        direct_map: None,
        image: None,
    }
}
