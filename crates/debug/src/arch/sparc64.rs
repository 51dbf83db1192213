//! sparc64: nothing tells how its stacks are chained.

use super::machine::{Gdb, Machine, PLACES};
use vmcore_format::arch::Arch;

pub(super) const MACHINE: Machine = Machine::unknown(
    Arch::Sparc64,
    Gdb::new("sparc:v9", "org.gnu.gdb.sparc.cpu", PLACES),
);
