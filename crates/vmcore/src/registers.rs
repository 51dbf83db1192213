//! Registers that a kernel saved in a `struct pcb`: what a debugger starts from.
//!
//! Only callee-saved registers, stack pointer and program counter are saved; all others are
//! unavailable, not zero. Layouts: `sys/<arch>/include/pcb.h`; arm64 and riscv64 changed theirs in
//! FreeBSD 14, by the structure's size.
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

use crate::arch::facts;
use serde::ser::SerializeMap as _;
use vmcore_format::arch::Arch;
use vmcore_format::endian::{Endian, Width};

/// Where each register lies in a `struct pcb`.
#[derive(Clone, Copy, Debug)]
pub struct PcbLayout {
    fields: &'static [(&'static str, usize)],
    word: Width,
    endian: Endian,
    /// Name of the program counter.
    pub pc: &'static str,
    /// Name of the stack pointer.
    pub sp: &'static str,
    /// Name of the frame pointer.
    pub fp: &'static str,
}

impl PcbLayout {
    /// The layout of an architecture; `pcb_size` is the constant of that name, if known.
    #[must_use]
    pub fn of(arch: Arch, pcb_size: Option<u64>) -> Self {
        (facts(arch).pcb)(pcb_size)
    }

    /// A layout of these fields.
    pub(crate) const fn new(
        fields: &'static [(&'static str, usize)],
        word: Width,
        [pc, sp, fp]: [&'static str; 3],
    ) -> Self {
        Self {
            fields,
            word,
            endian: Endian::Little,
            pc,
            sp,
            fp,
        }
    }

    /// The same in the kernel's byte order.
    #[must_use]
    pub const fn with_endian(self, endian: Endian) -> Self {
        Self { endian, ..self }
    }

    /// Whether it is known where the registers are; of mips and sparc64 it is not.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        !self.fields.is_empty()
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
    /// Takes the registers out of the bytes of a `struct pcb`; fields past their end are left
    /// out.
    #[must_use]
    pub fn from_pcb(layout: &PcbLayout, pcb: &[u8]) -> Self {
        let value = |offset: usize| layout.word.item(layout.endian, pcb.get(offset..)?, 0);
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
