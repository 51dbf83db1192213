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

mod layout;

pub use layout::PcbLayout;

use serde::ser::SerializeMap as _;

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
        Self {
            values: layout.values(pcb),
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

    /// Takes registers with the names that they have.
    pub(crate) fn as_recorded(values: impl Iterator<Item = (&'static str, u64)>) -> Self {
        Self {
            values: values.collect(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore_format::arch::Arch;

    #[test]
    fn the_size_tells_where_the_saved_registers_are() {
        let mut pcb = [0; 192];
        for (place, number) in pcb.iter_mut().step_by(8).zip(0..) {
            *place = number;
        }
        for (size, fp) in [(Some(0x298), 4), (Some(0x310), 11), (None, 4)] {
            let layout = PcbLayout::of(Arch::Riscv64, size);
            let registers = Registers::from_pcb(&layout, &pcb);
            assert_eq!(registers.get("fp"), Some(fp));
            assert_eq!(registers.get("s11"), Some(fp + 11));
            assert_eq!(registers.get("pc"), Some(0));
        }
    }
}
