//! The extension: records behind the last page of a dump that our writer made.
//!
//! FreeBSD's readers never look there (a minidump ends with its last page, a full dump with its last
//! segment), so a dump with an extension is a dump to them as well. Records are type, length, value
//! and checksum, one behind the other from the page behind the last one on; a [`Locator`] fills the
//! last 64 bytes of the dump for those who do not know where the pages end. Bytes behind it are
//! not ours and are ignored. Specified byte by byte in `docs/format-extension.md`. All integers are
//! little-endian on every architecture.
//!
//! ```
//! use vmcore_format::extension::{RecordHeader, RecordKind, records};
//! use vmcore_format::checksum::checksum;
//! let mut bytes = Vec::from(RecordHeader::new(RecordKind::Other(0x1234), 3).encode());
//! bytes.extend_from_slice(b"abc\0\0\0\0\0"); // padded to eight bytes
//! bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
//! bytes.extend_from_slice(&[0; 100]); // the end
//! let found: Vec<_> = records(&bytes).collect::<Result<_, _>>()?;
//! assert_eq!((found[0].kind, found[0].payload), (RecordKind::Other(0x1234), &b"abc"[..]));
//! # Ok::<(), vmcore_format::extension::ExtensionError>(())
//! ```

use crate::addr::{FileOffset, PhysAddr, VirtAddr};
use crate::checksum::checksum;
use crate::endian::Endian;
use crate::layout::Section;
use crate::numbered::numbered;
use thiserror::Error;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the locator.
pub const LOCATOR_LEN: usize = 64;
/// The first bytes of the locator.
pub const LOCATOR_MAGIC: [u8; 8] = *b"vmcoreXT";
/// The version of the extension written today.
pub const EXTENSION_VERSION: u32 = 1;
/// Bytes in front of a record's payload.
pub const RECORD_HEADER_LEN: usize = 16;
/// Bytes of a record's checksum, behind its padded payload.
pub const RECORD_CHECKSUM_LEN: usize = 8;
/// Bytes of a section's entry in [`RecordKind::Sections`].
pub const SECTION_ENTRY_LEN: usize = 32;
/// Bytes in front of the checksums in [`RecordKind::Pages`].
pub const PAGES_HEAD_LEN: usize = 32;
/// Bytes in front of the CPUs in [`RecordKind::Cpus`].
pub const CPUS_HEAD_LEN: usize = 16;
/// Bytes of a CPU in front of its registers.
pub const CPU_HEAD_LEN: usize = 16;
/// Bytes in front of the entries in [`RecordKind::Damage`].
pub const DAMAGE_HEAD_LEN: usize = 16;
/// Bytes of a damage entry.
pub const DAMAGE_ENTRY_LEN: usize = 32;

/// A reader that does not know a record with this flag cannot trust what it reads elsewhere.
const FLAG_MUST_UNDERSTAND: u32 = 1;

numbered! {
    /// What a record holds.
    RecordKind {
        /// No record: the end of the extension.
        End = 0,
        /// A copy of the identity block.
        Identity = 1,
        /// Checksums of the sections in front of the pages.
        Sections = 2,
        /// Checksums of runs of pages.
        Pages = 3,
        /// The registers of every CPU.
        Cpus = 4,
        /// What the writer could not read, or found damaged.
        Damage = 5,
        /// What was kept of another dump, as JSON.
        Manifest = 6,
    }
}

numbered! {
    /// What was wrong.
    DamageKind {
        /// An entry names a page-table page that is not RAM.
        TableNotRam = 1,
        /// A page-table page could not be read.
        TableUnreadable = 2,
        /// There are more page-table pages than the machine can have: aliases or cycles.
        TooManyTables = 3,
        /// The page could not be read; it is all zeros in the dump.
        PageUnreadable = 4,
        /// The message buffer could not be read; zeros stand for what is missing.
        MessageBuffer = 5,
    }
}

numbered! {
    /// What became of a CPU.
    CpuState {
        /// It did not stop when it was told to: its registers are not known, and it may have changed
        /// memory while the dump was written.
        Running = 0,
        /// It stopped and saved its registers.
        Stopped = 1,
        /// It wrote the dump; these are its registers where the trap or the call of panic was.
        Dumping = 2,
    }
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawLocator {
    magic: [u8; 8],
    version: U32,
    records: U32,
    offset: U64,
    len_bytes: U64,
    dump_id: [u8; 16],
    reserved: U64,
    checksum: U64,
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRecord {
    kind: U32,
    flags: U32,
    len_bytes: U64,
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSection {
    section: U32,
    reserved: U32,
    offset: U64,
    stored_bytes: U64,
    checksum: U64,
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDamage {
    kind: U32,
    level: U32,
    va: U64,
    pa: U64,
    count: U64,
}

const _: () = {
    assert!(size_of::<RawLocator>() == LOCATOR_LEN);
    assert!(core::mem::offset_of!(RawLocator, checksum) == 56);
    assert!(size_of::<RawRecord>() == RECORD_HEADER_LEN);
    assert!(size_of::<RawSection>() == SECTION_ENTRY_LEN);
    assert!(size_of::<RawDamage>() == DAMAGE_ENTRY_LEN);
};

/// Why bytes are not an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExtensionError {
    /// No locator: a dump by another writer, or one that lost its end.
    #[error("no extension: its locator is missing")]
    Absent,
    /// A record ends behind the bytes that there are.
    #[error("the extension is truncated inside the record at byte {at}")]
    Truncated {
        /// Where the record starts, in bytes from the start of the extension.
        at: u64,
    },
    /// A checksum is wrong.
    #[error("the extension is damaged at byte {at}: its checksum is {found:#x}, not {expected:#x}")]
    BadChecksum {
        /// Where the record starts, in bytes from the start of the extension.
        at: u64,
        /// What its bytes sum up to.
        found: u64,
        /// What it says.
        expected: u64,
    },
    /// A record's payload is not what its kind promises.
    #[error("the {0} record of the extension is malformed")]
    Malformed(&'static str),
}

/// Where the records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locator {
    /// Version of the extension.
    pub version: u32,
    /// Number of records.
    pub records: u32,
    /// Where the first record starts in the dump.
    pub offset: FileOffset,
    /// Bytes of all records, without what pads them to the locator.
    pub len_bytes: u64,
    /// The dump that it belongs to.
    pub dump_id: [u8; 16],
}

impl Locator {
    /// The locator's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; LOCATOR_LEN] {
        let mut raw = RawLocator {
            magic: LOCATOR_MAGIC,
            version: U32::new(self.version),
            records: U32::new(self.records),
            offset: U64::new(self.offset.0),
            len_bytes: U64::new(self.len_bytes),
            dump_id: self.dump_id,
            reserved: U64::new(0),
            checksum: U64::new(0),
        };
        raw.checksum = U64::new(checksum(
            raw.as_bytes().get(..LOCATOR_LEN - 8).unwrap_or_default(),
        ));
        zerocopy::transmute!(raw)
    }

    /// Decodes the last 64 bytes of a dump.
    ///
    /// # Errors
    /// Returns an error if there is no locator, or if it is damaged.
    pub fn parse(bytes: &[u8; LOCATOR_LEN]) -> Result<Self, ExtensionError> {
        let raw = RawLocator::ref_from_bytes(bytes).map_err(|_| ExtensionError::Absent)?;
        if raw.magic != LOCATOR_MAGIC {
            return Err(ExtensionError::Absent);
        }
        let found = checksum(bytes.get(..LOCATOR_LEN - 8).unwrap_or_default());
        let expected = raw.checksum.get();
        if found != expected {
            return Err(ExtensionError::BadChecksum {
                at: 0,
                found,
                expected,
            });
        }
        Ok(Self {
            version: raw.version.get(),
            records: raw.records.get(),
            offset: FileOffset(raw.offset.get()),
            len_bytes: raw.len_bytes.get(),
            dump_id: raw.dump_id,
        })
    }
}

/// What stands in front of a record's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it holds.
    pub kind: RecordKind,
    /// Who does not know its kind must not trust the dump.
    pub must_understand: bool,
    /// Bytes of the payload, without padding.
    pub len_bytes: u64,
}

impl RecordHeader {
    /// A record that may be skipped.
    #[must_use]
    pub const fn new(kind: RecordKind, len_bytes: u64) -> Self {
        Self {
            kind,
            must_understand: false,
            len_bytes,
        }
    }

    /// Decodes what stands in front of a payload; `None` at the end of the records, where zeros or
    /// the locator follow.
    #[must_use]
    pub fn parse(bytes: &[u8; RECORD_HEADER_LEN]) -> Option<Self> {
        if bytes.starts_with(&LOCATOR_MAGIC) {
            return None;
        }
        let raw = RawRecord::ref_from_bytes(bytes).ok()?;
        let kind = RecordKind::from_number(raw.kind.get());
        (kind != RecordKind::End).then_some(Self {
            kind,
            must_understand: raw.flags.get() & FLAG_MUST_UNDERSTAND != 0,
            len_bytes: raw.len_bytes.get(),
        })
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        let raw = RawRecord {
            kind: U32::new(self.kind.number()),
            flags: U32::new(if self.must_understand {
                FLAG_MUST_UNDERSTAND
            } else {
                0
            }),
            len_bytes: U64::new(self.len_bytes),
        };
        zerocopy::transmute!(raw)
    }

    /// Bytes of the whole record: header, payload padded to eight bytes, checksum; or `None` beyond
    /// 2^64.
    #[must_use]
    pub const fn record_bytes(&self) -> Option<u64> {
        let around = (RECORD_HEADER_LEN + RECORD_CHECKSUM_LEN) as u64;
        match self.len_bytes.checked_next_multiple_of(8) {
            Some(padded) => padded.checked_add(around),
            None => None,
        }
    }
}

/// A record whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it holds.
    pub kind: RecordKind,
    /// Who does not know its kind must not trust the dump.
    pub must_understand: bool,
    /// Its value.
    pub payload: &'a [u8],
}

/// The records in `bytes`, which start where the extension does and may go on behind it. The first
/// error ends the iteration, except that a record with a wrong checksum is passed over.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, ExtensionError>> {
    let mut rest = Some(bytes);
    core::iter::from_fn(move || {
        let from = rest.take()?;
        let at = (bytes.len() - from.len()) as u64;
        let header = RecordHeader::parse(from.first_chunk()?)?;
        let len = header
            .record_bytes()
            .and_then(|len| usize::try_from(len).ok());
        let Some((record, behind)) = len.and_then(|len| from.split_at_checked(len)) else {
            return Some(Err(ExtensionError::Truncated { at }));
        };
        let (summed, sum) = record.split_last_chunk::<RECORD_CHECKSUM_LEN>()?;
        rest = Some(behind);
        let (found, expected) = (checksum(summed), u64::from_le_bytes(*sum));
        if found != expected {
            return Some(Err(ExtensionError::BadChecksum {
                at,
                found,
                expected,
            }));
        }
        let payload = summed.get(RECORD_HEADER_LEN..)?;
        let payload = payload.get(..usize::try_from(header.len_bytes).ok()?)?;
        Some(Ok(Record {
            kind: header.kind,
            must_understand: header.must_understand,
            payload,
        }))
    })
}

/// The checksum of a section in front of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionSum {
    /// Which: the number of a [`Section`], see [`section_number`].
    pub section: u32,
    /// Where it starts in the dump.
    pub offset: FileOffset,
    /// Bytes that were summed: the section as stored, its padding included.
    pub stored_bytes: u64,
    /// Their checksum.
    pub checksum: u64,
}

/// The number of a section in [`RecordKind::Sections`].
#[must_use]
pub const fn section_number(section: Section) -> u32 {
    match section {
        Section::Header => 1,
        Section::MessageBuffer => 2,
        Section::DumpAvail => 3,
        Section::Bitmap => 4,
        Section::PageTables => 5,
        Section::Pages => 6,
    }
}

impl SectionSum {
    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SECTION_ENTRY_LEN] {
        let raw = RawSection {
            section: U32::new(self.section),
            reserved: U32::new(0),
            offset: U64::new(self.offset.0),
            stored_bytes: U64::new(self.stored_bytes),
            checksum: U64::new(self.checksum),
        };
        zerocopy::transmute!(raw)
    }

    /// The entries of a [`RecordKind::Sections`] payload.
    pub fn parse_all(payload: &[u8]) -> impl Iterator<Item = Self> + '_ {
        let entries = payload.as_chunks::<SECTION_ENTRY_LEN>().0.iter();
        entries
            .filter_map(|entry| RawSection::ref_from_bytes(entry).ok())
            .map(|raw| Self {
                section: raw.section.get(),
                offset: FileOffset(raw.offset.get()),
                stored_bytes: raw.stored_bytes.get(),
                checksum: raw.checksum.get(),
            })
    }
}

/// Checksums of the pages: one for each run of `run_bytes`, the last run may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSums<'a> {
    /// Where the first page starts in the dump.
    pub offset: FileOffset,
    /// Bytes of all pages.
    pub len_bytes: u64,
    /// Bytes that a checksum covers.
    pub run_bytes: u64,
    sums: &'a [[u8; 8]],
}

impl<'a> PageSums<'a> {
    /// What stands in front of the checksums.
    #[must_use]
    pub fn encode_head(
        offset: FileOffset,
        len_bytes: u64,
        run_bytes: u64,
        sums: u64,
    ) -> [u8; PAGES_HEAD_LEN] {
        zerocopy::transmute!([
            U64::new(offset.0),
            U64::new(len_bytes),
            U64::new(run_bytes),
            U64::new(sums),
        ])
    }

    /// Decodes a [`RecordKind::Pages`] payload.
    ///
    /// # Errors
    /// Returns an error if the number of checksums is not that of the runs.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ExtensionError> {
        let malformed = ExtensionError::Malformed("pages");
        let (head, sums) = payload
            .split_first_chunk::<PAGES_HEAD_LEN>()
            .ok_or(malformed)?;
        let field = |offset| Endian::Little.u64_at(head, offset).ok_or(malformed);
        let (sums, _) = sums.as_chunks::<8>();
        let (offset, len_bytes, run_bytes) = (FileOffset(field(0)?), field(8)?, field(16)?);
        let runs = (run_bytes > 0).then(|| len_bytes.div_ceil(run_bytes));
        if runs != Some(sums.len() as u64) || field(24)? != sums.len() as u64 {
            return Err(malformed);
        }
        Ok(Self {
            offset,
            len_bytes,
            run_bytes,
            sums,
        })
    }

    /// Each run: where it starts, its bytes, its checksum.
    pub fn runs(&self) -> impl Iterator<Item = (FileOffset, u64, u64)> + use<'a> {
        let (offset, len_bytes, run_bytes) = (self.offset, self.len_bytes, self.run_bytes);
        (0u64..).zip(self.sums).map_while(move |(index, sum)| {
            let start = index.checked_mul(run_bytes)?;
            let len = run_bytes.min(len_bytes.checked_sub(start)?);
            Some((offset.checked_add(start)?, len, u64::from_le_bytes(*sum)))
        })
    }
}

/// The registers of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu<'a> {
    /// Its number in the kernel.
    pub cpu: u32,
    /// What became of it.
    pub state: CpuState,
    /// The thread that ran on it; 0 if it is not known.
    pub thread: u64,
    values: &'a [[u8; 8]],
}

impl<'a> Cpu<'a> {
    /// What stands in front of the CPUs: the architecture ([`crate::registers::layout_number`]), the
    /// number of CPUs, and the registers of each.
    #[must_use]
    pub fn encode_head(layout: u32, cpus: u32, registers: u32) -> [u8; CPUS_HEAD_LEN] {
        zerocopy::transmute!([
            U32::new(layout),
            U32::new(cpus),
            U32::new(registers),
            U32::new(0)
        ])
    }

    /// What stands in front of a CPU's registers.
    #[must_use]
    pub fn encode_cpu(cpu: u32, state: CpuState, thread: u64) -> [u8; CPU_HEAD_LEN] {
        let [a, b] = [U32::new(cpu), U32::new(state.number())];
        let [c, d]: [U32; 2] = zerocopy::transmute!(U64::new(thread));
        zerocopy::transmute!([a, b, c, d])
    }

    /// The register layout and the CPUs of a [`RecordKind::Cpus`] payload.
    ///
    /// # Errors
    /// Returns an error if the head is cut.
    pub fn parse_all(
        payload: &'a [u8],
    ) -> Result<(u32, impl Iterator<Item = Self> + use<'a>), ExtensionError> {
        let malformed = ExtensionError::Malformed("cpus");
        let (head, cpus) = payload
            .split_first_chunk::<CPUS_HEAD_LEN>()
            .ok_or(malformed)?;
        let field = |offset| Endian::Little.u32_at(head, offset).ok_or(malformed);
        let registers = usize::try_from(field(8)?).map_err(|_| malformed)?;
        let stride = registers
            .checked_mul(8)
            .and_then(|len| len.checked_add(CPU_HEAD_LEN));
        let count = usize::try_from(field(4)?).map_err(|_| malformed)?;
        let cpus = cpus.chunks_exact(stride.ok_or(malformed)?).take(count);
        let parsed = cpus.filter_map(|raw| {
            Some(Self {
                cpu: Endian::Little.u32_at(raw, 0)?,
                state: CpuState::from_number(Endian::Little.u32_at(raw, 4)?),
                thread: Endian::Little.u64_at(raw, 8)?,
                values: raw.get(CPU_HEAD_LEN..)?.as_chunks().0,
            })
        });
        Ok((field(0)?, parsed))
    }

    /// Its registers, in the order of [`crate::registers::names`]; none if it did not stop.
    pub fn registers(&self) -> impl Iterator<Item = u64> + use<'a> {
        let known = if self.state == CpuState::Running {
            &[]
        } else {
            self.values
        };
        known.iter().map(|value| u64::from_le_bytes(*value))
    }
}

/// Something that the writer could not read, or found damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What was wrong.
    pub kind: DamageKind,
    /// Level of the page table, counted from the bottom; 0 for pages.
    pub level: u32,
    /// The virtual address whose mapping it is; 0 where there is none.
    pub va: VirtAddr,
    /// The page-table page, or the first page.
    pub pa: PhysAddr,
    /// How many in a row: pages for pages, else 1.
    pub count: u64,
}

impl Damage {
    /// What stands in front of the entries: how often there was damage, and how many entries tell of
    /// it, which are fewer if there was no room for more.
    #[must_use]
    pub fn encode_head(found: u64, entries: u64) -> [u8; DAMAGE_HEAD_LEN] {
        zerocopy::transmute!([U64::new(found), U64::new(entries)])
    }

    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; DAMAGE_ENTRY_LEN] {
        let raw = RawDamage {
            kind: U32::new(self.kind.number()),
            level: U32::new(self.level),
            va: U64::new(self.va.0),
            pa: U64::new(self.pa.0),
            count: U64::new(self.count),
        };
        zerocopy::transmute!(raw)
    }

    /// How often there was damage, and the entries of a [`RecordKind::Damage`] payload.
    ///
    /// # Errors
    /// Returns an error if the head is cut.
    pub fn parse_all(
        payload: &[u8],
    ) -> Result<(u64, impl Iterator<Item = Self> + '_), ExtensionError> {
        let malformed = ExtensionError::Malformed("damage");
        let (head, entries) = payload
            .split_first_chunk::<DAMAGE_HEAD_LEN>()
            .ok_or(malformed)?;
        let field = |offset| Endian::Little.u64_at(head, offset).ok_or(malformed);
        let count = usize::try_from(field(8)?).map_err(|_| malformed)?;
        let entries = entries.as_chunks::<DAMAGE_ENTRY_LEN>().0.iter().take(count);
        let parsed = entries
            .filter_map(|entry| RawDamage::ref_from_bytes(entry).ok())
            .map(|raw| Self {
                kind: DamageKind::from_number(raw.kind.get()),
                level: raw.level.get(),
                va: VirtAddr(raw.va.get()),
                pa: PhysAddr(raw.pa.get()),
                count: raw.count.get(),
            });
        Ok((field(0)?, parsed))
    }
}

#[cfg(test)]
mod tests;
