//! powerpc, 32-bit, and what the 64-bit one has of it: stacks are chained by the stack pointer.

use super::machine::{Chain, Entries, Gdb, Machine, TrapFrameEnd};
use crate::unwind::{Access, Cause, Registers, TrapFrame, Unwinder};
use vmcore::translation::TranslationError;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

/// DWARF counts 32 floating-point registers from 32 on.
const NAMES: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27",
    "r28", "r29", "r30", "r31", "f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10",
    "f11", "f12", "f13", "f14", "f15", "f16", "f17", "f18", "f19", "f20", "f21", "f22", "f23",
    "f24", "f25", "f26", "f27", "f28", "f29", "f30", "f31", "cr", "lr", "pc",
];
const CR: usize = 64;
const LR: usize = 65;

/// In gdb's order.
pub(super) const GDB_NAMES: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27",
    "r28", "r29", "r30", "r31", "pc", "msr", "cr", "lr", "ctr", "xer",
];

pub(super) const MACHINE: Machine = Machine {
    names: NAMES,
    pc: 66,
    sp: 1,
    fp: 1,
    lr: Some(LR),
    callee_saved: &[
        1, 2, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    ],
    chain: Chain::BackChain { saved_lr: 4 },
    trap_number: "vector",
    // Behind the head of a stack frame.
    trap_frame: Some(|unwinder, symbol, registers, _| trap_frame(unwinder, symbol, registers, 8)),
    ..Machine::unknown(Arch::Powerpc, GDB)
};

pub(super) const GDB: Gdb = Gdb {
    narrow: &["cr", "xer"],
    entries: |_| const { &[entries::<4>(8)] },
    ..Gdb::new("powerpc:common", "org.gnu.gdb.power.core", GDB_NAMES)
};

/// Entries whose trap frame of words of `WORD` bytes is so many bytes above the stack pointer.
pub(super) const fn entries<const WORD: usize>(above: usize) -> Entries {
    Entries {
        is_entry,
        len_bytes: WORD * WORDS,
        end: TrapFrameEnd::Above(MACHINE.sp, above + WORD * WORDS),
        fields: const { &fields(WORD) },
    }
}

/// Where each register is in a trap frame.
const fn fields(word: usize) -> [(usize, usize); 35] {
    let mut fields = [(0, 0); 35];
    let mut number = 0;
    while number < 32 {
        fields[number] = (number, word * number);
        number += 1;
    }
    fields[32] = (CR, word * WORD_CR);
    fields[33] = (LR, word * WORD_LR);
    fields[34] = (MACHINE.pc, word * SRR0);
    fields
}

fn is_entry(symbol: &str) -> bool {
    matches!(symbol, "trapagain" | "trapexit" | "dbtrap" | "asttrapexit")
}

/// The words of `struct trapframe` (`sys/powerpc/include/frame.h`) that are read: the general registers,
/// lr, cr, xer, ctr, srr0, srr1, exc.
const WORDS: usize = 39;
const WORD_LR: usize = 32;
const WORD_CR: usize = 33;
const SRR0: usize = 36;
const SRR1: usize = 37;
const EXC: usize = 38;
/// `dar` and `dsisr` follow, on processors that are not embedded ones; they are set by data faults alone.
const DATA_FAULTS: [u64; 3] = [0x300, 0x380, 0x600];
const INSTRUCTION_FAULTS: [u64; 2] = [0x400, 0x480];
/// The bit of `dsisr` for a store.
const DSISR_STORE: u64 = 0x0200_0000;
/// Vectors of exceptions (`sys/powerpc/include/trap.h`).
const EXCEPTIONS: [(u64, &str); 16] = [
    (0x100, "system reset"),
    (0x200, "machine check"),
    (0x300, "data storage interrupt"),
    (0x380, "data segment interrupt"),
    (0x400, "instruction storage interrupt"),
    (0x480, "instruction segment interrupt"),
    (0x600, "alignment interrupt"),
    (0x700, "program interrupt"),
    (0x800, "floating-point unavailable"),
    (0xc00, "system call"),
    (0xd00, "trace interrupt"),
    (0xe40, "hypervisor emulation assistance"),
    (0xf20, "vector unit unavailable"),
    (0xf40, "VSX unavailable"),
    (0xf60, "facility unavailable"),
    (0xf80, "hypervisor facility unavailable"),
];
/// The machine state's bit of user code.
const PROBLEM_STATE: u64 = 1 << 14;

/// The trap frame so many bytes above the stack pointer of an entry of `sys/powerpc/*/trap_subr*.S`.
pub(super) fn trap_frame(
    unwinder: &Unwinder<'_>,
    symbol: &str,
    registers: &Registers,
    above: u64,
) -> Option<Result<TrapFrame, TranslationError>> {
    match is_entry(symbol) {
        true => {
            let sp = registers.get(MACHINE.sp)?;
            Some(read(unwinder, sp.wrapping_add(above)))
        }
        false => None,
    }
}

fn read(unwinder: &Unwinder<'_>, at: u64) -> Result<TrapFrame, TranslationError> {
    let words: [u64; WORDS] = unwinder.words(at)?;
    let mut registers = Registers::default();
    for (number, value) in words.iter().take(32).enumerate() {
        registers.set(number, Some(*value));
    }
    registers.set(CR, Some(words[WORD_CR]));
    registers.set(LR, Some(words[WORD_LR]));
    registers.set(MACHINE.pc, Some(words[SRR0]));
    let (status, exc, pc) = (words[SRR1], words[EXC], words[SRR0]);
    let user = status & PROBLEM_STATE != 0;
    let after = VirtAddr(at)
        .0
        .wrapping_add(WORDS as u64 * unwinder.machine.word_bytes());
    let data = unwinder.words::<2>(after).ok();
    let data = data.filter(|_| DATA_FAULTS.contains(&exc));
    let (fault_address, cause) = match data {
        Some([dar, dsisr]) => {
            let is_store = dsisr & DSISR_STORE != 0;
            let access = if is_store {
                Access::Write
            } else {
                Access::Read
            };
            (Some(dar), Cause::PageFault(access))
        }
        None if INSTRUCTION_FAULTS.contains(&exc) => (Some(pc), Cause::PageFault(Access::Execute)),
        None => (None, Cause::Other),
    };
    let known = EXCEPTIONS.iter().find(|(known, _)| *known == exc);
    Ok(TrapFrame {
        address: VirtAddr(at),
        pc: VirtAddr(pc),
        user,
        number: Some(exc),
        error: None,
        exception: known.map(|(_, name)| (*name).to_owned()),
        cause,
        fault_address: fault_address.filter(|_| !user).map(VirtAddr),
        other: vec![("srr1", status)],
        registers,
    })
}
