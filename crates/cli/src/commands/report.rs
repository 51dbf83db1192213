//! `vmcore report`: a one-page crash report as text, JSON or HTML.

use crate::advice::{Result, Run};
use crate::commands::{map_svg, report_html, textdump};
use crate::context::{Context, KernelUse, Opened};
use crate::debug_files::ModulePlaces;
use crate::help;
use crate::outcome::Status;
use crate::output::Style;
use crate::signals;
use crate::text;
use clap::Args;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use vmcore::dump::Completeness;
use vmcore::{OpenOptions, map};
use vmcore_debug::{Target, report};
use vmcore_pipeline::output::OutputFile;

/// Cells of the picture of memory.
const CELLS: u64 = 1200;

/// One-page crash report: cause, stack, CPUs, threads, memory
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore report [FILE] [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file; with kernel.debug it has lines of source, locks and wait messages. sig is equal
for equal crashes. A report never holds arguments or the environment of processes; names of processes
and threads are in it.")
)]
pub(crate) struct ReportArgs {
    /// The dump, and its kernel file, in either order
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// For publication: no host names, directories or addresses; text from the kernel only
    #[arg(long)]
    share: bool,
    /// Write a self-contained HTML file
    #[arg(long, value_name = "OUT", conflicts_with = "json")]
    html: Option<PathBuf>,
    #[command(flatten)]
    places: ModulePlaces,
}

impl Run for ReportArgs {
    fn run(&self, context: &Context) -> Result<Status> {
        signals::clean_up_when_ended();
        context.choose(&self.words, 0..=0, "")?;
        let session = match context.open_or_text(KernelUse::Symbols, &OpenOptions::default())? {
            Opened::Memory(session) => *session,
            Opened::Text(text) => {
                return textdump::report(context, &text, self.share, self.html.is_some());
            }
        };
        let files = self.places.open(&session)?;
        let target = Target::new(&session, &files)?;
        let list = target.processes()?;
        let report = report::of(&target, &list)?;
        let share = self.share.then(|| report::Share::new(&target, &report));
        let is_complete = matches!(report.info.state, Completeness::Complete { .. });
        let is_whole = list.problems.is_empty() && is_complete;
        let status = Status::complete_if(is_whole);
        if context.common().json {
            match &share {
                Some(share) => context.json(Some(session.dump()), share)?,
                None => context.json(Some(session.dump()), &report)?,
            }
            return Ok(status);
        }
        let shown = share.as_ref().map_or(&report, report::Share::report);
        if let Some(path) = &self.html {
            // Where pages are is in the picture, but not in a share.
            let map = match &share {
                Some(_) => String::new(),
                None => map_svg::embedded("Memory in the dump", &map::map(&session, CELLS)?),
            };
            let page = report_html::page(shown, &map);
            let mut file = OutputFile::create(path, context.common().force)?;
            let written = file.file().write_all(page.as_bytes());
            written.map_err(|error| file.error(error))?;
            file.commit()?;
            let mut out = context.out();
            writeln!(out, "{}", text::path(path))?;
            out.finish()?;
            return Ok(status);
        }
        let mut out = context.out();
        for line in shown.to_string().lines() {
            // Labels are in the first columns, their values are indented.
            let line = match line.split_once(' ') {
                Some((label, rest)) if !label.is_empty() => {
                    let style = match label {
                        "PANIC" => Style::Bad,
                        _ => Style::Label,
                    };
                    format!("{} {rest}", out.paint(style, label))
                }
                _ => line.to_owned(),
            };
            writeln!(out, "{line}")?;
        }
        out.finish()?;
        Ok(status)
    }
}
