//! powerpc, 64-bit: the registers of the 32-bit one, and other distances on the stack.

use super::machine::{Chain, Gdb, Machine};
use super::powerpc;
use vmcore_format::arch::Arch;

pub(super) const MACHINE: Machine = Machine {
    arch: Arch::Powerpc64,
    chain: Chain::BackChain { saved_lr: 16 },
    kernel_bit: Some(63),
    trap_frame: Some(|unwinder, symbol, registers, _| {
        powerpc::trap_frame(unwinder, symbol, registers, 48)
    }),
    gdb: Gdb {
        architecture: "powerpc:common64",
        entries: |_| const { &[powerpc::entries::<8>(48)] },
        ..powerpc::GDB
    },
    ..powerpc::MACHINE
};
