//! The trap that led to a crash: what was tried and refused, decoded from the trap frame, and from the log
//! where the trap frame does not have it.

use crate::arch::machine::Machine;
use crate::target::Target;
use crate::unwind::{Access, Cause, TrapFrame};
use serde::Serialize;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Width;

/// Bytes of instructions in the report.
const CODE_BYTES: usize = 8;
/// A pointer to a member of a structure at NULL is at most so large.
const NULL_REACH: u64 = 0x1_0000;
/// What memory is filled with when it is freed, on kernels with checks.
const FREED: u64 = 0xdead_c0de;

/// The trap that led to a panic.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// What was tried, text: `kernel read of 0x18 (NULL + 0x18)`.
    pub what: String,
    /// Where: `flow_lookup+0x64`.
    pub at: String,
    /// The first bytes of the instruction there, in hexadecimal.
    pub code: String,
    /// The registers, as `0x…`, in the order of the architecture.
    pub registers: Vec<(String, String)>,
    /// The trap frame.
    pub trap: TrapFrame,
}

/// Decodes a trap. `log` are the lines around it, `stack` is the kernel stack of the thread.
pub(super) fn decode(
    target: &Target<'_>,
    trap: &TrapFrame,
    at: Option<String>,
    stack: Option<(VirtAddr, u64)>,
    log: &[String],
) -> Fault {
    let machine = target.machine();
    let mut trap = trap.clone();
    complete(&mut trap, log);
    let mut code = [0; CODE_BYTES];
    let read = target.space().read(trap.pc, &mut code).len;
    let code = code.get(..read).unwrap_or_default();
    let width = usize::try_from(machine.word_bytes() * 2 + 2).unwrap_or(18);
    let registers = trap
        .named(machine)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), format!("{value:#0width$x}")))
        .collect();
    let bytes: Vec<String> = code.iter().map(|byte| format!("{byte:02x}")).collect();
    Fault {
        what: what(machine, &trap, code, stack),
        at: at.unwrap_or_else(|| trap.pc.to_string()),
        code: bytes.join(" "),
        registers,
        trap,
    }
}

/// How kernels introduce the address of a fault in their log.
const ADDRESS_LABELS: [&str; 3] = ["fault virtual address", "far:", "FAR="];

/// Takes from the log what some trap frames do not hold: the address (i386, arm, old arm64), and on arm
/// what the access was for.
fn complete(trap: &mut TrapFrame, log: &[String]) {
    let Cause::PageFault(access) = trap.cause else {
        return;
    };
    if trap.fault_address.is_some() {
        return;
    }
    let says = |words: &str| log.iter().any(|line| line.contains(words));
    let address = |line: &String| {
        let mut labels = ADDRESS_LABELS.iter();
        let rest = labels.find_map(|label| Some(line.split_once(label)?.1))?;
        let digits = rest.trim_start_matches([' ', '\t', '=']);
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        let end = digits.find(|c: char| !c.is_ascii_hexdigit());
        u64::from_str_radix(digits.get(..end.unwrap_or(digits.len()))?, 16).ok()
    };
    // The last trap in the log is that of the panic.
    trap.fault_address = log.iter().rev().find_map(address).map(VirtAddr);
    // One handler has both on arm.
    let aborts = ["prefetch abort", "data abort"];
    let is_either = trap.exception.as_deref() == Some("data or prefetch abort");
    if let Some(abort) = aborts.into_iter().find(|words| is_either && says(words)) {
        trap.exception = Some(abort.to_owned());
    }
    if trap.fault_address == Some(trap.pc) {
        trap.cause = Cause::PageFault(Access::Execute);
    } else if access == Access::Read && says("abort") && says("' on write") {
        trap.cause = Cause::PageFault(Access::Write);
    }
}

/// What was tried and refused.
fn what(
    machine: &Machine,
    trap: &TrapFrame,
    code: &[u8],
    stack: Option<(VirtAddr, u64)>,
) -> String {
    let is_jump = trap.cause == Cause::PageFault(Access::Execute);
    let base = (machine.base_register)(code).filter(|_| !is_jump);
    let base = base.and_then(|number| Some((number, trap.registers.get(number)?)));
    if let (Cause::PageFault(access), Some(address)) = (trap.cause, trap.fault_address) {
        let base = base.map(|(_, value)| value);
        let base = base.or_else(|| error_pointer(machine, trap, address.0, is_jump));
        let sort = sort_of_address(address.0, base, machine.arch, stack);
        return format!("kernel {} {:#x}{sort}", access.in_words(), address.0);
    }
    let name = match trap.cause {
        Cause::PageFault(_) => "page fault",
        Cause::ProtectionFault => "general protection fault",
        Cause::DoubleFault => "double fault: the kernel stack overflowed",
        Cause::MachineCheck => "machine check",
        Cause::Nmi => "non-maskable interrupt",
        Cause::Other => trap.exception.as_deref().unwrap_or("trap"),
    };
    let register = |number: usize| machine.names.get(number).copied().unwrap_or_default();
    let mut registers = trap.named(machine).into_iter();
    let freed = base
        .filter(|(_, value)| is_freed(*value))
        .map(|(number, _)| register(number))
        .or_else(|| Some(registers.find(|(_, value)| is_freed(*value))?.0));
    if let Some(register) = freed {
        return format!("{name} ({register} holds 0xdeadc0de: use after free)");
    }
    // With 48 or 57 bits, the others repeat the highest one.
    let is_canonical = |value: u64| matches!(value.cast_signed() >> 56, 0 | -1);
    match base {
        Some((number, value)) if trap.cause == Cause::ProtectionFault && !is_canonical(value) => {
            format!(
                "{name} ({} holds {value:#x}: not an address)",
                register(number)
            )
        }
        _ => name.to_owned(),
    }
}

/// A register that holds an error instead of a pointer, and less than a page below the address; only if
/// none is NULL.
fn error_pointer(machine: &Machine, trap: &TrapFrame, address: u64, is_jump: bool) -> Option<u64> {
    let special = [machine.pc, machine.sp, machine.fp];
    let general = || {
        let numbers = (0..machine.names.len()).filter(|number| !special.contains(number));
        numbers.filter_map(|number| trap.registers.get(number))
    };
    let is_near = |value: &u64| is_error(*value) && address.wrapping_sub(*value) < 4096;
    if is_jump || general().any(|value| value == 0) {
        return None;
    }
    general().find(is_near)
}

/// Whether a pointer is a small negative number.
const fn is_error(value: u64) -> bool {
    value > u64::MAX - 4096
}

/// Whether a word was read from freed memory, or from a member of a structure there.
const fn is_freed(value: u64) -> bool {
    let (low, high) = (value & 0xffff_ffff, value >> 32);
    let is_near = low & !0xfff == FREED & !0xfff;
    high == FREED || is_near && high == 0
}

/// What sort of address it is; `base` is the pointer that it was computed from, if that is known.
fn sort_of_address(
    address: u64,
    base: Option<u64>,
    arch: Arch,
    stack: Option<(VirtAddr, u64)>,
) -> String {
    let base = base.map(|base| match arch.word() {
        Width::W32 if base >> 31 & 1 == 1 => base | 0xffff_ffff << 32,
        _ => base,
    });
    let words = if let Some(base) = base.filter(|base| is_error(*base)) {
        let offset = address.wrapping_sub(base);
        format!("a pointer of {} + {offset:#x}", base.cast_signed())
    } else if address < NULL_REACH {
        format!("NULL + {address:#x}")
    } else if is_freed(address) {
        "freed memory is filled with 0xdeadc0de".to_owned()
    } else if stack
        .is_some_and(|(start, _)| address < start.0 && address >= start.0.saturating_sub(2 * 4096))
    {
        "just below the kernel stack: it overflowed".to_owned()
    } else if arch.word() == Width::W64 && address >> 63 == 0 {
        "not a kernel address".to_owned()
    } else {
        return String::new();
    };
    format!(" ({words})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_sorted() {
        let stack = Some((VirtAddr(0xffff_fe00_0010_0000), 16384));
        let sort = |address| sort_of_address(address, None, Arch::Amd64, stack);
        assert_eq!(sort(0x18), " (NULL + 0x18)");
        assert_eq!(
            sort(0xdead_c0de_dead_c0ee),
            " (freed memory is filled with 0xdeadc0de)"
        );
        assert_eq!(
            sort(0xffff_fe00_000f_fff8),
            " (just below the kernel stack: it overflowed)"
        );
        assert_eq!(sort(0x7fff_ffff_0000), " (not a kernel address)");
        assert_eq!(sort(0xffff_fe00_0010_0008), "");
        // -1 and 8, -2 and 8, on either width; a real pointer is none of them.
        let from = |address, base, arch| sort_of_address(address, Some(base), arch, None);
        assert_eq!(from(7, u64::MAX, Arch::Amd64), " (a pointer of -1 + 0x8)");
        assert_eq!(from(6, 0xffff_fffe, Arch::I386), " (a pointer of -2 + 0x8)");
        assert_eq!(from(7, 0, Arch::Amd64), " (NULL + 0x7)");
        assert_eq!(from(0x10, 8, Arch::Arm64), " (NULL + 0x10)");
    }

    fn trap(cause: Cause, pc: u64) -> TrapFrame {
        TrapFrame {
            address: VirtAddr(0),
            pc: VirtAddr(pc),
            user: false,
            number: None,
            error: None,
            exception: Some("abort".to_owned()),
            cause,
            fault_address: None,
            other: Vec::new(),
            registers: Default::default(),
        }
    }

    #[test]
    fn the_log_has_what_a_trap_frame_lacks() {
        let read = Cause::PageFault(Access::Read);
        let of = |cause, lines: &[&str]| {
            let mut trap = trap(cause, 0xdead_c0de);
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            complete(&mut trap, &lines);
            (trap.fault_address, trap.cause)
        };
        let at = |address| Some(VirtAddr(address));
        // i386, arm64 and arm.
        assert_eq!(
            of(read, &["fault virtual address\t= 0x18", "fault code"]),
            (at(0x18), read)
        );
        assert_eq!(
            of(read, &["Fatal data abort:", " far:   ffff0018"]),
            (at(0xffff_0018), read)
        );
        let write = Cause::PageFault(Access::Write);
        let abort = "Fatal kernel mode data abort: 'Translation Fault (L1)' on write";
        assert_eq!(
            of(read, &[abort, "FSR=00000805, FAR=0000001c, spsr=1"]),
            (at(0x1c), write)
        );
        let execute = Cause::PageFault(Access::Execute);
        assert_eq!(
            of(read, &["fault virtual address\t= 0xdeadc0de"]),
            (at(0xdead_c0de), execute)
        );
        assert_eq!(of(read, &["fault virtual address", "booted"]), (None, read));
        assert_eq!(of(Cause::Other, &[" far: 18"]), (None, Cause::Other));
    }

    #[test]
    fn an_operand_says_which_pointer_was_wrong() {
        let machine = Machine::of(Arch::Amd64);
        let of = |cause, address: Option<u64>, base: u64| {
            let mut trap = trap(cause, 0xffff_ffff_8000_0000);
            trap.fault_address = address.map(VirtAddr);
            trap.exception = Some("general protection fault".to_owned());
            for number in 0..16 {
                trap.registers.set(number, Some(0x1234));
            }
            trap.registers.set(3, Some(base));
            // mov 0x8(%rbx),%rax
            what(machine, &trap, &[0x48, 0x8b, 0x43, 0x08], None)
        };
        let read = Cause::PageFault(Access::Read);
        let minus_one = of(read, Some(7), u64::MAX);
        assert_eq!(minus_one, "kernel read of 0x7 (a pointer of -1 + 0x8)");
        assert_eq!(of(read, Some(8), 0), "kernel read of 0x8 (NULL + 0x8)");
        let freed = of(Cause::ProtectionFault, None, 0xdead_c0de_dead_c0de);
        assert_eq!(
            freed,
            "general protection fault (rbx holds 0xdeadc0de: use after free)"
        );
        assert_eq!(
            of(Cause::ProtectionFault, None, 0x4141_4141_4141_4141),
            "general protection fault (rbx holds 0x4141414141414141: not an address)"
        );
        let plain = of(Cause::ProtectionFault, None, 0xffff_f800_0000_1000);
        assert_eq!(plain, "general protection fault");
    }
}
