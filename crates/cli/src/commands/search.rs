//! `vmcore search`: find bytes, a string or a pointer in memory.

use crate::advice::{Advice, Result, Run, opening};
use crate::context::{Context, KernelUse};
use crate::help;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::place::Place;
use crate::text::counted;
use clap::Args;
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use vmcore::format::addr::FileOffset;
use vmcore::search::{self, Match, Pattern, SearchError, SearchResult};
use vmcore::{OpenOptions, Session};

/// Find bytes, a string or a pointer in memory
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore search [FILE] PATTERN [OPTIONS]",
    after_help = help::with_files("\
PATTERN is a string; with --hex bytes, with --pointer an address or symbol to which pointers lead.
Nothing found is an answer: exit status 0.

Examples
  vmcore search vmcore.0 'panic: '
  vmcore search vmcore.0 --hex 'de ad c0 de'
  vmcore search vmcore.0 --pointer 0xfffff80003374000")
)]
pub(crate) struct Search {
    /// The dump, and its kernel file if you like; then what to look for
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// PATTERN is bytes in hexadecimal: "dead c0de"
    #[arg(long, conflicts_with = "pointer")]
    hex: bool,
    /// PATTERN is an address or symbol; found are the words that hold it
    #[arg(long)]
    pointer: bool,
    /// The most places that are shown
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
}

/// Bytes that are shown of each place.
const PREVIEW: usize = 40;

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    pattern: String,
    #[serde(flatten)]
    found: &'a SearchResult,
}

impl Run for Search {
    fn run(&self, context: &Context) -> Result<Status> {
        let word = &context.choose_with(&self.words, "PATTERN")?;
        let (session, pattern) = if self.pointer {
            let place = Place::parse(word)?;
            let kernel_use = place.kernel_use();
            let session = context.open(kernel_use, &OpenOptions::default())?;
            let address = place.find(&session)?.address;
            (session, Pattern::Pointer(address))
        } else {
            let bytes = if self.hex {
                hex(word)?
            } else {
                word.as_encoded_bytes().to_vec()
            };
            (
                context.open(KernelUse::Addresses, &OpenOptions::default())?,
                Pattern::Bytes(bytes),
            )
        };
        let found = search::search(&session, &pattern, self.limit)?;
        if context.common().json {
            let pattern = match &pattern {
                Pattern::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                Pattern::Pointer(address) => address.to_string(),
            };
            context.json(
                Some(session.dump()),
                Answer {
                    pattern,
                    found: &found,
                },
            )?;
        } else {
            print(context, &session, &found)?;
        }
        let incomplete = opening::truncation(&session);
        if found.matches.is_empty() {
            context.note("vmcore: not found in any page of the dump");
        }
        if found.more {
            context.note(&format!(
                "vmcore: more than {} (--limit COUNT shows more)",
                counted(found.matches.len() as u64, "match", "matches")
            ));
        }
        if !found.has_addresses {
            context.note(
                "vmcore: note: no virtual addresses without the kernel file of a full dump (-k)",
            );
        }
        match incomplete {
            Some(why) => {
                context.note(&format!("vmcore: the dump is {why}; that was not searched"));
                Ok(Status::Incomplete)
            }
            None => Ok(Status::Done),
        }
    }
}

/// Bytes from hexadecimal digits, with blanks where people like them.
fn hex(word: &OsStr) -> Result<Vec<u8>, Failure> {
    let bad = || {
        Failure::usage(format!(
            "{} is not a row of bytes: write \"dead c0de\"",
            word.display()
        ))
    };
    let text = word.to_str().ok_or_else(bad)?;
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(bad());
    }
    let byte = |pair: &[u8; 2]| {
        std::str::from_utf8(pair)
            .ok()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or_else(bad)
    };
    pairs.iter().map(byte).collect()
}

fn print(context: &Context, session: &Session, found: &SearchResult) -> Result<()> {
    let mut out = context.out();
    if !found.matches.is_empty() {
        let heading = format!(
            "{:<18}  {:<14}  {:<14}  BYTES",
            "ADDRESS", "PHYSICAL", "FILE"
        );
        writeln!(out, "{}", out.paint(Style::Label, &heading))?;
    }
    for Match {
        pa,
        offset,
        addresses,
    } in &found.matches
    {
        let dash = || "-".to_owned();
        let mut addresses = addresses.iter().map(ToString::to_string);
        writeln!(
            out,
            "{:<18}  {:<14}  {:<14}  {}",
            addresses.next().unwrap_or_else(dash),
            pa.map_or_else(dash, |pa| pa.to_string()),
            offset.to_string(),
            preview(session, *offset),
        )?;
        // Nearly every page has a second address in the direct map.
        for address in addresses.filter(|_| context.common().verbose) {
            writeln!(
                out,
                "{}",
                out.paint(Style::Faint, &format!("{address:<18}  is the same place"))
            )?;
        }
    }
    Ok(out.finish()?)
}

/// The first bytes of a place, as far as its page goes.
fn preview(session: &Session, offset: FileOffset) -> String {
    let memory = session.dump().memory();
    let size = memory.page_size();
    // Pages start at multiples of their size in the file.
    let left = size.bytes() - size.offset_in_page(offset.0);
    let mut bytes = [0; PREVIEW];
    let want = usize::try_from(left).map_or(PREVIEW, |left| left.min(PREVIEW));
    let part = bytes.get_mut(..want).unwrap_or_default();
    let read = memory.source().read_positional(offset.0, part).unwrap_or(0);
    let visible = |byte: &u8| {
        if matches!(byte, b' '..=b'~') {
            char::from(*byte)
        } else {
            '.'
        }
    };
    part.iter().take(read).map(visible).collect()
}

impl Advice for SearchError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            Self::Absent(reason) => reason.advice(context),
            _ => Failure::usage(self.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_bytes_may_have_blanks() {
        let hex = |text: &str| hex(OsStr::new(text)).ok();
        assert_eq!(hex("dead c0de"), Some(vec![0xde, 0xad, 0xc0, 0xde]));
        assert_eq!(hex("0x00ff"), Some(vec![0, 0xff]));
        assert_eq!(hex("abc"), None);
        assert_eq!(hex("zz"), None);
        assert_eq!(hex("+1"), None);
    }
}
