//! The registers that the extension holds for each CPU, in the order in which they stand there.
//!
//! They are ours, not FreeBSD's `struct reg`: general registers in the order of their numbers, then
//! program counter and flags, then what tells where the CPU stood: segments, page-table root, the
//! address of the last fault. 32-bit registers are zero-extended.
//!
//! ```
//! use vmcore_format::arch::Arch;
//! use vmcore_format::registers::names;
//! assert_eq!(names(Arch::Amd64)[16], "rip");
//! ```

use crate::arch::Arch;

/// The most registers that any architecture has here.
pub const MAX_REGISTERS: usize = 40;

const _: () = {
    let mut at = 0;
    while at < Arch::ALL.len() {
        assert!(names(Arch::ALL[at]).len() <= MAX_REGISTERS);
        at += 1;
    }
};

/// The names of an architecture's registers, in the order of their values; none for one that nothing
/// writes registers of.
#[must_use]
pub const fn names(arch: Arch) -> &'static [&'static str] {
    match arch.facts().registers {
        Some((_, names)) => names,
        None => &[],
    }
}

/// The number on disk of an architecture's registers; 0 for one that nothing writes registers of.
#[must_use]
pub const fn layout_number(arch: Arch) -> u32 {
    match arch.facts().registers {
        Some((number, _)) => number,
        None => 0,
    }
}

/// The architecture of a register layout, or `None` for one of a later version.
#[must_use]
pub fn layout_arch(number: u32) -> Option<Arch> {
    Arch::ALL
        .into_iter()
        .filter(|arch| arch.facts().registers.is_some())
        .find(|arch| layout_number(*arch) == number)
}
