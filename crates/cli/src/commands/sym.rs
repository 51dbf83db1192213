//! `vmcore sym`: symbol to address, address to symbol.

use crate::Status;
use crate::context::{Context, KernelUse};
use crate::explain::Failure;
use crate::help;
use crate::output::{self, Style};
use crate::place::Place;
use crate::text;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::format::addr::VirtAddr;
use vmcore::kernel::KernelFile;
use vmcore::{OpenOptions, Session};

/// Symbol to address, address to symbol
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore sym [FILE] NAME[+OFF]|ADDR [OPTIONS]",
    after_help = help::with_files("Needs the kernel file.")
)]
pub(crate) struct Sym {
    /// The dump, and its kernel file; then a name or an address
    #[arg(hide = true)]
    words: Vec<OsString>,
}

/// Names that are proposed for one that does not exist.
const PROPOSALS: usize = 6;

/// The answer in JSON.
#[derive(Serialize)]
struct Answer {
    kernel: String,
    /// Empty, or one.
    symbols: Vec<Found>,
}

impl Answer {
    fn of(kernel: &KernelFile, symbols: Vec<Found>) -> Self {
        Self {
            kernel: kernel.path().display().to_string(),
            symbols,
        }
    }
}

#[derive(Serialize)]
struct Found {
    address: VirtAddr,
    name: String,
    offset_bytes: u64,
    size_bytes: Option<u64>,
    inside: bool,
}

pub(crate) fn run(context: &Context, args: &Sym) -> anyhow::Result<Status> {
    let words = context.choose(&args.words, 1..=1, "NAME|ADDR")?;
    let word = words
        .first()
        .ok_or_else(|| Failure::usage("NAME is missing"))?;
    let place = Place::parse(word)?;
    let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
    let kernel = session.matching_kernel()?;
    let found = match find(&session, kernel, &place, context) {
        Ok(found) => found,
        Err(error) => {
            // Nothing found is an empty list, and still a failure.
            if context.common().json {
                output::json(
                    context,
                    Some(session.dump()),
                    Answer::of(kernel, Vec::new()),
                )?;
            }
            return Err(error);
        }
    };
    if context.common().json {
        output::json(
            context,
            Some(session.dump()),
            Answer::of(kernel, vec![found]),
        )?;
        return Ok(Status::Done);
    }
    let mut out = context.out();
    let name = out.paint(Style::Strong, &text::escape(found.name.as_bytes()));
    let offset = match found.offset_bytes {
        0 => String::new(),
        offset => format!("+{offset:#x}"),
    };
    let size = match (found.size_bytes, found.inside) {
        (Some(size), true) => format!(" ({})", text::counted(size, "byte", "bytes")),
        (Some(size), false) => {
            format!(
                " (behind its end: it has {}; the nearest symbol before)",
                text::counted(size, "byte", "bytes")
            )
        }
        (None, _) if found.offset_bytes > 0 => {
            " (the nearest symbol before; its size is not known)".to_owned()
        }
        (None, _) => String::new(),
    };
    match place {
        Place::Address(_) => writeln!(out, "{} = {name}{offset}{size}", found.address)?,
        Place::Symbol { .. } => writeln!(out, "{name}{offset} = {}{size}", found.address)?,
    }
    out.finish()?;
    Ok(Status::Done)
}

fn find(
    session: &Session,
    kernel: &KernelFile,
    place: &Place,
    context: &Context,
) -> anyhow::Result<Found> {
    let size = |size: u64| (size > 0).then_some(size);
    match place {
        Place::Symbol { name, offset } => {
            let Some(symbol) = kernel.symbols().find(name) else {
                return Err(unknown(kernel, name, context).into());
            };
            Ok(Found {
                address: place.find(session)?.address,
                name: name.clone(),
                offset_bytes: *offset,
                size_bytes: size(symbol.size),
                inside: *offset == 0 || *offset < symbol.size,
            })
        }
        Place::Address(address) => {
            let address = VirtAddr(*address);
            let nearest = kernel.symbols().nearest(address).ok_or_else(|| {
                Failure::new(format!(
                    "no symbol of {} lies at or before {address}",
                    kernel.path().display()
                ))
                .next(context.proposal(&format!("translate {address}")))
            })?;
            Ok(Found {
                address,
                name: String::from_utf8_lossy(nearest.symbol.name).into_owned(),
                offset_bytes: nearest.offset,
                size_bytes: size(nearest.symbol.size),
                inside: nearest.inside || nearest.offset == 0,
            })
        }
    }
}

/// A name that does not exist, with some that do.
fn unknown(kernel: &KernelFile, name: &str, context: &Context) -> Failure {
    let failure = Failure::new(format!("{} has no symbol {name}", kernel.path().display()));
    if kernel.symbols().is_empty() {
        return failure
            .line("it has no symbols at all: it is stripped")
            .next(context.proposal(&format!("sym {name} -k DIR/kernel.debug")));
    }
    let wanted = name.to_lowercase();
    let mut similar: Vec<String> = kernel
        .symbols()
        .iter()
        .map(|symbol| String::from_utf8_lossy(symbol.name).into_owned())
        .filter(|known| {
            let known = known.to_lowercase();
            known.contains(&wanted) || wanted.contains(&known) && known.len() > 3
        })
        .collect();
    similar.sort_by_key(|known| (known.len(), known.clone()));
    similar.dedup();
    similar.truncate(PROPOSALS);
    match similar.first() {
        Some(best) => {
            let next = context.proposal(&format!("sym {best}"));
            failure
                .line(format!("similar: {}", similar.join(" ")))
                .next(next)
        }
        None => failure.next(format!(
            "nm {} | grep -i {name}",
            text::shell_word(kernel.path())
        )),
    }
}
