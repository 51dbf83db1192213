//! arm: kernels of 32-bit code. r7 is the frame pointer of Thumb code, which they are not.

use super::machine::{Chain, Entries, Gdb, Machine, TrapFrameEnd};
use super::register::Register;
use crate::unwind::{Access, Cause, Registers, TrapFrame, Unwinder};
use vmcore::translation::TranslationError;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

const NAMES: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr",
    "pc",
];
const LR: usize = 14;

/// The fault status says whether it was a read, but is not in the trap frame.
const PAGE_FAULT: Cause = Cause::PageFault(Access::Read);

pub(super) const MACHINE: Machine = Machine {
    names: NAMES,
    pc: 15,
    sp: 13,
    fp: 11,
    lr: Some(LR),
    callee_saved: &[4, 5, 6, 7, 8, 9, 10, 11, 13],
    chain: Chain::Record,
    record_is_anywhere: true,
    kernel_bit: Some(31),
    saves_in_routine: true,
    trap_frame: Some(trap_frame),
    return_labels: &["exception_exit", "swi_exit", "fork_trampoline"],
    exception_of_handler: &[
        ("abort_handler", ("data or prefetch abort", PAGE_FAULT)),
        ("data_abort_handler", ("data abort", PAGE_FAULT)),
        (
            "prefetch_abort_handler",
            ("prefetch abort", Cause::PageFault(Access::Execute)),
        ),
        (
            "undefinedinstruction",
            ("undefined instruction", Cause::Other),
        ),
    ],
    ..Machine::unknown(Arch::Arm, GDB)
};

const GDB: Gdb = Gdb {
    more: &[Register {
        fixed: Some(MODE_SUPERVISOR),
        ..Register::flags("cpsr")
    }],
    native: &["arm"],
    entries: |_| {
        &[Entries {
            is_entry,
            len_bytes: 4 * WORDS,
            end: TrapFrameEnd::Above(MACHINE.sp, 4 * WORDS),
            fields: &FIELDS,
        }]
    },
    ..Gdb::new("arm", "org.gnu.gdb.arm.core", NAMES)
};

/// Where each register of interrupted kernel code is in a trap frame.
const FIELDS: [(usize, usize); 16] = {
    let mut fields = [(0, 0); 16];
    let mut number = 0;
    while number < 13 {
        fields[number] = (number, 4 + 4 * number);
        number += 1;
    }
    fields[13] = (MACHINE.sp, 4 * SVC_SP);
    fields[14] = (LR, 4 * (SVC_SP + 1));
    fields[15] = (MACHINE.pc, 4 * PC);
    fields
};

/// The words of `struct trapframe` (`sys/arm/include/frame.h`): spsr, r0 to r12, usr_sp, usr_lr, svc_sp,
/// svc_lr, pc.
const WORDS: usize = 19;
const USR_SP: usize = 14;
const SVC_SP: usize = 16;
const PC: usize = 18;
/// The mode in a status register, and that of user code.
const MODE: u64 = 0x1f;
const MODE_USER: u64 = 0x10;
/// That of the kernel's threads.
const MODE_SUPERVISOR: u64 = 0x13;

/// The entries are those of `sys/arm/arm/exception.S`.
fn is_entry(symbol: &str) -> bool {
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

fn trap_frame(
    unwinder: &Unwinder<'_>,
    symbol: &str,
    registers: &Registers,
    _: bool,
) -> Option<Result<TrapFrame, TranslationError>> {
    match is_entry(symbol) {
        true => Some(read(unwinder, registers.get(MACHINE.sp)?)),
        false => None,
    }
}

fn read(unwinder: &Unwinder<'_>, at: u64) -> Result<TrapFrame, TranslationError> {
    let words: [u64; WORDS] = unwinder.words(at)?;
    let [spsr, general @ ..] = words;
    let user = spsr & MODE == MODE_USER;
    let mut registers = Registers::default();
    for (number, value) in general.iter().take(13).enumerate() {
        registers.set(number, Some(*value));
    }
    // The link register follows the stack pointer of the same mode.
    let sp = if user { USR_SP } else { SVC_SP };
    registers.set(MACHINE.sp, words.get(sp).copied());
    registers.set(LR, words.get(sp + 1).copied());
    let pc = words[PC];
    registers.set(MACHINE.pc, Some(pc));
    Ok(TrapFrame {
        address: VirtAddr(at),
        pc: VirtAddr(pc),
        user,
        number: None,
        error: None,
        exception: None,
        cause: Cause::Other,
        fault_address: None,
        other: vec![("spsr", spsr)],
        registers,
    })
}
