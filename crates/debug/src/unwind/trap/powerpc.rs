//! powerpc, 32 and 64 bits: `struct trapframe`, and the entries of `sys/powerpc/*/trap_subr*.S`.

use super::{Registers, TrapFrame, Unwinder};
use vmcore::translation::Fault;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;

/// Words that are read: the general registers, lr, cr, xer, ctr, srr0, srr1, exc.
const WORDS: usize = 39;
const LR: usize = 32;
const CR: usize = 33;
const SRR0: usize = 36;
const SRR1: usize = 37;
const EXC: usize = 38;
/// The machine state's bit of user code.
const PROBLEM_STATE: u64 = 1 << 14;
/// DWARF's number of the condition register.
const DWARF_CR: usize = 64;

pub(super) fn is_entry(symbol: &str) -> bool {
    matches!(symbol, "trapagain" | "trapexit" | "dbtrap" | "asttrapexit")
}

/// The trap frame above the stack pointer `sp` of an entry.
pub(super) fn frame(unwinder: &Unwinder<'_>, sp: u64) -> Result<TrapFrame, Fault> {
    let machine = &unwinder.machine;
    // Behind the head of a stack frame.
    let at = sp.wrapping_add(match machine.arch.word() {
        Width::W32 => 8,
        Width::W64 => 48,
    });
    let words: [u64; WORDS] = unwinder.words(at)?;
    let mut registers = Registers::default();
    for (number, value) in words.iter().take(32).enumerate() {
        registers.set(number, Some(*value));
    }
    registers.set(DWARF_CR, Some(words[CR]));
    if let Some(lr) = machine.lr {
        registers.set(lr, Some(words[LR]));
    }
    registers.set(machine.pc, Some(words[SRR0]));
    let status = words[SRR1];
    Ok(TrapFrame {
        address: VirtAddr(at),
        pc: VirtAddr(words[SRR0]),
        user: status & PROBLEM_STATE != 0,
        number: Some(words[EXC]),
        error: None,
        fault_address: None,
        other: vec![("srr1", status)],
        registers,
    })
}
