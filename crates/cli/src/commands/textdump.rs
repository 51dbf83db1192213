//! What the commands answer about a textdump: `info`, `log` and `report`, from the files in it.

use crate::advice::Result;
use crate::context::Context;
use crate::outcome::{Failure, Status};
use crate::output::{Out, Style};
use crate::text::{self, counted};
use serde::Serialize;
use std::io::{self, Write as _};
use vmcore::info::Known;
use vmcore::log::Log;
use vmcore::textdump::{Info, Textdump};

/// Lines of the message buffer in a report; `vmcore log` has all.
const LOG_LINES: usize = 40;
/// What a report begins with.
const PANIC: &str = "PANIC";

/// A report about a textdump in JSON.
#[derive(Serialize)]
struct Report {
    info: Info,
    /// What DDB printed.
    ddb: Vec<String>,
    /// The end of the message buffer.
    log: Vec<String>,
}

/// Whether the archive has all of its files.
pub(super) fn status(textdump: &Textdump) -> Status {
    Status::complete_if(textdump.is_complete())
}

pub(crate) fn info(context: &Context, textdump: &Textdump) -> Result<Status> {
    let info = textdump.info();
    if context.common().json {
        context.json(None, info)?;
        return Ok(Status::Done);
    }
    let mut out = context.out();
    let file = out.paint(Style::Strong, &text::path(textdump.path()));
    let state = match textdump.is_complete() {
        true => "complete",
        false => "cut",
    };
    writeln!(out, "{file}: textdump, {state}")?;
    facts(&mut out, &info, "panic", 9, "  ")?;
    out.finish()?;
    Ok(Status::Done)
}

/// What is known of the crash, and the files. The panic message is what `first` says.
fn facts(out: &mut Out, info: &Info, first: &str, width: usize, indent: &str) -> io::Result<()> {
    let mut line = |label: &str, value: &str, source: &str| {
        let style = match label {
            PANIC => Style::Bad,
            _ => Style::Label,
        };
        let label = out.paint(style, &format!("{label:<width$}"));
        let source = match source {
            "" => String::new(),
            source => out.paint(Style::Faint, &format!("  ({source})")),
        };
        writeln!(
            out,
            "{indent}{label} {}{source}",
            text::escape(value.as_bytes())
        )
    };
    let known: [(&str, &Option<Known>); 4] = [
        (first, &info.panic),
        ("version", &info.kernel_version),
        ("host", &info.host),
        ("crashed", &info.crashed),
    ];
    for (label, known) in known {
        match known {
            Some(known) => line(label, &known.value, &known.sources.join(", "))?,
            None => line(label, "unknown", "")?,
        }
    }
    if !info.layers.is_empty() {
        let layers: Vec<String> = info.layers.iter().map(ToString::to_string).collect();
        line("inside", &layers.join(", "), "")?;
    }
    let mut label = "files";
    for file in &info.files {
        let mut words = format!(
            "{}, {}",
            file.name,
            counted(file.size_bytes, "byte", "bytes")
        );
        if file.missing_bytes > 0 {
            words += &format!(
                "; {} are missing",
                counted(file.missing_bytes, "byte", "bytes")
            );
        }
        line(label, &words, "")?;
        label = "";
    }
    Ok(())
}

/// The message buffer of a textdump.
pub(super) fn message_buffer(context: &Context, textdump: &Textdump) -> Result<Log, Failure> {
    textdump.log().map(Log::of_text).ok_or_else(|| {
        let file = text::path(textdump.path());
        Failure::new(format!("{file} is a textdump without a message buffer"))
            .next(context.suggest("report"))
    })
}

pub(crate) fn report(
    context: &Context,
    textdump: &Textdump,
    is_shared: bool,
    is_html: bool,
) -> Result<Status> {
    if is_shared || is_html {
        let file = text::path(textdump.path());
        let option = if is_shared { "--share" } else { "--html" };
        let failure = Failure::new(format!(
            "{file} is a textdump, of which there is no {option}"
        ));
        let why = "its files are free text: read them before giving them away";
        return Err(failure.line(why).next(context.suggest("report")).into());
    }
    let log = textdump.log().map(Log::of_text);
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut lines: Vec<String> = log
        .iter()
        .flat_map(Log::lines)
        .map(|line| words(line.text))
        .collect();
    lines.drain(..lines.len().saturating_sub(LOG_LINES));
    let ddb = textdump.ddb().map(words).unwrap_or_default();
    let report = Report {
        info: textdump.info(),
        ddb: ddb.lines().map(str::to_owned).collect(),
        log: lines,
    };
    if context.common().json {
        context.json(None, report)?;
        return Ok(status(textdump));
    }
    let mut out = context.out();
    facts(&mut out, &report.info, PANIC, 7, "")?;
    let log_heading = "LOG     its last lines (vmcore log for all)";
    for (heading, lines) in [("DDB", &report.ddb), (log_heading, &report.log)] {
        if lines.is_empty() {
            continue;
        }
        writeln!(out, "\n{}", out.paint(Style::Label, heading))?;
        for line in lines {
            writeln!(out, "  {}", text::escape(line.as_bytes()))?;
        }
    }
    out.finish()?;
    Ok(status(textdump))
}
