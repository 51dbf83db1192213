//! amd64.

use super::machine::{Chain, Entries, Gdb, Machine, TrapFrameEnd};
use super::x86;
use crate::unwind::{Registers, TrapFrame, Unwinder, field, registers_from};
use vmcore::translation::TranslationError;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

/// `struct trapframe` (`sys/x86/include/frame.h`): its bytes, and where each register is.
const LEN: usize = 192;
const FIELDS: [(usize, usize); 17] = [
    (5, 0),
    (4, 8),
    (1, 16),
    (2, 24),
    (8, 32),
    (9, 40),
    (0, 48),
    (3, 56),
    (6, 64),
    (10, 72),
    (11, 80),
    (12, 88),
    (13, 96),
    (14, 104),
    (15, 112),
    (16, 152),
    (7, 176),
];

pub(super) const MACHINE: Machine = Machine {
    names: &[
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15", "rip",
    ],
    pc: 16,
    sp: 7,
    fp: 6,
    callee_saved: &[3, 6, 12, 13, 14, 15],
    chain: Chain::Record,
    kernel_bit: Some(63),
    return_address,
    base_register: |code| {
        // DWARF numbers the first eight in its own order.
        const NUMBERS: [usize; 8] = [0, 2, 1, 3, 7, 6, 4, 5];
        let base = x86::base_register(code, true)?;
        Some(NUMBERS.get(base).copied().unwrap_or(base))
    },
    trap_frame: Some(trap_frame),
    keeps_frame_pointer: is_entry,
    // A pointer since FreeBSD 13, an array before.
    counter_base: Some("__pcpu"),
    ..Machine::unknown(Arch::Amd64, GDB)
};

const GDB: Gdb = Gdb {
    more: x86::MORE,
    cpu: Some("x86_64"),
    native: &["x86_64"],
    entries: |_| &[ENTRIES],
    ..Gdb::new(
        "i386:x86-64",
        "org.gnu.gdb.i386.core",
        &[
            "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15", "rip",
        ],
    )
};

const ENTRIES: Entries = Entries {
    is_entry: |name| is_entry(name) && !matches!(name, "doreti_ast" | "fred_checkast"),
    len_bytes: LEN,
    end: TrapFrameEnd::Above(MACHINE.sp, LEN),
    fields: &FIELDS,
};

fn return_address(code: &[u8], at_start: bool) -> Option<u64> {
    // mov %rsp,%rbp in either encoding.
    let is_frame_set =
        |code: &[u8]| matches!(code, [0x48, 0x89, 0xe5, ..] | [0x48, 0x8b, 0xec, ..]);
    Some(8 * x86::words_below_return_address(code, at_start, is_frame_set)?)
}

fn is_entry(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "calltrap",
        "nmi_calltrap",
        "mchk_calltrap",
        "dbg_calltrap",
        "fast_syscall_common",
        "int0x80_syscall_common",
        "doreti_ast",
        "fork_trampoline",
        // With event delivery of FRED.
        "fred_events_handlers",
        "user_fred_syscall",
        "user_fred_non_syscall",
        "fred_checkast",
    ];
    NAMES.contains(&name) || x86::is_entry(name)
}

fn trap_frame(
    unwinder: &Unwinder<'_>,
    symbol: &str,
    registers: &Registers,
    _: bool,
) -> Option<Result<TrapFrame, TranslationError>> {
    if !is_entry(symbol) {
        return None;
    }
    let found = read(unwinder, symbol, registers.get(MACHINE.sp)?);
    let is_plausible = |found: &TrapFrame| x86::is_plausible(symbol, found);
    Some(found).filter(|found| found.as_ref().map_or(true, is_plausible))
}

fn read(unwinder: &Unwinder<'_>, symbol: &str, at: u64) -> Result<TrapFrame, TranslationError> {
    const PAGE_FAULT: u64 = 12;
    let raw: [u8; LEN] = unwinder.read(at)?;
    let registers = registers_from(&raw, &FIELDS, 8);
    let (number, error) = (field(&raw, 120, 4), field(&raw, 144, 8));
    let (cs, ss) = (field(&raw, 160, 2), field(&raw, 184, 2));
    let address = field(&raw, 128, 8);
    let user = cs & 3 == 3;
    let pc = field(&raw, 152, 8);
    Ok(TrapFrame {
        address: VirtAddr(at),
        pc: VirtAddr(pc),
        user,
        number: Some(number),
        error: Some(error),
        exception: x86::exception(symbol, number),
        cause: x86::cause(number, error, pc == address),
        // Only page faults have an address: the entries of all others store 0.
        fault_address: (number == PAGE_FAULT && !user).then_some(VirtAddr(address)),
        other: vec![
            ("addr", address),
            ("flags", field(&raw, 136, 4)),
            ("cs", cs),
            ("rflags", field(&raw, 168, 8)),
            ("ss", ss),
            ("fs", field(&raw, 124, 2)),
            ("gs", field(&raw, 126, 2)),
            ("es", field(&raw, 140, 2)),
            ("ds", field(&raw, 142, 2)),
        ],
        registers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_either_event_delivery_are_known() {
        for name in ["calltrap", "Xtimerint", "fred_events_handlers"] {
            assert!(is_entry(name), "{name}");
        }
        for name in ["amd64_syscall", "trap_fred_k", "fork_trampoline_kthread"] {
            assert!(!is_entry(name), "{name}");
        }
    }

    #[test]
    fn the_return_address_moves_with_the_push() {
        let found = |code: &[u8]| return_address(code, false);
        assert_eq!(found(&[0x55, 0x48, 0x89, 0xe5]), Some(0));
        assert_eq!(found(&[0x48, 0x89, 0xe5, 0x41]), Some(8));
        assert_eq!(found(&[0xc3]), Some(0));
        assert_eq!(found(&[0x90, 0x90]), None);
        assert_eq!(return_address(&[0x90, 0x90], true), Some(0));
    }
}
