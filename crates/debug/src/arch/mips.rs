//! mips, 32-bit: nothing tells how its stacks are chained.

use super::machine::{Gdb, Machine, PLACES};
use vmcore_format::arch::Arch;

pub(super) const MACHINE: Machine =
    Machine::unknown(Arch::Mips, Gdb::new("mips", "org.gnu.gdb.mips.cpu", PLACES));
