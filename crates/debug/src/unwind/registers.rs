//! Registers of a frame, by their DWARF numbers.

use crate::arch::machine::Machine;

/// The registers of a frame, by DWARF number; what is not known is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    values: [Option<u64>; Self::MAX],
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            values: [None; Self::MAX],
        }
    }
}

impl Registers {
    /// The most registers of an architecture.
    pub(crate) const MAX: usize = 67;

    /// A register by its number.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<u64> {
        self.values.get(number).copied().flatten()
    }

    /// Sets or forgets a register; a number that no register has is ignored.
    pub fn set(&mut self, number: usize, value: Option<u64>) {
        if let Some(place) = self.values.get_mut(number) {
            *place = value;
        }
    }

    /// Only those that a called function leaves as they are.
    #[must_use]
    pub fn callee_saved(&self, machine: &Machine) -> Self {
        let mut kept = Self::default();
        for number in machine.callee_saved {
            kept.set(*number, self.get(*number));
        }
        kept
    }

    /// The known registers with their names.
    pub fn named(&self, machine: &Machine) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let names = machine.names.iter().enumerate();
        names.filter_map(|(number, name)| Some((*name, self.get(number)?)))
    }
}
