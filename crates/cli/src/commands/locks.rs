//! `vmcore locks`: who waits for whom, and deadlocks.

use crate::advice::{Result, Run};
use crate::context::{Context, KernelUse};
use crate::debug_files::{ModulePlaces, no_types};
use crate::help;
use crate::outcome::Status;
use crate::output::{Out, Style};
use crate::text::{self, counted};
use clap::Args;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use vmcore::OpenOptions;
use vmcore::process::{Process, ProcessList, Thread};
use vmcore_debug::Target;
use vmcore_debug::locks::{self, Holder, Lock, Locks, Mode, Wait};
use vmcore_debug::report;

/// Lock owners and waiters, chains, deadlocks
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore locks [FILE] [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file with its debug information, or with CTF. It sees mutexes, rwlocks, sx locks and
lockmgr locks that threads wait for, and spin locks that CPUs spin on; of a lock held by readers the
kernel keeps no names.")
)]
pub(crate) struct LocksArgs {
    /// The dump, and its kernel file, in either order
    #[arg(hide = true)]
    words: Vec<OsString>,
    #[command(flatten)]
    places: ModulePlaces,
}

impl Run for LocksArgs {
    fn run(&self, context: &Context) -> Result<Status> {
        context.choose(&self.words, 0..=0, "")?;
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        let files = self.places.open(&session)?;
        let target = Target::new(&session, &files)?;
        let list = target.processes()?;
        if target.types().is_empty() {
            return Err(no_types(&files, context).into());
        }
        let found = locks::find(&target, &list);
        let status = Status::complete_if(list.problems.is_empty() && found.problems.is_empty());
        if context.common().json {
            context.json(Some(session.dump()), &found)?;
            context.note_debug(&files);
            return Ok(status);
        }
        let mut out = context.out();
        print(&mut out, &found, &names(&list))?;
        out.finish()?;
        let problems = list.problems.iter().chain(&found.problems).cloned();
        for problem in report::alike_once(problems.collect()) {
            let problem = text::escape(problem.as_bytes());
            context.note(&format!("vmcore: not all is known: {problem}"));
        }
        context.note_debug(&files);
        Ok(status)
    }
}

/// Thread id to name.
fn names(list: &ProcessList) -> HashMap<i32, String> {
    let of = |process: &Process, thread: &Thread| {
        let name = text::escape(&process.thread_name(thread));
        let crashed = if thread.crashed { ", crashed" } else { "" };
        (thread.tid, format!("{} ({name}{crashed})", thread.tid))
    };
    list.processes
        .iter()
        .flat_map(|process| {
            process
                .threads
                .iter()
                .map(move |thread| of(process, thread))
        })
        .collect()
}

fn print(out: &mut Out, found: &Locks, names: &HashMap<i32, String>) -> io::Result<()> {
    let name = |tid: &i32| names.get(tid).cloned().unwrap_or_else(|| tid.to_string());
    for cycle in &found.cycles {
        let mut words: Vec<String> = cycle.iter().map(name).collect();
        words.extend(words.first().cloned());
        let line = format!("DEADLOCK {}", words.join(" -> "));
        writeln!(out, "{}", out.paint(Style::Bad, &line))?;
    }
    for chain in found.chains.iter().filter(|chain| !chain.is_cycle) {
        let words: Vec<String> = chain.tids.iter().map(name).collect();
        let last = chain.tids.last().copied();
        let held = found.locks.iter().find(|lock| match lock.holder {
            Holder::By { tid, .. } => tid == last,
            _ => false,
        });
        let does = held.map_or_else(String::new, words_of_owner);
        let line = format!("{}{does}", words.join(" -> "));
        writeln!(out, "{}", out.paint(Style::Warning, &line))?;
    }
    for lock in &found.locks {
        let waiting: Vec<String> = found
            .waits
            .iter()
            .filter(|wait| wait.lock == lock.address)
            .map(|wait| format!("{}{}", name(&wait.tid), words_of_wait(wait)))
            .collect();
        let heading = format!(
            "{} \"{}\" at {}: {}",
            lock.class,
            text::escape(lock.name.as_bytes()),
            lock.address,
            holder(lock, &name)
        );
        writeln!(out, "{}", out.paint(Style::Strong, &heading))?;
        writeln!(out, "  waited for by {}", waiting.join(", "))?;
    }
    let total = if found.waits.is_empty() {
        "no thread waits for a lock".to_owned()
    } else {
        format!(
            "{} for {}, {}",
            counted(found.waits.len() as u64, "thread waits", "threads wait"),
            counted(found.locks.len() as u64, "lock", "locks"),
            counted(found.cycles.len() as u64, "deadlock", "deadlocks")
        )
    };
    writeln!(out, "{}", out.paint(Style::Faint, &total))
}

/// How a thread waits, and what for: ` (asleep, exclusive)`.
fn words_of_wait(wait: &Wait) -> String {
    let how = match (wait.sleeping, wait.spinning) {
        (_, true) => "spins",
        (true, false) => "asleep",
        (false, false) => "blocked",
    };
    let wants = match wait.wants {
        Some(Mode::Exclusive) => ", exclusive",
        Some(Mode::Shared) => ", shared",
        None => "",
    };
    format!(" ({how}{wants})")
}

/// What the one owner of a lock does.
fn words_of_owner(lock: &Lock) -> String {
    let does = lock.owner_does.as_ref();
    does.map_or_else(String::new, |does| {
        format!(", which {}", text::escape(does.as_bytes()))
    })
}

fn holder(lock: &Lock, name: &impl Fn(&i32) -> String) -> String {
    let has_readers = matches!(lock.class.as_str(), "sx" | "rw" | "lockmgr");
    let mode = if has_readers { "exclusively " } else { "" };
    match &lock.holder {
        Holder::Free => "not held".to_owned(),
        Holder::By { tid: Some(tid), .. } => {
            format!("held {mode}by {}{}", name(tid), words_of_owner(lock))
        }
        Holder::By { thread, .. } => {
            format!("held {mode}by {thread}, which is not in the thread lists")
        }
        Holder::Shared { count } => {
            format!("held shared by {}", counted(*count, "reader", "readers"))
        }
        Holder::Disowned => "given away to the kernel, for input or output".to_owned(),
        Holder::Unknown => "holder unknown".to_owned(),
    }
}
