//! `info.N`: what is known of a saved dump, as text in savecore's format and as one serde model.
//!
//! The text has savecore's lines, in its order and with its labels, which crashinfo looks for; ours
//! follow them. Times are UTC. Source: `sbin/savecore/savecore.c`, `printheader`.

use serde::{Serialize, Serializer};
use std::fmt::{self, Write as _};
use std::path::Path;
use vmcore::dump::Completeness;
use vmcore::text::{counted, is_unsafe};
use vmcore::{Dump, OpenOptions};
use vmcore_format::kerneldump::{
    Compression, DumpHeader, HEADER_LEN, HeaderKind, MAGIC, MAGIC_TEXT,
};

/// What stands between the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpType {
    /// A memory dump.
    Kernel,
    /// A textdump: an archive of text files, written backwards.
    Textdump,
}

/// Whether the headers vouch for a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Both are there, sound and equal.
    Good,
    /// They are not.
    Bad,
}

/// What a dump header says. Strings are as the kernel wrote them, but for bytes that are no UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Header {
    /// `MACHINE_ARCH`.
    pub architecture: String,
    /// 2 on amd64 and i386, 1 elsewhere, 4 for a textdump.
    pub architecture_version: u32,
    /// Bytes of the dump as it lies on the device.
    pub dump_length_bytes: u64,
    /// Bytes of a sector.
    pub blocksize: u32,
    /// How the dump is compressed.
    #[serde(serialize_with = "serialize_compression")]
    pub compression: Compression,
    /// When the kernel crashed, in UTC by its own clock: `2025-01-31 14:03:22 +0000`.
    pub dumptime: String,
    /// Host name.
    pub hostname: String,
    /// The magic.
    pub magic: &'static str,
    /// The kernel's version string; it ends in a newline.
    pub version_string: String,
    /// The panic message; empty if the dump was asked for.
    pub panic_string: String,
    /// The parity field, as savecore prints it on a little-endian host.
    pub dump_parity: u32,
    /// Version of the header.
    pub header_version: u32,
    /// Bytes reserved on the device.
    pub extent_bytes: u64,
    /// Bytes of the encrypted key; 0 if the dump is not encrypted.
    pub key_bytes: u32,
    /// Memory or text.
    pub dump_type: DumpType,
}

impl Header {
    /// Takes over a header; `raw` are its bytes.
    pub(crate) fn new(header: &DumpHeader<'_>, raw: &[u8; HEADER_LEN]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (dump_type, magic) = match header.kind {
            HeaderKind::Text => (DumpType::Textdump, MAGIC_TEXT),
            HeaderKind::Kernel | HeaderKind::Cleared => (DumpType::Kernel, MAGIC),
        };
        Self {
            architecture: text(header.architecture),
            architecture_version: header.architectureversion,
            dump_length_bytes: header.dumplength,
            blocksize: header.blocksize,
            compression: header.compression,
            dumptime: vmcore::info::utc(header.dumptime).replace("UTC", "+0000"),
            hostname: text(header.hostname),
            magic: std::str::from_utf8(magic).unwrap_or_default(),
            version_string: text(header.versionstring),
            panic_string: text(header.panicstring),
            dump_parity: raw
                .last_chunk()
                .map_or(0, |bytes| u32::from_le_bytes(*bytes)),
            header_version: header.version,
            extent_bytes: header.dumpextent,
            key_bytes: header.dumpkeysize,
            dump_type,
        }
    }

    /// `none`, `gzip`, `zstd`, or `???` for a number without a known meaning.
    #[must_use]
    pub const fn compression_name(&self) -> &'static str {
        name_of(self.compression)
    }

    /// Whether the dump is encrypted. A textdump never is, whatever its header says.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.key_bytes != 0 && self.dump_type == DumpType::Kernel
    }
}

const fn name_of(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Unknown(_) => "???",
    }
}

fn serialize_compression<S: Serializer>(
    compression: &Compression,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name_of(*compression))
}

/// What the saved bytes turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// `minidump v3`, `full dump`.
    pub dump_kind: String,
    /// The dump's identity; it is the same in every copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dump_id: Option<String>,
    /// Whether all pages are there that the dump says it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completeness: Option<Completeness>,
}

impl Contents {
    /// Looks at a dump that is neither compressed nor encrypted; `None` if it is not one that can
    /// be read, which is no reason not to save it.
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
    /// What its header says.
    #[serde(flatten)]
    pub header: Header,
    /// N of `vmcore.N`.
    pub bounds: u64,
    /// Whether the headers vouch for it.
    pub dump_status: Status,
    /// What the bytes are, if they are plain and can be read.
    #[serde(flatten)]
    pub contents: Option<Contents>,
}

impl Info {
    /// The lines that savecore writes, too.
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
            header.architecture_version
        )?;
        writeln!(text, "  Dump Length: {}", header.dump_length_bytes)?;
        writeln!(text, "  Blocksize: {}", header.blocksize)?;
        writeln!(text, "  Compression: {}", header.compression_name())?;
        writeln!(text, "  Dumptime: {}", header.dumptime)?;
        writeln!(text, "  Hostname: {}", one_line(&header.hostname))?;
        writeln!(text, "  Magic: {}", header.magic)?;
        writeln!(
            text,
            "  Version String: {}",
            version(&header.version_string)
        )?;
        writeln!(text, "  Panic String: {}", one_line(&header.panic_string))?;
        writeln!(text, "  Dump Parity: {}", header.dump_parity)?;
        writeln!(text, "  Bounds: {}", self.bounds)?;
        let status = match self.dump_status {
            Status::Good => "good",
            Status::Bad => "bad",
        };
        writeln!(text, "  Dump Status: {status}")
    }

    fn write_ours(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "  Header Version: {}", self.header.header_version)?;
        let Some(contents) = &self.contents else {
            return Ok(());
        };
        write!(text, "  Dump HeaderKind: {}", contents.dump_kind)?;
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

/// A string on one line: a newline at its end goes, control and invisible characters become `\n`,
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
/// what could be taken for a line of ours does not.
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
