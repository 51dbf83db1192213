//! The architectures whose dumps are known, and what names each of them.
//!
//! What else is particular to an architecture is in the table of its concept: minidump headers in
//! [`crate::header`], page tables in [`crate::paging`], registers in [`crate::registers`] and
//! [`crate::prstatus`].
//!
//! ```
//! use vmcore_format::arch::Arch;
//! use vmcore_format::endian::{Endian, Width};
//! assert_eq!(Arch::from_elf(8, Width::W64), Some(Arch::Mips64));
//! assert_eq!(Arch::Powerpc64.machine_arch(Endian::Little), "powerpc64le");
//! ```

use crate::endian::{Endian, Width};
use core::fmt;

/// Architecture of the kernel that crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 32-bit ARM, of either byte order.
    Arm,
    /// 64-bit ARM, little-endian.
    Arm64,
    /// 32-bit x86.
    I386,
    /// 32-bit MIPS (o32 and n32), of either byte order.
    Mips,
    /// 64-bit MIPS (n64), of either byte order.
    Mips64,
    /// 32-bit PowerPC, big-endian: virtual ELF cores only.
    Powerpc,
    /// 64-bit PowerPC, of either byte order.
    Powerpc64,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit SPARC, big-endian: raw cores with their own header.
    Sparc64,
}

/// What identifies an architecture in headers and ELF files.
struct Identity {
    /// `MACHINE`.
    name: &'static str,
    /// `MACHINE_ARCH`, little-endian and big-endian.
    machine_arch: [&'static str; 2],
    /// The only byte order of its kernels; `None` if there are kernels of both.
    endian: Option<Endian>,
    /// `architectureversion` of its dump headers.
    dump_arch_version: u32,
    /// `e_machine` of its ELF files.
    elf_machine: u16,
    /// Width of pointers and of `long`.
    word: Width,
}

const BOTH: Option<Endian> = None;
const LITTLE: Option<Endian> = Some(Endian::Little);
const BIG: Option<Endian> = Some(Endian::Big);

const fn row(
    name: &'static str,
    machine_arch: [&'static str; 2],
    endian: Option<Endian>,
    dump_arch_version: u32,
    elf_machine: u16,
    word: Width,
) -> Identity {
    Identity {
        name,
        machine_arch,
        endian,
        dump_arch_version,
        elf_machine,
        word,
    }
}

impl Arch {
    /// Every architecture, in the order of the variants.
    pub const ALL: [Self; 10] = [
        Self::Amd64,
        Self::Arm,
        Self::Arm64,
        Self::I386,
        Self::Mips,
        Self::Mips64,
        Self::Powerpc,
        Self::Powerpc64,
        Self::Riscv64,
        Self::Sparc64,
    ];

    /// One row an architecture: the fields of [`Identity`] in their order.
    const fn identity(self) -> Identity {
        use Width::{W32, W64};
        match self {
            Self::Amd64 => row("amd64", ["amd64", "amd64"], LITTLE, 2, 62, W64),
            Self::Arm => row("arm", ["armv7", "armeb"], BOTH, 1, 40, W32),
            Self::Arm64 => row("arm64", ["aarch64", "aarch64"], LITTLE, 1, 183, W64),
            Self::I386 => row("i386", ["i386", "i386"], LITTLE, 2, 3, W32),
            Self::Mips => row("mips", ["mipsel", "mips"], BOTH, 1, 8, W32),
            Self::Mips64 => row("mips64", ["mips64el", "mips64"], BOTH, 1, 8, W64),
            Self::Powerpc => row("powerpc", ["powerpc", "powerpc"], BIG, 1, 20, W32),
            Self::Powerpc64 => row("powerpc64", ["powerpc64le", "powerpc64"], BOTH, 1, 21, W64),
            Self::Riscv64 => row("riscv", ["riscv64", "riscv64"], LITTLE, 1, 243, W64),
            Self::Sparc64 => row("sparc64", ["sparc64", "sparc64"], BIG, 1, 43, W64),
        }
    }

    /// FreeBSD's name (`MACHINE`): `amd64`, `arm64`, `i386`, `riscv`, …; 64-bit MIPS is `mips64` here.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.identity().name
    }

    /// FreeBSD's name of the processor (`MACHINE_ARCH`), as dump headers have it: `amd64`, `aarch64`,
    /// `i386`, `riscv64`, `powerpc64le`, …
    #[must_use]
    pub const fn machine_arch(self, endian: Endian) -> &'static str {
        let [little, big] = self.identity().machine_arch;
        match endian {
            Endian::Little => little,
            Endian::Big => big,
        }
    }

    /// `architectureversion` of its dump headers; not the minidump's version.
    #[must_use]
    pub const fn dump_arch_version(self) -> u32 {
        self.identity().dump_arch_version
    }

    /// `e_machine` of its ELF files.
    #[must_use]
    pub const fn elf_machine(self) -> u16 {
        self.identity().elf_machine
    }

    /// The architecture of an ELF file by its `e_machine` and class.
    #[must_use]
    pub fn from_elf(machine: u16, class: Width) -> Option<Self> {
        let of_machine = |arch: &Self| arch.elf_machine() == machine;
        let mut all = Self::ALL.into_iter().filter(of_machine);
        all.clone()
            .find(|arch| arch.word() == class)
            .or_else(|| all.next())
    }

    /// The only byte order of its kernels; `None` if there are kernels of both.
    #[must_use]
    pub const fn endian(self) -> Option<Endian> {
        self.identity().endian
    }

    /// Width of pointers and of `long`.
    #[inline]
    #[must_use]
    pub const fn word(self) -> Width {
        self.identity().word
    }

    /// The highest virtual address.
    #[must_use]
    pub const fn va_max(self) -> u64 {
        match self.word() {
            Width::W32 => u32::MAX as u64,
            Width::W64 => u64::MAX,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Arch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
