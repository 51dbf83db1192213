//! `vmcore verify`: read and check everything.

use crate::advice::{Result, Run, opening};
use crate::context::{Context, KernelUse};
use crate::help;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::progress::Progress;
use crate::text;
use clap::Args;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::format::layout::Section;
use vmcore::pages;
use vmcore::verify::{self, Verdict};
use vmcore::{OpenOptions, Session};

/// Read and check everything
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore verify [FILE] [OPTIONS]",
    after_help = help::with_files("\
Exit status: 0 no damage found, 1 the dump is damaged, 3 the file is truncated.
Needs no kernel file, but checks it if there is one.")
)]
pub(crate) struct Verify {
    /// The dump, and its kernel file if you like, in either order
    #[arg(hide = true)]
    words: Vec<OsString>,
}

impl Run for Verify {
    fn run(&self, context: &Context) -> Result<Status> {
        context.choose(&self.words, 0..=0, "")?;
        // A file that ends early is what this is for.
        let options = OpenOptions {
            up_to: Section::Bitmap,
            ..OpenOptions::default()
        };
        let session = context.open(KernelUse::Symbols, &options)?;
        let total = pages::page_count(session.dump().memory())?;
        let mut progress = Progress::new(context, "reading");
        let verification = verify::verify(&session, |done| progress.at(done, total))?;
        drop(progress);
        if context.common().json {
            context.json(Some(session.dump()), &verification)?;
        } else {
            print(context, &session, &verification)?;
        }
        let bad: Vec<&str> = verification
            .checks
            .iter()
            .filter(|check| check.verdict == Verdict::Bad)
            .map(|check| check.name)
            .collect();
        let dump = text::path(session.dump().path());
        match opening::truncation(&session) {
            _ if bad.is_empty() => Ok(Status::Done),
            Some(why) => {
                context.note(&format!(
                    "vmcore: {dump} is {why}; copy it again, from the machine that crashed"
                ));
                Ok(Status::Incomplete)
            }
            None => Err(
                Failure::new(format!("{dump} is not sound: {}", bad.join(", ")))
                    .next(context.suggest("info"))
                    .into(),
            ),
        }
    }
}

fn print(context: &Context, session: &Session, verification: &verify::Verification) -> Result<()> {
    let mut out = context.out();
    for check in &verification.checks {
        let (word, style) = match check.verdict {
            Verdict::Sound => ("ok", Style::Good),
            Verdict::Skipped => ("-", Style::Faint),
            Verdict::Warning => ("warn", Style::Warning),
            Verdict::Bad => ("BAD", Style::Bad),
        };
        let word = out.paint(style, &format!("{word:<4}"));
        let name = out.paint(Style::Label, &format!("{:<15}", check.name));
        writeln!(
            out,
            "{word} {name} {}",
            text::escape(check.detail.as_bytes())
        )?;
    }
    let (word, style) = match verification.worst() {
        Verdict::Bad if opening::truncation(session).is_some() => ("truncated", Style::Bad),
        Verdict::Bad => ("not sound", Style::Bad),
        Verdict::Warning => ("usable, with warnings", Style::Warning),
        Verdict::Sound | Verdict::Skipped => ("sound", Style::Good),
    };
    let file = out.paint(Style::Strong, &text::path(session.dump().path()));
    writeln!(out, "{file}: {}", out.paint(style, word))?;
    Ok(out.finish()?)
}
