//! `vmcore ps`: processes and threads, and which of them crashed.

use crate::Status;
use crate::context::{Context, KernelUse};
use crate::help;
use crate::output::{self, Style};
use crate::text::{self, counted};
use clap::Args;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::OpenOptions;
use vmcore::process::{self, Process, ProcessList, Thread};

/// Who was running, and which thread crashed
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore ps [FILE] [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file. First comes the thread that crashed, then those that were on a CPU, then the
others by process and thread id; --json has them in the kernel's order.")
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

pub(crate) fn run(context: &Context, args: &Ps) -> anyhow::Result<Status> {
    context.choose(&args.words, 0..=0, "")?;
    let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
    let list = process::list(&session)?;
    let status = if list.problems.is_empty() {
        Status::Done
    } else {
        Status::Incomplete
    };
    if context.common().json {
        output::json(context, Some(session.dump()), &list)?;
        return Ok(status);
    }
    print(context, &list, args.kernel_order)?;
    for problem in &list.problems {
        context.note(&format!(
            "vmcore: a list breaks off: {}",
            text::escape(problem.as_bytes())
        ));
    }
    Ok(status)
}

/// A line of the table: a thread, or a process without any.
struct Row<'a> {
    process: &'a Process,
    thread: Option<&'a Thread>,
}

fn rows(list: &ProcessList, kernel_order: bool) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for process in &list.processes {
        rows.extend(process.threads.iter().map(|thread| Row {
            process,
            thread: Some(thread),
        }));
        if process.threads.is_empty() {
            rows.push(Row {
                process,
                thread: None,
            });
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

fn print(context: &Context, list: &ProcessList, kernel_order: bool) -> anyhow::Result<()> {
    let mut out = context.out();
    let rows = rows(list, kernel_order);
    let crashed = rows
        .iter()
        .find(|row| row.thread.is_some_and(|thread| thread.crashed));
    let headline = match (crashed, list.crashed_tid) {
        (
            Some(Row {
                process,
                thread: Some(thread),
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
        (_, Some(tid)) => format!("crashed: thread {tid}, which is in no list"),
        (_, None) => {
            "crashed: unknown, as no thread ran the dump code (dumptid is not set)".to_owned()
        }
    };
    writeln!(out, "{}", out.paint(Style::Bad, &headline))?;
    let heading = format!(
        "  {:>5} {:>7} {:>4} {:<5} {:<8} COMMAND",
        "PID", "TID", "CPU", "STATE", "WAIT"
    );
    writeln!(out, "{}", out.paint(Style::Label, &heading))?;
    for row in &rows {
        let (tid, cpu, name) = match row.thread {
            Some(thread) => (
                thread.tid.to_string(),
                thread.cpu,
                row.process.thread_name(thread),
            ),
            None => ("-".to_owned(), None, row.process.comm.clone()),
        };
        let is_crashed = row.thread.is_some_and(|thread| thread.crashed);
        let line = format!(
            "{} {:>5} {tid:>7} {:>4} {:<5} {UNKNOWN:<8} {}",
            if is_crashed { "*" } else { " " },
            row.process.pid,
            cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string()),
            if row.process.zombie { "Z" } else { UNKNOWN },
            text::escape(&name),
        );
        writeln!(
            out,
            "{}",
            if is_crashed {
                out.paint(Style::Bad, &line)
            } else {
                line
            }
        )?;
    }
    let threads: usize = list
        .processes
        .iter()
        .map(|process| process.threads.len())
        .sum();
    let total = format!(
        "{} in {}; * crashed; ? needs the kernel's types, which are not read yet",
        counted(threads as u64, "thread", "threads"),
        counted(list.processes.len() as u64, "process", "processes"),
    );
    writeln!(out, "{}", out.paint(Style::Faint, &total))?;
    Ok(out.finish()?)
}
