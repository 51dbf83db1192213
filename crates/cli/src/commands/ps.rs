//! `vmcore ps`: processes and threads, and which of them crashed.

use crate::advice::{Result, Run};
use crate::context::{Context, KernelUse};
use crate::help;
use crate::outcome::Status;
use crate::output::Style;
use crate::text::{self, counted};
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::format::addr::VirtAddr;
use vmcore::process::{self, OffsetSource, Process, ProcessList, Thread};
use vmcore::{OpenOptions, Session};
use vmcore_debug::details::{Details, ProcessDetails, ThreadDetails};
use vmcore_debug::report;
use vmcore_debug::{DebugFiles, Target};

/// Processes and threads, and which thread crashed
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore ps [FILE] [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file. First comes the thread that crashed, then those that were on a CPU, then the
others by process and thread id; --json has them in the kernel's order. State, wait message and
channel, parent and user need types: -k kernel.debug.")
)]
pub(crate) struct Ps {
    /// The dump, and its kernel file, in either order
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// In the kernel's order: newest process first
    #[arg(long)]
    kernel_order: bool,
}

/// What only the kernel's types tell.
const UNKNOWN: &str = "?";
/// Columns of a wait message in the kernel, and of the longest lock's name that moves the others.
const WAIT_MIN: usize = 8;
const WAIT_MAX: usize = 20;

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    processes: Vec<ProcessAnswer<'a>>,
    crashed_tid: Option<i32>,
    offsets: OffsetSource,
    problems: &'a [String],
}

#[derive(Serialize)]
struct ProcessAnswer<'a> {
    address: VirtAddr,
    pid: i32,
    comm: String,
    zombie: bool,
    #[serde(flatten)]
    details: ProcessDetails,
    threads: Vec<ThreadAnswer<'a>>,
}

#[derive(Serialize)]
struct ThreadAnswer<'a> {
    #[serde(flatten)]
    thread: &'a Thread,
    #[serde(flatten)]
    details: ThreadDetails,
}

impl Run for Ps {
    fn run(&self, context: &Context) -> Result<Status> {
        context.choose(&self.words, 0..=0, "")?;
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        // A kernel that told the writer of its threads needs no file.
        if session.kernel().is_none() && session.dump().is_of_another_system() {
            return self.tell(context, &session, &process::list(&session)?, None);
        }
        let files = DebugFiles::of(&session)?;
        let target = Target::new(&session, &files)?;
        let status = self.tell(context, &session, &target.processes()?, Some(&target));
        context.note_debug(&files);
        status
    }
}

impl Ps {
    fn tell(
        &self,
        context: &Context,
        session: &Session,
        list: &ProcessList,
        target: Option<&Target<'_>>,
    ) -> Result<Status> {
        let status = Status::complete_if(list.problems.is_empty());
        let details = target.map(Details::of);
        if context.common().json {
            context.json(Some(session.dump()), answer(list, details.as_ref()))?;
            return Ok(status);
        }
        let has_types = target.is_some_and(|target| !target.types().is_empty());
        let details = details.filter(|_| has_types);
        print(context, list, details.as_ref(), self.kernel_order)?;
        match list.offsets {
            OffsetSource::Constants | OffsetSource::Recorded => {}
            OffsetSource::Types => context
                .note("vmcore: note: the kernel exports no offsets; those of its types were used"),
            OffsetSource::Release => context.note(
                "vmcore: warning: the kernel exports no offsets; used those of its release, a \
                 guess (-k kernel.debug has them)",
            ),
        }
        for problem in report::alike_once(list.problems.clone()) {
            context.note(&format!(
                "vmcore: a list breaks off: {}",
                text::escape(problem.as_bytes())
            ));
        }
        Ok(status)
    }
}

/// What types tell of a thread, or the kernel told the writer.
fn details_of(details: Option<&Details<'_, '_>>, thread: &Thread) -> Option<ThreadDetails> {
    match details {
        Some(details) => Some(details.thread(thread)),
        None => ThreadDetails::recorded(thread),
    }
}

fn answer<'a>(list: &'a ProcessList, details: Option<&Details<'_, '_>>) -> Answer<'a> {
    let of_thread = |thread: &'a Thread| ThreadAnswer {
        thread,
        details: details_of(details, thread).unwrap_or_default(),
    };
    let of_process = |process: &'a Process| ProcessAnswer {
        address: process.address,
        pid: process.pid,
        comm: String::from_utf8_lossy(&process.comm).into_owned(),
        zombie: process.zombie,
        details: details
            .map(|details| details.process(process))
            .unwrap_or_default(),
        threads: process.threads.iter().map(of_thread).collect(),
    };
    Answer {
        processes: list.processes.iter().map(of_process).collect(),
        crashed_tid: list.crashed_tid,
        offsets: list.offsets,
        problems: &list.problems,
    }
}

/// A line of the table: a thread, or a process without any.
struct Row<'a> {
    process: &'a Process,
    thread: Option<&'a Thread>,
    /// What the types tell; nothing without types.
    of_process: Option<ProcessDetails>,
    of_thread: Option<ThreadDetails>,
}

fn rows<'a>(
    list: &'a ProcessList,
    details: Option<&Details<'_, '_>>,
    kernel_order: bool,
) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for process in &list.processes {
        let of_process = match details {
            Some(details) => Some(details.process(process)),
            None if list.offsets == OffsetSource::Recorded => Some(ProcessDetails::default()),
            None => None,
        };
        let row = |thread: Option<&'a Thread>| Row {
            process,
            thread,
            of_process: of_process.clone(),
            of_thread: thread.and_then(|thread| details_of(details, thread)),
        };
        match process.threads.as_slice() {
            [] => rows.push(row(None)),
            threads => rows.extend(threads.iter().map(|thread| row(Some(thread)))),
        }
    }
    if !kernel_order {
        rows.sort_by_key(|row| {
            let crashed = row.thread.is_some_and(|thread| thread.crashed);
            let cpu = row.thread.and_then(|thread| thread.cpu);
            let tid = row.thread.map_or(0, |thread| thread.tid);
            (!crashed, cpu.is_none(), cpu, row.process.pid, tid)
        });
    }
    rows
}

fn print(
    context: &Context,
    list: &ProcessList,
    details: Option<&Details<'_, '_>>,
    kernel_order: bool,
) -> Result<()> {
    let mut out = context.out();
    let rows = rows(list, details, kernel_order);
    let is_detailed = rows.iter().any(|row| row.of_process.is_some());
    let waits: Vec<String> = rows.iter().map(wait).collect();
    let width = width(&waits);
    let crashed = rows
        .iter()
        .find(|row| row.thread.is_some_and(|thread| thread.crashed));
    let headline = match (crashed, list.crashed_tid) {
        (
            Some(Row {
                process,
                thread: Some(thread),
                ..
            }),
            _,
        ) => format!(
            "crashed: thread {} of process {} ({}), on {}",
            thread.tid,
            process.pid,
            text::escape(&process.thread_name(thread)),
            thread
                .cpu
                .map_or_else(|| "no CPU".to_owned(), |cpu| format!("CPU {cpu}")),
        ),
        (_, Some(tid)) => format!("crashed: thread {tid}, which is not in the thread lists"),
        (_, None) => format!("crashed: unknown, as {}", list.why_none_crashed()),
    };
    writeln!(out, "{}", out.paint(Style::Bad, &headline))?;
    writeln!(
        out,
        "{}",
        out.paint(Style::Label, &heading(is_detailed, width))
    )?;
    for (row, wait) in rows.iter().zip(&waits) {
        let line = line(row, wait, width);
        let is_crashed = row.thread.is_some_and(|thread| thread.crashed);
        let line = if is_crashed {
            out.paint(Style::Bad, &line)
        } else {
            line
        };
        writeln!(out, "{line}")?;
    }
    let threads: usize = list
        .processes
        .iter()
        .map(|process| process.threads.len())
        .sum();
    let unknown = match details {
        Some(_) => "",
        None if list.offsets == OffsetSource::Recorded => "; as the kernel told the writer",
        None => "; ? needs the kernel's types (-k kernel.debug)",
    };
    let total = format!(
        "{} in {}; * crashed{unknown}",
        counted(threads as u64, "thread", "threads"),
        counted(list.processes.len() as u64, "process", "processes"),
    );
    writeln!(out, "{}", out.paint(Style::Faint, &total))?;
    Ok(out.finish()?)
}

/// The table without colours, crashed threads first, as lines.
pub(super) fn lines(list: &ProcessList, details: Option<&Details<'_, '_>>) -> Vec<String> {
    let rows = rows(list, details, false);
    let is_detailed = rows.iter().any(|row| row.of_process.is_some());
    let waits: Vec<String> = rows.iter().map(wait).collect();
    let width = width(&waits);
    let mut lines = vec![heading(is_detailed, width)];
    let numbered = rows.iter().zip(&waits);
    lines.extend(numbered.map(|(row, wait)| line(row, wait, width)));
    lines
}

/// What the thread of a row waits for; a lock has a star, as ps writes it.
fn wait(row: &Row<'_>) -> String {
    if row.of_process.is_none() {
        return UNKNOWN.to_owned();
    }
    let thread = row.of_thread.as_ref();
    match thread.map(|thread| (&thread.lock_name, &thread.wait_message)) {
        Some((Some(lock), _)) => text::escape(format!("*{lock}").as_bytes()),
        Some((None, Some(message))) => text::escape(message.as_bytes()),
        _ => "-".to_owned(),
    }
}

/// Of the column with what they wait for: as wide as the longest, up to a limit.
fn width(waits: &[String]) -> usize {
    let widths = waits.iter().map(|wait| wait.chars().count().min(WAIT_MAX));
    widths.max().unwrap_or(0).max(WAIT_MIN)
}

fn heading(has_types: bool, width: usize) -> String {
    let user = if has_types { "  PPID   UID" } else { "" };
    let channel = if has_types { " CHANNEL           " } else { "" };
    format!(
        "  {:>5}{user} {:>7} {:>4} {:<5} {:<width$}{channel} COMMAND",
        "PID", "TID", "CPU", "STATE", "WAIT"
    )
}

fn line(row: &Row<'_>, wait: &str, width: usize) -> String {
    let process = row.process;
    let name = row.thread.map_or_else(
        || process.comm.clone(),
        |thread| process.thread_name(thread),
    );
    let number = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let cpu = row.thread.and_then(|thread| thread.cpu);
    let (of_process, of_thread) = (row.of_process.as_ref(), row.of_thread.as_ref());
    let user = of_process.map_or_else(String::new, |process| {
        format!(
            " {:>5} {:>5}",
            number(process.ppid.map(|ppid| ppid.to_string())),
            number(process.uid.map(|uid| uid.to_string()))
        )
    });
    let suffix = of_process.map_or("", |process| process.suffix.as_str());
    let letter = match of_thread.and_then(|thread| thread.state) {
        _ if process.zombie => "Z".to_owned(),
        Some(letter) => format!("{letter}{suffix}"),
        None => UNKNOWN.to_owned(),
    };
    let channel = of_thread.map_or_else(String::new, |thread| {
        let address = thread.wait_channel.or(thread.blocked_on);
        format!(
            " {:<18}",
            number(address.map(|address| address.to_string()))
        )
    });
    let is_crashed = row.thread.is_some_and(|thread| thread.crashed);
    format!(
        "{} {:>5}{user} {:>7} {:>4} {letter:<5} {wait:<width$}{channel} {}",
        if is_crashed { "*" } else { " " },
        process.pid,
        number(row.thread.map(|thread| thread.tid.to_string())),
        number(cpu.map(|cpu| cpu.to_string())),
        text::escape(&name),
    )
}
