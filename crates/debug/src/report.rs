//! One report: what crashed, where, and what else the machine did.
//!
//! The report is a value: it prints itself as text of the form that people paste into bug reports,
//! and serialises. [`Report::share`] takes out what should not leave the house.
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
mod paths;
mod share;
pub mod signature;
pub mod text;

use crate::details::{Details, ThreadDetails};
use crate::groups::{self, Group, Member};
use crate::locks::{self, Lock, Locks, Spinning};
use crate::modules::{Identity, Status};
use crate::stack::{NamedFrame, Stack};
use crate::target::Target;
use crate::unwind::End;
use crate::usage::{self, Usage};
use crash::Crash;
use serde::Serialize;
use signature::Signature;
use std::collections::HashMap;
use vmcore::info::{self, Info};
use vmcore::memory::Absence;
use vmcore::process::{OffsetSource, Process, ProcessList, Thread};
use vmcore::text::{count, counted};

/// Lines of the log before the trap, and after it.
const LINES_BEFORE: usize = 12;
const LINES_AFTER: usize = 4;
/// Lines between the words of a trap and those of its panic.
const TRAP_BEFORE_PANIC: usize = 60;
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
    /// What it did: `idle`, `spinning`, `running`, `unknown`.
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

/// Functions that only spin on a lock.
const SPINNING: [&str; 8] = [
    "_mtx_lock_spin_cookie",
    "__mtx_lock_spin_flags",
    "thread_lock_flags_",
    "_thread_lock",
    "__mtx_lock_sleep",
    "lock_delay",
    "__rw_wlock_hard",
    "_sx_xlock_hard",
];
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
pub fn of(target: &Target<'_>, list: &ProcessList) -> Result<Report, Absence> {
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
    let panicked =
        crashed.map(|(process, thread)| thread_report(target, &details, process, thread));
    let message = info.panic.as_ref().map(|panic| panic.value.clone());
    let host = info.host.as_ref().map(|host| host.value.as_str());
    let stack_of = crashed.and_then(|(_, thread)| details.thread(thread).stack);
    let frames = panicked
        .as_ref()
        .map_or(&[][..], |thread| &thread.stack.frames);
    let crash = crash::decode(target, message.as_deref(), host, frames, stack_of);
    // A watchdog's panic is about another thread than the one that noticed.
    let blocked = crash
        .about_thread
        .and_then(|address| all().find(|(_, thread)| thread.address == address))
        .or_else(|| {
            let tid = crash.about_tid?;
            all().find(|(_, thread)| thread.tid == tid)
        })
        .map(|(process, thread)| thread_report(target, &details, process, thread));
    let signature = match &blocked {
        Some(blocked) => signature::of(target, &crash, &blocked.stack.frames),
        None => signature::of(target, &crash, frames),
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
            let interrupted = backtrace
                .frames
                .iter()
                .position(|frame| frame.trap.is_some());
            let at = interrupted.map_or(0, |position| position + 1);
            Some(CpuReport {
                cpu: thread.cpu?,
                tid: thread.tid,
                name: name_of(process, thread),
                lock: match state(process, &functions) {
                    "spinning" => spinning
                        .as_ref()
                        .and_then(|known| known.lock(thread.address, &backtrace.frames)),
                    _ => None,
                },
                state: state(process, &functions),
                function: functions.get(at).cloned(),
            })
        })
        .collect();
    cpus.sort_by_key(|cpu| cpu.cpu);
    let grouped = groups::group(members);
    let locks = if target.types().is_empty() {
        Locks::default()
    } else {
        locks::find(target, list)
    };
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
        thread: blocked.or(panicked),
        cpus,
        log: log_around_the_trap(target),
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
    report.missing = missing(target, list, &report);
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

fn thread_report(
    target: &Target<'_>,
    details: &Details<'_, '_>,
    process: &Process,
    thread: &Thread,
) -> ThreadReport {
    let stack = target.stack(thread);
    let culprit = culprit::culprit(target.machine(), &stack.frames);
    ThreadReport {
        pid: process.pid,
        tid: thread.tid,
        name: name_of(process, thread),
        cpu: thread.cpu,
        wait: waits_for(details.thread(thread)),
        hidden_frames: culprit.unwrap_or(0),
        stack,
    }
}

/// What a CPU did, by the functions of its thread's stack.
fn state(process: &Process, functions: &[String]) -> &'static str {
    let any = |names: &[&str]| {
        let mut bases = functions.iter().map(|name| culprit::base_name(name));
        bases.any(|base| names.contains(&base))
    };
    if any(&SPINNING) {
        "spinning"
    } else if any(&IDLE) || process.comm == b"idle" {
        "idle"
    } else if functions.is_empty() {
        "unknown"
    } else {
        "running"
    }
}

fn log_around_the_trap(target: &Target<'_>) -> Vec<String> {
    let Ok(log) = vmcore::log::read(target.session()) else {
        return Vec::new();
    };
    let lines: Vec<String> = log
        .lines()
        .map(|line| String::from_utf8_lossy(line.text).into_owned())
        .collect();
    let panic = lines.iter().rposition(|line| line.starts_with("panic: "));
    let near = panic.map_or(0, |at| at.saturating_sub(TRAP_BEFORE_PANIC));
    let trap = lines
        .iter()
        .enumerate()
        .skip(near)
        .find(|(_, line)| line.starts_with("Fatal ") || line.starts_with("panic: "));
    let at = trap.map_or(lines.len(), |(at, _)| at);
    let from = at.saturating_sub(LINES_BEFORE);
    let to = at.saturating_add(LINES_AFTER).min(lines.len());
    lines.get(from..to).unwrap_or_default().to_vec()
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

/// What is not there, and what it costs.
fn missing(target: &Target<'_>, list: &ProcessList, report: &Report) -> Vec<String> {
    use vmcore::dump::Completeness;
    let mut missing = Vec::new();
    match report.info.state {
        Completeness::Complete { .. } => {}
        Completeness::Truncated {
            missing_bytes,
            missing_pages,
        } => missing.push(format!(
            "the file is truncated: {} bytes ({}) are missing",
            count(missing_bytes),
            counted(missing_pages, "page", "pages")
        )),
        Completeness::TruncatedSection { section } => {
            missing.push(format!("the file is truncated inside its {section}"));
        }
    }
    if let Some(pages) = report
        .info
        .pages
        .mapped_but_absent
        .filter(|pages| *pages > 0)
    {
        missing.push(format!(
            "{} mapped kernel pages are not in the dump (device memory or no-dump)",
            count(pages)
        ));
    }
    if target.types().is_empty() {
        missing.push(
            "the kernel file has no types: no wait messages, locks, lines (-k kernel.debug)"
                .to_owned(),
        );
    }
    let without = report
        .modules
        .iter()
        .filter(|module| module.file == "no file");
    let names: Vec<&str> = without.map(|module| module.name.as_str()).collect();
    if !names.is_empty() {
        missing.push(format!(
            "no file for {} (--sysroot, --modules)",
            names.join(", ")
        ));
    }
    missing.extend(
        list.problems
            .iter()
            .map(|problem| format!("a list breaks off: {problem}")),
    );
    missing.extend(report.locks.problems.iter().cloned());
    missing.extend(
        report
            .memory
            .problems
            .iter()
            .map(|problem| format!("a list of memory breaks off: {problem}")),
    );
    match list.offsets {
        OffsetSource::Constants => {}
        OffsetSource::Types => missing.push(
            "the kernel exports no offsets: threads were found by its types".to_owned(),
        ),
        OffsetSource::Release => missing.push(
            "the kernel tells no offsets: threads were found by those of its release, a guess (-k kernel.debug)"
                .to_owned(),
        ),
    }
    if let Some(thread) = &report.thread
        && let Some(End::Unreadable { reason, .. }) = &thread.stack.end
    {
        missing.push(format!("the stack is cut: {reason}"));
    }
    if list.crashed_tid.is_none() {
        missing.push(list.why_none_crashed().to_owned());
    }
    missing
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
