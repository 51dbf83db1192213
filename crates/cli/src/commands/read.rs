//! `vmcore read`: bytes at an address or symbol.

use crate::advice::{Error, Result, Run, memory};
use crate::context::{Context, KernelUse};
use crate::help;
use crate::hex::HexDump;
use crate::outcome::{Failure, Status};
use crate::output::{Out, Style};
use crate::place::{self, FoundAddress, Place};
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::format::endian::{Endian, Width};
use vmcore::memory::PageReadError;
use vmcore::space::AddressSpace;
use vmcore::translation::TranslationError;
use vmcore::{OpenOptions, Session};

/// Memory at an address or symbol, as a hex dump or raw
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore read [FILE] ADDR|SYMBOL[+OFF] [LEN] [OPTIONS]",
    after_help = help::with_files("\
ADDR is 0xffffffff81cd4c0c, ffffffff81cd4c0c or a decimal number. LEN is 4, 0x40, 64k or 2m;
without it a symbol is read to its end, and an address for 128 bytes.
Missing bytes are shown as lines with the reason, and the exit status is 3.

Examples
  vmcore read vmcore.0 hz -k kernel
  vmcore read vmcore.0 0xfffff80003374000 256
  vmcore read --phys 0x1000 4k --raw > page")
)]
pub(crate) struct Read {
    /// The dump, and its kernel file if you like; then where, and how many bytes
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// ADDR is a physical address
    #[arg(long)]
    phys: bool,
    /// Raw bytes; stops at the first that is missing
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// With --raw: write this byte in place of missing ones
    #[arg(long, value_name = "BYTE", requires = "raw", value_parser = byte)]
    fill: Option<u8>,
}

/// Bytes that are read without a length, and the most of a symbol.
const DEFAULT_LEN: u64 = 128;
const MAX_SYMBOL: u64 = 4096;
/// Bytes read in one go.
const CHUNK: usize = 1 << 16;

fn byte(text: &str) -> Result<u8, String> {
    let number = place::number(text).and_then(|value| u8::try_from(value).ok());
    number.ok_or_else(|| "a byte is 0 to 255, or 0x0 to 0xff".to_owned())
}

/// What is read from.
enum Memory<'a> {
    Virtual(AddressSpace<'a>),
    Physical(&'a vmcore::memory::Memory),
}

/// Why bytes are missing.
enum Why {
    Virtual(TranslationError),
    Physical(PageReadError),
}

impl Why {
    fn error(&self) -> Error {
        match self {
            Self::Virtual(error) => (*error).into(),
            Self::Physical(reason) => (*reason).into(),
        }
    }

    /// A key for programs, words for people.
    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Virtual(error) => memory::hole(error),
            Self::Physical(reason) => memory::absence_of(reason),
        }
    }
}

/// A piece of the answer: bytes, or how many are missing.
enum Piece<'a> {
    Bytes(&'a [u8]),
    Missing(u64, &'a Why),
}

impl Memory<'_> {
    /// Shows `len` bytes from `start` in pieces, ascending.
    fn pieces(
        &self,
        start: u64,
        len: u64,
        mut show: impl FnMut(u64, Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        let size = match self {
            Self::Virtual(space) => space.memory().page_size(),
            Self::Physical(memory) => memory.page_size(),
        };
        let mut buf = vec![0; usize::try_from(len).unwrap_or(CHUNK).min(CHUNK)];
        let mut done = 0;
        while done < len {
            let at = start.wrapping_add(done);
            let want = usize::try_from(len - done)
                .unwrap_or(buf.len())
                .min(buf.len());
            let part = buf.get_mut(..want).unwrap_or_default();
            let (read, why) = match self {
                Self::Virtual(space) => {
                    let part = space.read(VirtAddr(at), part);
                    (part.len, part.error.map(Why::Virtual))
                }
                Self::Physical(memory) => {
                    let part = memory.read(PhysAddr(at), part);
                    (part.len, part.error.map(Why::Physical))
                }
            };
            if read > 0 {
                show(at, Piece::Bytes(buf.get(..read).unwrap_or_default()))?;
            }
            done += read as u64;
            if let Some(why) = why {
                let at = start.wrapping_add(done);
                let missing = (size.bytes() - size.offset_in_page(at)).min(len - done);
                show(at, Piece::Missing(missing, &why))?;
                done += missing;
            }
        }
        Ok(())
    }
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer {
    address: String,
    len_bytes: u64,
    space: &'static str,
    parts: Vec<Part>,
}

/// Bytes, or why there are none.
#[derive(Serialize)]
struct Part {
    address: String,
    len_bytes: u64,
    data: Option<String>,
    missing: Option<&'static str>,
}

impl Run for Read {
    fn run(&self, context: &Context) -> Result<Status> {
        let words = context.choose(&self.words, 1..=2, "ADDR [LEN]")?;
        let [place, rest @ ..] = words.as_slice() else {
            return Err(Failure::usage("ADDR is missing").into());
        };
        let place = Place::parse(place)?;
        let len = rest.first().map(|word| place::length(word)).transpose()?;
        if self.phys && place.kernel_use() == KernelUse::Symbols {
            return Err(Failure::usage("--phys takes an address: symbols are virtual").into());
        }
        let kernel_use = place.kernel_use();
        let session = context.open(kernel_use, &OpenOptions::default())?;
        let found = place.find(&session)?;
        let len = len.unwrap_or(match found.symbol_bytes {
            Some(size) if size > 0 => size.min(MAX_SYMBOL),
            _ => DEFAULT_LEN,
        });
        let len = within_memory(&found, len, &session, self.phys);
        let memory = if self.phys {
            Memory::Physical(session.dump().memory())
        } else {
            Memory::Virtual(session.space()?)
        };
        if self.raw {
            return raw(&memory, found.address.0, len, self.fill);
        }
        if context.common().json {
            return json(context, &session, &memory, found.address.0, len);
        }
        text(context, &session, &memory, found.address.0, len)
    }
}

/// No read goes beyond the end of the address space.
fn within_memory(found: &FoundAddress, len: u64, session: &Session, phys: bool) -> u64 {
    let last = if phys {
        u64::MAX
    } else {
        session.dump().arch().va_max()
    };
    match last.checked_sub(found.address.0) {
        Some(room) => len.min(room.saturating_add(1)),
        None => len.min(1),
    }
}

/// How much of an answer was there.
#[derive(Default)]
struct Tally {
    read: u64,
    first: Option<Error>,
}

impl Tally {
    fn missing(&mut self, why: &Why) {
        self.first.get_or_insert_with(|| why.error());
    }

    /// Nothing at all is a failure: an error says more than one line with a hole.
    fn finish(self) -> Result<Status> {
        match (self.read, self.first) {
            (_, None) => Ok(Status::Done),
            (0, Some(error)) => Err(error),
            (_, Some(_)) => Ok(Status::Incomplete),
        }
    }
}

fn text(
    context: &Context,
    session: &Session,
    memory: &Memory<'_>,
    start: u64,
    len: u64,
) -> Result<Status> {
    let digits = match session.dump().arch().word() {
        Width::W32 if start <= u64::from(u32::MAX) => 8,
        _ => 16,
    };
    let mut out = context.out();
    let mut tally = Tally::default();
    let mut first = Vec::new();
    let mut dump = HexDump::new(&mut out, digits);
    memory.pieces(start, len, |address, piece| {
        match piece {
            Piece::Bytes(bytes) => {
                if tally.read == 0 {
                    first = bytes.get(..bytes.len().min(8)).unwrap_or_default().to_vec();
                }
                tally.read += bytes.len() as u64;
                dump.bytes(address, bytes)?;
            }
            Piece::Missing(len, why) => {
                tally.missing(why);
                dump.hole(address, len, why.words().1)?;
            }
        }
        Ok(())
    })?;
    let status = tally.finish()?;
    dump.finish()?;
    if let Some(value) = integer(&first, len, session.dump().memory().endian()) {
        let words = out.paint(Style::Faint, &format!("= {value} ({value:#x})"));
        writeln!(out, "{:digits$}    {words}", "")?;
    }
    out.finish()?;
    Ok(status)
}

/// The bytes as an integer, if they are as many as integers have.
fn integer(bytes: &[u8], len: u64, endian: Endian) -> Option<u64> {
    if !matches!(len, 1 | 2 | 4 | 8) || bytes.len() as u64 != len {
        return None;
    }
    let mut wide = [0; 8];
    match endian {
        Endian::Little => {
            wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(u64::from_le_bytes(wide))
        }
        Endian::Big => {
            wide.get_mut(8 - bytes.len()..)?.copy_from_slice(bytes);
            Some(u64::from_be_bytes(wide))
        }
    }
}

fn raw(memory: &Memory<'_>, start: u64, len: u64, fill: Option<u8>) -> Result<Status> {
    let mut out = Out::new(false);
    let mut tally = Tally::default();
    let result = memory.pieces(start, len, |_, piece| {
        match (piece, fill) {
            (Piece::Bytes(bytes), _) => {
                out.write_all(bytes)?;
                tally.read += bytes.len() as u64;
            }
            (Piece::Missing(len, why), Some(byte)) => {
                io::copy(&mut io::Read::take(io::repeat(byte), len), &mut out)?;
                tally.missing(why);
            }
            (Piece::Missing(_, why), None) => return Err(why.error()),
        }
        Ok(())
    });
    out.flush()?;
    result?;
    tally.finish()
}

fn json(
    context: &Context,
    session: &Session,
    memory: &Memory<'_>,
    start: u64,
    len: u64,
) -> Result<Status> {
    let mut tally = Tally::default();
    let mut parts: Vec<Part> = Vec::new();
    memory.pieces(start, len, |address, piece| {
        let (len_bytes, bytes, missing) = match piece {
            Piece::Bytes(bytes) => (bytes.len() as u64, Some(bytes), None),
            Piece::Missing(len, why) => {
                tally.missing(why);
                (len, None, Some(why.words().0))
            }
        };
        let continues = parts.last().is_some_and(|last| last.missing == missing);
        if !continues {
            parts.push(Part {
                address: format!("{address:#x}"),
                len_bytes: 0,
                data: bytes.map(|_| String::new()),
                missing,
            });
        }
        if let Some(part) = parts.last_mut() {
            part.len_bytes += len_bytes;
            tally.read += bytes.map_or(0, <[u8]>::len) as u64;
            if let (Some(data), Some(bytes)) = (&mut part.data, bytes) {
                bytes
                    .iter()
                    .try_for_each(|byte| write!(data, "{byte:02x}"))?;
            }
        }
        Ok(())
    })?;
    let status = tally.finish()?;
    let space = match memory {
        Memory::Virtual(_) => "virtual",
        Memory::Physical(_) => "physical",
    };
    let answer = Answer {
        address: format!("{start:#x}"),
        len_bytes: len,
        space,
        parts,
    };
    context.json(Some(session.dump()), answer)?;
    Ok(status)
}
