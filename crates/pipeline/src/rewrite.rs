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
//! use vmcore_pipeline::rewrite::{self, TargetFormat};
//! let session = Session::open("vmcore.0".as_ref(), KernelChoice::Find(&[]), &OpenOptions::default())?;
//! let done = rewrite::convert(&session, TargetFormat::Minidump, "vmcore.1".as_ref(), false, |_, _| {})?;
//! println!("{} pages, {} bytes", done.pages, done.len_bytes);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arch;
mod choice;
mod cpus;
mod error;
mod identity;
mod kernel;
mod machine;
mod qemu;
mod ram;
mod sink;
mod source_machine;

pub use choice::Choice;
pub use error::{RewriteError, TargetFormat};

use crate::output::OutputFile;
use machine::DumpMachine;
use serde::Serialize;
use sink::FileSink;
use source_machine::SourceMachine;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use vmcore::session::Session;
use vmcore::translation::PagingMode;
use vmcore_format::dump_avail::NumberedRange;
use vmcore_format::endian::Endian;
use vmcore_format::paging::{Amd64, ArmV6, I386, I386Pae};
use vmcore_writer::arch::{ArmV6Big, KernelPaging};
use vmcore_writer::reserve::reserve_size;
use vmcore_writer::writer::{DumpKind, Summary};
use vmcore_writer::{DumpError, DumpMap, Latch, Settings, Writer};
use zerocopy::IntoBytes as _;

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

/// Writes the dump of `session` as `target` to `path`. `on_progress` is told the bytes that are
/// written, and how many there will be.
///
/// # Errors
/// Returns an error if the dump is a minidump, its page tables are not known, it cannot be read, or
/// the new one cannot be written. Then there is no file at `path`.
pub fn convert(
    session: &Session,
    target: TargetFormat,
    path: &Path,
    overwrite: bool,
    mut on_progress: impl FnMut(u64, u64),
) -> Result<Rewritten, RewriteError> {
    if session.dump().minidump().is_some() {
        return Err(RewriteError::IsMinidump(target));
    }
    let source = SourceMachine::gather(session, target)?;
    let mut output = OutputFile::create(path, overwrite)?;
    let job = Job {
        session,
        source,
        target,
        output: &mut output,
    };
    let endian = session.dump().memory().endian();
    // Every kind of page tables of an architecture in `arch`.
    let write = match (job.source.mode, endian) {
        (PagingMode::Amd64, _) => Job::write::<Amd64>,
        (PagingMode::ArmV6, Endian::Little) => Job::write::<ArmV6>,
        (PagingMode::ArmV6, Endian::Big) => Job::write::<ArmV6Big>,
        (PagingMode::I386, _) => Job::write::<I386>,
        (PagingMode::I386Pae, _) => Job::write::<I386Pae>,
        _ => return Err(RewriteError::Architecture(session.dump().arch())),
    };
    let rewritten = write(job, &mut on_progress)?;
    output.commit()?;
    Ok(rewritten)
}

/// One conversion.
struct Job<'s, 'o> {
    session: &'s Session,
    source: SourceMachine,
    target: TargetFormat,
    output: &'o mut OutputFile,
}

impl Job<'_, '_> {
    fn write<P: KernelPaging>(
        self,
        on_progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rewritten, RewriteError> {
        let SourceMachine { ram, marked, .. } = &self.source;
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
            minidump: self.target == TargetFormat::Minidump,
            version: None,
            // Who asks for a minidump gets a minidump, or learns why not.
            fall_back_to_full: false,
            // What the kernel told of itself is not told again.
            self_describing: false,
        };
        let mut writer =
            Writer::new(&map, settings, reserved.as_mut_bytes()).map_err(|_| RewriteError::Ram)?;
        let latch = Latch::new();
        let owner = latch.enter().map_err(|_| DumpError::Aborted)?;
        let memory = self.session.dump().memory();
        let machine = DumpMachine::<P, _>::new(memory, &self.source, on_progress);
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
            choice: version.map(|_| self.source.marked.choice()),
            missing_pages: chosen_but_missing.saturating_add(self.source.ram.missing_pages),
            damage: summary.damage,
            cpus: self.source.stopped_cpus(),
            message_buffer_bytes: self.source.message_buffer.len_bytes,
            dump_id: identity::text(&summary.dump_id),
        }
    }
}
