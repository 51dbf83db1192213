//! Why a thread crashed: which variable was bad, what is wrong with it, where; each with its evidence.
//!
//! A finding is what the dump proves, not a guess: where the way from a register back to a variable is
//! not certain, it says `likely`, and where nothing is known, nothing is said. Each kind of finding looks
//! at the crash in a file of its own; the first that knows something answers.
//!
//! ```no_run
//! use vmcore_debug::{Target, reason};
//! # fn show(target: &Target<'_>, thread: &vmcore::process::Thread)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let threads = target.processes()?;
//! if let Some(reason) = reason::of(target, &threads, thread) {
//!     println!("{}", reason.headline);
//! }
//! # Ok(())
//! # }
//! ```

mod access;
mod assertion;
mod division;
mod freed;
mod hardware;
mod held;
mod interrupt;
mod item;
mod jump;
mod lists;
mod locks;
mod origin;
mod overflow;
mod refcount;
mod rust;
mod value;

use crate::lines::SourcePlace;
use crate::locks::Locks;
use crate::report::functions::is_of_library;
use crate::report::{Culprit, base_name, culprit, log_around_the_trap};
use crate::stack::NamedFrame;
use crate::target::Target;
use crate::unwind::TrapFrame;
use serde::Serialize;
pub use value::BadValue;
use vmcore::process::{ProcessList, Thread};

/// Why a thread crashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What kind of mistake it is.
    pub kind: ReasonKind,
    /// In one sentence.
    pub headline: String,
    /// What is wrong with the pointer, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad: Option<BadValue>,
    /// What is bad, in the source: `ifp`, `so->so_proto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// The member that was accessed: `if_vnet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// How sure the variable is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certainty: Option<Certainty>,
    /// The function of the source in which it happened, an inlined one too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The module of that function; nothing for the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// How it is known, a line each.
    pub evidence: Vec<String>,
}

/// Kinds of mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReasonKind {
    /// A pointer that is NULL.
    NullPointer,
    /// A pointer that was read from freed memory.
    UseAfterFree,
    /// Another pointer that leads nowhere.
    BadPointer,
    /// A call of what is not code.
    WildJump,
    /// A kernel stack that was too small.
    StackOverflow,
    /// A division by zero.
    DivideByZero,
    /// An item that was freed twice.
    DoubleFree,
    /// Memory that was written after it was freed.
    WriteAfterFree,
    /// A list whose links do not agree.
    ListCorruption,
    /// A count of references that went wrong.
    Refcount,
    /// Threads that wait for each other.
    Deadlock,
    /// A spin lock that was held for too long.
    SpinLockHeld,
    /// A thread that sleeps with a lock that does not allow it.
    SleepWithLock,
    /// Another mistake with a lock.
    Lock,
    /// A check of the kernel that failed.
    Assertion,
    /// Hardware that reported an error.
    Hardware,
    /// A watchdog that expired.
    Watchdog,
    /// Another interrupt that cannot be masked.
    Nmi,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The instructions before it lead there, if none of them was jumped over.
    Likely,
    /// The debug information says so.
    Sure,
}

/// What findings look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'c, 'a> {
    pub(crate) target: &'c Target<'a>,
    pub(crate) list: &'c ProcessList,
    pub(crate) thread: &'c Thread,
    /// Its stack.
    pub(crate) frames: &'c [NamedFrame],
    /// The frame at fault.
    pub(crate) culprit: Culprit,
    /// The panic message; nothing for a thread that did not panic.
    pub(crate) message: Option<&'c str>,
    /// The lines of the log before it.
    pub(crate) log: &'c [String],
    /// The locks that threads wait for, if they were looked up before.
    pub(crate) locks: Option<&'c Locks>,
}

/// Each kind of finding. What the processor refused comes before the words of a panic about it.
const FINDINGS: [fn(&Scene<'_, '_>) -> Option<Reason>; 12] = [
    overflow::find,
    jump::find,
    access::find,
    division::find,
    hardware::find,
    interrupt::find,
    locks::find,
    lists::find,
    freed::find,
    refcount::find,
    assertion::find,
    rust::find,
];

/// The reason for the crash of a thread; `None` if nothing is known of it.
#[must_use]
pub fn of(target: &Target<'_>, list: &ProcessList, thread: &Thread) -> Option<Reason> {
    let frames = target.stack(thread).frames;
    let message = target.panic_message().filter(|_| thread.crashed);
    find(&Scene {
        target,
        list,
        thread,
        frames: &frames,
        culprit: culprit(&frames)?,
        log: &log_around_the_trap(target),
        message: message.as_deref(),
        locks: None,
    })
}

/// The first finding that knows something.
pub(crate) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    FINDINGS.iter().find_map(|find| find(scene))
}

impl Scene<'_, '_> {
    /// The frame at fault.
    fn frame(&self) -> Option<&NamedFrame> {
        self.frames.get(self.culprit.at)
    }

    /// The trap frame of what the processor refused.
    fn trap(&self) -> Option<&TrapFrame> {
        self.frames.get(self.culprit.trap?)?.frame.trap.as_ref()
    }

    /// The same, if no other frame is between it and the frame at fault.
    fn trap_at_fault(&self) -> Option<&TrapFrame> {
        let trap = self.trap()?;
        (trap.pc == self.frame()?.frame.pc).then_some(trap)
    }

    /// The name of the thread with such an id.
    fn name_of(&self, tid: i32) -> String {
        let name = self.list.processes.iter().find_map(|process| {
            let thread = process.threads.iter().find(|one| one.tid == tid)?;
            Some(process.thread_name(thread))
        });
        String::from_utf8_lossy(&name.unwrap_or_default()).into_owned()
    }

    /// A thread by its id and its name: `thread 100018 (fsync)`.
    fn words_of_thread(&self, tid: i32) -> String {
        format!("thread {tid} ({})", self.name_of(tid))
    }

    /// A reason in a frame: its function and its module are those of the frame.
    fn reason(&self, kind: ReasonKind, at: usize, headline: String) -> Reason {
        let frame = self.frames.get(at);
        let function = frame.and_then(source_function);
        let module = frame
            .and_then(|frame| self.target.loaded(frame.frame.pc)?.module)
            .map(|module| module.module.name.clone());
        Reason {
            kind,
            headline,
            bad: None,
            variable: None,
            member: None,
            certainty: None,
            evidence: match (&module, function) {
                (Some(module), Some(function)) => vec![format!("{function} is in {module}")],
                _ => Vec::new(),
            },
            function: function.map(|name| base_name(name).to_owned()),
            module,
        }
    }
}

/// The function of the source that a frame is in, an inlined one too.
pub(crate) fn source_function(frame: &NamedFrame) -> Option<&str> {
    let name = own_place(frame).map(|place| place.function.as_str());
    name.or_else(|| frame.function())
}

/// The innermost place of a frame that is not in Rust's own libraries, which are not to blame.
pub(crate) fn own_place(frame: &NamedFrame) -> Option<&SourcePlace> {
    let mut places = frame.places.iter();
    let own = places.find(|place| !is_of_library(&place.function));
    own.or_else(|| frame.places.first())
}

/// The function and the line of a frame, the innermost inlined one: ` in f, a.c:1`.
fn place_of(frame: Option<&NamedFrame>) -> String {
    let Some(frame) = frame else {
        return String::new();
    };
    let Some(place) = own_place(frame) else {
        let name = frame.function();
        return name.map_or_else(String::new, |name| format!(" in {name}"));
    };
    format!(" in {}", words_of_place(place))
}

/// A function and its line.
fn words_of_place(place: &SourcePlace) -> String {
    match (&place.file, place.line) {
        (Some(file), Some(line)) => format!("{}, {file}:{line}", place.function),
        _ => place.function.clone(),
    }
}

/// Who called a function that is at a level of a frame: an inlined one was called by the next at the same
/// address.
fn caller_of(frames: &[NamedFrame], at: usize, level: usize) -> Option<String> {
    let inlined_into = frames.get(at)?.places.get(level + 1);
    let caller = match inlined_into {
        Some(caller) => caller,
        None => frames.get(at + 1)?.places.first()?,
    };
    Some(words_of_place(caller))
}

/// The first number after some words of a message, in hexadecimal, as `%p` prints it.
fn address_after(message: &str, words: &str) -> Option<u64> {
    let (_, rest) = message.split_once(words)?;
    let rest = rest.trim_start();
    let digits = rest.strip_prefix("0x").unwrap_or(rest);
    let end = digits.find(|c: char| !c.is_ascii_hexdigit());
    u64::from_str_radix(digits.get(..end.unwrap_or(digits.len()))?, 16).ok()
}

/// Names in a sentence: `a, b and c`.
fn joined<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [rest @ .., last] => {
            let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", rest.join(", "), last.as_ref())
        }
    }
}
