//! What crashed: decoded from the panic message and the trap frame.

use super::culprit::{base_name, culprit};
use super::share::{GONE, redacted};
use crate::arch::Machine;
use crate::stack::NamedFrame;
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

/// What kind of crash it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An access to memory that is not there, or not allowed.
    PageFault,
    /// The processor refused an instruction or an address.
    ProtectionFault,
    /// A fault while a fault was handled: usually a stack overflow.
    DoubleFault,
    /// Broken hardware.
    MachineCheck,
    /// A non-maskable interrupt.
    Nmi,
    /// Another exception.
    Trap,
    /// A check that failed.
    Assertion,
    /// A lock that was misused.
    Lock,
    /// Something waited for too long.
    Hung,
    /// Memory that was freed and then used, or freed twice.
    UseAfterFree,
    /// No memory.
    OutOfMemory,
    /// Somebody asked for it.
    Forced,
    /// Another panic.
    Panic,
    /// No panic is known of.
    Unknown,
}

/// What crashed.
#[derive(Clone, Debug, Serialize)]
pub struct Crash {
    /// What kind.
    pub kind: Kind,
    /// In one line, text.
    pub summary: String,
    /// The panic message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The message with numbers, addresses and quoted names replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The function at fault, its file and line: `flow_lookup, netinet/flow.c:212`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The trap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The thread that the panic is about, if it is another.
    #[serde(skip)]
    pub about_thread: Option<VirtAddr>,
    /// The same by its id.
    #[serde(skip)]
    pub about_tid: Option<i32>,
}

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

/// Decodes what crashed. `host` is the name of the machine, `stack` the kernel stack of the thread,
/// as far as they are known.
#[must_use]
pub fn decode(
    target: &Target<'_>,
    message: Option<&str>,
    host: Option<&str>,
    frames: &[NamedFrame],
    stack: Option<(VirtAddr, u64)>,
) -> Crash {
    let culprit = culprit(target.machine(), frames);
    let before = culprit.and_then(|at| frames.get(at.checked_sub(1)?));
    let trap = before.and_then(|frame| frame.frame.trap.as_ref());
    let trap = trap.filter(|trap| !trap.user);
    let at_fault = culprit.and_then(|at| frames.get(at));
    let place = at_fault.map(place_of);
    let by_message = message.map_or(Kind::Unknown, kind_of_message);
    let fault = trap.map(|trap| fault(target, trap, at_fault, stack));
    let kind = match (trap, by_message) {
        (Some(trap), Kind::Panic | Kind::Unknown | Kind::PageFault) => kind_of_trap(trap),
        (_, by_message) => by_message,
    };
    let first_line = message.and_then(|message| message.lines().next());
    let summary = match (&fault, first_line) {
        (Some(fault), Some(message)) if kind != Kind::Forced => {
            format!("{message}: {}", fault.what)
        }
        (Some(fault), None) => fault.what.clone(),
        (_, Some(message)) => message.to_owned(),
        (None, None) => "no panic: the dump was asked for, or the message is lost".to_owned(),
    };
    let about = message.filter(|_| kind == Kind::Hung);
    Crash {
        kind,
        summary,
        message: message.map(str::to_owned),
        template: message.map(|message| template(&redacted(message, host))),
        place,
        fault,
        about_thread: about.and_then(pointer_in).map(VirtAddr),
        about_tid: about.and_then(|message| number_after(message, "tid ")),
    }
}

/// The function of a frame, with its file and line.
fn place_of(frame: &NamedFrame) -> String {
    let function = frame.frame.name.as_deref().map_or("?", base_name);
    let line = frame.places.first().and_then(|place| {
        let file = place.file.as_deref()?;
        Some(match place.line {
            Some(line) => format!(", {file}:{line}"),
            None => format!(", {file}"),
        })
    });
    format!("{function}{}", line.unwrap_or_default())
}

fn kind_of_message(message: &str) -> Kind {
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&[
        "possible deadlock",
        "held too long",
        "watchdog",
        "blocked for",
        "spin lock",
    ]) {
        Kind::Hung
    } else if has(&[
        "odified after free",
        "uplicate free",
        "use after free",
        "double free",
    ]) {
        Kind::UseAfterFree
    } else if has(&["page fault"]) {
        Kind::PageFault
    } else if has(&["double fault"]) {
        Kind::DoubleFault
    } else if has(&["general protection"]) {
        Kind::ProtectionFault
    } else if has(&["machine check", "MCA", "unrecoverable memory"]) {
        Kind::MachineCheck
    } else if has(&["NMI"]) {
        Kind::Nmi
    } else if has(&["kdb_sysctl_panic", "from debugger", "by request"]) {
        Kind::Forced
    } else if has(&["Assertion ", "not owned at", "KASSERT"]) {
        Kind::Assertion
    } else if has(&[
        "_lock",
        "recurse",
        "mutex",
        "lock order",
        "Lock ",
        "lockmgr",
    ]) {
        Kind::Lock
    } else if has(&["out of memory", "kmem_", "out of swap", "no memory"]) {
        Kind::OutOfMemory
    } else {
        Kind::Panic
    }
}

const fn kind_of_trap(trap: &TrapFrame) -> Kind {
    match trap.cause {
        Cause::PageFault(_) => Kind::PageFault,
        Cause::ProtectionFault => Kind::ProtectionFault,
        Cause::DoubleFault => Kind::DoubleFault,
        Cause::MachineCheck => Kind::MachineCheck,
        Cause::Nmi => Kind::Nmi,
        Cause::Other => Kind::Trap,
    }
}

fn fault(
    target: &Target<'_>,
    trap: &TrapFrame,
    frame: Option<&NamedFrame>,
    stack: Option<(VirtAddr, u64)>,
) -> Fault {
    let machine = target.machine();
    let mut code = [0; CODE_BYTES];
    let read = target.space().read(trap.pc, &mut code).len;
    let code: Vec<String> = code
        .iter()
        .take(read)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let width = usize::try_from(machine.word_bytes() * 2 + 2).unwrap_or(18);
    let registers = trap
        .named(machine)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), format!("{value:#0width$x}")))
        .collect();
    let name = frame.and_then(|frame| frame.frame.name.clone());
    Fault {
        what: what(machine, trap, stack),
        at: name.unwrap_or_else(|| trap.pc.to_string()),
        code: code.join(" "),
        registers,
        trap: trap.clone(),
    }
}

/// What was tried and refused.
fn what(machine: &Machine, trap: &TrapFrame, stack: Option<(VirtAddr, u64)>) -> String {
    if let (Cause::PageFault(access), Some(address)) = (trap.cause, trap.fault_address) {
        let access = match access {
            Access::Read => "read of",
            Access::Write => "write to",
            Access::Execute => "jump to",
        };
        let sort = sort_of_address(address.0, machine.arch, stack);
        return format!("kernel {access} {:#x}{sort}", address.0);
    }
    let name = match trap.cause {
        Cause::PageFault(_) => "page fault".to_owned(),
        Cause::ProtectionFault => "general protection fault".to_owned(),
        Cause::DoubleFault => "double fault: the kernel stack overflowed".to_owned(),
        Cause::MachineCheck => "machine check".to_owned(),
        Cause::Nmi => "non-maskable interrupt".to_owned(),
        Cause::Other => format!("trap {:#x}", trap.number.unwrap_or(0)),
    };
    let freed = trap
        .named(machine)
        .into_iter()
        .find(|(_, value)| is_freed(*value));
    match freed {
        Some((register, _)) => format!("{name} ({register} holds 0xdeadc0de: use after free)"),
        None => name,
    }
}

/// Whether a word was read from freed memory, or from a member of a structure there.
const fn is_freed(value: u64) -> bool {
    let (low, high) = (value & 0xffff_ffff, value >> 32);
    let is_near = low & !0xfff == FREED & !0xfff;
    high == FREED || is_near && high == 0
}

fn sort_of_address(address: u64, arch: Arch, stack: Option<(VirtAddr, u64)>) -> String {
    let words = if address < NULL_REACH {
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

/// A message without what differs between equal crashes.
///
/// What [`Report::share`](super::Report::share) leaves out counts as a number: a signature is the
/// same in a report that is shared, and the template that is its input needs no cleaning.
fn template(message: &str) -> String {
    let mut text = String::new();
    let message = message.replace(GONE, "0");
    let mut rest = message.as_str();
    while let Some(c) = rest.chars().next() {
        let after_word = text
            .chars()
            .last()
            .is_some_and(|c| c.is_alphanumeric() || c == '_');
        if c.is_ascii_digit() && !after_word {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric())
                .unwrap_or(rest.len());
            text.push('N');
            rest = rest.get(end..).unwrap_or_default();
        } else if c == '"' || c == '\u{60}' {
            let close = if c == '"' { '"' } else { '\'' };
            let inside = rest.get(1..).unwrap_or_default();
            match inside.find(close) {
                Some(end) => {
                    text += "\"…\"";
                    rest = inside.get(end + 1..).unwrap_or_default();
                }
                None => {
                    text.push(c);
                    rest = inside;
                }
            }
        } else {
            text.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    text
}

/// The first address in a message.
fn pointer_in(message: &str) -> Option<u64> {
    let (_, rest) = message.split_once("0x")?;
    let end = rest
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(rest.len());
    u64::from_str_radix(rest.get(..end)?, 16).ok()
}

fn number_after(message: &str, words: &str) -> Option<i32> {
    let (_, rest) = message.split_once(words)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_crashes_have_equal_templates() {
        assert_eq!(
            template("mutex \"flow 7\" not owned at /usr/src/sys/a.c:212"),
            "mutex \"…\" not owned at /usr/src/sys/a.c:N"
        );
        assert_eq!(
            template("vm_fault at 0xfffff80 in if_em0"),
            "vm_fault at N in if_em0"
        );
        assert_eq!(template("open \"quote é"), "open \"quote é");
    }

    #[test]
    fn messages_tell_their_kind() {
        assert_eq!(
            kind_of_message("spin lock 0xff (sched) held by 0xfe (tid 100123) too long"),
            Kind::Hung
        );
        assert_eq!(
            kind_of_message("Memory modified after free 0xff"),
            Kind::UseAfterFree
        );
        assert_eq!(
            kind_of_message("Assertion a == b failed at c.c:3"),
            Kind::Assertion
        );
        assert_eq!(kind_of_message("kdb_sysctl_panic"), Kind::Forced);
        assert_eq!(kind_of_message("ffs_valloc: dup alloc"), Kind::Panic);
        assert_eq!(
            number_after("held by 0xfe (tid 100123) too long", "tid "),
            Some(100_123)
        );
        assert_eq!(
            pointer_in("deadlock detected for 0xfffff8, blocked"),
            Some(0xff_fff8)
        );
    }

    #[test]
    fn addresses_are_sorted() {
        let stack = Some((VirtAddr(0xffff_fe00_0010_0000), 16384));
        let sort = |address| sort_of_address(address, Arch::Amd64, stack);
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
    }
}
