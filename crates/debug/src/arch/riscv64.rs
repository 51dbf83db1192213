//! riscv64.

use super::{Chain, Entries, Gdb, Machine, TrapFrameEnd};
use crate::unwind::{
    Access, Cause, Registers, THREAD_STARTS, TrapFrame, Unwinder, field, registers_from,
};
use vmcore::translation::Fault;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

const NAMES: &[&str] = &[
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4",
    "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
    "t5", "t6", "pc",
];

/// `struct trapframe` (`sys/riscv/include/frame.h`): its bytes, and where each register is.
const LEN: usize = 280;
const FIELDS: [(usize, usize); 32] = [
    (1, 0),
    (2, 8),
    (3, 16),
    (4, 24),
    (5, 32),
    (6, 40),
    (7, 48),
    (28, 56),
    (29, 64),
    (30, 72),
    (31, 80),
    (8, 88),
    (9, 96),
    (18, 104),
    (19, 112),
    (20, 120),
    (21, 128),
    (22, 136),
    (23, 144),
    (24, 152),
    (25, 160),
    (26, 168),
    (27, 176),
    (10, 184),
    (11, 192),
    (12, 200),
    (13, 208),
    (14, 216),
    (15, 224),
    (16, 232),
    (17, 240),
    (32, 248),
];

pub(super) const MACHINE: Machine = Machine {
    names: NAMES,
    pc: 32,
    sp: 2,
    fp: 8,
    lr: Some(1),
    callee_saved: &[2, 3, 4, 8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27],
    chain: Chain::RecordBelow,
    kernel_bit: Some(63),
    trap_frame: Some(trap_frame),
    keeps_frame_pointer: |name| is_entry(name) || THREAD_STARTS.contains(&name),
    handlers: &[
        "do_trap_supervisor",
        "page_fault_handler",
        "cpu_exception_handler_supervisor",
    ],
    ..Machine::unknown(Arch::Riscv64, GDB)
};

const GDB: Gdb = Gdb {
    native: &["riscv64"],
    entries: |_| &[ENTRIES],
    ..Gdb::new("riscv:rv64", "org.gnu.gdb.riscv.cpu", NAMES)
};

const ENTRIES: Entries = Entries {
    is_entry,
    len_bytes: LEN,
    end: TrapFrameEnd::Above(MACHINE.sp, LEN),
    fields: &FIELDS,
};

fn is_entry(name: &str) -> bool {
    matches!(
        name,
        "cpu_exception_handler_supervisor" | "cpu_exception_handler_user" | "fork_trampoline"
    )
}

fn trap_frame(
    unwinder: &Unwinder<'_>,
    symbol: &str,
    registers: &Registers,
    _: bool,
) -> Option<Result<TrapFrame, Fault>> {
    match is_entry(symbol) {
        true => Some(read(unwinder, registers.get(MACHINE.sp)?)),
        false => None,
    }
}

fn read(unwinder: &Unwinder<'_>, at: u64) -> Result<TrapFrame, Fault> {
    let raw: [u8; LEN] = unwinder.read(at)?;
    let (status, value, cause) = (
        field(&raw, 256, 8),
        field(&raw, 264, 8),
        field(&raw, 272, 8),
    );
    let user = status >> 8 & 1 == 0;
    // Page faults: of an instruction, a load, a store.
    let is_fault = matches!(cause, 12 | 13 | 15);
    let fault_address = (is_fault && !user).then_some(VirtAddr(value));
    let access = match cause {
        12 => Access::Execute,
        15 => Access::Write,
        _ => Access::Read,
    };
    Ok(TrapFrame {
        address: VirtAddr(at),
        pc: VirtAddr(field(&raw, 248, 8)),
        user,
        number: Some(cause),
        error: None,
        cause: Cause::of_access(fault_address, access),
        fault_address,
        other: vec![("sstatus", status), ("stval", value), ("scause", cause)],
        registers: registers_from(&raw, &FIELDS, 8),
    })
}
