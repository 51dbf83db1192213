//! A dump as an ELF core: for gdb, drgn, and everything else that reads ELF.
//!
//! Every run of pages that are contiguous virtually, physically and in the file, with the same
//! protection, becomes a `PT_LOAD` with its virtual and its physical address: the kernel map by the
//! page tables, and the direct map, over the same bytes of the file. So every page is in the core
//! once, and pages that only the direct map reaches are in it too. Each thread whose registers the
//! dump has is a note, the one that crashed first. More segments than a 16-bit count can tell are counted in section 0,
//! as the ABI says.
//!
//! The core carries Linux' style of notes, which stock gdb accepts, and says so where lldb reads them;
//! tell gdb `set osabi GNU/Linux` before `file kernel`, because the kernel file says FreeBSD. Where
//! return addresses are signed, notes say in which bits.
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session};
//! use vmcore_pipeline::elf;
//! let session = Session::open("vmcore.0".as_ref(), KernelChoice::Find(&[]), &OpenOptions::default())?;
//! let done = elf::convert(&session, "vmcore.elf".as_ref(), false, |_, _| {})?;
//! println!("{} segments, {} bytes", done.segments, done.len_bytes);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod copy;
mod encode;
mod loads;

use crate::output::{OutputError, OutputFile};
use encode::{Encoder, Head};
use loads::Loads;
use serde::Serialize;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use thiserror::Error;
use vmcore::memory::PageReadError;
use vmcore::session::{Session, SessionError};
use vmcore::{pages, process};
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::elf::{NT_VMCORE_ORIGIN, ORIGIN_DISPLACEMENT, ORIGIN_OWNER};
use vmcore_format::endian::Width;
use vmcore_format::prstatus::{self, NT_PRSTATUS, Prstatus};

/// Signal of the thread that crashed: `SIGABRT`.
const SIGNAL: i16 = 6;

/// Segments that a core may have in any case, and for each page of the dump: page tables that map
/// more are damaged, and would fill the disk.
const SEGMENTS_BASE: u64 = 1 << 17;
const SEGMENTS_PER_PAGE: u64 = 8;

/// What became of a conversion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// The core.
    pub path: PathBuf,
    /// Bytes of the core.
    pub len_bytes: u64,
    /// `PT_LOAD` segments.
    pub segments: u64,
    /// Pages of the dump.
    pub pages: u64,
    /// Pages that the dump should have, but its file ends before.
    pub truncated_pages: u64,
    /// Pages of the file in no segment, because no virtual address leads to them.
    pub unreachable_pages: u64,
    /// The thread that crashed, if its registers are known.
    pub thread: Option<i32>,
    /// Threads with registers.
    pub threads: u64,
    /// Whether return addresses on stacks are signed (arm64).
    pub signed_addresses: bool,
}

/// Why a dump cannot be converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The virtual addresses are not known.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The dump cannot be read.
    #[error(transparent)]
    Absent(#[from] PageReadError),
    /// The core cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A 32-bit core cannot be that large.
    #[error("the core would have {len_bytes} bytes, more than a 32-bit ELF file can have")]
    TooLarge {
        /// Bytes that it would have.
        len_bytes: u64,
    },
    /// Damaged page tables.
    #[error(
        "the core would have {segments} segments for {pages} pages: the page tables are damaged"
    )]
    TooManySegments {
        /// Segments that it would have.
        segments: u64,
        /// Pages of the dump in its file.
        pages: u64,
    },
    /// The dump changed between two passes.
    #[error("the dump changed while it was converted")]
    Changed,
}

/// Writes the dump of `session` as an ELF core to `path`. `on_progress` is told the bytes that are
/// written, and how many there will be.
///
/// # Errors
/// Returns an error if a full dump has no matching kernel file, the dump cannot be read, or the
/// core cannot be written. Then there is no file at `path`.
pub fn convert(
    session: &Session,
    path: &Path,
    overwrite: bool,
    on_progress: impl FnMut(u64, u64),
) -> Result<Converted, ConvertError> {
    let space = session.space()?;
    let memory = session.dump().memory();
    let arch = session.dump().arch();
    let pages = pages::page_count(memory)?;
    let threads = threads(session);
    let signs = arch == Arch::Arm64 && has_signed_addresses(session, &threads);
    let notes = notes(session, arch, &threads, signs)?;

    let numbered_pages = pages::numbered_page_count(memory)?;
    let loads = Loads::new(space, numbered_pages);
    let (segments, reached_pages) = loads.count()?;
    let in_file = numbered_pages.min(memory.page_size().pages(memory.source().len()));
    if segments > SEGMENTS_BASE + SEGMENTS_PER_PAGE * in_file {
        return Err(ConvertError::TooManySegments {
            segments,
            pages: in_file,
        });
    }
    let encoder = Encoder::new(arch, memory.endian());
    let head = Head {
        loads: segments,
        notes_len_bytes: notes.len() as u64,
        page_size: memory.page_size(),
    };
    let data = encoder.data_offset(&head);
    let len_bytes = data.saturating_add(numbered_pages.saturating_mul(memory.page_size().bytes()));
    if arch.word() == Width::W32 && len_bytes > u64::from(u32::MAX) {
        return Err(ConvertError::TooLarge { len_bytes });
    }

    let mut output = OutputFile::create(path, overwrite)?;
    let mut writer = BufWriter::with_capacity(1 << 20, output.file());
    let written = write_headers(&mut writer, &encoder, &head, &loads, &notes);
    drop(writer);
    written.map_err(|error| match error {
        Failure::Convert(error) => error,
        Failure::Write(source) => output.error(source).into(),
    })?;
    let copied = copy::pages(memory, &mut output, data, on_progress)?;
    output.commit()?;
    Ok(Converted {
        path: path.to_owned(),
        len_bytes: copied.end,
        segments,
        pages,
        truncated_pages: pages.saturating_sub(copied.pages),
        unreachable_pages: copied.pages.saturating_sub(reached_pages),
        thread: threads
            .first()
            .filter(|thread| thread.crashed)
            .map(|thread| thread.tid),
        threads: threads.len() as u64,
        signed_addresses: signs,
    })
}

/// Why the headers could not be written.
enum Failure {
    Convert(ConvertError),
    Write(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Write(error)
    }
}

/// Everything before the pages.
fn write_headers(
    writer: &mut BufWriter<&mut std::fs::File>,
    encoder: &Encoder,
    head: &Head,
    loads: &Loads<'_>,
    notes: &[u8],
) -> Result<(), Failure> {
    let data = encoder.data_offset(head);
    encoder.file_header(head, writer)?;
    encoder.note_segment(head, writer)?;
    let (mut written, mut result) = (0, Ok(()));
    let visited = loads.each(|load| {
        if result.is_ok() && written < head.loads {
            result = encoder.load_segment(&load, data, head.page_size, writer);
            written += 1;
        }
    });
    result?;
    visited.map_err(|reason| Failure::Convert(reason.into()))?;
    if written != head.loads {
        return Err(Failure::Convert(ConvertError::Changed));
    }
    writer.write_all(notes)?;
    let end = encoder.notes_offset(head) + notes.len() as u64;
    writer.write_all(&vec![0; usize::try_from(data - end).unwrap_or(0)])?;
    writer.flush()?;
    Ok(())
}

/// The threads whose registers the dump has, the one that crashed first; none without the kernel
/// file.
fn threads(session: &Session) -> Vec<process::Thread> {
    let list = process::list(session).ok();
    let mut threads: Vec<process::Thread> = list
        .into_iter()
        .flat_map(|list| list.processes)
        .flat_map(|process| process.threads)
        .filter(|thread| thread.registers.is_some())
        .collect();
    threads.sort_by_key(|thread| !thread.crashed);
    threads
}

fn notes(
    session: &Session,
    arch: Arch,
    threads: &[process::Thread],
    signs: bool,
) -> Result<Vec<u8>, ConvertError> {
    let mut notes = Vec::new();
    let endian = session.dump().memory().endian();
    // The first one, so that it is found without those of all threads.
    let origin = origin(session)?;
    let (owner, kind) = (ORIGIN_OWNER, NT_VMCORE_ORIGIN);
    encode::note(&mut notes, endian, owner, kind, origin.as_bytes());
    let layout = Prstatus::of(arch).with_endian(endian);
    let mut buf = [0; Prstatus::MAX_LEN];
    // Debuggers know no note of some architectures.
    let threads = threads.iter().filter(|_| layout.len_bytes() > 0);
    for thread in threads {
        let Some(registers) = &thread.registers else {
            continue;
        };
        let signal = if thread.crashed { SIGNAL } else { 0 };
        let contents = layout.encode(&mut buf, thread.tid, signal, |name| registers.get(name));
        encode::note(&mut notes, endian, prstatus::OWNER, NT_PRSTATUS, contents);
        if signs {
            for (owner, kind, words, count) in prstatus::ARM64_SIGNED {
                let words = words.iter().take(count);
                let contents: Vec<u8> = words.flat_map(|word| endian.bytes64(*word)).collect();
                encode::note(&mut notes, endian, owner, kind, &contents);
            }
        }
    }
    Ok(notes)
}

/// Whether return addresses on these threads' stacks are signed: not all processors do it, and gdb
/// takes off what is not there.
fn has_signed_addresses(session: &Session, threads: &[process::Thread]) -> bool {
    const MAX_DEPTH: usize = 16;
    let Ok(space) = session.space() else {
        return false;
    };
    let is_signed = |thread: &process::Thread| {
        let mut fp = thread.registers.as_ref().and_then(|saved| saved.get("fp"));
        for _ in 0..MAX_DEPTH {
            // A kernel's address, at which are the caller's frame pointer and the return address.
            let Some(at) = fp.filter(|fp| fp >> 48 == 0xffff) else {
                break;
            };
            let word = |offset| space.read_word(VirtAddr(at.wrapping_add(offset))).ok();
            let is_kernel = |address: &u64| address >> 55 & 1 == 1;
            let signature = word(8).filter(is_kernel);
            if signature.is_some_and(|pc| pc | prstatus::ARM64_SIGNATURE != pc) {
                return true;
            }
            fp = word(0);
        }
        false
    };
    threads.iter().any(is_signed)
}

/// Where the core comes from, as lines of `name=value`.
fn origin(session: &Session) -> Result<String, ConvertError> {
    let dump = session.dump();
    let mut text = format!(
        "dump_id={}\nsource={} {}",
        dump.id()?,
        dump.arch(),
        dump.kind().name()
    );
    if let Some(header) = dump.minidump() {
        text += &format!(" v{}", header.version);
    }
    if let Some(id) = session.build_ids().and_then(|ids| ids.certain()) {
        text += &format!("\nbuild_id={id}");
    }
    let kernel = session.kernel();
    let displacement = kernel.map_or(0, vmcore::kernel::KernelFile::displacement);
    if displacement != 0 {
        text += &format!("\n{ORIGIN_DISPLACEMENT}={displacement:#x}");
    }
    text.push('\n');
    Ok(text)
}
