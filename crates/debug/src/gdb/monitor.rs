//! The commands behind `monitor`.

use crate::details::Details;
use crate::locks;
use crate::target::Target;
use std::fmt::Write as _;
use vmcore::log;
use vmcore::process::ProcessList;
use vmcore::text::{self, counted};

/// The answer to a command; commands that are not known are explained.
pub(super) fn answer(target: &Target<'_>, list: &ProcessList, command: &str) -> String {
    match command.trim() {
        "log" | "dmesg" => message_buffer(target),
        "ps" => processes(target, list),
        "locks" => waits(target, list),
        "info" => about(target),
        "report" => report(target, list),
        _ => "commands: report, log, ps, locks, info\n".to_owned(),
    }
}

fn message_buffer(target: &Target<'_>) -> String {
    match log::read(target.session()) {
        Ok(log) if log.is_empty() => "the message buffer is empty, or not in the dump\n".to_owned(),
        Ok(log) => log.lines().fold(String::new(), |mut text, line| {
            text += &text::escape(line.text);
            text.push('\n');
            text
        }),
        Err(error) => format!("{error}\n"),
    }
}

fn processes(target: &Target<'_>, list: &ProcessList) -> String {
    let details = Details::of(target);
    let mut text = String::from("  PID    TID  CPU S WAIT             NAME\n");
    for process in &list.processes {
        for thread in &process.threads {
            let known = details.thread(thread);
            let cpu = thread.cpu.map_or_else(|| "-".into(), |cpu| cpu.to_string());
            let wait = known.lock_name.or(known.wait_message).unwrap_or_default();
            let crashed = if thread.crashed { " (crashed)" } else { "" };
            let _ = writeln!(
                text,
                "{:>5} {:>6} {cpu:>4} {} {:<16} {}{crashed}",
                process.pid,
                thread.tid,
                known.state.unwrap_or('?'),
                text::escape(wait.as_bytes()),
                text::escape(&process.thread_name(thread)),
            );
        }
    }
    text
}

fn waits(target: &Target<'_>, list: &ProcessList) -> String {
    let found = locks::find(target, list);
    let mut text = String::new();
    for wait in &found.waits {
        let lock = found.locks.iter().find(|lock| lock.address == wait.lock);
        let Some(lock) = lock else { continue };
        let holder = match lock.holder {
            locks::Holder::By { tid: Some(tid), .. } => format!("held by {tid}"),
            locks::Holder::By { thread, .. } => format!("held by the thread at {thread}"),
            locks::Holder::Shared { count } => {
                format!("held by {}", counted(count, "reader", "readers"))
            }
            locks::Holder::Free => "free".to_owned(),
            locks::Holder::Disowned => "given away for input or output".to_owned(),
            locks::Holder::Unknown => "holder unknown".to_owned(),
        };
        let name = text::escape(lock.name.as_bytes());
        let _ = writeln!(
            text,
            "{} waits for {} \"{name}\", {holder}",
            wait.tid, lock.class
        );
    }
    for cycle in &found.cycles {
        let _ = writeln!(text, "deadlock: {cycle:?}");
    }
    for problem in &found.problems {
        let _ = writeln!(text, "{}", text::escape(problem.to_string().as_bytes()));
    }
    if text.is_empty() {
        text += "no thread waits for a lock\n";
    }
    text
}

fn report(target: &Target<'_>, list: &ProcessList) -> String {
    match crate::report::of(target, list) {
        Ok(report) => report
            .to_string()
            .lines()
            .fold(String::new(), |text, line| {
                text + &text::escape(line.as_bytes()) + "\n"
            }),
        Err(reason) => format!("{reason}\n"),
    }
}

fn about(target: &Target<'_>) -> String {
    let dump = target.session().dump();
    let types = target.types().origin().unwrap_or("none");
    format!(
        "dump    {}\nmachine {}\nkernel  {}\ntypes   {types}\n",
        text::escape(dump.path().as_os_str().as_encoded_bytes()),
        dump.arch(),
        text::escape(target.files().kernel_path().as_os_str().as_encoded_bytes()),
    )
}
