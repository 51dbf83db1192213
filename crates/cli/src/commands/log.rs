//! `vmcore log`: the kernel message buffer.

use crate::advice::{Advice, Result, Run, opening};
use crate::commands::textdump;
use crate::context::{Context, KernelUse, Opened};
use crate::help;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::text;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::format::layout::Section;
use vmcore::log::{self, LogError, LogOrder, LogSource};
use vmcore::{Dump, OpenOptions};

/// Kernel message buffer
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore log [FILE] [OPTIONS]",
    after_help = help::with_files("\
Control characters are escaped, as in \\x1b.
A full dump needs its kernel file; a minidump does not.")
)]
pub(crate) struct Log {
    /// The dump, and its kernel file if you like, in either order
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// Raw bytes, oldest first: not escaped, with priority marks
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer {
    source: LogSource,
    order: LogOrder,
    used_bytes: u64,
    capacity_bytes: u64,
    wrapped: bool,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    priority: Option<u32>,
    text: String,
}

impl Run for Log {
    fn run(&self, context: &Context) -> Result<Status> {
        context.choose(&self.words, 0..=0, "")?;
        // What of the message buffer is in the file can be told, wherever that ends.
        let options = OpenOptions {
            up_to: Section::Header,
            realign: false,
            ..OpenOptions::default()
        };
        let session = match context.open_or_text(KernelUse::Addresses, &options)? {
            Opened::Memory(session) => *session,
            Opened::Text(text) => {
                let log = textdump::message_buffer(context, &text)?;
                print(context, None, &log, self.raw)?;
                return Ok(textdump::status(&text));
            }
        };
        let log = log::read(&session)?;
        let cut = session.dump().missing_of(Section::MessageBuffer);
        let status = Status::complete_if(!log.is_empty() && cut == 0);
        print(context, Some(session.dump()), &log, self.raw)?;
        if context.common().json {
            return Ok(status);
        }
        let dump = text::path(session.dump().path());
        if log.is_empty() {
            let why = opening::truncation(&session)
                .map(|why| format!(" ({why})"))
                .unwrap_or_default();
            context.note(&format!(
                "vmcore: the message buffer of {dump} is empty, or not in the dump{why}"
            ));
        } else if cut > 0 {
            let lost = text::counted(cut, "byte", "bytes");
            context.note(&format!(
                "vmcore: {dump} ends inside its message buffer: {lost} of it are missing"
            ));
        } else if log.order == LogOrder::Unknown {
            context.note(
            "vmcore: note: the buffer is full, and nothing says where it starts: shown as it lies",
        );
        } else if log.wrapped && context.common().verbose {
            context.note("vmcore: note: the buffer has wrapped: older lines are lost");
        }
        Ok(status)
    }
}

/// Prints a log in the form that was asked for.
fn print(context: &Context, dump: Option<&Dump>, log: &log::Log, is_raw: bool) -> Result<()> {
    if context.common().json {
        let line = |line: log::Line<'_>| Line {
            priority: line.priority,
            text: String::from_utf8_lossy(line.text).into_owned(),
        };
        let answer = Answer {
            source: log.source,
            order: log.order,
            used_bytes: log.text().len() as u64,
            capacity_bytes: log.capacity_bytes,
            wrapped: log.wrapped,
            lines: log.lines().map(line).collect(),
        };
        return Ok(context.json(dump, answer)?);
    }
    let mut out = context.out();
    if is_raw {
        out.write_all(log.text())?;
    } else {
        for line in log.lines() {
            let words = text::escape(line.text);
            let style = line.text.starts_with(b"panic: ").then_some(Style::Bad);
            writeln!(
                out,
                "{}",
                style.map_or(words.clone(), |style| out.paint(style, &words))
            )?;
        }
    }
    Ok(out.finish()?)
}

impl Advice for LogError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            Self::NeedsKernel(error) => error.advice(context),
            _ => Failure::new(self.to_string()),
        }
    }
}
