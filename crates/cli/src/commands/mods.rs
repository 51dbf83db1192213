//! `vmcore mods`: the kernel's modules and their files.

use crate::advice::{Result, Run};
use crate::context::{Context, KernelUse};
use crate::debug_files::ModulePlaces;
use crate::help;
use crate::outcome::Status;
use crate::output::Style;
use crate::text::{self, counted};
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::OpenOptions;
use vmcore_debug::modules::{self, Identity, ModuleFile, Status as Found};
use vmcore_debug::report;

/// Kernel modules, and which of their files are found
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore mods [FILE] [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file. A module's file is searched by name below --sysroot, in --modules, and in the
directory of the kernel file. \"unproven\": it fits, but its code is not in the dump to compare.
Exit status 3: the list of modules breaks off.")
)]
pub(crate) struct Mods {
    /// The dump, and its kernel file, in either order
    #[arg(hide = true)]
    words: Vec<OsString>,
    #[command(flatten)]
    places: ModulePlaces,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    modules: &'a [ModuleFile],
    problems: &'a [String],
}

impl Run for Mods {
    fn run(&self, context: &Context) -> Result<Status> {
        context.choose(&self.words, 0..=0, "")?;
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        let list = modules::list(&session)?;
        let search = self.places.search(&session);
        let files = list
            .modules
            .iter()
            .map(|module| modules::find(&session, module, &search))
            .collect::<Result<Vec<_>, _>>()?;
        let status = Status::complete_if(list.problems.is_empty());
        if context.common().json {
            let answer = Answer {
                modules: &files,
                problems: &list.problems,
            };
            context.json(Some(session.dump()), answer)?;
            return Ok(status);
        }
        let mut out = context.out();
        for file in &files {
            let name = text::escape(file.module.name.as_bytes());
            let line = format!(
                "{} {:>10}  {name:<20}",
                file.module.address,
                text::size(file.module.len_bytes)
            );
            writeln!(out, "{line} {}", out.paint(style(file), &found(file)))?;
            if context.common().verbose {
                for path in &file.tried {
                    writeln!(out, "  tried {}", text::path(path))?;
                }
            }
        }
        let total = match files.iter().filter(|file| file.file.is_some()).count() {
            _ if files.is_empty() => "no modules: all is in the kernel".to_owned(),
            count => format!(
                "{}, {count} with a file",
                counted(files.len() as u64, "module", "modules")
            ),
        };
        writeln!(out, "{}", out.paint(Style::Faint, &total))?;
        out.finish()?;
        for problem in report::alike_once(list.problems.clone()) {
            let problem = text::escape(problem.as_bytes());
            context.note(&format!("vmcore: the list breaks off: {problem}"));
        }
        Ok(status)
    }
}

const fn style(file: &ModuleFile) -> Style {
    match file.status {
        Found::Found { .. } => Style::Good,
        Found::Mismatched { .. } => Style::Bad,
        Found::Missing => Style::Warning,
    }
}

/// What became of the search for a module's file.
fn found(file: &ModuleFile) -> String {
    match &file.status {
        Found::Found { debug, identity } => {
            let path = file.file.as_deref().map(text::path).unwrap_or_default();
            let debug = if *debug { ", with types and lines" } else { "" };
            let identity = match identity {
                Identity::TextEqual => "its code is in memory",
                Identity::Unproven => "identity unproven",
            };
            format!("{path}: {identity}{debug}")
        }
        Found::Mismatched { reason } => {
            format!("another module's file: {}", text::escape(reason.as_bytes()))
        }
        Found::Missing => "no file".to_owned(),
    }
}
