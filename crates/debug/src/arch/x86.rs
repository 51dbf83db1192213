//! What amd64 and i386 have in common: entries, trap numbers, segments, the registers gdb wants besides.

use super::register::Register;
use crate::unwind::{Access, Cause, TrapFrame};

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

/// The exceptions, as the kernel's messages call them (`sys/x86/include/trap.h`, `sys/amd64/amd64/trap.c`).
const EXCEPTIONS: [(u64, &str); 22] = [
    (1, "privileged instruction fault"),
    (3, "breakpoint instruction fault"),
    (6, "arithmetic trap"),
    (9, "general protection fault"),
    (10, "debug exception"),
    (12, "page fault"),
    (14, "alignment fault"),
    (18, "integer divide fault"),
    (19, "non-maskable interrupt trap"),
    (20, "overflow trap"),
    (21, "FPU bounds check fault"),
    (22, "FPU device not available"),
    (23, "double fault"),
    (24, "FPU operand fetch fault"),
    (25, "invalid TSS fault"),
    (26, "segment not present fault"),
    (27, "stack fault"),
    (28, "machine check trap"),
    (29, "SIMD floating-point exception"),
    (30, "reserved (unknown) fault"),
    (32, "DTrace pid return trap"),
    (33, "control protection fault"),
];

/// The exception that an entry was for; `None` if the entry is for interrupts or system calls, whose trap
/// frames have no number.
pub(super) fn exception(symbol: &str, number: u64) -> Option<String> {
    const ENTRIES: [&str; 22] = [
        "alltraps",
        "fred_events_handlers",
        "Xdiv",
        "Xdbg",
        "Xnmi",
        "Xbpt",
        "Xofl",
        "Xbnd",
        "Xill",
        "Xdna",
        "Xfpusegm",
        "Xtss",
        "Xmissing",
        "Xstk",
        "Xprot",
        "Xpage",
        "Xfpu",
        "Xalign",
        "Xmchk",
        "Xxmm",
        "Xdblfault",
        "Xrsvd",
    ];
    let is_exception = symbol.ends_with("calltrap") || ENTRIES.contains(&symbol);
    let known = EXCEPTIONS.iter().find(|(known, _)| *known == number);
    let name = known.map_or("unknown trap", |(_, name)| *name);
    is_exception.then(|| name.to_owned())
}

/// What the processor refused, by the trap's number and its error code. A fault at the program counter
/// is a jump: without protection against execution the error code does not say so.
pub(super) const fn cause(number: u64, error: u64, is_at_pc: bool) -> Cause {
    match number {
        9 => Cause::ProtectionFault,
        12 if error & 16 != 0 || is_at_pc => Cause::PageFault(Access::Execute),
        12 if error & 2 != 0 => Cause::PageFault(Access::Write),
        12 => Cause::PageFault(Access::Read),
        19 => Cause::Nmi,
        23 => Cause::DoubleFault,
        28 => Cause::MachineCheck,
        _ => Cause::Other,
    }
}

/// The processor's number of the register that an instruction's memory operand is relative to; `None` if
/// there is none, if there is an index too, or a segment of its own.
pub(super) fn base_register(code: &[u8], has_rex: bool) -> Option<usize> {
    let mut rest = code;
    let (mut rex, mut is_prefixed) = (0, true);
    while is_prefixed {
        let (first, tail) = rest.split_first()?;
        match first {
            // Operand size, repetition, lock, segments that have no base.
            0x66 | 0xf2 | 0xf3 | 0xf0 | 0x2e | 0x36 | 0x3e | 0x26 => rest = tail,
            0x40..=0x4f if has_rex => (rex, rest, is_prefixed) = (*first, tail, false),
            _ => is_prefixed = false,
        }
    }
    let (has_operand, rest) = match rest {
        [0x0f, 0x38 | 0x3a, _, rest @ ..] => (true, rest),
        [0x0f, opcode, rest @ ..] => {
            let without = [
                0x05..=0x0b,
                0x30..=0x37,
                0x77..=0x77,
                0x80..=0x8f,
                0xa0..=0xa2,
                0xa8..=0xaa,
                0xc8..=0xcf,
            ];
            (!without.iter().any(|range| range.contains(opcode)), rest)
        }
        [opcode, rest @ ..] => {
            let with = [
                0x62..=0x63,
                0x69..=0x69,
                0x6b..=0x6b,
                0x80..=0x8f,
                0xc0..=0xc1,
                0xc6..=0xc7,
                0xd0..=0xd3,
                0xd8..=0xdf,
                0xf6..=0xf7,
                0xfe..=0xff,
            ];
            let is_arithmetic = *opcode < 0x40 && opcode & 7 < 4;
            (
                is_arithmetic || with.iter().any(|range| range.contains(opcode)),
                rest,
            )
        }
        [] => return None,
    };
    let (modrm, rest) = rest.split_first().filter(|_| has_operand)?;
    let extended = |field: u8, rex_bit: u8| usize::from(field & 7 | (rex >> rex_bit & 1) << 3);
    match (modrm >> 6, modrm & 7) {
        (3, _) | (0, 5) => None,
        (mode, 4) => {
            let sib = *rest.first()?;
            let has_index = extended(sib >> 3, 1) != 4;
            let has_base = mode != 0 || sib & 7 != 5;
            (has_base && !has_index).then(|| extended(sib, 0))
        }
        (_, base) => Some(extended(base, 0)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_of_a_memory_operand_is_found() {
        for (code, expected) in [
            // mov 0x8(%rax),%rax; mov (%rbx),%eax; movl $1,(%rdi); mov %rax,0x10(%r12); cmpb $0,0x20(%r13)
            (&[0x48, 0x8b, 0x40, 0x08][..], Some(0)),
            (&[0x8b, 0x03], Some(3)),
            (&[0xc7, 0x07, 1, 0, 0, 0], Some(7)),
            (&[0x49, 0x89, 0x44, 0x24, 0x10], Some(12)),
            (&[0x41, 0x80, 0x7d, 0x20, 0], Some(13)),
            // lock cmpxchg %rcx,0x18(%rdx); movzbl 0x3(%rsi),%eax; call *0x28(%r11)
            (&[0xf0, 0x48, 0x0f, 0xb1, 0x4a, 0x18], Some(2)),
            (&[0x0f, 0xb6, 0x46, 0x03], Some(6)),
            (&[0x41, 0xff, 0x53, 0x28], Some(11)),
            // mov 0x10,%rax; mov 0x0(%rip),%rax; mov (%rax,%rcx,8),%rax; mov %rax,%rbx; mov %gs:0x0,%rax
            (&[0x48, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0], None),
            (&[0x48, 0x8b, 0x05, 0, 0, 0, 0], None),
            (&[0x48, 0x8b, 0x04, 0xc8], None),
            (&[0x48, 0x89, 0xc3], None),
            (&[0x65, 0x48, 0x8b, 0x04, 0x25], None),
            // ret, nothing, cut off
            (&[0xc3], None),
            (&[], None),
            (&[0x48, 0x8b], None),
            (&[0x66; 20], None),
        ] {
            assert_eq!(base_register(code, true), expected, "{code:02x?}");
        }
        // What is a prefix of amd64 is an instruction of i386: inc %eax.
        assert_eq!(base_register(&[0x40, 0x8b, 0x03], false), None);
        assert_eq!(base_register(&[0x8b, 0x40, 0x08], false), Some(0));
    }
}
