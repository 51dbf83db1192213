//! What an architecture is to the debugger: its registers, its stacks, its trap frames, and how gdb
//! and lldb speak of it.
//!
//! A new architecture is a file here, its `mod` line, and a line of [`Machine::of`]. Its file says what differs from
//! an architecture of which nothing is known. How a PCB is laid out the crate `vmcore` says, for it
//! reads them.
//!
//! ```
//! use vmcore_debug::arch::Machine;
//! use vmcore_format::arch::Arch;
//! let amd64 = Machine::of(Arch::Amd64);
//! assert_eq!(amd64.names[amd64.sp], "rsp");
//! ```

mod amd64;
mod arm;
mod arm64;
mod esr;
mod i386;
pub(crate) mod machine;
mod mips;
mod mips64;
mod powerpc;
mod powerpc64;
pub(crate) mod register;
mod riscv64;
mod sparc64;
mod x86;

pub use machine::{Chain, Machine};
pub use register::Register;

use vmcore_format::arch::Arch;

impl Machine {
    /// What is particular to an architecture.
    #[must_use]
    pub const fn of(arch: Arch) -> &'static Self {
        match arch {
            Arch::Amd64 => &amd64::MACHINE,
            Arch::Arm => &arm::MACHINE,
            Arch::Arm64 => &arm64::MACHINE,
            Arch::I386 => &i386::MACHINE,
            Arch::Mips => &mips::MACHINE,
            Arch::Mips64 => &mips64::MACHINE,
            Arch::Powerpc => &powerpc::MACHINE,
            Arch::Powerpc64 => &powerpc64::MACHINE,
            Arch::Riscv64 => &riscv64::MACHINE,
            Arch::Sparc64 => &sparc64::MACHINE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_number_has_a_name() {
        for arch in Arch::ALL {
            let machine = Machine::of(arch);
            assert_eq!(machine.arch, arch);
            for number in [machine.pc, machine.sp, machine.fp] {
                assert!(machine.names.get(number).is_some());
            }
            assert!(machine.callee_saved.contains(&machine.fp));
            assert!(machine.names.len() <= crate::unwind::Registers::MAX);
        }
    }

    #[test]
    fn debuggers_get_every_register_that_is_known() {
        for arch in Arch::ALL {
            let machine = Machine::of(arch);
            for (ours, _) in machine.gdb.renamed {
                assert!(machine.names.contains(ours), "{arch}: {ours}");
            }
            for number in [machine.pc, machine.sp, machine.fp] {
                let name = machine.names[number];
                assert!(machine.gdb.names.contains(&name), "{arch}: {name}");
            }
        }
    }
}
