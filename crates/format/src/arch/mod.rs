//! The architectures whose dumps we know, and what is fixed for each.
//!
//! A new architecture is a file here and one line in the table below; if it has minidumps, a file
//! in [`crate::header`], and one in [`crate::paging`].
//!
//! ```
//! use vmcore_format::arch::Arch;
//! use vmcore_format::endian::{Endian, Width};
//! assert_eq!(Arch::from_elf(8, Width::W64), Some(Arch::Mips64));
//! assert_eq!(Arch::Powerpc64.machine_arch(Endian::Little), "powerpc64le");
//! ```

use crate::endian::{Endian, Width};
use crate::header::{Header, HeaderError};
use core::fmt;

/// What is fixed for an architecture.
pub(crate) struct Facts {
    /// FreeBSD's name (`MACHINE`).
    pub(crate) name: &'static str,
    /// FreeBSD's name of the processor (`MACHINE_ARCH`), little-endian and big-endian.
    pub(crate) machine_arch: [&'static str; 2],
    /// The only byte order of its kernels; `None` if there are kernels of both.
    pub(crate) endian: Option<Endian>,
    /// `architectureversion` of its dump headers.
    pub(crate) dump_arch_version: u32,
    /// `e_machine` of its ELF files.
    pub(crate) elf_machine: u16,
    /// Width of pointers and of `long`.
    pub(crate) word: Width,
    /// Its minidumps; `None` if it has none.
    pub(crate) minidump: Option<MinidumpFacts>,
    /// Number and names of its registers in the extension; `None` if nothing writes them.
    pub(crate) registers: Option<(u32, &'static [&'static str])>,
    /// Bytes and registers of its note for debuggers; `None` if they know none.
    pub(crate) prstatus: Option<(usize, &'static [&'static str])>,
}

/// What is fixed for an architecture's minidumps.
pub(crate) struct MinidumpFacts {
    /// The full magic.
    pub(crate) magic: &'static str,
    /// The first version that numbers its pages by `dump_avail`.
    pub(crate) dump_avail_since: u32,
    /// Whether some kernels wrote the addresses of `dump_avail` in 32 bits.
    pub(crate) has_narrow_dump_avail: bool,
    /// The first version whose bitmap is of the kernel's words; earlier ones are of 32-bit ones.
    pub(crate) bitmap_of_words_since: u32,
    /// Bytes of the structure of each version, from 1 on.
    pub(crate) header_bytes: &'static [usize],
    /// Decodes the header's structure.
    pub(crate) decode: fn(&[u8]) -> Result<Header, HeaderError>,
    /// Writes it.
    pub(crate) encode: fn(&Header, &mut [u8]) -> Result<(), HeaderError>,
}

macro_rules! architectures {
    ($($(#[$doc:meta])* $name:ident in $file:ident,)*) => {
        $(mod $file;)*

        /// Architecture of the kernel that crashed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Arch {
            $($(#[$doc])* $name,)*
        }

        impl Arch {
            /// Every architecture, in alphabetical order.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];

            #[inline]
            pub(crate) const fn facts(self) -> &'static Facts {
                match self {
                    $(Self::$name => &$file::FACTS,)*
                }
            }
        }
    };
}

architectures! {
    /// x86-64.
    Amd64 in amd64,
    /// 32-bit ARM, of either byte order.
    Arm in arm,
    /// 64-bit ARM, little-endian.
    Arm64 in arm64,
    /// 32-bit x86.
    I386 in i386,
    /// 32-bit MIPS, of either byte order.
    Mips in mips,
    /// 64-bit MIPS, of either byte order.
    Mips64 in mips64,
    /// 32-bit PowerPC, big-endian.
    Powerpc in powerpc,
    /// 64-bit PowerPC, of either byte order.
    Powerpc64 in powerpc64,
    /// 64-bit RISC-V.
    Riscv64 in riscv64,
    /// 64-bit SPARC, big-endian.
    Sparc64 in sparc64,
}

impl Arch {
    /// FreeBSD's name (`MACHINE`): `amd64`, `arm64`, `i386`, `riscv`, …; 64-bit MIPS is `mips64` here.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// FreeBSD's name of the processor (`MACHINE_ARCH`), as dump headers have it: `amd64`, `aarch64`,
    /// `i386`, `riscv64`, `powerpc64le`, …
    #[must_use]
    pub const fn machine_arch(self, endian: Endian) -> &'static str {
        let [little, big] = self.facts().machine_arch;
        match endian {
            Endian::Little => little,
            Endian::Big => big,
        }
    }

    /// `architectureversion` of its dump headers; not the minidump's version.
    #[must_use]
    pub const fn dump_arch_version(self) -> u32 {
        self.facts().dump_arch_version
    }

    /// `e_machine` of its ELF files.
    #[must_use]
    pub const fn elf_machine(self) -> u16 {
        self.facts().elf_machine
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
        self.facts().endian
    }

    /// Width of pointers and of `long`.
    #[inline]
    #[must_use]
    pub const fn word(self) -> Width {
        self.facts().word
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
