//! `vmcore list`: the dumps in a directory.

use crate::advice::{Result, Run};
use crate::context::Context;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::text;
use clap::Args;
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use vmcore::info::Known;
use vmcore::list::{self, CRASH_DIRECTORY, Entry, State};

/// Dumps in a directory: state, size, kernel, host, panic
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore list [DIR] [OPTIONS]",
    after_help = "The newest comes first: it is what commands without FILE open, if its name is vmcore.N or\n\
                  vmcore.HOST.N. Other dumps are listed if their names have vmcore in them."
)]
pub(crate) struct List {
    /// The directory [default: /var/crash]
    #[arg(value_name = "DIR", conflicts_with = "directory")]
    place: Option<PathBuf>,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer {
    directory: String,
    dumps: Vec<Entry>,
}

impl Run for List {
    fn run(&self, context: &Context) -> Result<Status> {
        let common = context.common();
        let directory = self.place.as_deref().or(common.directory.as_deref());
        let directory = directory.unwrap_or(Path::new(CRASH_DIRECTORY));
        let places = context.kernel_places();
        let mut dumps = list::list(directory, &places)
            .map_err(|error| Failure::new(text::os_error(&error)).next("vmcore list DIR"))?;
        if let Some(number) = common.number {
            dumps.retain(|dump| dump.number == Some(number));
        }
        if common.json {
            let directory = directory.display().to_string();
            context.json(None, Answer { directory, dumps })?;
            return Ok(Status::Done);
        }
        if dumps.is_empty() {
            context.note(&format!("vmcore: no dump in {}", text::path(directory)));
            return Ok(Status::Done);
        }
        print(context, &dumps)?;
        Ok(Status::Done)
    }
}

/// A cell of the table, and how it looks.
type Cell = (String, Option<Style>);

fn print(context: &Context, dumps: &[Entry]) -> Result<()> {
    let mut out = context.out();
    let heading = [
        "DUMP", "STATE", "SIZE", "CRASHED", "KERNEL", "HOST", "PANIC",
    ];
    let mut rows = vec![heading.map(|name| (name.to_owned(), Some(Style::Label)))];
    rows.extend(dumps.iter().map(|dump| row(dump, context.common().verbose)));
    let mut widths = [0; 7];
    for row in &rows {
        for (width, (text, _)) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (width, (text, style)) in widths.iter().zip(row) {
            let gap = width.saturating_sub(text.chars().count()) + 2;
            let text = style.map_or_else(|| text.clone(), |style| out.paint(style, text));
            line.push_str(&format!("{text}{:gap$}", ""));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    for dump in dumps {
        if let State::Unreadable { reason } = &dump.state {
            writeln!(
                out,
                "{}",
                out.paint(Style::Faint, &text::escape(reason.as_bytes()))
            )?;
        }
    }
    Ok(out.finish()?)
}

fn row(dump: &Entry, verbose: bool) -> [Cell; 7] {
    let (state, style) = match &dump.state {
        State::Complete => ("complete".to_owned(), Style::Good),
        State::Truncated {
            missing_bytes: Some(bytes),
        } => (format!("truncated by {}", text::size(*bytes)), Style::Bad),
        State::Truncated {
            missing_bytes: None,
        } => ("truncated".to_owned(), Style::Bad),
        State::Compressed { how } => (format!("compressed ({how})"), Style::Warning),
        State::Encrypted => ("encrypted".to_owned(), Style::Warning),
        State::Textdump => ("textdump".to_owned(), Style::Good),
        State::Unreadable { .. } => ("unreadable".to_owned(), Style::Bad),
    };
    let is_open = matches!(dump.state, State::Complete | State::Truncated { .. });
    let kernel = match (&dump.kernel, is_open) {
        (Some(kernel), _) if verbose => (text::escape(kernel.as_bytes()), None),
        (Some(_), _) => ("found".to_owned(), None),
        (None, true) => ("missing".to_owned(), Some(Style::Warning)),
        (None, false) => ("-".to_owned(), None),
    };
    let known = |known: &Option<Known>| {
        let value = known.as_ref().map_or_else(
            || "-".to_owned(),
            |known| text::escape(known.value.as_bytes()),
        );
        (value, None)
    };
    [
        (
            dump.path
                .file_name()
                .map(|name| text::path(Path::new(name)))
                .unwrap_or_default(),
            Some(Style::Strong),
        ),
        (state, Some(style)),
        (text::size(dump.size_bytes), None),
        known(&dump.crashed),
        kernel,
        known(&dump.host),
        known(&dump.panic),
    ]
}
