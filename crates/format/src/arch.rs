//! The architectures whose dumps we know, and what is fixed for each.
//!
//! A new architecture is one line in each table here, a file in [`crate::header`] and one in
//! [`crate::paging`].

use crate::endian::Width;
use core::fmt;

/// Architecture of the kernel that crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM, little-endian.
    Arm64,
    /// 32-bit x86.
    I386,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// Every architecture, in alphabetical order.
    pub const ALL: [Self; 4] = [Self::Amd64, Self::Arm64, Self::I386, Self::Riscv64];

    /// FreeBSD's name (`MACHINE`): `amd64`, `arm64`, `i386`, `riscv`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::I386 => "i386",
            Self::Riscv64 => "riscv",
        }
    }

    /// FreeBSD's name of the processor (`MACHINE_ARCH`), as dump headers have it: `amd64`, `aarch64`,
    /// `i386`, `riscv64`.
    #[must_use]
    pub const fn machine_arch(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "aarch64",
            Self::I386 => "i386",
            Self::Riscv64 => "riscv64",
        }
    }

    /// `architectureversion` of its dump headers; not the minidump's version.
    #[must_use]
    pub const fn dump_arch_version(self) -> u32 {
        match self {
            Self::Amd64 | Self::I386 => 2,
            Self::Arm64 | Self::Riscv64 => 1,
        }
    }

    /// `e_machine` of its ELF files.
    #[must_use]
    pub const fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
            Self::I386 => 3,
            Self::Riscv64 => 243,
        }
    }

    /// The architecture of an ELF file by its `e_machine`.
    #[must_use]
    pub fn from_elf_machine(machine: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|arch| arch.elf_machine() == machine)
    }

    /// Width of pointers and of `long`.
    #[must_use]
    pub const fn word(self) -> Width {
        match self {
            Self::I386 => Width::W32,
            Self::Amd64 | Self::Arm64 | Self::Riscv64 => Width::W64,
        }
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
