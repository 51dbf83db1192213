//! `crashinfo`: the report by the name and the options of FreeBSD's tool, written to `core.txt.N`
//! beside the dump, so that boot scripts and those who read their mail find what they know.
//!
//! The sections have the names of the commands that FreeBSD's tool runs; those that `vmcore` has no
//! answer for are named at the end. An older `core.txt.N` is replaced, as FreeBSD's tool does.

use super::tool;
use crate::commands::ps;
use crate::text;
use clap::Parser;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vmcore::dump::Completeness;
use vmcore::list::CRASH_DIRECTORY;
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session, log};
use vmcore_debug::details::Details;
use vmcore_debug::modules::Search;
use vmcore_debug::usage::{self, Usage};
use vmcore_debug::{DebugFiles, Target, report};
use vmcore_pipeline::output::OutputFile;

/// Between sections.
const RULE: &str = "------------------------------------------------------------------------";
/// What FreeBSD's tool has beyond these sections.
const LEFT_OUT: &str = "vmstat -s, vmstat -i, pstat, iostat, ipcs, nfsstat, netstat, fstat";
/// Longest text of a kernel's configuration, and of what the debugger captured.
const CONFIG_MAX: usize = 256 << 10;
const CAPTURE_MAX: usize = 5 << 20;

/// FreeBSD's command line.
#[derive(Debug, Parser)]
#[command(
    name = "crashinfo",
    disable_version_flag = true,
    about = "Writes what a kernel dump tells to core.txt.N",
    override_usage = "crashinfo [-b] [-d crashdir] [-n dumpnr] [-k kernel] [core]"
)]
struct Arguments {
    /// Batch: say nothing but errors
    #[arg(short = 'b')]
    batch: bool,
    /// Where the dumps are
    #[arg(short = 'd', value_name = "crashdir", default_value = CRASH_DIRECTORY)]
    directory: PathBuf,
    /// Dump of this number [else the newest]
    #[arg(short = 'n', value_name = "dumpnr", conflicts_with = "core")]
    number: Option<u64>,
    /// The kernel file [else found by the dump's build id]
    #[arg(short = 'k', value_name = "kernel")]
    kernel: Option<PathBuf>,
    /// The dump, called vmcore.N
    core: Option<PathBuf>,
}

/// Runs by the name `crashinfo`.
pub(crate) fn main() -> ExitCode {
    tool::run("crashinfo", run)
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let core = match &arguments.core {
        Some(core) => core.clone(),
        None => vmcore::list::newest(&arguments.directory, arguments.number).map_err(|error| {
            let directory = arguments.directory.display();
            anyhow::anyhow!("no crash dump in {directory}: {}", text::os_error(&error))
        })?,
    };
    let number = number(&core).ok_or_else(|| {
        anyhow::anyhow!(
            "{} is not called vmcore.N: which number is it?",
            core.display()
        )
    })?;
    let file = core.with_file_name(format!("core.txt.{number}"));
    let choice = match &arguments.kernel {
        Some(kernel) => KernelChoice::Given(kernel),
        None => KernelChoice::Find(&[]),
    };
    let session = Session::open(&core, choice, &OpenOptions::default())?;
    let (summary, problem) = summary(&session);
    if !arguments.batch {
        let mut stdout = std::io::stdout();
        writeln!(stdout, "Writing crash summary to {}.", text::path(&file))?;
    }
    let mut output = OutputFile::create(&file, true)?;
    let written = output.file().write_all(summary.as_bytes());
    written.map_err(|error| output.error(error))?;
    output.commit()?;
    problem.map_or(Ok(()), Err)
}

/// N of `vmcore.N`, `vmcore.N.zst` and the like.
fn number(core: &Path) -> Option<u64> {
    let name = core.file_name()?.to_str()?.strip_prefix("vmcore.")?;
    name.split('.').next()?.parse().ok()
}

/// The text, and what kept it from being whole.
fn summary(session: &Session) -> (String, Option<anyhow::Error>) {
    let mut summary = Summary(String::new());
    let core = text::path(session.dump().path());
    let info = vmcore::info::info(session).ok();
    let host = info.as_ref().and_then(|info| info.host.as_ref());
    let host = host.map_or("unknown host", |host| host.value.as_str());
    summary.line(&format!("{host} dumped core - see {core}"));
    let facts = info.as_ref();
    let panic = facts.and_then(|info| info.panic.as_ref());
    let version = facts.and_then(|info| info.kernel_version.as_ref());
    let crashed = facts.and_then(|info| info.crashed.as_ref());
    let known = [("", crashed), ("", version), ("panic: ", panic)];
    for (label, fact) in known {
        if let Some(fact) = fact {
            summary.line("");
            summary.line(&format!("{label}{}", fact.value));
        }
    }
    summary.line("");
    let problem = with_kernel(session, &mut summary).err();
    if let Some(problem) = &problem {
        summary.line(&format!("not all could be told: {problem:#}"));
        summary.line("");
    }
    if let Ok(log) = log::read(session) {
        summary.section("dmesg");
        for line in log.lines() {
            summary.raw(line.text);
        }
        summary.line("");
    }
    let kernel = [
        ("kernel config", "kernconfstring", None, CONFIG_MAX),
        (
            "ddb capture buffer",
            "db_capture_buf",
            Some("db_capture_bufoff"),
            CAPTURE_MAX,
        ),
    ];
    for (name, symbol, len, max) in kernel {
        let Some(found) = buffer(session, symbol, len, max).filter(|text| !text.is_empty()) else {
            continue;
        };
        summary.section(name);
        for line in found.split(|byte| *byte == b'\n') {
            summary.raw(line);
        }
    }
    summary.line(RULE);
    summary.line(&format!("vmcore does not tell: {LEFT_OUT}"));
    if let Some(info) = facts
        && !matches!(info.state, Completeness::Complete { .. })
    {
        summary.line("the dump is truncated: what is missing may be in what was cut off");
    }
    (summary.0, problem)
}

/// The sections that need the kernel file.
fn with_kernel(session: &Session, summary: &mut Summary) -> anyhow::Result<()> {
    let files = DebugFiles::of(session)?;
    let directory = session.kernel().and_then(|kernel| kernel.path().parent());
    let search = Search {
        directories: directory.map(Path::to_owned).into_iter().collect(),
        ..Search::default()
    };
    let files = match session.symbol("linker_files") {
        Ok(_) => files.with_modules(session, &search)?,
        Err(_) => files,
    };
    let target = Target::new(session, &files)?;
    let list = target.processes()?;
    let report = report::of(&target, &list)?;
    for line in report.to_string().lines() {
        summary.line(line);
    }
    summary.line("");
    summary.section("ps -axlww");
    let details = Details::of(&target);
    let details = (!target.types().is_empty()).then_some(&details);
    for line in ps::lines(&list, details) {
        summary.line(&line);
    }
    summary.line("");
    let usage = usage::of(&target);
    write_usage(&usage, summary);
    Ok(())
}

fn write_usage(usage: &Usage, summary: &mut Summary) {
    let head = format!(
        "{:>24} {:>10} {:>14} {:>14}",
        "Type", "InUse", "MemUse bytes", "Requests"
    );
    let types = usage.malloc.iter().map(|kind| {
        let (name, in_use) = (&kind.name, kind.in_use);
        let (bytes, requests) = (kind.bytes, kind.requests);
        format!("{name:>24} {in_use:>10} {bytes:>14} {requests:>14}")
    });
    table(summary, "vmstat -m", &head, types);
    let head = format!("{:<24} {:>8} {:>10} {:>14}", "ITEM", "SIZE", "USED", "REQ");
    let zones = usage.zones.iter().map(|zone| {
        let (name, size) = (&zone.name, zone.item_bytes);
        let (in_use, requests) = (zone.in_use, zone.requests);
        format!("{name:<24} {size:>8} {in_use:>10} {requests:>14}")
    });
    table(summary, "vmstat -z", &head, zones);
}

/// A section with a table, if there is anything in it.
fn table(
    summary: &mut Summary,
    section: &str,
    head: &str,
    rows: impl ExactSizeIterator<Item = String>,
) {
    if rows.len() == 0 {
        return;
    }
    summary.section(section);
    summary.line(head);
    for row in rows {
        summary.line(&row);
    }
    summary.line("");
}

/// Text in the kernel's memory: a string at a symbol, or `len` bytes that a pointer leads to.
fn buffer(session: &Session, symbol: &str, len: Option<&str>, max: usize) -> Option<Vec<u8>> {
    let address = session.symbol(symbol).ok()?.address;
    let space = session.space().ok()?;
    let Some(len) = len else {
        return space.read_string(address, max).ok();
    };
    let len = session.symbol(len).ok()?.address;
    let len = usize::try_from(space.read_word(len).ok()?).ok()?.min(max);
    let start = space.read_pointer(address).ok()?;
    let text = space.read_string(start, len).ok()?;
    Some(text)
}

/// The text so far. What comes from the dump is harmless in it.
struct Summary(String);

impl Summary {
    fn line(&mut self, line: &str) {
        self.raw(line.trim_end().as_bytes());
    }

    /// One line, whatever is in it.
    fn raw(&mut self, line: &[u8]) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{}", text::escape(line));
    }

    fn section(&mut self, name: &str) {
        self.line(RULE);
        self.line(name);
        self.line("");
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn the_number_is_in_the_name() {
        assert_eq!(number("/var/crash/vmcore.12".as_ref()), Some(12));
        assert_eq!(number("vmcore.3.zst".as_ref()), Some(3));
        assert_eq!(number("core".as_ref()), None);
        assert_eq!(number("vmcore.last".as_ref()), None);
    }
}
