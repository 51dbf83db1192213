//! `vmcore translate`: the page walk of an address, each level, to page and file offset.

use crate::advice::{Advice, Result, Run, memory};
use crate::context::Context;
use crate::help;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::place::Place;
use crate::text;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore::format::paging::{Entry, Prot, Step, TableRef};
use vmcore::memory::PageReadError;
use vmcore::translation::{PagingMode, Translated, TranslationError, Via};
use vmcore::windows::{FullDumps, full_dumps};
use vmcore::{OpenOptions, Session};

/// Page walk of an address, to its file offset
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore translate [FILE] ADDR|SYMBOL[+OFF] [OPTIONS]",
    after_help = help::with_files("A full dump needs its kernel file; a minidump does not.")
)]
pub(crate) struct Translate {
    /// The dump, and its kernel file if you like; then the address
    #[arg(hide = true)]
    words: Vec<OsString>,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer {
    address: VirtAddr,
    symbol: Option<String>,
    steps: Vec<StepAnswer>,
    via: Option<Via>,
    physical_address: Option<PhysAddr>,
    page_bytes: Option<u64>,
    protection: Option<Prot>,
    file_offset: Option<FileOffset>,
    missing: Option<&'static str>,
}

#[derive(Serialize)]
struct StepAnswer {
    entry: &'static str,
    level: u32,
    table: Option<PhysAddr>,
    index: u64,
    value: String,
}

/// What a walk met.
struct Walk {
    steps: Vec<(PagingMode, Step)>,
    end: Result<Translated, TranslationError>,
    /// Where in the file it ends.
    offset: Option<Result<FileOffset, PageReadError>>,
}

impl Run for Translate {
    fn run(&self, context: &Context) -> Result<Status> {
        let word = &context.choose_with(&self.words, "ADDR")?;
        let place = Place::parse(word)?;
        let kernel_use = place.kernel_use();
        let session = context.open(kernel_use, &OpenOptions::default())?;
        let va = place.find(&session)?.address;
        let space = session.space()?;
        let mut steps = Vec::new();
        let memory = session.dump().memory();
        let end = space
            .translation()
            .trace(memory, va, |mode, step| steps.push((mode, step)));
        let offset = end.as_ref().ok().map(|found| memory.locate(found.leaf.pa));
        let walk = Walk { steps, end, offset };
        if context.common().json {
            context.json(Some(session.dump()), answer(&session, va, &walk))?;
        } else {
            print(context, &session, va, &walk)?;
        }
        match (walk.end, walk.offset) {
            (Ok(_), Some(Ok(_))) => Ok(Status::Done),
            (Err(fault @ TranslationError::TableAbsent { .. }), _) => {
                note_failure(context, &fault.advice(context));
                Ok(Status::Incomplete)
            }
            // The walk is the whole answer; that it ends early is its last line.
            (Ok(_), _) => Ok(Status::Incomplete),
            (Err(fault), _) => {
                // The walk has said all but this.
                let failure = fault.advice(context);
                Err(failure.instead(context.suggest("info")).into())
            }
        }
    }
}

fn note_failure(context: &Context, failure: &Failure) {
    context.note(&format!(
        "vmcore: {}",
        text::escape(failure.sentence().as_bytes())
    ));
}

/// `hz+0x4`, if a matching kernel has a symbol there.
fn symbol(session: &Session, va: VirtAddr) -> Option<String> {
    let nearest = session.matching_kernel().ok()?.symbols().nearest(va)?;
    let name = text::escape(nearest.symbol.name);
    match (nearest.inside, nearest.offset) {
        (_, 0) => Some(name),
        (true, offset) => Some(format!("{name}+{offset:#x}")),
        (false, _) => None,
    }
}

fn answer(session: &Session, va: VirtAddr, walk: &Walk) -> Answer {
    let step = |(mode, step): &(PagingMode, Step)| StepAnswer {
        entry: mode.entry_name(step.level),
        level: step.level,
        table: match step.table {
            TableRef::At(pa) => Some(pa),
            TableRef::Section => None,
        },
        index: step.index,
        value: format!("{:#x}", step.raw),
    };
    let found = walk.end.as_ref().ok();
    Answer {
        address: va,
        symbol: symbol(session, va),
        steps: walk.steps.iter().map(step).collect(),
        via: found.map(|found| found.via),
        physical_address: found.map(|found| found.leaf.pa),
        page_bytes: found.map(|found| found.leaf.len_bytes()),
        protection: found.map(|found| found.leaf.prot),
        file_offset: walk.offset.and_then(Result::ok),
        missing: match (&walk.end, &walk.offset) {
            (Err(fault), _) => Some(memory::hole(fault).0),
            (Ok(_), Some(Err(reason))) => Some(memory::absence_of(reason).0),
            _ => None,
        },
    }
}

fn print(context: &Context, session: &Session, va: VirtAddr, walk: &Walk) -> Result<()> {
    let mut out = context.out();
    let name = symbol(session, va)
        .map(|name| format!("  {name}"))
        .unwrap_or_default();
    writeln!(out, "{}{name}", out.paint(Style::Strong, &va.to_string()))?;
    for (mode, step) in &walk.steps {
        let meaning = match step.entry {
            Entry::Absent => out.paint(Style::Warning, "not valid"),
            Entry::Table(pa) => format!("table at {pa}"),
            Entry::Leaf(leaf) => format!(
                "{} page at {}, {}",
                text::size(leaf.len_bytes()),
                leaf.pa,
                leaf.prot
            ),
        };
        let label = out.paint(Style::Label, &format!("{:<9}", mode.entry_name(step.level)));
        let entry = format!("{} of {}", step.index, step.table);
        writeln!(out, "  {label} {entry:<34} {:#018x}  {meaning}", step.raw)?;
    }
    match &walk.end {
        Ok(found) => {
            let how = match found.via {
                Via::DirectMap => Some("direct map"),
                Via::Segment => Some("a segment of the core"),
                // Tables without levels, in which an address is found by its number.
                Via::PageTables if walk.steps.is_empty() => match full_dumps(session.dump().arch())
                {
                    FullDumps::TranslationBuffer => Some("the translation storage buffer"),
                    _ => Some("the hashed page table"),
                },
                Via::PageTables => None,
            };
            if let Some(how) = how {
                writeln!(out, "  {} {how}", out.paint(Style::Label, "by       "))?;
            }
            writeln!(
                out,
                "  {} {}",
                out.paint(Style::Label, "physical "),
                found.leaf.pa
            )?;
            match &walk.offset {
                Some(Ok(offset)) => {
                    writeln!(out, "  {} {offset}", out.paint(Style::Label, "file     "))?
                }
                Some(Err(reason)) => {
                    let words = out.paint(Style::Warning, &reason.to_string());
                    writeln!(
                        out,
                        "  {} not there: {words}",
                        out.paint(Style::Label, "file     ")
                    )?;
                }
                None => {}
            }
        }
        Err(TranslationError::TableAbsent {
            reason,
            table,
            entry,
            ..
        }) => {
            let words = out.paint(Style::Warning, &reason.to_string());
            writeln!(
                out,
                "  {} {table} cannot be read: {words}",
                out.paint(Style::Label, &format!("{entry:<9}"))
            )?;
        }
        Err(_) => {}
    }
    Ok(out.finish()?)
}
