//! What is kept about a received dump: `info` in netdumpd's words, and a record for programs.

use serde::Serialize;
use std::fmt::Write as _;
use std::net::IpAddr;
use vmcore::container::DeviceHeader;
use vmcore::text::{counted, is_unsafe};
use vmcore_format::kerneldump::HEADER_LEN;

/// How the reception of a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It goes on; a record that says so after the server has ended is that of a dump it was killed in.
    Receiving,
    /// All of it is there.
    Complete,
    /// The client said that it had sent all, and bytes are missing.
    Holes,
    /// The client fell silent.
    TimedOut,
    /// The server stopped.
    Stopped,
    /// A file could not be written.
    WriteError,
    /// More came than is allowed.
    LimitExceeded,
}

impl Outcome {
    /// The word that netdumpd gives its script.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Complete => "success",
            Self::Receiving | Self::TimedOut | Self::Stopped => "timeout",
            Self::Holes | Self::WriteError | Self::LimitExceeded => "error",
        }
    }
}

/// Bytes that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The first of them, in bytes from the dump's start.
    pub start: u64,
    /// How many.
    pub len: u64,
}

/// Who sent what, and when. The protocol has no authentication: who is who the datagrams claimed to
/// be from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// `vmcore.serve/1`.
    pub schema: &'static str,
    /// Version of this library.
    pub tool_version: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, if the outcome alone does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The address that the datagrams came from.
    pub client: IpAddr,
    /// And their port.
    pub client_port: u16,
    /// The path that the client asked for, if any; used or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// N of the files' names.
    pub number: u32,
    /// Seconds since 1970 when the herald came, by the server's clock.
    pub began: u64,
    /// And when it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// Bytes of the dump that arrived, each counted once.
    pub received_bytes: u64,
    /// Datagrams that were taken.
    pub datagrams: u64,
    /// Datagrams that had come before.
    pub duplicates: u64,
    /// Datagrams that made no sense, and were not answered.
    pub ignored: u64,
    /// What is missing of the dump, as far as its length is known.
    pub gaps: Vec<Gap>,
    /// Name of the dump's file in the directory.
    pub core_file: String,
    /// Name of the file with the encrypted key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// What the dump header says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<DeviceHeader>,
    /// Whether the header's parity is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parity_ok: Option<bool>,
    /// The dump's identity, if it is plain and can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dump_id: Option<String>,
}

impl Record {
    /// Keeps what failed first: the rest follows from it.
    pub(super) fn failed(&mut self, error: &std::io::Error) {
        self.error.get_or_insert_with(|| error.to_string());
    }

    /// Takes over the dump header.
    pub(crate) fn set_header(&mut self, raw: &[u8; HEADER_LEN]) {
        self.parity_ok = Some(vmcore_format::kerneldump::parity(raw) == 0);
        self.header = DeviceHeader::parse_damaged(raw).ok();
    }

    /// `info.HOST.N`, with netdumpd's lines.
    #[must_use]
    pub fn info_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_info(&mut text);
        text
    }

    fn write_info(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "Dump from {} [{}]", self.client, self.client)?;
        if let Some(header) = &self.header {
            let length = header.dumplength;
            writeln!(text, "  Architecture: {}", one_line(&header.architecture))?;
            let version = header.architectureversion;
            writeln!(text, "  Architecture version: {version}")?;
            writeln!(text, "  Dump length: {length}B ({} MB)", length >> 20)?;
            writeln!(text, "  Blocksize: {}", header.blocksize)?;
            writeln!(text, "  Compression: {}", header.compression_name())?;
            writeln!(text, "  Dumptime: {}", header.time())?;
            writeln!(text, "  Hostname: {}", one_line(&header.hostname))?;
            writeln!(text, "  Versionstring: {}", one_line(&header.versionstring))?;
            writeln!(text, "  Panicstring: {}", one_line(&header.panicstring))?;
        }
        if let Some(parity_ok) = self.parity_ok {
            let word = if parity_ok { "Pass" } else { "Fail" };
            writeln!(text, "  Header parity check: {word}")?;
        }
        if let Some(id) = &self.dump_id {
            writeln!(text, "  Dump ID: {id}")?;
        }
        let error = self.error.as_deref().unwrap_or_default();
        match self.outcome {
            Outcome::Receiving => writeln!(text, "Dump incomplete: being received"),
            Outcome::Complete => writeln!(text, "Dump complete"),
            Outcome::TimedOut => writeln!(text, "Dump incomplete: client timed out"),
            Outcome::Stopped => writeln!(text, "Dump incomplete: the server was stopped"),
            Outcome::Holes => {
                let missing: u64 = self.gaps.iter().map(|gap| gap.len).sum();
                let missing = counted(missing, "byte", "bytes");
                let gaps = counted(self.gaps.len() as u64, "gap", "gaps");
                writeln!(text, "Dump incomplete: {missing} missing in {gaps} {error}")
            }
            Outcome::WriteError => writeln!(text, "Dump unsuccessful: write error: {error}"),
            Outcome::LimitExceeded => writeln!(text, "Dump unsuccessful: {error}"),
        }
    }
}

/// Text of a stranger on one line of a file that people read.
fn one_line(text: &str) -> String {
    let plain = |c: char| if is_unsafe(c) { ' ' } else { c };
    text.trim_end().chars().map(plain).collect()
}
