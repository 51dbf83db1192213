//! `vmcore redact`: a small dump with only what may leave the house.

use super::beside::Beside;
use crate::advice::{Advice, Result, Run};
use crate::context::{Context, KernelUse};
use crate::debug_files::no_types;
use crate::help;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::progress::Progress;
use crate::signals;
use crate::text::{self, count, counted};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::pages::PageMap;
use vmcore::session::KernelChoice;
use vmcore::source::Recorder;
use vmcore::{OpenOptions, Session, log, process};
use vmcore_debug::details::Details;
use vmcore_debug::zones::{self, Allocation, Unknown};
use vmcore_debug::{DebugFiles, Target, modules};
use vmcore_pipeline::output::OutputFile;
use vmcore_pipeline::redact::{Manifest, RedactError, Redacted, Redaction};
use vmcore_pipeline::rewrite::{self, TargetFormat as Format};

/// Small dump to share: stacks, threads, log and modules only
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore redact [FILE] OUT [OPTIONS]",
    after_help = help::with_files("\
OUT is a minidump for others to look at: ps, bt, log and mods answer from it as from FILE, and
every other page is absent. What will be in it is printed first (--dry-run stops there), and
stands inside it, too. It needs the kernel file. A full dump becomes a minidump beside OUT first, for
which there must be room, and which goes at the end.

Pages are kept whole: what else lies in a page that is kept stays in OUT. A stack may hold
anything that a function had in hand. --drop page:ADDR takes a page out again, --drop zone:NAME those
in which a zone of the kernel's allocator has its items (vmcore whatis ADDR names the zone; it needs
kernel.debug). Both do what they can: what was copied elsewhere before is not found by that, and a
slab that is not in the dump cannot be told. Look at OUT before you send it:

  vmcore search OUT 'a secret'

OUT is created for its owner alone, and not overwritten without --force.")
)]
pub(crate) struct Redact {
    /// The dump, and its kernel file if you like; then the file to write
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// What stays
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "stacks,threads,log,modules"
    )]
    keep: Vec<Kept>,
    /// What does not: page:ADDR, by its physical address, or zone:NAME, all pages of that zone
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = dropped)]
    drop: Vec<Dropped>,
    /// Only say what would be kept
    #[arg(long)]
    dry_run: bool,
}

/// What can stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kept {
    /// The kernel stacks of all threads.
    Stacks,
    /// Processes and threads.
    Threads,
    /// The message buffer.
    Log,
    /// The list of modules.
    Modules,
}

impl Kept {
    const fn name(self) -> &'static str {
        match self {
            Self::Stacks => "stacks",
            Self::Threads => "threads",
            Self::Log => "log",
            Self::Modules => "modules",
        }
    }
}

/// What is taken out again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Dropped {
    /// A page.
    Page(PhysAddr),
    /// Every page that a zone of the kernel's allocator has its items in.
    Zone(String),
}

/// `page:ADDR`, or just `ADDR`; `zone:NAME`.
fn dropped(word: &str) -> Result<Dropped, String> {
    if let Some(name) = word.strip_prefix("zone:") {
        return Ok(Dropped::Zone(name.to_owned()));
    }
    let digits = word.strip_prefix("page:").unwrap_or(word);
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    u64::from_str_radix(digits, 16)
        .map(|pa| Dropped::Page(PhysAddr(pa)))
        .map_err(|_| format!("{word} is neither page:0x1a34000, a physical address, nor zone:NAME"))
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    manifest: &'a Manifest,
    #[serde(flatten)]
    redacted: Option<&'a Redacted>,
}

impl Run for Redact {
    fn run(&self, context: &Context) -> Result<Status> {
        signals::clean_up_when_ended();
        let out = context.choose_with(&self.words, "OUT")?;
        let out = Path::new(&out);
        let recorded = |recorder: &Arc<Recorder>| OpenOptions {
            recorder: Some(recorder.clone()),
            ..OpenOptions::default()
        };
        let mut recorder = Arc::new(Recorder::default());
        let mut session = context.open(KernelUse::Symbols, &recorded(&recorder))?;
        // It goes when the dump that is made of it is written.
        let minidump;
        if session.dump().minidump().is_none() {
            // Whether OUT may be written is told before the work begins.
            drop(OutputFile::create(out, context.common().force)?);
            minidump = Beside::of(out);
            recorder = Arc::new(Recorder::default());
            session = as_minidump(context, &session, minidump.path(), &recorded(&recorder))?;
        }
        let keep = read(context, &session, &self.keep, &recorder)?;
        let names = keep.iter().map(|kept| kept.name()).collect();
        let keeps_log = keep.contains(&Kept::Log);
        let dropped = dropped_pages(context, &session, &recorder, &self.drop)?;
        let redaction = Redaction::new(&session, &recorder, names, keeps_log, &dropped)?;
        if !context.common().json {
            print_manifest(context, redaction.manifest())?;
        }
        let redacted = match self.dry_run {
            true => None,
            false => Some(redaction.write(out, context.common().force)?),
        };
        if context.common().json {
            let answer = Answer {
                manifest: redaction.manifest(),
                redacted: redacted.as_ref(),
            };
            context.json(Some(session.dump()), answer)?;
        } else if let Some(redacted) = &redacted {
            print(context, redacted)?;
        }
        match redaction.manifest().missing_pages {
            0 => Ok(Status::Done),
            pages => {
                let pages = counted(pages, "page is", "pages are");
                context.note(&format!(
                    "vmcore: {pages} not whole: the end of the file cuts what was to be kept"
                ));
                Ok(Status::Incomplete)
            }
        }
    }
}

/// The pages to take out again. Those of a zone are looked for among the pages that would stay.
fn dropped_pages(
    context: &Context,
    session: &Session,
    recorder: &Recorder,
    dropped: &[Dropped],
) -> Result<Vec<PhysAddr>> {
    let (mut pages, mut zones) = (Vec::new(), Vec::new());
    for dropped in dropped {
        match dropped {
            Dropped::Page(pa) => pages.push(*pa),
            Dropped::Zone(name) => zones.push((name.as_str(), 0u64)),
        }
    }
    if zones.is_empty() {
        return Ok(pages);
    }
    let all = Redaction::new(session, recorder, Vec::new(), false, &[])?;
    let files = DebugFiles::of(session)?;
    let target = Target::new(session, &files)?;
    let map = PageMap::build(session.space()?)?;
    for (pa, offset) in all.pages() {
        let Some(page) = map.page_at(*offset) else {
            continue;
        };
        let mapped = page.mappings().map(|(va, _)| va);
        for va in page.direct_map.into_iter().chain(mapped) {
            let found = zones::find(&target, va).map_err(|unknown| match unknown {
                Unknown::NoTypes => no_types(&files, context),
                Unknown::NoZones => Failure::new("the kernel's zones cannot be found")
                    .next(context.suggest_again("without zone:NAME; --drop page:ADDR works")),
            })?;
            let Some(Allocation::Slab { zones: names, .. }) = found else {
                continue;
            };
            let is_named = |zone: &&mut (&str, u64)| names.iter().any(|name| name == zone.0);
            if let Some((_, count)) = zones.iter_mut().find(is_named) {
                *count += 1;
                pages.extend(*pa);
                break;
            }
        }
    }
    for (name, count) in zones {
        let count = counted(count, "page", "pages");
        let name = text::escape(name.as_bytes());
        context.note(&format!(
            "vmcore: note: zone {name}: {count} of those that would stay, as far as its slabs are \
             found; what was copied elsewhere stays"
        ));
    }
    Ok(pages)
}

/// Makes a minidump of a full dump, and opens that: only a bitmap can say that a page is absent.
fn as_minidump(
    context: &Context,
    session: &Session,
    path: &Path,
    options: &OpenOptions,
) -> Result<Session> {
    let kernel = session.matching_kernel()?.path().to_owned();
    let mut progress = Progress::new(context, "making a minidump");
    let done = rewrite::convert(session, Format::Minidump, path, true, |done, total| {
        progress.at(done, total);
    })?;
    drop(progress);
    if done.missing_pages > 0 {
        let lost = counted(done.missing_pages, "page", "pages");
        context.note(&format!(
            "vmcore: note: the full dump lacks {lost} that belong into a minidump"
        ));
    }
    let small = Session::open(path, KernelChoice::Given(&kernel), options)?;
    Ok(small.with_force(context.common().force))
}

/// Reads all that stays, so that the recorder has seen it; gives what there is.
fn read(
    context: &Context,
    session: &Session,
    keep: &[Kept],
    recorder: &Recorder,
) -> Result<Vec<Kept>> {
    let mut kept = keep.to_vec();
    // What proves the kernel file is found by a search, which must not count.
    session.build_ids();
    session.matching_kernel()?;
    let files = DebugFiles::of(session)?;
    recorder.set(true);
    let space = session.space()?;
    if let Some(version) = session
        .kernel()
        .and_then(|kernel| kernel.symbols().find("version"))
    {
        let _ = space.read_string(version.address, 256);
    }
    let mut lost = |what: Kept, reason: String| {
        let reason = text::escape(reason.as_bytes());
        context.note(&format!("vmcore: no {} to keep: {reason}", what.name()));
        kept.retain(|kept| *kept != what);
    };
    if keep.contains(&Kept::Log)
        && let Err(error) = log::read(session)
    {
        lost(Kept::Log, error.to_string());
    }
    if keep.contains(&Kept::Modules)
        && !session.dump().is_of_another_system()
        && let Err(error) = modules::list(session)
    {
        lost(Kept::Modules, error.to_string());
    }
    if keep.contains(&Kept::Threads) || keep.contains(&Kept::Stacks) {
        let list = process::list(session)?;
        let target = Target::new(session, &files)?;
        let details = Details::of(&target);
        let _ = target.panic_message();
        for process in &list.processes {
            let _ = details.process(process);
            for thread in &process.threads {
                let known = details.thread(thread);
                if !keep.contains(&Kept::Stacks) {
                    continue;
                }
                let _ = target.backtrace(thread);
                if let Some((start, len)) = known.stack {
                    let mut stack = vec![0; usize::try_from(len).unwrap_or(0)];
                    space.read_with_holes(VirtAddr(start.0), &mut stack, |_| {});
                }
            }
        }
    }
    recorder.set(false);
    Ok(kept)
}

fn print_manifest(context: &Context, manifest: &Manifest) -> Result<()> {
    let mut out = context.out();
    let all = manifest.kept_pages + manifest.dropped_pages;
    let rows = [
        ("keeps", manifest.kept.join(", ")),
        (
            "pages",
            format!("{} of {}, whole", count(manifest.kept_pages), count(all)),
        ),
        (
            "dropped",
            counted(
                manifest.dropped_by_address,
                "page by its address",
                "pages by their addresses",
            ),
        ),
        (
            "log",
            match manifest.message_buffer {
                true => "the whole message buffer".to_owned(),
                false => "none".to_owned(),
            },
        ),
        (
            "tables",
            format!(
                "{} of page tables: addresses, no data",
                text::size(manifest.page_table_bytes)
            ),
        ),
    ];
    for (label, value) in rows {
        if label == "dropped" && manifest.dropped_by_address == 0 {
            continue;
        }
        let label = out.paint(Style::Label, &format!("{label:<9}"));
        writeln!(out, "  {label} {value}")?;
    }
    Ok(out.finish()?)
}

fn print(context: &Context, redacted: &Redacted) -> Result<()> {
    let mut out = context.out();
    let file = out.paint(Style::Strong, &text::path(&redacted.path));
    writeln!(out, "{file}: {}", text::size(redacted.len_bytes))?;
    let word = text::shell_word(&redacted.path);
    let next = format!("vmcore search {word} 'a secret'    vmcore bt {word} --all");
    writeln!(out, "  {}", out.paint(Style::Faint, &next))?;
    Ok(out.finish()?)
}

impl Advice for RedactError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            RedactError::Absent(reason) => reason.advice(context),
            RedactError::Output(error) => error.advice(context),
            RedactError::FullDump => Failure::new(self.to_string())
                .next(context.suggest("convert vmcore.mini --to minidump")),
            _ => Failure::new(self.to_string()),
        }
    }
}
