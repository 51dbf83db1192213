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
pub mod header;
pub mod machine;
pub mod machines;
pub mod minidump;
pub mod msgbuf;
pub mod random;
pub mod tables;

/// Architecture of a machine.
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
}

impl Arch {
    /// Every architecture.
    pub const ALL: [Self; 4] = [Self::Amd64, Self::Arm64, Self::I386, Self::Riscv64];

    /// The name in a minidump's magic.
    #[must_use]
    pub const fn magic_name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::I386 => "i386",
            Self::Riscv64 => "riscv",
        }
    }

    /// `MACHINE_ARCH`, as it stands in dump headers.
    #[must_use]
    pub const fn machine_arch(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "aarch64",
            Self::I386 => "i386",
            Self::Riscv64 => "riscv64",
        }
    }

    /// `e_machine` of its ELF files.
    #[must_use]
    pub const fn e_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
            Self::I386 => 3,
            Self::Riscv64 => 243,
        }
    }

    /// Bytes of a pointer.
    #[must_use]
    pub const fn word_bytes(self) -> u64 {
        match self {
            Self::I386 => 4,
            Self::Amd64 | Self::Arm64 | Self::Riscv64 => 8,
        }
    }

    /// The newest version of its minidumps.
    #[must_use]
    pub const fn newest_version(self) -> u32 {
        match self {
            Self::Amd64 | Self::Arm64 => 3,
            Self::I386 | Self::Riscv64 => 2,
        }
    }
}
