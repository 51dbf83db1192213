//! i386.

use super::machine::{Chain, Entries, EntryCopy, Gdb, Machine, TrapFrameEnd};
use super::x86;
use crate::unwind::{Registers, TrapFrame, Unwinder, field, registers_from};
use vmcore::translation::TranslationError;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

const NAMES: &[&str] = &[
    "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip",
];

/// `struct trapframe` (`sys/x86/include/frame.h`): its bytes, and where each register is. The last two
/// words are there only if user code was interrupted.
const LEN: usize = 72;
const KERNEL_LEN: usize = 64;
const FIELDS: [(usize, usize); 8] = [
    (7, 12),
    (6, 16),
    (5, 20),
    (3, 28),
    (2, 32),
    (1, 36),
    (0, 40),
    (8, 52),
];

/// No address is certainly the user's.
pub(super) const MACHINE: Machine = Machine {
    names: NAMES,
    pc: 8,
    sp: 4,
    fp: 5,
    callee_saved: &[3, 5, 6, 7],
    chain: Chain::Record,
    return_address,
    base_register: |code| x86::base_register(code, false),
    trap_frame: Some(trap_frame),
    keeps_frame_pointer: |symbol| symbol == "calltrap" || x86::is_entry(symbol),
    entry_copy: Some(EntryCopy {
        from: 0xffc0_0000,
        displacement: "setidt_disp",
    }),
    ..Machine::unknown(Arch::I386, GDB)
};

const GDB: Gdb = Gdb {
    more: x86::MORE,
    native: &["x86", "x86_64"],
    entries: |_| &[POINTED, ENTRIES],
    ..Gdb::new("i386", "org.gnu.gdb.i386.core", NAMES)
};

/// Entries of which some kernels push a pointer to the trap frame, and others do not.
const POINTED: Entries = Entries {
    is_entry: may_point,
    len_bytes: KERNEL_LEN,
    // esp + 64, and 4 more if the word at esp is esp + 4.
    end: TrapFrameEnd::Expression(&[
        0x74, 0x00, 0x06, 0x74, 0x04, 0x29, 0x32, 0x24, 0x74, 0xc0, 0x00, 0x22,
    ]),
    fields: &FIELDS,
};
const ENTRIES: Entries = Entries {
    is_entry: x86::is_entry,
    len_bytes: KERNEL_LEN,
    end: TrapFrameEnd::Above(MACHINE.sp, 4 + KERNEL_LEN),
    fields: &FIELDS,
};

fn may_point(symbol: &str) -> bool {
    matches!(
        symbol,
        "calltrap"
            | "Xlcall_syscall"
            | "Xint0x80_syscall"
            | "Xtimerint"
            | "doreti_ast"
            | "Xcpustop"
            | "Xrendezvous"
            | "Xipi_intr_bitmap_handler"
            | "Xlazypmap"
    )
}

fn return_address(code: &[u8], at_start: bool) -> Option<u64> {
    // mov %esp,%ebp in either encoding.
    let is_frame_set = |code: &[u8]| matches!(code, [0x89, 0xe5, ..] | [0x8b, 0xec, ..]);
    Some(4 * x86::words_below_return_address(code, at_start, is_frame_set)?)
}

fn trap_frame(
    unwinder: &Unwinder<'_>,
    symbol: &str,
    registers: &Registers,
    never_ran: bool,
) -> Option<Result<TrapFrame, TranslationError>> {
    let at = place(unwinder, symbol, registers.get(MACHINE.sp)?, never_ran)?;
    let is_plausible = |found: &TrapFrame| x86::is_plausible(symbol, found);
    Some(read(unwinder, symbol, at)).filter(|found| found.as_ref().map_or(true, is_plausible))
}

/// Where an entry keeps its trap frame. Handlers of kernels with an address space of their own get a
/// pointer to it: the word on top of the stack.
fn place(unwinder: &Unwinder<'_>, symbol: &str, sp: u64, never_ran: bool) -> Option<u64> {
    let above = |bytes: u64| MACHINE.cut(sp.wrapping_add(bytes));
    let pointed = || {
        let at = above(4);
        let word = unwinder.space.read_word(VirtAddr(sp)).ok()?;
        (word == at).then_some(at)
    };
    match symbol {
        name if may_point(name) => Some(pointed().unwrap_or(sp)),
        "fork_trampoline" if never_ran => Some(above(4)),
        "fork_trampoline" => Some(above(12)),
        // With or without the pointer.
        name => x86::is_entry(name).then(|| above(4)),
    }
}

fn read(unwinder: &Unwinder<'_>, symbol: &str, at: u64) -> Result<TrapFrame, TranslationError> {
    let mut raw = [0; LEN];
    let (kernel, user_part) = raw.split_at_mut(KERNEL_LEN);
    unwinder.space.read_exact(VirtAddr(at), kernel)?;
    // Code in the processor's 8086 mode is the user's, whatever its segments.
    let user = field(kernel, 56, 2) & 3 != 0 || field(kernel, 60, 4) >> 17 & 1 == 1;
    let above = at.wrapping_add(KERNEL_LEN as u64);
    if user {
        unwinder.space.read_exact(VirtAddr(above), user_part)?;
    }
    let mut registers = registers_from(&raw, &FIELDS, 4);
    let sp = match user {
        true => field(&raw, KERNEL_LEN, 4),
        false => MACHINE.cut(above),
    };
    registers.set(MACHINE.sp, Some(sp));
    let (number, error) = (field(&raw, 44, 4), field(&raw, 48, 4));
    Ok(TrapFrame {
        address: VirtAddr(at),
        pc: VirtAddr(field(&raw, 52, 4)),
        user,
        number: Some(number),
        error: Some(error),
        exception: x86::exception(symbol, number),
        cause: x86::cause(number, error, false),
        fault_address: None,
        other: vec![
            ("cs", field(&raw, 56, 2)),
            ("eflags", field(&raw, 60, 4)),
            ("fs", field(&raw, 0, 2)),
            ("es", field(&raw, 4, 2)),
            ("ds", field(&raw, 8, 2)),
        ],
        registers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_return_address_moves_with_the_push() {
        assert_eq!(return_address(&[0x89, 0xe5], false), Some(4));
        assert_eq!(return_address(&[0x55, 0x89, 0xe5], false), Some(0));
    }
}
