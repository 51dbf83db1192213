//! arm: `struct trapframe`, and the entries of `sys/arm/arm/exception.S`.

use super::{Registers, TrapFrame, Unwinder};
use vmcore::translation::Fault;
use vmcore_format::addr::VirtAddr;

/// Words: spsr, r0 to r12, usr_sp, usr_lr, svc_sp, svc_lr, pc.
const WORDS: usize = 19;
const USR_SP: usize = 14;
const SVC_SP: usize = 16;
const PC: usize = 18;
/// The mode in a status register, and that of user code.
const MODE: u64 = 0x1f;
const MODE_USER: u64 = 0x10;

pub(super) fn is_entry(symbol: &str) -> bool {
    matches!(
        symbol,
        "data_abort_entry"
            | "prefetch_abort_entry"
            | "undefined_entry"
            | "irq_entry"
            | "swi_entry"
            | "exception_exit"
            | "swi_exit"
    )
}

/// The trap frame at `at`, where the entry has its stack pointer.
pub(super) fn frame(unwinder: &Unwinder<'_>, at: u64) -> Result<TrapFrame, Fault> {
    let words: [u64; WORDS] = unwinder.words(at)?;
    let [spsr, general @ ..] = words;
    let user = spsr & MODE == MODE_USER;
    let mut registers = Registers::default();
    for (number, value) in general.iter().take(13).enumerate() {
        registers.set(number, Some(*value));
    }
    // The link register follows the stack pointer of the same mode.
    let sp = if user { USR_SP } else { SVC_SP };
    let machine = &unwinder.machine;
    registers.set(machine.sp, words.get(sp).copied());
    if let Some(lr) = machine.lr {
        registers.set(lr, words.get(sp + 1).copied());
    }
    let pc = words[PC];
    registers.set(machine.pc, Some(pc));
    Ok(TrapFrame {
        address: VirtAddr(at),
        pc: VirtAddr(pc),
        user,
        number: None,
        error: None,
        fault_address: None,
        other: vec![("spsr", spsr)],
        registers,
    })
}
