//! What crashed: decoded from the panic message and the trap frame.

use super::ThreadReport;
use super::culprit::{Culprit, base_name, enters_debugger};
use super::fault::{self, Fault};
use super::functions::Role;
use super::kind::{CrashKind, is_asked_for, is_request};
use super::template::{GONE, redacted};
use crate::reason::own_place;
use crate::stack::NamedFrame;
use crate::target::Target;
use crate::unwind::{Cause, Doubt, TrapFrame};
use serde::Serialize;
use vmcore_format::addr::VirtAddr;

/// What crashed.
#[derive(Clone, Debug, Serialize)]
pub struct Crash {
    /// What kind.
    pub kind: CrashKind,
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
    /// The thread that noticed, if the panic is about another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noticed_by: Option<i32>,
    /// The processor jumped to what is not code. How it refused depends on where.
    #[serde(skip)]
    pub is_wild_jump: bool,
    /// What the panic is about, if it is another thread.
    #[serde(skip)]
    pub about: About,
}

/// The thread and the lock that a panic is about, as far as its words tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Address of its `struct thread`.
    pub thread: Option<VirtAddr>,
    /// Its id.
    pub tid: Option<i32>,
    /// The address of the lock.
    pub lock: Option<VirtAddr>,
    /// The lock's name.
    pub lock_name: Option<String>,
}

/// What is known of a crash before it is decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence<'a> {
    /// The panic message.
    pub message: Option<&'a str>,
    /// The name of the machine.
    pub host: Option<&'a str>,
    /// The stack that ended in the dump.
    pub frames: &'a [NamedFrame],
    /// The frame of it that is at fault.
    pub culprit: Option<Culprit>,
    /// The thread's kernel stack: first byte and length in bytes.
    pub stack: Option<(VirtAddr, u64)>,
    /// The lines of the log around the trap.
    pub log: &'a [String],
}

impl<'a> Evidence<'a> {
    /// The log's words of a trap that stopped the kernel without a panic.
    fn lost_trap(&self) -> Option<&'a str> {
        let ended_by = self.culprit.and_then(|found| found.ended_by);
        let is_trap = ended_by == Some(Role::Fatal) && self.message.is_none();
        let mut lines = self.log.iter().rev().map(String::as_str);
        lines.find(|line| is_trap && line.starts_with("Fatal "))
    }
}

/// The template of every jump to what is not code: where it went differs.
const WILD_JUMP: &str = "jump to what is not code";

/// Decodes what crashed: from trap frame and stack first, from words second.
pub(super) fn decode(target: &Target<'_>, known: &Evidence<'_>) -> Crash {
    let frame = |at: usize| known.frames.get(at);
    let at_fault = known.culprit.and_then(|found| frame(found.at));
    let is_asked = function_of(at_fault).is_some_and(is_asked_for);
    let trapped = known.culprit.filter(|_| !is_asked).and_then(|found| {
        let trap = frame(found.trap?)?.frame.trap.as_ref()?;
        Some((trap, frame(found.hidden)?))
    });
    let is_wild =
        trapped.is_some_and(|(_, interrupted)| interrupted.frame.doubt == Some(Doubt::NotCode));
    let fault = trapped.map(|(trap, interrupted)| {
        let at = interrupted.frame.name.clone();
        fault::decode(target, trap, at, known.stack, known.log)
    });
    let kind = match trapped {
        Some((trap, _)) => kind_of_trap(trap, known.message),
        None => kind_of_stack(known, at_fault),
    };
    // A panic that was asked for after a trap says nothing of the trap. The debugger may have been entered
    // before a panic, by a trap whose frame is lost: then the log has the words.
    let message = known.message;
    let own = message.filter(|message| trapped.is_none() || !is_request(message));
    let own = own.or_else(|| known.lost_trap().filter(|_| trapped.is_none()));
    let exception = trapped.and_then(|(trap, _)| trap.exception.clone());
    let template = match own {
        _ if is_wild => Some(WILD_JUMP.to_owned()),
        Some(message) => Some(template(&redacted(message, known.host))),
        None => exception.clone(),
    };
    let first_line = own.and_then(|message| message.lines().next());
    let summary = match (&fault, first_line) {
        (Some(fault), Some(message)) => joined(message, &fault.what),
        (Some(fault), None) => joined(exception.as_deref().unwrap_or("trap"), &fault.what),
        (None, Some(message)) => message.to_owned(),
        (None, None) => why_no_panic(known).to_owned(),
    };
    let is_about_another = matches!(kind, CrashKind::Hung | CrashKind::Lock);
    Crash {
        kind,
        summary,
        message: message.map(str::to_owned),
        template,
        place: at_fault.map(|frame| place_of(frame, known.culprit)),
        fault,
        noticed_by: None,
        is_wild_jump: is_wild,
        about: match is_about_another {
            true => About::of(message.unwrap_or_default(), known.log),
            false => About::default(),
        },
    }
}

/// What happened before what was tried; once, where both say the same.
fn joined(message: &str, what: &str) -> String {
    if message.contains(what) {
        message.to_owned()
    } else if what.starts_with(message) {
        what.to_owned()
    } else {
        format!("{message}: {what}")
    }
}

fn kind_of_trap(trap: &TrapFrame, message: Option<&str>) -> CrashKind {
    match (trap.cause, message.map(CrashKind::of_message)) {
        (Cause::PageFault(_), _) => CrashKind::PageFault,
        (Cause::ProtectionFault, _) => CrashKind::ProtectionFault,
        (Cause::DoubleFault, _) => CrashKind::DoubleFault,
        (Cause::MachineCheck, _) => CrashKind::MachineCheck,
        (Cause::Nmi, _) => CrashKind::Nmi,
        // The trap frames of some architectures do not say what happened; their kernels' messages do.
        (
            Cause::Other,
            Some(kind @ (CrashKind::PageFault | CrashKind::DoubleFault | CrashKind::MachineCheck)),
        ) => kind,
        (Cause::Other, _) => CrashKind::Trap,
    }
}

/// By the functions that ended the kernel; by the message where they only say that it panicked.
fn kind_of_stack(known: &Evidence<'_>, at_fault: Option<&NamedFrame>) -> CrashKind {
    let ended_by = known.culprit.and_then(|found| found.ended_by);
    let is_asked = function_of(at_fault).is_some_and(is_asked_for);
    match (ended_by, known.message.or_else(|| known.lost_trap())) {
        (Some(Role::Watchdog), _) => CrashKind::Hung,
        (Some(_), _) if is_asked => CrashKind::Forced,
        (_, Some(message)) => CrashKind::of_message(message),
        (Some(Role::Panic), None) => CrashKind::Panic,
        (Some(_), None) => CrashKind::Forced,
        (None, None) => CrashKind::Unknown,
    }
}

/// What the stack says, where there is neither a trap nor a message.
fn why_no_panic(known: &Evidence<'_>) -> &'static str {
    match known.culprit.and_then(|found| found.ended_by) {
        Some(Role::Watchdog) => "watchdog timeout",
        Some(Role::Panic) => "panic, whose message is lost",
        Some(Role::Debugger | Role::Fatal) => "no panic: the dump was requested in the debugger",
        Some(Role::Dump) => "no panic: the dump was requested",
        _ => "no panic: the dump was asked for, or the message is lost",
    }
}

impl Crash {
    /// The thread that noticed is not the one at fault: this one is.
    pub(super) fn is_about(
        &mut self,
        thread: &ThreadReport,
        culprit: Option<Culprit>,
        noticed_by: Option<i32>,
    ) {
        let doing = match (&thread.wait, thread.cpu) {
            (Some(wait), _) if wait.starts_with('*') => format!("blocked on {wait}"),
            (Some(wait), _) if !wait.is_empty() => format!("asleep on {wait}"),
            (_, Some(cpu)) => format!("on CPU {cpu}"),
            _ => "not running".to_owned(),
        };
        let lock = self.about.lock_name.as_deref();
        let holds = lock.map_or_else(String::new, |lock| format!("{lock} held by "));
        let (tid, name) = (thread.tid, &thread.name);
        self.summary += &format!(": {holds}thread {tid} ({name}), {doing}");
        let frame = culprit.and_then(|found| thread.stack.frames.get(found.at));
        self.place = frame.map(|frame| place_of(frame, culprit));
        self.noticed_by = noticed_by;
    }
}

impl About {
    /// From the message, or from the line that the kernel printed before it.
    pub(crate) fn of(message: &str, log: &[String]) -> Self {
        let lines = log.iter().rev().map(String::as_str);
        let tells = ["Sleeping thread", " held by ", "possible deadlock"];
        let lines = lines.filter(|line| tells.iter().any(|words| line.contains(words)));
        let told = std::iter::once(message).chain(lines).find_map(|line| {
            let tid = number_after(line, "(tid ");
            let is_one = tid.is_some() || line.contains("possible deadlock");
            is_one.then_some((line, tid))
        });
        let Some((line, tid)) = told else {
            return Self::default();
        };
        // `spin lock 0x… (name) held by 0x… (tid N) too long`: the lock comes first.
        let (lock, owner) = line
            .split_once(" held by ")
            .map_or((None, line), |(lock, owner)| (Some(lock), owner));
        let in_parentheses = |words: &str| {
            let (_, rest) = words.split_once('(')?;
            Some(rest.rsplit_once(')')?.0.to_owned())
        };
        Self {
            thread: pointer_in(owner).map(VirtAddr),
            tid,
            lock: lock.and_then(pointer_in).map(VirtAddr),
            lock_name: lock.and_then(in_parentheses),
        }
    }
}

fn function_of(frame: Option<&NamedFrame>) -> Option<&str> {
    frame?.frame.name.as_deref().map(base_name)
}

/// The function of a frame, with its file and line.
pub(super) fn place_of(frame: &NamedFrame, culprit: Option<Culprit>) -> String {
    let is_user = culprit.is_some_and(|found| found.trap.is_none()) && frame.is_user();
    // The line is that of the innermost function, which may be an inlined one.
    let inner = own_place(frame).filter(|place| !enters_debugger(place));
    let mut others = frame.places.iter().filter(|place| !enters_debugger(place));
    let inner = inner.or_else(|| others.next());
    let inlined = inner.filter(|place| place.inlined);
    let name = inlined.map(|place| place.function.as_str());
    let function = match name.or(frame.frame.name.as_deref()) {
        Some(name) => base_name(name).to_owned(),
        None if is_user => "user mode".to_owned(),
        None => frame.frame.pc.to_string(),
    };
    let line = inner.and_then(|place| {
        let file = place.file.as_deref()?;
        Some(match place.line {
            Some(line) => format!(", {file}:{line}"),
            None => format!(", {file}"),
        })
    });
    format!("{function}{}", line.unwrap_or_default())
}

/// A message without what differs between equal crashes.
///
/// What [`Share`](super::Share) leaves out counts as a number: a signature is the
/// same in a report that is shared, and the template that is its input needs no cleaning.
pub(super) fn template(message: &str) -> String {
    let mut text = String::new();
    let message = message.replace(GONE, "0");
    let mut rest = message.as_str();
    while let Some(c) = rest.chars().next() {
        let after_word = text
            .chars()
            .last()
            .is_some_and(|c| c.is_alphanumeric() || c == '_');
        // The word that begins here, if one does: a long one is looked at once.
        let word = match after_word {
            true => "",
            false => rest
                .split(|c: char| !c.is_ascii_alphanumeric())
                .next()
                .unwrap_or_default(),
        };
        // Some messages have addresses without a prefix.
        let is_hex = word.len() >= 8 && word.chars().all(|c| c.is_ascii_hexdigit());
        if is_hex || word.starts_with(|c: char| c.is_ascii_digit()) {
            text.push('N');
            rest = rest.get(word.len()..).unwrap_or_default();
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
        assert_eq!(
            template("vm_fault failed: ffff0000004b6e78 error 1 deadlock"),
            "vm_fault failed: N error N deadlock"
        );
    }

    #[test]
    fn words_tell_which_thread_and_lock_a_panic_is_about() {
        let line = "spin lock 0xffff80 (sched (0)) held by 0xfffffe (tid 100123) too long";
        let expected = About {
            thread: Some(VirtAddr(0xff_fffe)),
            tid: Some(100_123),
            lock: Some(VirtAddr(0xff_ff80)),
            lock_name: Some("sched (0)".to_owned()),
        };
        assert_eq!(About::of(line, &[]), expected);
        let log = [
            "older".to_owned(),
            line.to_owned(),
            "panic: spin lock".to_owned(),
        ];
        assert_eq!(About::of("spin lock held too long", &log), expected);
        let log = ["Sleeping thread (tid 100077, pid 77) owns a non-sleepable lock".to_owned()];
        assert_eq!(
            About::of("sleeping thread holds x", &log).tid,
            Some(100_077)
        );
        let message =
            "deadlres_td_on_lock: possible deadlock detected for 0xfffff8 (x), blocked for 9 ticks";
        assert_eq!(About::of(message, &[]).thread, Some(VirtAddr(0xff_fff8)));
        assert_eq!(About::of("mutex a not owned", &[]), About::default());
    }

    #[test]
    fn a_headline_says_a_thing_once() {
        for (message, what, expected) in [
            (
                "page fault",
                "kernel read of 0x18",
                "page fault: kernel read of 0x18",
            ),
            (
                "general protection fault",
                "general protection fault",
                "general protection fault",
            ),
            (
                "double fault",
                "double fault: overflow",
                "double fault: overflow",
            ),
            (
                "Unrecoverable machine check exception",
                "machine check",
                "Unrecoverable machine check exception",
            ),
        ] {
            assert_eq!(joined(message, what), expected);
        }
    }
}
