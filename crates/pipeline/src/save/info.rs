//! `info.N`: what is known of a saved dump, as text in savecore's format and as one serde model.
//!
//! The text has savecore's lines, in its order and with its labels, which crashinfo looks for; ours
//! follow them. Times are UTC. Source: `sbin/savecore/savecore.c`, `printheader`.

use super::device::Device;
use serde::Serialize;
use std::fmt::{self, Write as _};
use std::path::Path;
use vmcore::container::DeviceHeader;
use vmcore::dump::Completeness;
use vmcore::locate::{FoundDump, Problem};
use vmcore::text::{counted, is_unsafe};
use vmcore::{Dump, OpenOptions};

/// Whether the headers of a dump are sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Both are present, sound and equal.
    Good,
    /// One is missing, damaged or different.
    Bad,
}

impl Status {
    /// What the problems of a dump mean for it.
    fn of(problems: &[Problem]) -> Self {
        let is_harmless = |problem: &Problem| {
            matches!(problem, Problem::Cleared | Problem::UnknownVersion { .. })
        };
        match problems.iter().all(is_harmless) {
            true => Self::Good,
            false => Self::Bad,
        }
    }
}

/// What the saved bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// `minidump v3`, `full dump`.
    pub dump_kind: String,
    /// The dump's identity; it is the same in every copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dump_id: Option<String>,
    /// Whether all pages are present that the dump lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completeness: Option<Completeness>,
}

impl Contents {
    /// Examines a dump that is neither compressed nor encrypted; `None` if it cannot be read, which
    /// does not keep it from being saved.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let dump = Dump::open(path, &OpenOptions::default()).ok()?;
        let version = dump
            .minidump()
            .map(|header| format!(" v{}", header.version));
        Some(Self {
            dump_kind: dump.kind().name().to_owned() + &version.unwrap_or_default(),
            dump_id: dump.id().ok(),
            completeness: dump.completeness().ok(),
        })
    }
}

/// Everything about a saved dump: what `info.N` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Where the dump was.
    pub dump_device: String,
    /// Its header.
    #[serde(flatten)]
    pub header: DeviceHeader,
    /// N of `vmcore.N`.
    pub bounds: u64,
    /// Whether its headers are sound.
    pub dump_status: Status,
    /// What the bytes are, if they are plain and readable.
    #[serde(flatten)]
    pub contents: Option<Contents>,
}

impl Info {
    /// What is known of a dump before it is copied, as dump `number`.
    pub(crate) fn new(device: &Device, found: &FoundDump, number: u64) -> Self {
        Self {
            dump_device: device.name(),
            header: found.header().clone(),
            bounds: number,
            dump_status: Status::of(found.problems()),
            contents: None,
        }
    }

    /// The lines that savecore writes as well.
    pub(crate) fn header_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_header(&mut text);
        text
    }

    fn write_header(&self, text: &mut String) -> fmt::Result {
        let header = &self.header;
        writeln!(
            text,
            "Dump header from device: {}",
            one_line(&self.dump_device)
        )?;
        writeln!(text, "  Architecture: {}", one_line(&header.architecture))?;
        writeln!(
            text,
            "  Architecture Version: {}",
            header.architectureversion
        )?;
        writeln!(text, "  Dump Length: {}", header.dumplength)?;
        writeln!(text, "  Blocksize: {}", header.blocksize)?;
        writeln!(text, "  Compression: {}", header.compression_name())?;
        writeln!(text, "  Dumptime: {}", header.time())?;
        writeln!(text, "  Hostname: {}", one_line(&header.hostname))?;
        writeln!(text, "  Magic: {}", header.magic())?;
        writeln!(text, "  Version String: {}", version(&header.versionstring))?;
        writeln!(text, "  Panic String: {}", one_line(&header.panicstring))?;
        writeln!(text, "  Dump Parity: {}", header.parity)?;
        writeln!(text, "  Bounds: {}", self.bounds)?;
        let status = match self.dump_status {
            Status::Good => "good",
            Status::Bad => "bad",
        };
        writeln!(text, "  Dump Status: {status}")
    }

    fn write_ours(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "  Header Version: {}", self.header.version)?;
        let Some(contents) = &self.contents else {
            return Ok(());
        };
        write!(text, "  Dump Kind: {}", contents.dump_kind)?;
        match &contents.completeness {
            None => writeln!(text)?,
            Some(Completeness::Complete { .. }) => writeln!(text, ", complete")?,
            Some(Completeness::Truncated { missing_pages, .. }) => {
                let missing = counted(*missing_pages, "page", "pages");
                writeln!(text, ", {missing} missing")?;
            }
            Some(Completeness::TruncatedSection { section }) => {
                writeln!(text, ", truncated inside its {section}")?;
            }
        }
        if let Some(id) = &contents.dump_id {
            writeln!(text, "  Dump Id: {id}")?;
        }
        Ok(())
    }
}

/// The text of `info.N`.
impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.header_text();
        self.write_ours(&mut text)?;
        f.write_str(&text)
    }
}

/// A string on one line: a newline at its end is dropped, control and invisible characters become `\n`,
/// `\x1b`, so that no dump can forge a line or talk to a terminal.
fn one_line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.trim_end_matches('\n').chars() {
        if is_unsafe(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// A version string. The kernel's has a second line, `    user@host:/directory`, which stays one;
/// a second line that could pass for one of ours is escaped.
fn version(text: &str) -> String {
    match text.trim_end_matches('\n').split_once('\n') {
        Some((first, second)) if is_builder(second) => {
            format!("{}\n{}", one_line(first), one_line(second))
        }
        _ => one_line(text),
    }
}

fn is_builder(line: &str) -> bool {
    let word = line.strip_prefix("    ");
    word.is_some_and(|word| word.contains(":/") && !word.contains(char::is_whitespace))
}
