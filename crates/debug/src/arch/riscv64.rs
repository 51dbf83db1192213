//! riscv64.

use super::machine::{Chain, Entries, Gdb, Machine, TrapFrameEnd};
use crate::unwind::{
    Access, Cause, Registers, THREAD_STARTS, TrapFrame, Unwinder, field, registers_from,
};
use vmcore::translation::TranslationError;
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
    trap_number: "scause",
    base_register,
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

/// Of loads, stores and atomic operations, compressed ones too.
fn base_register(code: &[u8]) -> Option<usize> {
    let half = u16::from_le_bytes(*code.first_chunk()?);
    match half & 3 {
        0 if half >> 13 & 3 != 0 => Some(usize::from(half >> 7 & 7) + 8),
        3 => {
            let instruction = u32::from_le_bytes(*code.first_chunk()?);
            let is_access = matches!(instruction & 0x7f, 0x03 | 0x07 | 0x23 | 0x27 | 0x2f);
            is_access.then_some((instruction >> 15 & 31) as usize)
        }
        _ => None,
    }
}

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
) -> Option<Result<TrapFrame, TranslationError>> {
    match is_entry(symbol) {
        true => Some(read(unwinder, symbol, registers.get(MACHINE.sp)?)),
        false => None,
    }
}

/// The exceptions of `scause`, what was accessed and what for. An interrupt has the highest bit.
const EXCEPTIONS: [(u64, &str, Option<Access>); 16] = [
    (0, "misaligned instruction address", Some(Access::Execute)),
    (1, "instruction access fault", Some(Access::Execute)),
    (2, "illegal instruction", None),
    (3, "breakpoint", None),
    (4, "misaligned load address", Some(Access::Read)),
    (5, "load access fault", Some(Access::Read)),
    (6, "misaligned store address", Some(Access::Write)),
    (7, "store access fault", Some(Access::Write)),
    (8, "environment call from user mode", None),
    (9, "environment call from supervisor mode", None),
    (12, "instruction page fault", Some(Access::Execute)),
    (13, "load page fault", Some(Access::Read)),
    (15, "store page fault", Some(Access::Write)),
    (16, "double trap", None),
    (18, "software check", None),
    (19, "hardware error", None),
];

fn read(unwinder: &Unwinder<'_>, symbol: &str, at: u64) -> Result<TrapFrame, TranslationError> {
    let raw: [u8; LEN] = unwinder.read(at)?;
    let (status, value, cause) = (
        field(&raw, 256, 8),
        field(&raw, 264, 8),
        field(&raw, 272, 8),
    );
    let user = status >> 8 & 1 == 0;
    let known = EXCEPTIONS.iter().find(|(known, ..)| *known == cause);
    let access = known.and_then(|(.., access)| *access);
    let is_exception = cause >> 63 == 0 && symbol != "fork_trampoline";
    let exception = known.map_or("unknown exception", |(_, name, _)| *name);
    Ok(TrapFrame {
        address: VirtAddr(at),
        pc: VirtAddr(field(&raw, 248, 8)),
        user,
        number: Some(cause),
        error: None,
        exception: is_exception.then(|| exception.to_owned()),
        cause: access.map_or(Cause::Other, Cause::PageFault),
        fault_address: access.filter(|_| !user).map(|_| VirtAddr(value)),
        other: vec![("sstatus", status), ("stval", value), ("scause", cause)],
        registers: registers_from(&raw, &FIELDS, 8),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_of_loads_and_stores_is_found() {
        for (instruction, expected) in [
            // ld a0, 8(s1); sw a1, 0(a2); amoadd.w a0, a1, (a5); c.ld a0, 8(a0); c.sw a1, 0(s0)
            (0x0084_b503_u32, Some(9)),
            (0x00b6_2023, Some(12)),
            (0x00b7_a52f, Some(15)),
            (0x6508, Some(10)),
            (0xc00c, Some(8)),
            // addi a0, a1, 8; c.addi4spn; ret
            (0x0085_8513, None),
            (0x0028, None),
            (0x0000_8067, None),
        ] {
            let found = base_register(&instruction.to_le_bytes());
            assert_eq!(found, expected, "{instruction:#x}");
        }
        assert_eq!(base_register(&[3]), None);
    }
}
