//! mips, 64-bit: nothing tells how its stacks are chained.

use super::machine::{Gdb, Machine, PLACES};
use vmcore_format::arch::Arch;

pub(super) const MACHINE: Machine = Machine::unknown(
    Arch::Mips64,
    Gdb::new("mips:isa64", "org.gnu.gdb.mips.cpu", PLACES),
);
