//! Registers that a kernel saved in a `struct pcb`: what a debugger starts from.
//!
//! Only callee-saved registers, stack pointer and program counter are saved; all others are
//! unavailable, not zero. Layouts: `sys/<arch>/include/pcb.h`; arm64 and riscv64 changed theirs in
//! FreeBSD 14, which the structure's size tells.
//!
//! ```
//! use vmcore::format::arch::Arch;
//! use vmcore::registers::{PcbLayout, Registers};
//! let mut pcb = [0u8; 0x140];
//! pcb[56..64].copy_from_slice(&0xffff_ffff_80c0_9adeu64.to_le_bytes());
//! let layout = PcbLayout::of(Arch::Amd64, Some(0x140));
//! let registers = Registers::from_pcb(&layout, &pcb);
//! assert_eq!(registers.get("rip"), Some(0xffff_ffff_80c0_9ade));
//! assert_eq!(registers.get("rax"), None);
//! ```

use serde::ser::SerializeMap as _;
use vmcore_format::arch::Arch;
use vmcore_format::endian::{Endian, Width};

/// Where each register lies in a `struct pcb`.
#[derive(Clone, Copy, Debug)]
pub struct PcbLayout {
    fields: &'static [(&'static str, usize)],
    word: Width,
    /// Name of the program counter.
    pub pc: &'static str,
    /// Name of the stack pointer.
    pub sp: &'static str,
    /// Name of the frame pointer.
    pub fp: &'static str,
}

const AMD64: &[(&str, usize)] = &[
    ("r15", 0),
    ("r14", 8),
    ("r13", 16),
    ("r12", 24),
    ("rbp", 32),
    ("rsp", 40),
    ("rbx", 48),
    ("rip", 56),
];
const I386: &[(&str, usize)] = &[
    ("edi", 0),
    ("esi", 4),
    ("ebp", 8),
    ("esp", 12),
    ("ebx", 16),
    ("eip", 20),
];
/// From osreldate 1400084 on.
const ARM64: &[(&str, usize)] = &[
    ("x19", 0),
    ("x20", 8),
    ("x21", 16),
    ("x22", 24),
    ("x23", 32),
    ("x24", 40),
    ("x25", 48),
    ("x26", 56),
    ("x27", 64),
    ("x28", 72),
    ("fp", 80),
    ("pc", 88),
    ("sp", 96),
];
/// Before: x0 to x30 in a row, of which the caller-saved ones hold leftovers.
const ARM64_OLD: &[(&str, usize)] = &[
    ("x8", 64),
    ("x9", 72),
    ("x10", 80),
    ("x11", 88),
    ("x12", 96),
    ("x13", 104),
    ("x14", 112),
    ("x15", 120),
    ("x16", 128),
    ("x17", 136),
    ("x18", 144),
    ("x19", 152),
    ("x20", 160),
    ("x21", 168),
    ("x22", 176),
    ("x23", 184),
    ("x24", 192),
    ("x25", 200),
    ("x26", 208),
    ("x27", 216),
    ("x28", 224),
    ("fp", 232),
    ("pc", 240),
    ("sp", 256),
];
/// `sizeof(struct pcb)` of arm64 kernels before the change.
const ARM64_OLD_SIZE: u64 = 0x560;
/// FreeBSD 14 and later.
const RISCV64: &[(&str, usize)] = &[
    ("pc", 0),
    ("sp", 8),
    ("gp", 16),
    ("tp", 24),
    ("fp", 32),
    ("s1", 40),
    ("s2", 48),
    ("s3", 56),
    ("s4", 64),
    ("s5", 72),
    ("s6", 80),
    ("s7", 88),
    ("s8", 96),
    ("s9", 104),
    ("s10", 112),
    ("s11", 120),
];

impl PcbLayout {
    /// The layout of an architecture; `pcb_size` is the constant of that name, if known.
    #[must_use]
    pub fn of(arch: Arch, pcb_size: Option<u64>) -> Self {
        let (fields, pc, sp, fp) = match arch {
            Arch::Amd64 => (AMD64, "rip", "rsp", "rbp"),
            Arch::I386 => (I386, "eip", "esp", "ebp"),
            Arch::Arm64 if pcb_size == Some(ARM64_OLD_SIZE) => (ARM64_OLD, "pc", "sp", "fp"),
            Arch::Arm64 => (ARM64, "pc", "sp", "fp"),
            Arch::Riscv64 => (RISCV64, "pc", "sp", "fp"),
        };
        Self {
            fields,
            word: arch.word(),
            pc,
            sp,
            fp,
        }
    }

    /// Bytes of a `struct pcb` that hold registers.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let word = if self.word == Width::W32 { 4 } else { 8 };
        self.fields
            .iter()
            .map(|(_, offset)| offset + word)
            .max()
            .unwrap_or(0)
    }
}

/// The registers of a thread, as far as the kernel saved them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    values: Vec<(&'static str, u64)>,
}

impl Registers {
    /// Takes the registers out of the bytes of a `struct pcb`; fields behind their end are left
    /// out. All architectures here are little-endian.
    #[must_use]
    pub fn from_pcb(layout: &PcbLayout, pcb: &[u8]) -> Self {
        let value = |offset: usize| layout.word.item(Endian::Little, pcb.get(offset..)?, 0);
        let values = layout
            .fields
            .iter()
            .filter_map(|(name, at)| Some((*name, value(*at)?)));
        Self {
            values: values.collect(),
        }
    }

    /// Takes registers with the names of [`vmcore_format::registers::names`].
    #[must_use]
    pub fn from_values(values: impl IntoIterator<Item = (&'static str, u64)>) -> Self {
        // Debuggers call the frame pointer so on every architecture that has one by convention only.
        let known = |(name, value)| match name {
            "x29" | "s0" => ("fp", value),
            name => (name, value),
        };
        Self {
            values: values.into_iter().map(known).collect(),
        }
    }

    /// A register by its name; `None` if it was not saved.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.values
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    /// Every register that was saved.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.values.iter().copied()
    }
}

impl serde::Serialize for Registers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for (name, value) in &self.values {
            map.serialize_entry(name, &format!("{value:#x}"))?;
        }
        map.end()
    }
}
