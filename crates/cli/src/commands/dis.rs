//! `vmcore dis`: machine code, with source lines and symbols.

use crate::advice::{Result, Run};
use crate::context::{Context, KernelUse};
use crate::debug_files::ModulePlaces;
use crate::help;
use crate::outcome::{Failure, Status};
use crate::output::{Out, Style};
use crate::place;
use crate::text;
use clap::Args;
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::ops::Range;
use vmcore::OpenOptions;
use vmcore::format::addr::VirtAddr;
use vmcore_debug::Target;
use vmcore_debug::expr::SymbolSource as _;
use vmcore_debug::instructions::{self, Instruction};
use vmcore_debug::report;

/// Machine code with source lines and symbols
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore dis [FILE] [FUNCTION|ADDR[,+LEN]] [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file. Without an argument: around the instruction that crashed, marked =>. ADDR gives
the function around it; ADDR,+LEN that many bytes. Instructions come from the dump, else from the kernel
file; where the two differ, both are shown.")
)]
pub(crate) struct Dis {
    /// The dump, and its kernel file; then a function or an address
    #[arg(hide = true)]
    words: Vec<OsString>,
    #[command(flatten)]
    places: ModulePlaces,
}

/// Instructions before and after the one that crashed.
const AROUND: usize = 12;
/// Columns of the bytes of an instruction.
const BYTES_WIDTH: usize = 24;

/// The answer in JSON.
#[derive(Serialize)]
struct Answer {
    function: Option<String>,
    start: VirtAddr,
    pc: Option<VirtAddr>,
    instructions: Vec<Line>,
    missing: Option<VirtAddr>,
}

/// An instruction and the source line that it begins.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    instruction: Instruction,
    /// `netinet/flow.c:212`, if it differs from that of the instruction before.
    source: Option<String>,
}

/// What is to be decoded.
struct Wanted {
    range: Range<u64>,
    pc: Option<VirtAddr>,
    /// Only so many instructions around the pc.
    is_around: bool,
}

impl Run for Dis {
    fn run(&self, context: &Context) -> Result<Status> {
        let words = context.choose(&self.words, 0..=1, "FUNCTION|ADDR[,+LEN]")?;
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        let files = self.places.open(&session)?;
        let target = Target::new(&session, &files)?;
        let pc = pc_at_fault(&target)?;
        let wanted = match words.first() {
            Some(word) => named(context, &target, word, pc)?,
            None => around_crash(context, &target, pc)?,
        };
        let len = wanted.range.end.saturating_sub(wanted.range.start);
        let decoded = target.instructions_of(VirtAddr(wanted.range.start), len);
        let mut lines = with_sources(&target, decoded.list);
        if let (Some(pc), true) = (wanted.pc, wanted.is_around)
            && let Some(at) = lines.iter().position(|line| line.instruction.address == pc)
        {
            lines.truncate(at + AROUND + 1);
            lines.drain(..at.saturating_sub(AROUND));
        }
        let answer = Answer {
            function: target.function_at(VirtAddr(wanted.range.start)),
            start: VirtAddr(wanted.range.start),
            pc: wanted.pc.filter(|pc| wanted.range.contains(&pc.0)),
            instructions: lines,
            missing: decoded.missing,
        };
        let status = match answer.missing {
            Some(_) => Status::Incomplete,
            None => Status::Done,
        };
        if context.common().json {
            context.json(Some(session.dump()), &answer)?;
        } else {
            let mut out = context.out();
            print(&mut out, &answer)?;
            out.finish()?;
        }
        context.note_debug(&files);
        Ok(status)
    }
}

/// The program counter of the frame at fault of the thread that crashed.
fn pc_at_fault(target: &Target<'_>) -> Result<Option<VirtAddr>> {
    let list = target.processes()?;
    let mut threads = list.threads();
    Ok(threads.find(|thread| thread.crashed).and_then(|thread| {
        let stack = target.stack(thread);
        let at = report::frame_at_fault(&stack.frames)?;
        Some(stack.frames.get(at)?.frame.pc)
    }))
}

fn around_crash(context: &Context, target: &Target<'_>, pc: Option<VirtAddr>) -> Result<Wanted> {
    let Some(pc) = pc else {
        return Err(
            Failure::new("no thread crashed: name a function or an address")
                .next(context.suggest("ps"))
                .into(),
        );
    };
    let (start, len) = target.function_around(pc).unwrap_or((pc, 64));
    Ok(Wanted {
        range: start.0..start.0.saturating_add(len),
        pc: Some(pc),
        is_around: true,
    })
}

fn named(
    context: &Context,
    target: &Target<'_>,
    word: &OsStr,
    pc: Option<VirtAddr>,
) -> Result<Wanted> {
    let (name, len) = match word.to_str().and_then(|word| word.split_once(',')) {
        Some((name, len)) => {
            let len = len
                .strip_prefix('+')
                .and_then(|len| place::length(OsStr::new(len)).ok());
            let len = len.filter(|len| (1..=instructions::MAX_BYTES).contains(len));
            let bad = || Failure::usage("LEN is +0x40, +64 or +4k, at most 1m");
            (OsStr::new(name), Some(len.ok_or_else(bad)?))
        }
        None => (word, None),
    };
    let address = match place::Place::parse(name)? {
        place::Place::Address(address) => VirtAddr(address),
        place::Place::Symbol { name, offset } => {
            let symbol = target.symbol(&name);
            let address = symbol.and_then(|symbol| symbol.checked_add(offset));
            address.ok_or_else(|| {
                Failure::new(format!("no symbol {name} in the kernel and its modules"))
                    .next(context.suggest(&format!("sym {name}")))
            })?
        }
    };
    let range = match len {
        Some(len) => address.0..address.0.saturating_add(len),
        None => {
            let (start, len) = target.function_around(address).unwrap_or((address, 64));
            start.0..start.0.saturating_add(len)
        }
    };
    Ok(Wanted {
        range,
        pc,
        is_around: false,
    })
}

fn with_sources(target: &Target<'_>, list: Vec<Instruction>) -> Vec<Line> {
    let mut last = None;
    let list = list.into_iter();
    list.map(|instruction| {
        let places = target.places(instruction.address);
        let source = places.first().and_then(|place| {
            let file = place.file.as_deref()?;
            let line = place.line?;
            let inlined = match place.inlined {
                true => format!(" ({}, inlined)", place.function),
                false => String::new(),
            };
            Some(format!("{file}:{line}{inlined}"))
        });
        let is_new = source.is_some() && source != last;
        if source.is_some() {
            last.clone_from(&source);
        }
        Line {
            instruction,
            source: source.filter(|_| is_new),
        }
    })
    .collect()
}

fn print(out: &mut Out, answer: &Answer) -> io::Result<()> {
    if let Some(function) = &answer.function {
        let heading = text::escape(function.as_bytes());
        writeln!(out, "{}:", out.paint(Style::Strong, &heading))?;
    }
    for Line {
        instruction,
        source,
    } in &answer.instructions
    {
        if let Some(source) = source {
            let source = text::escape(source.as_bytes());
            writeln!(out, "  {}", out.paint(Style::Faint, &source))?;
        }
        let is_pc = answer.pc == Some(instruction.address);
        let mark = if is_pc { "=>" } else { "  " };
        let offset = instruction.address.0.wrapping_sub(answer.start.0);
        let symbol = instruction.refers_to.as_ref();
        let symbol = symbol.and_then(|to| to.symbol.as_deref());
        let symbol = symbol.map_or_else(String::new, |name| {
            format!("  <{}>", text::escape(name.as_bytes()))
        });
        let bytes = instructions::hex(&instruction.bytes);
        let line = format!(
            "{mark} {} +{offset:<#6x} {bytes:BYTES_WIDTH$} {}{symbol}",
            instruction.address,
            text::escape(instruction.text.as_bytes())
        );
        match is_pc {
            true => writeln!(out, "{}", out.paint(Style::Bad, &line))?,
            false => writeln!(out, "{line}")?,
        }
        if let Some(original) = &instruction.in_file {
            let words = format!(
                "     patched: in the file {}",
                text::escape(original.as_bytes())
            );
            writeln!(out, "{}", out.paint(Style::Warning, &words))?;
        }
    }
    match answer.missing {
        Some(at) => {
            let words = format!("-- {at} is neither in the dump nor in the kernel file");
            writeln!(out, "{}", out.paint(Style::Faint, &words))
        }
        None => Ok(()),
    }
}
