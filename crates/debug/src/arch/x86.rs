//! What amd64 and i386 have in common: entries, trap numbers, segments, the registers gdb wants besides.

use crate::gdb::registers::Register;
use crate::unwind::{Access, Cause, TrapFrame};

/// Functions between a fault and the panic about it.
pub(super) const HANDLERS: &[&str] = &[
    "trap_pfault",
    "trap",
    "trap_check",
    "calltrap",
    "alltraps",
    "nmi_calltrap",
    "dbg_calltrap",
    "mchk_calltrap",
    "Xdblfault",
    "trap_fred_k",
    "fred_events_handlers",
];

/// The kernel's code segment, `GSEL(GCODE_SEL, SEL_KPL)`, and its stack segment.
const KERNEL_CS: u64 = 0x20;
const KERNEL_DS: u64 = 0x28;

/// An entry for interrupts and the like: `X` and a name that does not begin with `_`.
pub(super) fn is_entry(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next() == Some('X') && letters.next().is_some_and(|letter| letter != '_')
}

/// Whether what was found is a trap frame: memory that is none names no code segment of the kernel's
/// or of user mode. Functions have names like entries too: `XXH64_update`. What a new thread starts
/// from may be all zeros.
pub(super) fn is_plausible(symbol: &str, found: &TrapFrame) -> bool {
    let mut fields = found.other.iter();
    let cs = fields.find(|(name, _)| *name == "cs");
    symbol == "fork_trampoline" || found.user || cs.is_some_and(|(_, cs)| *cs == KERNEL_CS)
}

/// What the processor refused, by the trap's number and its error code (`sys/x86/include/trap.h`).
pub(super) const fn cause(number: u64, error: u64) -> Cause {
    match number {
        9 => Cause::ProtectionFault,
        12 if error & 16 != 0 => Cause::PageFault(Access::Execute),
        12 if error & 2 != 0 => Cause::PageFault(Access::Write),
        12 => Cause::PageFault(Access::Read),
        19 => Cause::Nmi,
        23 => Cause::DoubleFault,
        28 => Cause::MachineCheck,
        _ => Cause::Other,
    }
}

/// How far above the stack pointer the return address lies, in words.
///
/// `is_frame_set` says whether the instructions begin with the second of a function's first two, `mov`
/// to the frame pointer: then the `push` before it is done.
pub(super) fn words_below_return_address(
    code: &[u8],
    at_start: bool,
    is_frame_set: fn(&[u8]) -> bool,
) -> Option<u64> {
    match code {
        // push %rbp, ret
        [0x55 | 0xc3, ..] => Some(0),
        // endbr64, endbr32
        [0xf3, 0x0f, 0x1e, 0xfa | 0xfb] => Some(0),
        _ if is_frame_set(code) => Some(1),
        _ if at_start => Some(0),
        _ => None,
    }
}

const fn segment(name: &'static str, fixed: Option<u64>) -> Register {
    Register {
        fixed,
        ..Register::plain(name, 32, None)
    }
}

const fn x87_stack(name: &'static str) -> Register {
    Register {
        type_: "i387_ext",
        ..Register::plain(name, 80, None)
    }
}

/// gdb refuses a description without the x87 registers; they are never known here.
pub(super) const MORE: &[Register] = &[
    Register::flags("eflags"),
    segment("cs", Some(KERNEL_CS)),
    segment("ss", Some(KERNEL_DS)),
    segment("ds", None),
    segment("es", None),
    segment("fs", None),
    segment("gs", None),
    x87_stack("st0"),
    x87_stack("st1"),
    x87_stack("st2"),
    x87_stack("st3"),
    x87_stack("st4"),
    x87_stack("st5"),
    x87_stack("st6"),
    x87_stack("st7"),
    Register::plain("fctrl", 32, None),
    Register::plain("fstat", 32, None),
    Register::plain("ftag", 32, None),
    Register::plain("fiseg", 32, None),
    Register::plain("fioff", 32, None),
    Register::plain("foseg", 32, None),
    Register::plain("fooff", 32, None),
    Register::plain("fop", 32, None),
];
