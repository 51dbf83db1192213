//! The extension: records after the last page of a dump that our writer made.
//!
//! FreeBSD's readers never look there (a minidump ends with its last page, a full dump with its last
//! segment), so a dump with an extension is a dump to them as well. Records are type, length, value
//! and checksum, one after the other from the page after the last one on; a [`Locator`] fills the
//! last 64 bytes of the dump for those who do not know where the pages end. Bytes after it are
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

mod contents;
pub mod kernel;

pub use contents::{
    CPU_HEAD_LEN, CPUS_HEAD_LEN, Cpu, CpuState, DAMAGE_ENTRY_LEN, DAMAGE_HEAD_LEN, Damage,
    DamageKind, PAGES_HEAD_LEN, PageSums, SECTION_ENTRY_LEN, SectionSum, section_number,
};

use crate::addr::FileOffset;
use crate::checksum::checksum;
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
/// Bytes before a record's payload.
pub const RECORD_HEADER_LEN: usize = 16;
/// Bytes of a record's checksum, after its padded payload.
pub const RECORD_CHECKSUM_LEN: usize = 8;
/// A reader that does not know a record with this flag cannot trust what it reads elsewhere.
const FLAG_MUST_UNDERSTAND: u32 = 1;

numbered! {
    /// What a record holds.
    RecordKind {
        /// No record: the end of the extension.
        End = 0,
        /// A copy of the identity block.
        Identity = 1,
        /// Checksums of the sections before the pages.
        Sections = 2,
        /// Checksums of runs of pages.
        Pages = 3,
        /// The registers of every CPU.
        Cpus = 4,
        /// What the writer could not read, or found damaged.
        Damage = 5,
        /// What was kept of another dump, as JSON.
        Manifest = 6,
        /// How virtual addresses are translated ([`kernel::AddressSpace`]).
        AddressSpace = 7,
        /// Which kernel it is ([`kernel::System`]).
        System = 8,
        /// Its processes ([`kernel::Process`]).
        Processes = 9,
        /// Its threads ([`kernel::Thread`]).
        Threads = 10,
        /// What was loaded beside the kernel ([`kernel::Module`]).
        Modules = 11,
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

const _: () = {
    assert!(size_of::<RawLocator>() == LOCATOR_LEN);
    assert!(core::mem::offset_of!(RawLocator, checksum) == 56);
    assert!(size_of::<RawRecord>() == RECORD_HEADER_LEN);
};

/// Why bytes are not an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExtensionError {
    /// No locator: a dump by another writer, or one that lost its end.
    #[error("no extension: its locator is missing")]
    Absent,
    /// A record ends past the end of the bytes.
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

/// What precedes a record's payload.
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

    /// Decodes what precedes a payload; `None` at the end of the records, where zeros or
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

/// The records in `bytes`, which start where the extension does and may go on after it. The first
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
        let Some((record, tail)) = len.and_then(|len| from.split_at_checked(len)) else {
            return Some(Err(ExtensionError::Truncated { at }));
        };
        let (summed, sum) = record.split_last_chunk::<RECORD_CHECKSUM_LEN>()?;
        rest = Some(tail);
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

#[cfg(test)]
mod tests;
