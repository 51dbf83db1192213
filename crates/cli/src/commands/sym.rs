//! `vmcore sym`: symbol to address, address to symbol.

use crate::advice::{Result, Run};
use crate::context::{Context, KernelUse};
use crate::debug_files::ModulePlaces;
use crate::help;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::place::{Place, offset_too_large, symbol_named};
use crate::text;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::format::addr::VirtAddr;
use vmcore::kernel::KernelFile;
use vmcore::{OpenOptions, Session};
use vmcore_debug::lines::demangled;
use vmcore_debug::target::linked_address;

/// Symbol to address, address to symbol
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore sym [FILE] NAME[+OFF]|ADDR [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file. Symbols of the loaded modules are known where their files are found.")
)]
pub(crate) struct Sym {
    /// The dump, and its kernel file; then a name or an address
    #[arg(hide = true)]
    words: Vec<OsString>,
    #[command(flatten)]
    places: ModulePlaces,
}

/// Names that are proposed for one that does not exist.
const PROPOSALS: usize = 6;

/// The answer in JSON.
#[derive(Serialize)]
struct Answer {
    kernel: String,
    /// Empty, or one.
    symbols: Vec<FoundSymbol>,
}

impl Answer {
    fn of(kernel: &KernelFile, symbols: Vec<FoundSymbol>) -> Self {
        Self {
            kernel: kernel.path().display().to_string(),
            symbols,
        }
    }
}

#[derive(Serialize)]
struct FoundSymbol {
    address: VirtAddr,
    name: String,
    /// The module that has it; none for the kernel's.
    module: Option<String>,
    offset_bytes: u64,
    size_bytes: Option<u64>,
    inside: bool,
}

impl Run for Sym {
    fn run(&self, context: &Context) -> Result<Status> {
        let word = &context.choose_with(&self.words, "NAME|ADDR")?;
        let place = Place::parse(word)?;
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        let kernel = session.matching_kernel()?;
        let found = match find(&session, kernel, &place, self, context) {
            Ok(found) => found,
            Err(error) => {
                // Nothing found is an empty list, and still a failure.
                if context.common().json {
                    context.json(Some(session.dump()), Answer::of(kernel, Vec::new()))?;
                }
                return Err(error);
            }
        };
        if context.common().json {
            context.json(Some(session.dump()), Answer::of(kernel, vec![found]))?;
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
                    " (past its end: it has {}; the nearest symbol before)",
                    text::counted(size, "byte", "bytes")
                )
            }
            (None, _) if found.offset_bytes > 0 => {
                " (the nearest symbol before; its size is not known)".to_owned()
            }
            (None, _) => String::new(),
        };
        let module = found.module.as_ref().map(|name| {
            let name = text::escape(name.as_bytes());
            format!(", in {name}")
        });
        let size = format!("{size}{}", module.unwrap_or_default());
        match place {
            Place::Address(_) => writeln!(out, "{} = {name}{offset}{size}", found.address)?,
            Place::Symbol { .. } => writeln!(out, "{name}{offset} = {}{size}", found.address)?,
        }
        out.finish()?;
        Ok(Status::Done)
    }
}

/// A size, if the file gives one.
fn known(size: u64) -> Option<u64> {
    (size > 0).then_some(size)
}

fn find(
    session: &Session,
    kernel: &KernelFile,
    place: &Place,
    args: &Sym,
    context: &Context,
) -> Result<FoundSymbol> {
    match place {
        Place::Symbol { name, offset } => {
            let own = match kernel.symbols().find(name) {
                None if name.contains("::") => Some(symbol_named(session, name)?),
                found => found,
            };
            let (start, size, module) = match own {
                Some(symbol) => (symbol.address, symbol.size, None),
                None => {
                    let files = args.places.open(session)?;
                    let found = files.modules().iter().find_map(|module| {
                        let (start, size) = module.symbol_named(name)?;
                        Some((start, size, Some(module.module.name.clone())))
                    });
                    found.ok_or_else(|| unknown(kernel, name, context))?
                }
            };
            Ok(FoundSymbol {
                address: start.checked_add(*offset).ok_or_else(offset_too_large)?,
                name: name.clone(),
                module,
                offset_bytes: *offset,
                size_bytes: known(size),
                inside: *offset == 0 || *offset < size,
            })
        }
        Place::Address(address) => {
            let address = VirtAddr(*address);
            let linked = linked_address(session, address);
            let nearest = kernel.symbols().nearest(linked);
            if nearest.is_none_or(|nearest| !nearest.inside && nearest.offset > 0)
                && let Some(found) = in_module(session, address, args)?
            {
                return Ok(found);
            }
            let nearest = nearest.ok_or_else(|| {
                Failure::new(format!(
                    "no symbol of {} is before {address} in its section, and no module is there",
                    kernel.path().display()
                ))
                .next(context.suggest(&format!("whatis {address}")))
            })?;
            Ok(FoundSymbol {
                address,
                name: demangled(&String::from_utf8_lossy(nearest.symbol.name)),
                module: None,
                offset_bytes: nearest.offset,
                size_bytes: known(nearest.symbol.size),
                inside: nearest.inside || nearest.offset == 0,
            })
        }
    }
}

/// The symbol of a loaded module; of one without a file, its start.
fn in_module(session: &Session, address: VirtAddr, args: &Sym) -> Result<Option<FoundSymbol>> {
    let files = args.places.open(session)?;
    let mut modules = files.modules().iter();
    let module = modules.find(|module| module.range().contains(&address.0));
    Ok(module.map(|module| {
        let name = &module.module.name;
        let (start, symbol, size) = match module.symbol_at(address) {
            Some((start, symbol, size)) => (start, symbol, size),
            None => (
                module.module.address,
                name.as_str(),
                module.module.len_bytes,
            ),
        };
        let offset = address.0 - start.0;
        FoundSymbol {
            address,
            name: symbol.to_owned(),
            module: Some(name.clone()),
            offset_bytes: offset,
            size_bytes: known(size),
            inside: offset == 0 || offset < size,
        }
    }))
}

/// A name that does not exist, with some that do.
fn unknown(kernel: &KernelFile, name: &str, context: &Context) -> Failure {
    let failure = Failure::new(format!("{} has no symbol {name}", kernel.path().display()));
    if kernel.symbols().is_empty() {
        return failure
            .line("it has no symbols at all: it is stripped")
            .next(context.suggest(&format!("sym {name} -k DIR/kernel.debug")));
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
            let next = context.suggest(&format!("sym {best}"));
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
