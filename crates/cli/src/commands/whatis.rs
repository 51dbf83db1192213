//! `vmcore whatis`: what an address is.

use crate::advice::{Result, Run};
use crate::context::{Context, KernelUse};
use crate::debug_files::ModulePlaces;
use crate::help;
use crate::outcome::Status;
use crate::output::Style;
use crate::place::Place;
use crate::text;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::OpenOptions;
use vmcore::format::addr::VirtAddr;
use vmcore_debug::Target;
use vmcore_debug::report;
use vmcore_debug::whatis::{self, Fact};

/// What an address is: symbol, process, thread, stack, zone item
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore whatis [FILE] ADDR [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file; with its debug information it names members of structures, stacks, and items
of the kernel's allocator with their zone. ADDR is an address, a symbol, or symbol+offset.")
)]
pub(crate) struct WhatIs {
    /// The dump, and its kernel file; then an address or symbol
    #[arg(hide = true)]
    words: Vec<OsString>,
    #[command(flatten)]
    places: ModulePlaces,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    address: VirtAddr,
    facts: &'a [Fact],
    problems: &'a [String],
}

impl Run for WhatIs {
    fn run(&self, context: &Context) -> Result<Status> {
        let word = &context.choose_with(&self.words, "ADDR")?;
        let place = Place::parse(word)?;
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        let files = self.places.open(&session)?;
        let address = place.find_in(&session, &files)?.address;
        let target = Target::new(&session, &files)?;
        let list = target.processes()?;
        let facts = whatis::at(&target, &list, address);
        let status = Status::complete_if(list.problems.is_empty());
        if context.common().json {
            let answer = Answer {
                address,
                facts: &facts,
                problems: &list.problems,
            };
            context.json(Some(session.dump()), answer)?;
            context.note_debug(&files);
            return Ok(status);
        }
        let mut out = context.out();
        let address = address.to_string();
        writeln!(out, "{}", out.paint(Style::Strong, &address))?;
        for fact in &facts {
            writeln!(out, "  {}", text::escape(fact.to_string().as_bytes()))?;
        }
        out.finish()?;
        for problem in report::alike_once(list.problems.clone()) {
            let problem = text::escape(problem.as_bytes());
            context.note(&format!("vmcore: a list breaks off: {problem}"));
        }
        context.note_debug(&files);
        Ok(status)
    }
}
