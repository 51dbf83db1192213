//! `vmcore why`: the reason for a crash, with its evidence.

use crate::advice::{Result, Run};
use crate::context::{Context, KernelUse};
use crate::debug_files::ModulePlaces;
use crate::help;
use crate::outcome::Status;
use crate::output::Style;
use crate::text;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::OpenOptions;
use vmcore_debug::reason::{self, Reason};
use vmcore_debug::{Target, report};

/// Why a thread crashed, and how that is known
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore why [FILE] [TID] [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file with its debug information. It explains what the processor refused: an access, with
the register that was bad, the variable in it and the member, a call of what is not code, an overflow of
the stack, a division by zero; and panics about locks, lists, freed memory, counts of references and
failed assertions. Each line below the first says how that is known. Without TID: the thread that crashed.
Exit status 3: nothing is known; vmcore bt and vmcore dis show what there is.")
)]
pub(crate) struct Why {
    /// The dump, and its kernel file; then a thread id
    #[arg(hide = true)]
    words: Vec<OsString>,
    #[command(flatten)]
    places: ModulePlaces,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer {
    tid: i32,
    reason: Option<Reason>,
}

impl Run for Why {
    fn run(&self, context: &Context) -> Result<Status> {
        let words = context.choose(&self.words, 0..=1, "TID")?;
        let wanted = words.first().map(super::bt::parse_tid).transpose()?;
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        let files = self.places.open(&session)?;
        let target = Target::new(&session, &files)?;
        let list = target.processes()?;
        let thread = super::bt::thread_of(context, &list, wanted)?;
        let answer = Answer {
            tid: thread.tid,
            reason: reason::of(&target, &list, thread),
        };
        let status = match answer.reason {
            Some(_) => Status::Done,
            None => Status::Incomplete,
        };
        if context.common().json {
            context.json(Some(session.dump()), &answer)?;
        } else {
            let root = report::source_root(&target.stack(thread).frames).unwrap_or_default();
            let short = |words: &str| match root.is_empty() {
                true => text::escape(words.as_bytes()),
                false => text::escape(words.replace(&root, "").as_bytes()),
            };
            let mut out = context.out();
            match &answer.reason {
                Some(reason) => {
                    let headline = short(&reason.headline);
                    writeln!(out, "{}", out.paint(Style::Bad, &headline))?;
                    for line in &reason.evidence {
                        writeln!(out, "  {}", short(line))?;
                    }
                }
                None => writeln!(out, "nothing is known beyond what report and bt show")?,
            }
            out.finish()?;
        }
        context.note_debug(&files);
        Ok(status)
    }
}
