//! One report: what crashed, where, and what else the machine did.
//!
//! The report is a value: it prints itself as text of the form that people paste into bug reports,
//! and serialises. [`Share`] is the part of it that may leave the house.
//!
//! ```no_run
//! use vmcore_debug::{Target, report};
//! # fn show(target: &Target<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! let list = vmcore::process::list(target.session())?;
//! let report = report::of(target, &list)?;
//! println!("{} {}", report.signature.text, report.crash.summary);
//! # Ok(())
//! # }
//! ```

pub mod crash;
mod culprit;
pub mod fault;
pub(crate) mod functions;
pub mod kind;
mod log;
mod missing;
mod paths;
pub mod recursion;
mod share;
pub mod signature;
mod template;
pub mod text;
mod words;

use crate::details::{Details, ThreadDetails};
use crate::groups::{self, Group, Member};
use crate::locks::{self, Lock, Locks, Spinning};
use crate::modules::{Identity, Status};
use crate::reason::{self, Reason, Scene};
use crate::show::Options;
use crate::stack::{NamedFrame, Stack};
use crate::target::Target;
use crate::unwind::{Cause, Frame};
use crate::usage::{self, Usage};
use crate::variables::ShownVariable;
pub(crate) use culprit::{Culprit, base_name, culprit};
pub(crate) use log::around_the_trap as log_around_the_trap;
pub use missing::alike_once;

use crash::{Crash, Evidence};
use functions::{Role, role};
use kind::CrashKind;
use serde::Serialize;
pub use share::Share;
use signature::Signature;
use std::collections::HashMap;
use vmcore::info::{self, Info};
use vmcore::memory::PageReadError;
use vmcore::process::{Process, ProcessList, Thread};

/// Groups of threads whose stack is in the report.
const GROUPS: usize = 100;
/// Zones and types of memory that are in the report.
const LARGEST: usize = 20;

/// The report of a dump.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The dump and the system.
    pub info: Info,
    /// CPUs of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_count: Option<i32>,
    /// What crashed.
    pub crash: Crash,
    /// What equal crashes have in common.
    pub signature: Signature,
    /// Why, as far as the instruction that was refused tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The thread that panicked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadReport>,
    /// The threads on the other CPUs.
    pub cpus: Vec<CpuReport>,
    /// The lines of the log around the trap.
    pub log: Vec<String>,
    /// All threads.
    pub threads: Threads,
    /// Who waits for whom.
    pub locks: Locks,
    /// Who has the kernel's memory: the largest zones and types.
    pub memory: Usage,
    /// The modules.
    pub modules: Vec<ModuleReport>,
    /// The directory of all source files of the stack; the text leaves it out of their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_root: Option<String>,
    /// What is not there, text.
    pub missing: Vec<String>,
    /// What was left out of a report that is to be shared, text; empty for a whole one.
    pub left_out: Vec<String>,
    /// What to type next: commands of vmcore, without files.
    pub next: Vec<String>,
}

/// A thread with its stack.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadReport {
    /// Its process.
    pub pid: i32,
    /// It.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// The CPU it ran on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// What it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
    /// Frames in front that only belong to the panic and the dump.
    pub hidden_frames: usize,
    /// Its stack.
    #[serde(flatten)]
    pub stack: Stack,
    /// The arguments of the functions of each frame that is not hidden; not in a share.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<Vec<Vec<ShownVariable>>>,
}

/// What a CPU did.
#[derive(Clone, Debug, Serialize)]
pub struct CpuReport {
    /// The CPU.
    pub cpu: u32,
    /// The thread on it.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// What it did: `idle`, `spinning`, `running`, `user` (user code), `unknown`.
    pub state: &'static str,
    /// The function that was interrupted, `name+0x10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The lock that it spins on, if a register of its stack leads to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
}

/// All threads, in numbers, and the stacks that most of them have.
#[derive(Clone, Debug, Serialize)]
pub struct Threads {
    /// Threads.
    pub threads: usize,
    /// Processes.
    pub processes: usize,
    /// Different stacks.
    pub stacks: usize,
    /// The largest groups of threads with one stack.
    pub groups: Vec<GroupReport>,
}

/// Threads with the same stack.
#[derive(Clone, Debug, Serialize)]
pub struct GroupReport {
    /// The threads and what they wait for.
    #[serde(flatten)]
    pub group: Group,
    /// The name of the first.
    pub name: String,
    /// Functions, the innermost first.
    pub functions: Vec<String>,
}

/// A module.
#[derive(Clone, Debug, Serialize)]
pub struct ModuleReport {
    /// Its name.
    pub name: String,
    /// What was found of its file: `found with debug info`, `found`, `another file`, `no file`.
    pub file: &'static str,
    /// Whether its code was compared with the memory and is equal.
    pub proven: bool,
}

/// Functions in which a CPU has nothing to do.
const IDLE: [&str; 9] = [
    "sched_idletd",
    "cpu_idle",
    "cpu_idle_acpi",
    "cpu_idle_hlt",
    "cpu_idle_mwait",
    "acpi_cpu_idle",
    "acpi_cpu_c1",
    "acpi_cpu_idle_mwait",
    "cpu_idle_spin",
];

/// What is known of a dump, in one value.
///
/// # Errors
/// Returns an error if the dump cannot be read.
pub fn of(target: &Target<'_>, list: &ProcessList) -> Result<Report, PageReadError> {
    let session = target.session();
    let info = info::info(session)?;
    let details = Details::of(target);
    let all = || {
        list.processes
            .iter()
            .flat_map(|process| process.threads.iter().map(move |thread| (process, thread)))
    };
    let crashed = all()
        .find(|(_, thread)| thread.crashed)
        .or_else(|| all().find(|(_, thread)| thread.cpu.is_some()));
    let panicked = crashed.map(|found| thread_report(target, &details, found));
    let message = info.panic.as_ref().map(|panic| panic.value.clone());
    let host = info.host.as_ref().map(|host| host.value.as_str());
    let stack_of = crashed.and_then(|(_, thread)| details.thread(thread).stack);
    let frames = panicked
        .as_ref()
        .map_or(&[][..], |thread| &thread.stack.frames);
    let culprit = culprit(frames);
    let log = log_around_the_trap(target);
    let mut crash = crash::decode(
        target,
        &Evidence {
            message: message.as_deref(),
            host,
            frames,
            culprit,
            stack: stack_of,
            log: &log,
        },
    );
    let locks = if target.types().is_empty() {
        Locks::default()
    } else {
        locks::find(target, list)
    };
    let own_tid = crashed.map(|(_, thread)| thread.tid);
    let about = about_tid(&crash, &locks, list, own_tid).filter(|tid| Some(*tid) != own_tid);
    let about = about.and_then(|tid| all().find(|(_, thread)| thread.tid == tid));
    let about = about.map(|found| thread_report(target, &details, found));
    let scene = crashed.zip(culprit).map(|((_, thread), culprit)| Scene {
        target,
        list,
        thread,
        frames,
        culprit,
        message: message.as_deref(),
        log: &log,
        locks: Some(&locks),
    });
    // A bad pointer without a variable says no more than the trap.
    let reason = scene.and_then(|scene| reason::find(&scene));
    let reason = reason.filter(|reason| reason.bad.is_none() || reason.variable.is_some());
    let signature = match &about {
        Some(about) => {
            let its = self::culprit(&about.stack.frames);
            crash.is_about(about, its, own_tid);
            signature::of(target, &crash, &about.stack.frames, its, reason.as_ref())
        }
        None => signature::of(target, &crash, frames, culprit, reason.as_ref()),
    };
    let mut names = HashMap::new();
    let mut backtraces = HashMap::new();
    let mut members = Vec::new();
    for (process, thread) in all() {
        let backtrace = target.backtrace(thread);
        members.push(Member {
            tid: thread.tid,
            pcs: backtrace.frames.iter().map(|frame| frame.pc.0).collect(),
            wait: waits_for(details.thread(thread)),
        });
        names.insert(thread.tid, name_of(process, thread));
        backtraces.insert(thread.tid, backtrace);
    }
    let functions = |tid: i32| -> Vec<String> {
        let frames = backtraces.get(&tid).map(|backtrace| &backtrace.frames);
        let frames = frames.into_iter().flatten();
        frames
            .map(|frame| frame.name.clone().unwrap_or_else(|| frame.pc.to_string()))
            .collect()
    };
    let spinning = Spinning::of(target, list);
    let mut cpus: Vec<CpuReport> = all()
        .filter(|(_, thread)| crashed.is_none_or(|(_, other)| other.tid != thread.tid))
        .filter_map(|(process, thread)| {
            let functions = functions(thread.tid);
            let backtrace = backtraces.get(&thread.tid)?;
            let (at, is_user) = interrupted(&backtrace.frames);
            let state = match is_user {
                true => "user",
                false => state(process, &functions),
            };
            Some(CpuReport {
                cpu: thread.cpu?,
                tid: thread.tid,
                name: name_of(process, thread),
                lock: match state {
                    "spinning" => spinning
                        .as_ref()
                        .and_then(|known| known.lock(thread.address, &backtrace.frames)),
                    _ => None,
                },
                state,
                function: functions.get(at).filter(|_| !is_user).cloned(),
            })
        })
        .collect();
    cpus.sort_by_key(|cpu| cpu.cpu);
    let grouped = groups::group(members);
    let cpu_count = session.symbol("mp_ncpus").ok();
    let threads = Threads {
        threads: names.len(),
        processes: list.processes.len(),
        stacks: grouped.len(),
        groups: grouped
            .into_iter()
            .take(GROUPS)
            .map(|group| {
                let first = group.tids.first().copied().unwrap_or_default();
                GroupReport {
                    name: names.get(&first).cloned().unwrap_or_default(),
                    functions: functions(first),
                    group,
                }
            })
            .collect(),
    };
    let mut report = Report {
        cpu_count: cpu_count.and_then(|symbol| target.space().read_i32(symbol.address).ok()),
        crash,
        signature,
        reason,
        thread: about.or(panicked),
        cpus,
        log,
        threads,
        locks,
        memory: memory(target),
        source_root: None,
        modules: module_reports(target),
        missing: Vec::new(),
        left_out: Vec::new(),
        next: Vec::new(),
        info,
    };
    report.source_root =
        paths::common(report.thread.iter().flat_map(|thread| &thread.stack.frames));
    report.missing = missing::of(target, list, &report);
    report.next = next(&report);
    Ok(report)
}

fn name_of(process: &Process, thread: &Thread) -> String {
    String::from_utf8_lossy(&process.thread_name(thread)).into_owned()
}

/// What a thread waits for; a lock has a star, as ps writes it.
fn waits_for(details: ThreadDetails) -> Option<String> {
    let lock = details.lock_name.map(|lock| format!("*{lock}"));
    lock.or(details.wait_message)
}

/// The thread that a panic is about, if the panicking one only noticed: the one that a watchdog or the
/// lock names, or that holds up all others on the way to the lock.
fn about_tid(
    crash: &Crash,
    locks: &Locks,
    list: &ProcessList,
    own_tid: Option<i32>,
) -> Option<i32> {
    let mut threads = list.threads();
    let by_address = crash.about.thread.and_then(|address| {
        let found = threads.find(|thread| thread.address == address);
        Some(found?.tid)
    });
    let chain = || {
        let own_tid = own_tid.filter(|_| crash.kind == CrashKind::Lock)?;
        let mut chains = locks.chains.iter();
        let chain = chains.find(|chain| chain.tids.contains(&own_tid) && !chain.is_cycle)?;
        chain.tids.last().copied()
    };
    by_address.or(crash.about.tid).or_else(chain)
}

fn thread_report(
    target: &Target<'_>,
    details: &Details<'_, '_>,
    (process, thread): (&Process, &Thread),
) -> ThreadReport {
    let stack = target.stack(thread);
    let culprit = culprit(&stack.frames);
    let hidden = culprit.map_or(0, |found| found.hidden);
    ThreadReport {
        arguments: arguments(target, &stack.frames, hidden),
        pid: process.pid,
        tid: thread.tid,
        name: name_of(process, thread),
        cpu: thread.cpu,
        wait: waits_for(details.thread(thread)),
        hidden_frames: hidden,
        stack,
    }
}

/// Frames whose arguments are in a report: of a recursion all are alike.
const FRAMES_WITH_ARGUMENTS: usize = 64;
/// The arguments of the functions of the frames from `first` on; empty if none is known.
fn arguments(
    target: &Target<'_>,
    frames: &[NamedFrame],
    first: usize,
) -> Vec<Vec<Vec<ShownVariable>>> {
    let numbers = first
        ..frames
            .len()
            .min(first.saturating_add(FRAMES_WITH_ARGUMENTS));
    let lists = numbers.map(|number| {
        let mut functions = target.shown_variables(frames, number, &Options::BRIEF);
        for list in &mut functions {
            list.retain(|variable| variable.is_parameter);
        }
        functions
    });
    let all: Vec<Vec<Vec<ShownVariable>>> = lists.collect();
    let is_empty = all.iter().flatten().all(Vec::is_empty);
    if is_empty { Vec::new() } else { all }
}

/// The frame of a CPU's thread that the order to stop interrupted, and whether that was user code. A
/// thread that came into the kernel by itself was in its first frame.
fn interrupted(frames: &[Frame]) -> (usize, bool) {
    let by_itself = ["syscall", "swi", "ast", "fork_trampoline"];
    let found = frames.iter().enumerate().find_map(|(at, frame)| {
        let name = frame.name.as_deref().unwrap_or_default();
        Some((at, name, frame.trap.as_ref()?))
    });
    match found {
        Some((at, _, trap)) if !trap.user => (at + 1, false),
        Some((at, name, trap)) => {
            let before = frames.get(..at).unwrap_or_default().iter();
            let mut before = before.filter_map(|frame| frame.name.as_deref());
            let is_order = trap.exception.is_none()
                || trap.cause == Cause::Nmi
                || before.any(|name| role(base_name(name)) == Some(Role::Stop));
            match is_order && !by_itself.iter().any(|word| name.contains(word)) {
                true => (at + 1, true),
                false => (0, false),
            }
        }
        None => (0, false),
    }
}

/// What a CPU did, by the functions of its thread's stack.
fn state(process: &Process, functions: &[String]) -> &'static str {
    let any = |names: &[&str]| {
        let mut bases = functions.iter().map(|name| base_name(name));
        bases.any(|base| names.contains(&base))
    };
    if functions
        .iter()
        .any(|name| locks::is_spinning(base_name(name)))
    {
        "spinning"
    } else if any(&IDLE) || process.comm == b"idle" {
        "idle"
    } else if functions.is_empty() {
        "unknown"
    } else {
        "running"
    }
}

/// The largest zones and types.
fn memory(target: &Target<'_>) -> Usage {
    let mut usage = usage::of(target);
    usage.zones.truncate(LARGEST);
    usage.malloc.truncate(LARGEST);
    usage
}

fn module_reports(target: &Target<'_>) -> Vec<ModuleReport> {
    let of = |status: &Status| match status {
        Status::Found { debug: true, .. } => "found with debug info",
        Status::Found { .. } => "found",
        Status::Mismatched { .. } => "another file",
        Status::Missing => "no file",
    };
    let modules = target.files().modules().iter();
    modules
        .map(|module| ModuleReport {
            name: module.module.name.clone(),
            file: of(&module.status),
            proven: matches!(
                module.status,
                Status::Found {
                    identity: Identity::TextEqual,
                    ..
                }
            ),
        })
        .collect()
}

fn next(report: &Report) -> Vec<String> {
    let mut next = vec!["bt --unique".to_owned()];
    if !report.locks.waits.is_empty() {
        next.push("locks".to_owned());
    }
    next.push("gdb".to_owned());
    next
}

impl Report {
    /// The frames of the thread that are its own, not the panic's.
    #[must_use]
    pub fn own_frames(&self) -> &[NamedFrame] {
        let thread = self.thread.as_ref();
        let frames = thread.and_then(|thread| thread.stack.frames.get(thread.hidden_frames..));
        frames.unwrap_or_default()
    }
}

/// The directory of all source files of a stack, with its slash, which is left out of what is printed.
#[must_use]
pub fn source_root(frames: &[NamedFrame]) -> Option<String> {
    paths::common(frames.iter())
}

/// The position of the frame at fault in the stack of a thread that crashed: the first that belongs neither
/// to the panic, nor the debugger, nor the dump.
#[must_use]
pub fn frame_at_fault(frames: &[NamedFrame]) -> Option<usize> {
    culprit(frames).map(|found| found.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::{How, TrapFrame};
    use vmcore_format::addr::VirtAddr;

    fn frame(name: &str, user: Option<bool>, exception: Option<&str>) -> Frame {
        Frame {
            pc: VirtAddr(1),
            sp: None,
            fp: None,
            how: How::Cfi,
            exact: false,
            name: Some(name.to_owned()),
            doubt: None,
            trap: user.map(|user| TrapFrame {
                address: VirtAddr(1),
                pc: VirtAddr(2),
                user,
                number: None,
                error: None,
                exception: exception.map(str::to_owned),
                cause: match exception {
                    Some("nmi") => Cause::Nmi,
                    _ => Cause::Other,
                },
                fault_address: None,
                other: Vec::new(),
                registers: Default::default(),
            }),
            registers: Default::default(),
        }
    }

    #[test]
    fn a_cpu_in_user_mode_is_not_in_a_function() {
        let first = || frame("some_handler", None, None);
        for (entry, expected) in [
            (frame("Xcpustop", Some(true), None), (2, true)),
            (frame("nmi_calltrap", Some(true), Some("nmi")), (2, true)),
            (frame("Xcpustop", Some(false), None), (2, false)),
            (frame("fast_syscall_common", Some(true), None), (0, false)),
            (
                frame("calltrap", Some(true), Some("page fault")),
                (0, false),
            ),
            (
                frame("handle_el0_sync", Some(true), Some("SVC instruction")),
                (0, false),
            ),
            (frame("swi_exit", Some(true), None), (0, false)),
        ] {
            let name = entry.name.clone();
            assert_eq!(interrupted(&[first(), entry]), expected, "{name:?}");
        }
        assert_eq!(interrupted(&[first()]), (0, false));
        let stop = frame("ipi_stop", None, None);
        let entry = frame("cpu_exception_handler_user", Some(true), Some("?"));
        assert_eq!(interrupted(&[stop, entry]), (2, true));
    }
}
