//! A small dump for others to look at: only what was chosen is in it, and the rest is absent.
//!
//! What is chosen is told by a [`Recorder`]: the pages that were read during a walk of the
//! processes, the stacks, the modules. Every other page's bit is cleared, so that readers say "not in
//! the dump" and never see zeros in place of data. The page tables stay: they hold addresses, no
//! data. Pages are kept whole: what else is in them stays in the dump.
//!
//! The result is a minidump with the identity of the one that it was made of, its own checksums,
//! and a record in its extension that says what was kept (`docs/format-extension.md`).

use crate::output::{OutputError, OutputFile};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;
use vmcore::Session;
use vmcore::memory::PageReadError;
use vmcore::pages;
use vmcore::source::Recorder;
use vmcore_format::addr::{FileOffset, PhysAddr};
use vmcore_format::bitmap::WordOrder;
use vmcore_format::checksum::checksum;
use vmcore_format::extension::{
    EXTENSION_VERSION, LOCATOR_LEN, Locator, PageSums, RecordHeader, RecordKind, SectionSum,
    section_number,
};
use vmcore_format::header::HeaderError;
use vmcore_format::identity::{BuildId, IDENTITY_LEN, IDENTITY_OFFSET, Identity, Origin};
use vmcore_format::layout::{Layout, Section};

/// Bytes that a checksum of pages covers.
const RUN_BYTES: usize = 1 << 20;

/// What is in the dump, as it is told before it is written and inside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// What was kept, by name.
    pub kept: Vec<&'static str>,
    /// Pages of memory that stay.
    pub kept_pages: u64,
    /// Pages that do not.
    pub dropped_pages: u64,
    /// Pages that were chosen, and then dropped on request.
    pub dropped_by_address: u64,
    /// Pages that were chosen, but that the truncated file does not have whole: of one that its end
    /// cuts, the beginning stays, with zeros after it.
    pub missing_pages: u64,
    /// Whether the message buffer stays.
    pub message_buffer: bool,
    /// Bytes of page tables that stay: they hold addresses, no data.
    pub page_table_bytes: u64,
    /// The dump that it is made of.
    pub source_id: String,
}

/// A dump that is about to be written.
#[derive(Debug)]
pub struct Redaction<'s> {
    session: &'s Session,
    layout: Layout,
    manifest: Manifest,
    /// Where the pages that stay are in the dump, ascending.
    pages: Vec<(Option<PhysAddr>, FileOffset)>,
    /// Their bits.
    bits: Vec<u64>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redacted {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub len_bytes: u64,
}

/// Why a dump cannot be redacted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RedactError {
    /// A full dump has no bitmap that could say what is absent.
    #[error("only a minidump can say that a page is absent, and this is a full dump")]
    FullDump,
    /// The dump cannot be read.
    #[error(transparent)]
    Absent(#[from] PageReadError),
    /// Its header cannot be written.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// What is kept cannot be told.
    #[error("the manifest cannot be written: {0}")]
    Manifest(#[from] serde_json::Error),
}

impl<'s> Redaction<'s> {
    /// Chooses the pages of `session` that `recorder` has seen, without those at `dropped`.
    ///
    /// # Errors
    /// Returns an error for a full dump, or if the bitmap cannot be read.
    pub fn new(
        session: &'s Session,
        recorder: &Recorder,
        kept: Vec<&'static str>,
        message_buffer: bool,
        dropped: &[PhysAddr],
    ) -> Result<Self, RedactError> {
        recorder.set(false);
        let dump = session.dump();
        let memory = dump.memory();
        let sparse = memory.sparse().ok_or(RedactError::FullDump)?;
        let dropped: BTreeSet<u64> = dropped
            .iter()
            .map(|pa| memory.page_size().pfn(*pa).0)
            .collect();
        let (mut pages, mut bits) = (Vec::new(), Vec::new());
        let (mut dropped_pages, mut dropped_by_address, mut missing_pages) = (0, 0, 0);
        for (pfn, offset) in pages::all(memory) {
            let is_named = pfn.is_some_and(|pfn| dropped.contains(&pfn.0));
            let is_chosen = (0..memory.page_size().bytes())
                .step_by(4096)
                .any(|at| recorder.has_read(offset.0 + at));
            let has = |len_bytes: u64| memory.source().reaches(offset.0 + len_bytes);
            let is_whole = || has(memory.page_size().bytes());
            let bit = pfn.and_then(|pfn| sparse.numbering().bit_of(pfn));
            match bit {
                Some(bit) if is_chosen && !is_named && has(1) => {
                    pages.push((pfn.map(|pfn| memory.page_size().base(pfn)), offset));
                    bits.push(bit);
                    missing_pages += u64::from(!is_whole());
                }
                _ => {
                    dropped_pages += 1;
                    dropped_by_address += u64::from(is_chosen && is_named);
                    missing_pages += u64::from(is_chosen && !is_named);
                }
            }
        }
        let layout = *sparse.layout();
        let manifest = Manifest {
            kept,
            kept_pages: pages.len() as u64,
            dropped_pages,
            dropped_by_address,
            missing_pages,
            message_buffer,
            page_table_bytes: layout.section(Section::PageTables).len_bytes,
            source_id: dump.id()?,
        };
        Ok(Self {
            session,
            layout,
            manifest,
            pages,
            bits,
        })
    }

    /// What the dump will hold.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The pages that stay, and where each is in the dump; ascending.
    #[must_use]
    pub fn pages(&self) -> &[(Option<PhysAddr>, FileOffset)] {
        &self.pages
    }

    /// Writes it to `path`.
    ///
    /// # Errors
    /// Returns an error if the dump cannot be read or the file cannot be written. Then there is no
    /// file at `path`.
    pub fn write(&self, path: &Path, overwrite: bool) -> Result<Redacted, RedactError> {
        let identity = self.identity()?;
        let sections = self.sections(&identity)?;
        let manifest = serde_json::to_vec(&self.manifest)?;
        let mut output = OutputFile::create(path, overwrite)?;
        let error = |source: io::Error, output: &OutputFile| output.error(source);
        let mut to = BufWriter::with_capacity(1 << 20, output.file());
        let written = self.write_all(&mut to, &identity, &sections, &manifest);
        let written = written.and_then(|len| {
            to.flush()?;
            Ok(len)
        });
        drop(to);
        let len_bytes = written.map_err(|source| error(source, &output))?;
        output.commit()?;
        Ok(Redacted {
            path: path.to_owned(),
            len_bytes,
        })
    }

    /// The identity of the dump that it is made of, or what is known of that; without what names the
    /// machine and its boot.
    fn identity(&self) -> Result<Identity, RedactError> {
        let dump = self.session.dump();
        let source_id = u128::from_str_radix(&self.manifest.source_id, 16).unwrap_or(0);
        let known = dump.identity().unwrap_or_else(|| Identity {
            dump_id: source_id.to_be_bytes(),
            time_seconds: dump
                .device_header()
                .map_or(0, |header| i64::try_from(header.dumptime).unwrap_or(0)),
            ..Identity::default()
        });
        let build_id = match known.build_id.bytes() {
            [] => {
                let kernel = self.session.kernel().and_then(|kernel| kernel.build_id());
                kernel.map_or_else(BuildId::default, |id| BuildId::new(id.as_bytes()))
            }
            _ => known.build_id,
        };
        Ok(Identity {
            dump_id: known.dump_id,
            boot_id: [0; 16],
            machine_id: [0; 16],
            build_id,
            trap: known.trap,
            time_seconds: known.time_seconds,
            time_nanoseconds: known.time_nanoseconds,
            clock: known.clock,
            uptime_us: known.uptime_us,
            damaged: known.damaged,
            fallback: known.fallback,
            live: known.live,
            // Tables that lead to what was kept are kept.
            walkable: known.walkable && self.session.dump().is_of_another_system(),
            origin: Origin::Redacted,
            source_id: source_id.to_be_bytes(),
        })
    }

    /// The sections before the pages, as they are stored.
    fn sections(&self, identity: &Identity) -> Result<Vec<(Section, Vec<u8>)>, RedactError> {
        let dump = self.session.dump();
        let header = dump.minidump().ok_or(RedactError::FullDump)?;
        let mut sections = Vec::new();
        for section in [
            Section::Header,
            Section::MessageBuffer,
            Section::DumpAvail,
            Section::Bitmap,
            Section::PageTables,
        ] {
            let stored = self.layout.section(section).stored_bytes;
            let mut bytes = dump.section(section)?.unwrap_or_default();
            bytes.resize(usize::try_from(stored).unwrap_or(bytes.len()), 0);
            match section {
                Section::Header => {
                    header.encode(&mut bytes)?;
                    let at = usize::try_from(IDENTITY_OFFSET).unwrap_or(0);
                    if let Some(block) = bytes.get_mut(at..at + IDENTITY_LEN) {
                        block.copy_from_slice(&identity.encode());
                    }
                }
                Section::MessageBuffer if !self.manifest.message_buffer => bytes.fill(0),
                Section::Bitmap => {
                    bytes.fill(0);
                    for bit in &self.bits {
                        set(&mut bytes, *bit, header.bitmap_order());
                    }
                }
                _ => {}
            }
            sections.push((section, bytes));
        }
        Ok(sections)
    }

    fn write_all(
        &self,
        to: &mut impl Write,
        identity: &Identity,
        sections: &[(Section, Vec<u8>)],
        manifest: &[u8],
    ) -> io::Result<u64> {
        let mut section_sums = Vec::new();
        let mut at = 0u64;
        for (section, bytes) in sections {
            to.write_all(bytes)?;
            let sum = SectionSum {
                section: section_number(*section),
                offset: FileOffset(at),
                stored_bytes: bytes.len() as u64,
                checksum: checksum(bytes),
            };
            if !bytes.is_empty() {
                section_sums.extend(sum.encode());
            }
            at += bytes.len() as u64;
        }
        let (page_sums, pages_len) = self.write_pages(to, at)?;
        let page = self.session.dump().memory().page_size();
        let pages_end = at + pages_len;
        let start = page
            .round_up(pages_end)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        io::copy(&mut io::Read::take(io::repeat(0), start - pages_end), to)?;
        let mut records = Vec::new();
        record(&mut records, RecordKind::Identity, &identity.encode());
        record(&mut records, RecordKind::Sections, &section_sums);
        record(&mut records, RecordKind::Pages, &page_sums);
        record(&mut records, RecordKind::Manifest, manifest);
        let told = self.told();
        for (kind, payload) in &told {
            record(&mut records, *kind, payload);
        }
        let locator = Locator {
            version: EXTENSION_VERSION,
            records: 4 + u32::try_from(told.len()).unwrap_or(0),
            offset: FileOffset(start),
            len_bytes: records.len() as u64,
            dump_id: identity.dump_id,
        };
        let end = start + records.len() as u64 + LOCATOR_LEN as u64;
        let end = page.round_up(end).ok_or(io::ErrorKind::FileTooLarge)?;
        to.write_all(&records)?;
        let padding = end - start - records.len() as u64 - LOCATOR_LEN as u64;
        io::copy(&mut io::Read::take(io::repeat(0), padding), to)?;
        to.write_all(&locator.encode())?;
        Ok(end)
    }

    /// What a kernel that is not FreeBSD's told of itself, as far as it is to be kept: nothing in its memory
    /// says it again.
    fn told(&self) -> Vec<(RecordKind, &[u8])> {
        let dump = self.session.dump();
        let Some(extension) = dump.extension().filter(|_| dump.is_of_another_system()) else {
            return Vec::new();
        };
        let keeps = |what: &str| self.manifest.kept.contains(&what);
        let kinds = [
            (RecordKind::Cpus, keeps("stacks")),
            (RecordKind::AddressSpace, true),
            (RecordKind::System, true),
            (RecordKind::Processes, keeps("threads")),
            (RecordKind::Threads, keeps("threads")),
            (RecordKind::Modules, keeps("modules")),
        ];
        let kept = kinds.into_iter().filter(|(_, is_kept)| *is_kept);
        kept.filter_map(|(kind, _)| Some((kind, extension.payload(kind)?)))
            .collect()
    }

    /// Writes the pages; gives the record of their checksums, and their bytes.
    fn write_pages(&self, to: &mut impl Write, at: u64) -> io::Result<(Vec<u8>, u64)> {
        let memory = self.session.dump().memory();
        let page = usize::try_from(memory.page_size().bytes()).unwrap_or(4096);
        let (mut run, mut sums, mut len) = (Vec::with_capacity(RUN_BYTES), Vec::new(), 0u64);
        for (number, (_, offset)) in self.pages.iter().enumerate() {
            let start = run.len();
            run.resize(start + page, 0);
            let bytes = run.get_mut(start..).unwrap_or_default();
            // Of a page that the file's end cuts, zeros stay.
            memory.source().read_positional(offset.0, bytes)?;
            len += page as u64;
            if run.len() >= RUN_BYTES || number + 1 == self.pages.len() {
                to.write_all(&run)?;
                sums.push(checksum(&run));
                run.clear();
            }
        }
        let head = PageSums::encode_head(FileOffset(at), len, RUN_BYTES as u64, sums.len() as u64);
        let mut payload = head.to_vec();
        payload.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
        Ok((payload, len))
    }
}

/// Appends a record: header, payload, padding, checksum.
fn record(records: &mut Vec<u8>, kind: RecordKind, payload: &[u8]) {
    let start = records.len();
    records.extend(RecordHeader::new(kind, payload.len() as u64).encode());
    records.extend(payload);
    records.resize(records.len().next_multiple_of(8), 0);
    let sum = checksum(records.get(start..).unwrap_or_default());
    records.extend(sum.to_le_bytes());
}

/// Sets a bit of a bitmap whose words are in the file as `order` says.
fn set(bitmap: &mut [u8], bit: u64, order: WordOrder) {
    let byte = usize::try_from(order.byte_of(bit)).ok();
    if let Some(byte) = byte.and_then(|byte| bitmap.get_mut(byte)) {
        *byte |= 1 << (bit % 8);
    }
}
