//! A full dump, or a hypervisor's memory file, as FreeBSD's own formats: a minidump or a full dump.
//!
//! The dump is written by `vmcore-writer`, the code that a dying kernel links, over a machine whose
//! memory is the file: so what a conversion makes is what the kernel would have made.
//!
//! **Which pages.** A minidump has every page that the kernel map maps, and the page tables below
//! the page-table section. What only the direct map reaches the kernel keeps in a bitmap,
//! `vm_page_dump`: with the kernel file that bitmap decides, and `dump_avail` tells what is RAM.
//! Without it nothing tells these pages from free ones, and all RAM is kept ([`Choice`] says what
//! was done). Pages that their owner marked as not to be dumped are not known here: they are kept
//! where they are mapped.
//!
//! **Page tables.** By the kernel's symbols; of a hypervisor's file without a kernel file, by the
//! page-table root of a CPU that was in the kernel.
//!
//! **Identity.** The dump keeps its id, or gets that of the file if it had none; the identity block
//! names the file that it was made of (`docs/format-extension.md`).
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session};
//! use vmcore_pipeline::rewrite::{self, Target};
//! let session = Session::open("vmcore.0".as_ref(), KernelChoice::Find(&[]), &OpenOptions::default())?;
//! let done = rewrite::convert(&session, Target::Minidump, "vmcore.1".as_ref(), false, |_, _| {})?;
//! println!("{} pages, {} bytes", done.pages, done.len_bytes);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod choice;
mod cpus;
mod facts;
mod identity;
pub(crate) mod kernel;
mod machine;
mod qemu;
mod ram;
mod sink;

pub use choice::Choice;

use crate::output::{OutputError, OutputFile};
use facts::Facts;
use machine::DumpMachine;
use serde::Serialize;
use sink::FileSink;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use thiserror::Error;
use vmcore::memory::PageReadError;
use vmcore::session::{Session, SessionError};
use vmcore_format::arch::Arch;
use vmcore_format::dump_avail::NumberedRange;
use vmcore_writer::arch::KernelPaging;
use vmcore_writer::reserve::reserve_size;
use vmcore_writer::writer::{DumpKind, Summary};
use vmcore_writer::{DumpError, DumpMap, Latch, Settings, Writer};
use zerocopy::IntoBytes as _;

/// What a dump becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A minidump of the newest version that is written.
    Minidump,
    /// A full dump: all RAM.
    Full,
}

impl Target {
    /// `minidump` or `full dump`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minidump => "minidump",
            Self::Full => "full dump",
        }
    }
}

/// What became of a conversion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewritten {
    /// The dump.
    pub path: PathBuf,
    /// Its bytes.
    pub len_bytes: u64,
    /// Its pages.
    pub pages: u64,
    /// Version of a minidump.
    pub version: Option<u32>,
    /// Which pages a minidump has.
    pub choice: Option<Choice>,
    /// Pages that it should have, but the file that it was made of has not.
    pub missing_pages: u64,
    /// How often the writer met page tables or pages that are damaged or not there.
    pub damage: u64,
    /// CPUs whose registers it has.
    pub cpus: u32,
    /// Bytes of its message buffer; 0: the kernel's was not found. Full dumps have it in RAM.
    pub message_buffer_bytes: u32,
    /// Its identity, 32 hexadecimal digits.
    pub dump_id: String,
}

/// Why a dump cannot be converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// The page tables are not known, or the kernel file is another kernel's.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The file cannot be read.
    #[error(transparent)]
    Absent(#[from] PageReadError),
    /// The dump cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A minidump has not all that is needed.
    #[error("a minidump lacks the upper page tables and most of RAM: no {} can be made of it", .0.name())]
    IsMinidump(Target),
    /// An ELF core that translates by its segments.
    #[error("this ELF core has the kernel's addresses, but not where its page tables start")]
    NoRoot,
    /// Neither full dumps nor hypervisors' files of this architecture are read.
    #[error("there are no full dumps of {0}, so none can be read or written")]
    Architecture(Arch),
    /// No CPU's page tables map a kernel.
    #[error("the page tables of no CPU map a FreeBSD kernel")]
    NoKernelMap,
    /// Nothing of RAM is in the file, or more than can be counted.
    #[error("the file has no whole page of RAM, or claims more than can be counted")]
    Ram,
    /// The writer refused.
    #[error("the dump cannot be written: {0}")]
    Dump(#[from] DumpError),
}

/// Writes the dump of `session` as `target` to `path`. `on_progress` is told the bytes that are
/// written, and how many there will be.
///
/// # Errors
/// Returns an error if the dump is a minidump, its page tables are not known, it cannot be read, or
/// the new one cannot be written. Then there is no file at `path`.
pub fn convert(
    session: &Session,
    target: Target,
    path: &Path,
    overwrite: bool,
    mut on_progress: impl FnMut(u64, u64),
) -> Result<Rewritten, RewriteError> {
    if session.dump().minidump().is_some() {
        return Err(RewriteError::IsMinidump(target));
    }
    let facts = Facts::gather(session, target)?;
    let mut output = OutputFile::create(path, overwrite)?;
    let job = Job {
        session,
        facts,
        target,
        output: &mut output,
    };
    let endian = session.dump().memory().endian();
    let write = (job.facts.arch.write)(job.facts.mode, endian);
    let rewritten = write(job, &mut on_progress)?;
    output.commit()?;
    Ok(rewritten)
}

/// One conversion.
pub(crate) struct Job<'s, 'o> {
    session: &'s Session,
    facts: Facts,
    target: Target,
    output: &'o mut OutputFile,
}

impl Job<'_, '_> {
    pub(crate) fn write<P: KernelPaging>(
        self,
        on_progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rewritten, RewriteError> {
        let Facts { ram, marked, .. } = &self.facts;
        let ranges = &ram.ranges;
        let count = DumpMap::words_needed(P::PAGE_SIZE, ranges).ok_or(RewriteError::Ram)?;
        let reserve = reserve_size(P::PAGE_SIZE, ranges).ok_or(RewriteError::Ram)?;
        let words: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let mut numbered = vec![NumberedRange::default(); ranges.len()];
        let map = DumpMap::new(P::PAGE_SIZE, ranges, &mut numbered, &words)
            .map_err(|_| RewriteError::Ram)?;
        marked.add_to(&map);
        let len = usize::try_from(reserve.len_bytes).map_err(|_| RewriteError::Ram)?;
        let mut reserved = vec![0u64; len.div_ceil(8)];
        let settings = Settings {
            minidump: self.target == Target::Minidump,
            version: None,
            // Who asks for a minidump gets a minidump, or learns why not.
            fall_back_to_full: false,
        };
        let mut writer =
            Writer::new(&map, settings, reserved.as_mut_bytes()).map_err(|_| RewriteError::Ram)?;
        let latch = Latch::new();
        let owner = latch.enter().map_err(|_| DumpError::Aborted)?;
        let memory = self.session.dump().memory();
        let machine = DumpMachine::<P, _>::new(memory, &self.facts, on_progress);
        let page = usize::try_from(P::PAGE_SIZE.bytes()).unwrap_or(4096);
        let mut sink = FileSink::new(self.output.file(), page);
        let written = writer.dump(&owner, &machine, &mut sink);
        if let Some(error) = sink.into_error() {
            return Err(self.output.error(error).into());
        }
        Ok(self.tell(&written?, machine.missing_pages()))
    }

    fn tell(&self, summary: &Summary, chosen_but_missing: u64) -> Rewritten {
        let version = match summary.kind {
            DumpKind::Mini { version } => Some(version),
            DumpKind::Full { .. } => None,
        };
        Rewritten {
            path: self.output.path().to_owned(),
            len_bytes: summary.len_bytes,
            pages: summary.pages,
            version,
            choice: version.map(|_| self.facts.marked.choice()),
            missing_pages: chosen_but_missing.saturating_add(self.facts.ram.missing_pages),
            damage: summary.damage,
            cpus: self.facts.stopped_cpus(),
            message_buffer_bytes: self.facts.message_buffer.len_bytes,
            dump_id: identity::text(&summary.dump_id),
        }
    }
}
