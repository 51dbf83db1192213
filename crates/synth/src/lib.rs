//! Test dumps of FreeBSD kernels, built from the description of the formats alone.
//!
//! A builder that used the reader's own structures would make the reader's mistakes: a wrong offset
//! would be written and read back, and no test would notice. So this crate shares no code with the
//! reader. It writes bytes at the offsets that the formats give, and answers questions about the
//! result by plain counting.
//!
//! From the bottom up:
//!
//! * [`minidump`] and [`elf`] build one file each: a minidump, a full dump, a kernel file. Every
//!   field can be set to something wrong.
//! * [`tables`] makes page tables, and what a dumping kernel writes of them; [`msgbuf`] the message
//!   buffer; [`header`] the dump header of a dump device.
//! * [`machine`] puts a small crashed machine together, and knows the truth about it: processes,
//!   registers, the addresses of every page. [`machines`] has the ready-made ones.
//! * [`hashed`] makes the page tables of powerpc64 that have no levels; [`sparc64`] the dumps of that
//!   architecture, which have a form of their own.
//! * [`examples`] are the dumps that the description of the formats works through.
//! * [`big`] streams machines of realistic size into a file, for demos and benchmarks.
//!
//! ```
//! use vmcore_synth::{Arch, minidump::Minidump};
//! let mut dump = Minidump::new(Arch::Amd64, 3);
//! dump.dump_avail = vec![(0x1000, 0x9f000)];
//! dump.pages.insert(0x5000, b"a page".to_vec());
//! let file = dump.build();
//! let at = usize::try_from(dump.offset_of(0x5000).unwrap())?;
//! assert_eq!(&file[at..at + 6], b"a page");
//! # Ok::<(), std::num::TryFromIntError>(())
//! ```

#![forbid(unsafe_code)]

pub mod big;
mod bytes;
pub mod elf;
pub mod examples;
pub mod hashed;
pub mod header;
pub mod machine;
pub mod machines;
pub mod minidump;
pub mod msgbuf;
pub mod random;
pub mod sparc64;
pub mod tables;

/// Architecture of a machine; those of two byte orders count twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit x86.
    I386,
    /// 64-bit RISC-V.
    Riscv64,
    /// 32-bit ARM.
    Armv7,
    /// 32-bit ARM, big-endian.
    Armeb,
    /// 32-bit MIPS, little-endian.
    Mipsel,
    /// 32-bit MIPS, big-endian.
    Mips,
    /// 64-bit MIPS, little-endian.
    Mips64el,
    /// 64-bit MIPS, big-endian.
    Mips64,
    /// 64-bit PowerPC, little-endian.
    Powerpc64le,
    /// 64-bit PowerPC, big-endian.
    Powerpc64,
    /// 32-bit PowerPC.
    Powerpc,
    /// 64-bit SPARC.
    Sparc64,
}

/// What is fixed for an architecture.
struct ArchProperties {
    magic_name: &'static str,
    machine_arch: &'static str,
    e_machine: u16,
    word_bytes: u64,
    newest_version: u32,
    is_big_endian: bool,
}

impl Arch {
    /// The architectures of today's machines that have minidumps.
    pub const ALL: [Self; 4] = [Self::Amd64, Self::Arm64, Self::I386, Self::Riscv64];
    /// The others that have minidumps.
    pub const OTHERS: [Self; 8] = [
        Self::Armv7,
        Self::Armeb,
        Self::Mipsel,
        Self::Mips,
        Self::Mips64el,
        Self::Mips64,
        Self::Powerpc64le,
        Self::Powerpc64,
    ];

    const fn facts(self) -> ArchProperties {
        let (magic_name, machine_arch, e_machine, word_bytes, newest_version, is_big_endian) =
            match self {
                Self::Amd64 => ("amd64", "amd64", 62, 8, 3, false),
                Self::Arm64 => ("arm64", "aarch64", 183, 8, 3, false),
                Self::I386 => ("i386", "i386", 3, 4, 2, false),
                Self::Riscv64 => ("riscv", "riscv64", 243, 8, 2, false),
                Self::Armv7 => ("arm", "armv7", 40, 4, 2, false),
                Self::Armeb => ("arm", "armeb", 40, 4, 2, true),
                Self::Mipsel => ("mips", "mipsel", 8, 4, 2, false),
                Self::Mips => ("mips", "mips", 8, 4, 2, true),
                Self::Mips64el => ("mips", "mips64el", 8, 8, 2, false),
                Self::Mips64 => ("mips", "mips64", 8, 8, 2, true),
                Self::Powerpc64le => ("powerpc64", "powerpc64le", 21, 8, 2, false),
                Self::Powerpc64 => ("powerpc64", "powerpc64", 21, 8, 2, true),
                Self::Powerpc => ("powerpc", "powerpc", 20, 4, 0, true),
                Self::Sparc64 => ("sparc64", "sparc64", 43, 8, 0, true),
            };
        ArchProperties {
            magic_name,
            machine_arch,
            e_machine,
            word_bytes,
            newest_version,
            is_big_endian,
        }
    }

    /// The name in a minidump's magic, and of the folder of the machine's sources.
    #[must_use]
    pub const fn magic_name(self) -> &'static str {
        self.facts().magic_name
    }

    /// `MACHINE_ARCH`, as in dump headers.
    #[must_use]
    pub const fn machine_arch(self) -> &'static str {
        self.facts().machine_arch
    }

    /// `e_machine` of its ELF files.
    #[must_use]
    pub const fn e_machine(self) -> u16 {
        self.facts().e_machine
    }

    /// Bytes of a pointer.
    #[must_use]
    pub const fn word_bytes(self) -> u64 {
        self.facts().word_bytes
    }

    /// The newest version of its minidumps; 0 if it has none.
    #[must_use]
    pub const fn newest_version(self) -> u32 {
        self.facts().newest_version
    }

    /// Whether its numbers have their highest byte first.
    #[must_use]
    pub const fn is_big_endian(self) -> bool {
        self.facts().is_big_endian
    }

    /// Whether its pointers have 32 bits.
    #[must_use]
    pub const fn is_32_bit(self) -> bool {
        self.word_bytes() == 4
    }

    /// Whether it is a mips, of either size.
    #[must_use]
    pub const fn is_mips(self) -> bool {
        matches!(
            self,
            Self::Mips | Self::Mipsel | Self::Mips64 | Self::Mips64el
        )
    }

    /// Whether it is a powerpc, of either size.
    #[must_use]
    pub const fn is_powerpc(self) -> bool {
        matches!(self, Self::Powerpc | Self::Powerpc64 | Self::Powerpc64le)
    }

    /// Whether it is known where its kernels save registers: not of mips and
    /// sparc64.
    #[must_use]
    pub const fn has_known_pcb(self) -> bool {
        !self.is_mips() && !matches!(self, Self::Sparc64)
    }

    /// The bytes of a number of 4 bytes.
    #[must_use]
    pub const fn u32(self, value: u32) -> [u8; 4] {
        if self.is_big_endian() {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    /// The bytes of a number of 8 bytes.
    #[must_use]
    pub const fn u64(self, value: u64) -> [u8; 8] {
        if self.is_big_endian() {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    /// The bytes of a number of `width` bytes, 4 or 8.
    #[must_use]
    pub fn number(self, width: u64, value: u64) -> Vec<u8> {
        if width == 4 {
            self.u32(bytes::low32(value)).to_vec()
        } else {
            self.u64(value).to_vec()
        }
    }

    /// The bytes of a pointer.
    #[must_use]
    pub fn word(self, value: u64) -> Vec<u8> {
        self.number(self.word_bytes(), value)
    }
}
