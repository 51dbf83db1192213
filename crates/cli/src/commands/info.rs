//! `vmcore info`: what the dump is and what is missing from it, each value with its source.

use crate::advice::{Result, Run, opening};
use crate::commands::textdump;
use crate::context::{Context, KernelUse, Opened};
use crate::help;
use crate::outcome::Status;
use crate::output::{Out, Style};
use crate::text::{self, count, counted};
use clap::Args;
use std::ffi::OsString;
use std::io::{self, Write as _};
use vmcore::dump::{Completeness, WarningSubject};
use vmcore::format::addr::PhysRange;
use vmcore::format::layout::Section;
use vmcore::info::{self, CpuInfo, Info as Facts, Known};
use vmcore::kernel::{DumpBuildIds, Evidence};
use vmcore::log::LogSource;
use vmcore::session::KernelMatch;
use vmcore::{OpenOptions, Session};

/// What the dump is: panic, version, host, time, what is missing
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore info [FILE] [OPTIONS]",
    after_help = help::with_files("\
Left: the fact. Right: where it comes from.
Needs no kernel file, but knows more with one.")
)]
pub(crate) struct Info {
    /// The dump, and its kernel file if you like, in either order
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// The registers of every CPU too, as far as the writer of the dump kept them
    #[arg(long)]
    regs: bool,
}

/// Registers in a line.
const REGISTERS_IN_LINE: usize = 3;

/// Columns for the values, if they are not longer.
const VALUE_WIDTH: usize = 52;
/// The source of facts that our writer recorded.
const IDENTITY_BLOCK: &str = "identity block";
const EXTENSION: &str = "extension";
/// RAM ranges that are shown; `map` shows all.
const RANGES_SHOWN: usize = 8;

/// The answer in JSON: the envelope has said how complete the dump is.
fn answer(info: &Facts, cpus: Option<&[CpuInfo]>) -> serde_json::Result<serde_json::Value> {
    let mut answer = serde_json::to_value(info)?;
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("state");
        if let Some(cpus) = cpus {
            fields.insert("cpus".to_owned(), serde_json::to_value(cpus)?);
        }
    }
    Ok(answer)
}

impl Run for Info {
    fn run(&self, context: &Context) -> Result<Status> {
        context.choose(&self.words, 0..=0, "")?;
        // As much as there is of a dump whose file ends early.
        let options = OpenOptions {
            up_to: Section::Header,
            ..OpenOptions::default()
        };
        let session = match context.open_or_text(KernelUse::Symbols, &options)? {
            Opened::Memory(session) => *session,
            Opened::Text(textdump) => return textdump::info(context, &textdump),
        };
        let info = info::info(&session)?;
        let cpus = self.regs.then(|| info::cpus(session.dump()));
        if context.common().json {
            context.json(Some(session.dump()), answer(&info, cpus.as_deref())?)?;
            return Ok(Status::Done);
        }
        let mut out = context.out();
        print(&mut out, &info, &session)?;
        if let Some(cpus) = cpus {
            registers(&mut out, &cpus)?;
        }
        out.finish()?;
        Ok(Status::Done)
    }
}

/// The registers of each CPU, a few in a line.
fn registers(out: &mut Out, cpus: &[CpuInfo]) -> io::Result<()> {
    if cpus.is_empty() {
        writeln!(out, "\nno registers: the writer of the dump kept none")?;
    }
    for cpu in cpus {
        let state = match cpu.state {
            "dumping" => ", wrote the dump",
            "running" => ", did not stop: its registers are not known",
            _ => "",
        };
        let thread = cpu
            .thread
            .map_or_else(String::new, |id| format!(", thread {id}"));
        let heading = format!("CPU {}{thread}{state}", cpu.cpu);
        writeln!(out, "\n{}", out.paint(Style::Strong, &heading))?;
        let all: Vec<_> = cpu.registers.iter().collect();
        for line in all.chunks(REGISTERS_IN_LINE) {
            let columns = line
                .iter()
                .map(|(name, value)| format!("{name:<14} {value:#018x}"));
            writeln!(out, "  {}", columns.collect::<Vec<_>>().join("  "))?;
        }
    }
    Ok(())
}

/// A sheet of facts: label, value, source.
struct Sheet<'a> {
    out: &'a mut Out,
    /// Width of the values' column.
    width: usize,
    rows: Vec<Row>,
}

struct Row {
    label: &'static str,
    value: String,
    source: String,
    style: Option<Style>,
}

impl Sheet<'_> {
    fn row(&mut self, label: &'static str, value: impl Into<String>, source: impl Into<String>) {
        self.add(None, label, value.into(), source.into());
    }

    fn styled(&mut self, style: Style, label: &'static str, value: impl Into<String>) {
        self.add(Some(style), label, value.into(), String::new());
    }

    fn add(&mut self, style: Option<Style>, label: &'static str, value: String, source: String) {
        let width = value.chars().count();
        if width <= VALUE_WIDTH {
            self.width = self.width.max(width);
        }
        self.rows.push(Row {
            label,
            value,
            source,
            style,
        });
    }

    /// A fact with its sources; one that nothing tells is unknown, and `hint` says what would.
    fn known(&mut self, label: &'static str, known: Option<&Known>, hint: &str) {
        match known {
            Some(known) => {
                self.row(
                    label,
                    text::escape(known.value.as_bytes()),
                    known.sources.join(", "),
                );
            }
            None => self.styled(Style::Faint, label, format!("unknown{hint}")),
        }
    }

    fn print(self) -> io::Result<()> {
        for row in &self.rows {
            let label = self.out.paint(Style::Label, &format!("{:<9}", row.label));
            let value = match row.style {
                Some(style) => self.out.paint(style, &row.value),
                None => row.value.clone(),
            };
            if row.source.is_empty() {
                writeln!(self.out, "  {label} {value}")?;
            } else {
                let gap = self.width.saturating_sub(row.value.chars().count()) + 2;
                let source = self.out.paint(Style::Faint, &row.source);
                writeln!(self.out, "  {label} {value}{:gap$}{source}", "")?;
            }
        }
        Ok(())
    }
}

fn print(out: &mut Out, info: &Facts, session: &Session) -> io::Result<()> {
    headline(out, info, session)?;
    let full = opening::is_full(session);
    let header = if full { "ELF header" } else { "header" };
    let mut sheet = Sheet {
        out,
        width: 0,
        rows: Vec::new(),
    };
    let hint = match session.kernel() {
        None => ": needs the kernel file",
        Some(_) => ": neither the log nor kernel memory has it",
    };
    let (panic_hint, host_hint) = match &info.info_file {
        None => (
            ": not in the log, and no info.N beside the dump".to_owned(),
            ": no info.N beside the dump".to_owned(),
        ),
        Some(name) => (
            format!(": neither the log nor {name} has one"),
            format!(": {name} has none"),
        ),
    };
    sheet.known("panic", info.panic.as_ref(), &panic_hint);
    if let Some(identity) = &info.identity {
        some(&mut sheet, "trap", identity.trap.as_ref());
    }
    sheet.known("version", info.kernel_version.as_ref(), hint);
    sheet.known("host", info.host.as_ref(), &host_hint);
    sheet.known("crashed", info.crashed.as_ref(), hint);
    if let Some(identity) = &info.identity {
        some(&mut sheet, "clock", identity.clock.as_ref());
    }
    sheet.known("uptime", info.uptime.as_ref(), hint);
    if let Some(identity) = &info.identity {
        some(&mut sheet, "boot id", identity.boot_id.as_ref());
        some(&mut sheet, "machine", identity.machine_id.as_ref());
    }
    build_id(&mut sheet, info.build_ids.as_ref());
    kernel(&mut sheet, info, session);
    if !info.layers.is_empty() {
        let layers: Vec<String> = info.layers.iter().map(ToString::to_string).collect();
        sheet.row("inside", layers.join(", "), "file");
    }
    size(&mut sheet, info, full);
    pages(&mut sheet, info, full);
    ram(&mut sheet, &info.ram, info, full);
    log(&mut sheet, info, session);
    sheet.row("paging", info.paging.as_str(), header);
    if let Some(kernbase) = info.kernbase {
        sheet.row("", format!("kernel map from {kernbase}"), header);
    }
    if let Some(map) = info.direct_map {
        sheet.row("", format!("direct map {}-{}", map.base, map.end), header);
    }
    checksums(&mut sheet, info);
    writer(&mut sheet, info);
    for warning in &info.warnings {
        let source = match warning.subject() {
            WarningSubject::Header => header,
            WarningSubject::Identity => IDENTITY_BLOCK,
            WarningSubject::Extension => EXTENSION,
            WarningSubject::Container => "file",
        };
        sheet.add(
            Some(Style::Warning),
            "warning",
            warning.to_string(),
            source.to_owned(),
        );
    }
    sheet.print()
}

/// A fact that only some dumps have.
fn some(sheet: &mut Sheet<'_>, label: &'static str, known: Option<&Known>) {
    if known.is_some() {
        sheet.known(label, known, "");
    }
}

/// What there is to tell damage to the dump by.
fn checksums(sheet: &mut Sheet<'_>, info: &Facts) {
    let Some(extension) = &info.extension else {
        sheet.row("checksums", "none in this format", "");
        return;
    };
    let sections = extension
        .summed_sections
        .map(|sections| counted(sections, "section", "sections"));
    let runs = extension.summed_runs.map(|runs| {
        let runs = counted(runs, "run", "runs");
        let run_bytes = text::size(extension.run_bytes.unwrap_or(0));
        format!("{runs} of pages ({run_bytes})")
    });
    let parts: Vec<String> = sections.into_iter().chain(runs).collect();
    if parts.is_empty() {
        sheet.styled(Style::Warning, "checksums", "lost");
        return;
    }
    let value = format!("{}; vmcore verify compares them", parts.join(", "));
    sheet.row("checksums", value, EXTENSION);
}

/// What the writer tells of itself, and of damage that it met.
fn writer(sheet: &mut Sheet<'_>, info: &Facts) {
    for module in info.system.iter().flat_map(|system| &system.modules) {
        let name = text::escape(module.name.as_bytes());
        let words = format!(
            "{name} at {}, {}",
            module.base,
            text::size(module.len_bytes)
        );
        sheet.row("module", words, EXTENSION);
    }
    if let Some(cpus) = info.extension.and_then(|found| found.cpus_with_registers) {
        sheet.row(
            "registers",
            format!("of {}", counted(cpus, "CPU", "CPUs")),
            EXTENSION,
        );
    }
    let Some(identity) = &info.identity else {
        return;
    };
    let mut label = "damage";
    let mut warn = |label: &'static str, words: String, source: &str| {
        sheet.add(Some(Style::Warning), label, words, source.to_owned());
    };
    if let Some(found) = info.extension.and_then(|extension| extension.damage_found)
        && found > 0
    {
        let words = format!("in the kernel, met {}", counted(found, "time", "times"));
        warn(label, words, EXTENSION);
        label = "";
    }
    if identity.damaged {
        let words = "the writer met some before it wrote the header";
        warn(label, words.to_owned(), IDENTITY_BLOCK);
        label = "";
    }
    if identity.fallback {
        let words = "a full dump: the page tables are damaged beyond use";
        warn(label, words.to_owned(), IDENTITY_BLOCK);
    }
    if identity.live {
        let words = "the system went on running: pages need not agree";
        warn("live", words.to_owned(), IDENTITY_BLOCK);
    }
    some(sheet, "origin", identity.origin.as_ref());
    some(sheet, "", identity.source_id.as_ref());
}

/// The dump in one line.
fn headline(out: &mut Out, info: &Facts, session: &Session) -> io::Result<()> {
    let version = info
        .version
        .map(|version| format!(" v{version}"))
        .unwrap_or_default();
    let state = match (opening::truncation(session), info.state) {
        (Some(words), _) => out.paint(Style::Bad, &words),
        (None, Completeness::Complete { trailing_bytes: 0 }) => out.paint(Style::Good, "complete"),
        (None, Completeness::Complete { trailing_bytes }) => out.paint(
            Style::Warning,
            &format!(
                "complete, with {} after its end",
                counted(trailing_bytes, "byte", "bytes")
            ),
        ),
        (None, _) => "incomplete".to_owned(),
    };
    let file = out.paint(Style::Strong, &text::path(session.dump().path()));
    writeln!(
        out,
        "{file}: {}/{} {}{version}, {state}",
        text::escape(session.dump().system_name().as_bytes()),
        info.arch,
        info.kind
    )
}

/// The file's length, and what it should be.
fn size(sheet: &mut Sheet<'_>, info: &Facts, full: bool) {
    let bytes = counted(info.size_bytes, "byte", "bytes");
    let source = if full {
        "program headers"
    } else {
        "header, bitmap"
    };
    match info.state {
        Completeness::Complete { trailing_bytes: 0 } => {
            sheet.row("size", format!("{bytes}, as predicted"), source);
            if let Some(extension) = &info.extension {
                let words = format!(
                    "{} of them past the last page of RAM",
                    count(extension.len_bytes)
                );
                sheet.row("", words, EXTENSION);
            }
        }
        Completeness::Complete { trailing_bytes } => {
            let predicted = count(info.size_bytes.saturating_sub(trailing_bytes));
            sheet.row("size", format!("{bytes}; {predicted} predicted"), source);
        }
        Completeness::Truncated { missing_bytes, .. } => {
            let predicted = count(info.size_bytes.saturating_add(missing_bytes));
            sheet.row("size", format!("{bytes}; {predicted} predicted"), source);
        }
        Completeness::TruncatedSection { .. } => sheet.row("size", bytes, "file"),
    }
}

fn build_id(sheet: &mut Sheet<'_>, ids: Option<&DumpBuildIds>) {
    let Some(ids) = ids else {
        sheet.styled(Style::Faint, "build-id", "none in the dump");
        return;
    };
    let source = match (ids.evidence, ids.ids.len()) {
        (Evidence::IdentityBlock, _) => IDENTITY_BLOCK,
        (Evidence::ElfHeader, _) => "kernel image",
        (Evidence::NoteSearch, 1) => "a note in the dump; it may be a module's",
        (Evidence::NoteSearch, _) => "notes in the dump: the kernel's and its modules'",
    };
    let firsts = std::iter::once(("build-id", source)).chain(std::iter::repeat(("", "")));
    for (id, (label, source)) in ids.ids.iter().zip(firsts) {
        sheet.row(label, id.to_string(), source);
    }
}

fn kernel(sheet: &mut Sheet<'_>, info: &Facts, session: &Session) {
    let Some(kernel) = &info.kernel else {
        let words = if session.tried().is_empty() {
            "none: without a build id it is not looked for (give it with -k)"
        } else {
            "not found (-v lists the places tried)"
        };
        sheet.styled(Style::Faint, "kernel", words);
        return;
    };
    let (verdict, style) = match &kernel.comparison {
        Some(KernelMatch::BuildId) => ("matches".to_owned(), Style::Good),
        Some(KernelMatch::Version) => ("has the dump's version".to_owned(), Style::Good),
        Some(how @ KernelMatch::Contents { .. }) => {
            (format!("fits ({})", opening::difference(how)), Style::Good)
        }
        Some(how) if how.is_mismatch() => (
            format!("is another kernel's ({})", opening::difference(how)),
            Style::Bad,
        ),
        _ => (
            "cannot be compared: no build id or version in it or in the dump".to_owned(),
            Style::Warning,
        ),
    };
    let value = format!(
        "{} {}",
        text::escape(kernel.file.as_bytes()),
        text::escape(verdict.as_bytes())
    );
    sheet.styled(style, "kernel", value);
}

fn pages(sheet: &mut Sheet<'_>, info: &Facts, full: bool) {
    let pages = &info.pages;
    let mut value = match pages.in_dump {
        Some(in_dump) if full => counted(in_dump, "page", "pages"),
        Some(in_dump) => format!("{} of {}", count(in_dump), count(pages.ram)),
        None => {
            let words = "unknown: the bitmap is cut, and none of them is in the file";
            return sheet.styled(Style::Bad, "pages", words);
        }
    };
    if pages.page_size_bytes != 4096 {
        value.push_str(&format!(" of {}", text::size(pages.page_size_bytes)));
    }
    sheet.row(
        "pages",
        value,
        if full { "program headers" } else { "bitmap" },
    );
    if let (Some(kernel_map), Some(tables), Some(direct)) =
        (pages.kernel_map, pages.page_tables, pages.direct_map_only)
    {
        let others = if info.direct_map.is_some() {
            "direct map only"
        } else {
            "others"
        };
        let parts = format!(
            "kernel map {}, page tables {}, {others} {}",
            count(kernel_map),
            count(tables),
            count(direct)
        );
        sheet.row("", parts, "page tables");
    }
    if let Some(zeros) = pages.zeros.filter(|zeros| *zeros > 0) {
        let words = format!("{} all zeros", counted(zeros, "page is", "pages are"));
        sheet.row("", words, "pages");
    }
    if let Some(absent) = pages.mapped_but_absent.filter(|absent| *absent > 0) {
        sheet.row(
            "",
            format!("{} mapped, but not in the dump", count(absent)),
            "page tables",
        );
    }
}

fn ram(sheet: &mut Sheet<'_>, ram: &[PhysRange], info: &Facts, full: bool) {
    let source = match (full, info.version) {
        (true, _) => "program headers",
        (false, _) if ram.len() == 1 => "bitmap size",
        _ => "dump_avail",
    };
    let source = if info.pages.ram == 0 { "" } else { source };
    let total: u64 = ram.iter().map(|range| range.len_bytes()).sum();
    sheet.row(
        "RAM",
        format!(
            "{} in {}",
            text::size(total),
            counted(ram.len() as u64, "range", "ranges")
        ),
        source,
    );
    for pair in ram
        .get(..RANGES_SHOWN.min(ram.len()))
        .unwrap_or_default()
        .chunks(2)
    {
        let words: Vec<String> = pair.iter().map(PhysRange::to_string).collect();
        sheet.row("", words.join(", "), "");
    }
    if ram.len() > RANGES_SHOWN {
        sheet.row(
            "",
            format!(
                "and {} more (vmcore map shows all)",
                ram.len() - RANGES_SHOWN
            ),
            "",
        );
    }
}

fn log(sheet: &mut Sheet<'_>, info: &Facts, session: &Session) {
    let Some(log) = info.log else {
        let words = if opening::is_full(session) && session.kernel().is_none() {
            "in kernel memory: needs the kernel file"
        } else {
            "not in the dump"
        };
        sheet.styled(Style::Faint, "log", words);
        return;
    };
    let source = match log.source {
        LogSource::Section => "message buffer",
        LogSource::Symbol => "msgbufp",
        LogSource::Textdump => "msgbuf.txt",
    };
    if log.used_bytes == 0 {
        let value = format!(
            "0 of {} bytes: empty, or not in the dump",
            count(log.capacity_bytes)
        );
        sheet.add(Some(Style::Warning), "log", value, source.to_owned());
        return;
    }
    let wrapped = if log.wrapped {
        "wrapped: older lines are lost"
    } else {
        "not wrapped"
    };
    sheet.row(
        "log",
        format!(
            "{} of {} bytes, {wrapped}",
            count(log.used_bytes),
            count(log.capacity_bytes)
        ),
        source,
    );
}
