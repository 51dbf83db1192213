//! A dump file: what kind it is, and its parts.
//!
//! [`Dump::open`] reads the first page and the RAM ranges, nothing else: its cost does not grow
//! with the machine. Everything that the file claims is checked against the file's length here;
//! what cannot be read at all is an [`OpenError`], what is merely odd a [`Warning`].
//!
//! ```
//! use vmcore::{Dump, OpenError, OpenOptions};
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("vmcore.0");
//! std::fs::write(&path, b"not a dump")?;
//! let error = Dump::open(&path, &OpenOptions::default()).unwrap_err();
//! assert!(matches!(error, OpenError::UnknownFormat { .. }));
//! # Ok::<(), std::io::Error>(())
//! ```

mod detect;
mod full;
mod minidump;

pub use detect::DeviceHeader;
pub use full::{FullHeader, KernelDelta};
pub use minidump::Warning;

use crate::memory::{Absence, Memory};
use crate::source::{Access, Source};
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use vmcore_format::addr::{FileOffset, PhysAddr};
use vmcore_format::arch::Arch;
use vmcore_format::elf::ElfError;
use vmcore_format::header::{Header, HeaderError};
use vmcore_format::layout::Section;

/// How to open a dump.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// How the file is read.
    pub access: Access,
    /// The last section that must be whole: a dump truncated behind it opens all the same.
    pub up_to: Section,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            access: Access::Auto,
            up_to: Section::PageTables,
        }
    }
}

/// Why a file is no dump that can be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system could not open or read it.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A file of length 0.
    #[error("{path} is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Neither a minidump nor an ELF core.
    #[error("{path} is not a kernel dump: it starts with neither \"minidump\" nor an ELF header")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A compressed file.
    #[error("{path} is compressed with {how}; unpack it first: {how} -d {path}")]
    Compressed {
        /// The file.
        path: PathBuf,
        /// `zstd` or `gzip`.
        how: &'static str,
    },
    /// A device header says that the dump behind it is encrypted, compressed or a textdump.
    #[error(
        "{path}: the dump behind its device header is {what}, which cannot be read in place yet"
    )]
    Wrapped {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A kernel file where a dump was expected.
    #[error("{path} is a {arch} kernel or program, not a dump; use it with -k {path}")]
    KernelFile {
        /// The file.
        path: PathBuf,
        /// Its architecture, as far as known.
        arch: String,
    },
    /// The minidump header is wrong.
    #[error("{path}: {source}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// The ELF header is wrong.
    #[error("{path}: {source}")]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ElfError,
    },
    /// An ELF core that is not a dump we know.
    #[error("{path}: an ELF core, but {reason}")]
    BadCore {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file ends inside a section.
    #[error("{path} is truncated inside its {section}: {need} bytes needed, the file has {have}")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The section.
        section: Section,
        /// Bytes up to the end of the section.
        need: u64,
        /// Bytes there are.
        have: u64,
    },
    /// The ranges of RAM cannot number the bitmap.
    #[error("{path}: {reason}")]
    BadRanges {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The header of either kind of dump.
#[derive(Clone, Debug)]
pub enum DumpKind {
    /// A minidump.
    Mini(Header),
    /// A full dump, or another ELF core of physical memory.
    Full(FullHeader),
}

impl DumpKind {
    /// `minidump`, `full dump`, or `ELF core` for one with virtual addresses.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Mini(_) => "minidump",
            Self::Full(header) if header.virtual_segments.is_empty() => "full dump",
            Self::Full(_) => "ELF core",
        }
    }
}

/// How much of the dump is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Completeness {
    /// The file is as long as its headers predict, or longer.
    Complete {
        /// Bytes behind the last page, such as the header of a live dump.
        trailing_bytes: u64,
    },
    /// The file ends before its last page.
    Truncated {
        /// Bytes that are missing.
        missing_bytes: u64,
        /// Pages that are missing or cut.
        missing_pages: u64,
    },
    /// A section before the pages is cut.
    TruncatedSection {
        /// The section.
        section: &'static str,
    },
}

/// An open dump.
#[derive(Debug)]
pub struct Dump {
    path: PathBuf,
    kind: DumpKind,
    memory: Memory,
    warnings: Vec<Warning>,
    device_header: Option<DeviceHeader>,
}

impl Dump {
    /// Opens a dump.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is no dump of a known kind, or ends before its
    /// pages begin.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, OpenError> {
        let io_error = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let source = Source::open(path, options.access).map_err(io_error)?;
        let (source, device_header) = detect::skip_device_header(path, source)?;
        let mut first = [0; 4096];
        let len = source.read_positional(0, &mut first).map_err(io_error)?;
        let first = first.get(..len).unwrap_or_default();
        let (kind, memory, warnings) = match detect::detect(path, first)? {
            detect::Format::Minidump => minidump::open(path, source, first, options)?,
            detect::Format::Elf => full::open(path, source, first)?,
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
            memory,
            warnings,
            device_header,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header.
    #[must_use]
    pub const fn kind(&self) -> &DumpKind {
        &self.kind
    }

    /// The minidump header; `None` in a full dump.
    #[must_use]
    pub const fn minidump(&self) -> Option<&Header> {
        match &self.kind {
            DumpKind::Mini(header) => Some(header),
            DumpKind::Full(_) => None,
        }
    }

    /// The architecture of the machine.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        match &self.kind {
            DumpKind::Mini(header) => header.arch,
            DumpKind::Full(header) => header.arch,
        }
    }

    /// The physical memory.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What is odd about the headers.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The dump header of the device that stood in front, if there was one.
    #[must_use]
    pub const fn device_header(&self) -> Option<&DeviceHeader> {
        self.device_header.as_ref()
    }

    /// The bytes of a section, with its stored slack; `None` in a full dump. A section that the
    /// file's end cuts comes as far as it goes.
    ///
    /// # Errors
    /// Returns an error if the operating system does.
    pub fn section(&self, section: Section) -> Result<Option<Vec<u8>>, Absence> {
        let Some(sparse) = self.memory.sparse() else {
            return Ok(None);
        };
        let extent = sparse.layout().section(section);
        let have = self.memory.source().len().saturating_sub(extent.offset.0);
        let len = usize::try_from(extent.stored_bytes.min(have)).unwrap_or(0);
        let mut bytes = vec![0; len];
        match self
            .memory
            .source()
            .read_positional(extent.offset.0, &mut bytes)
        {
            Ok(read) => {
                bytes.truncate(read);
                Ok(Some(bytes))
            }
            Err(error) => Err(Absence::Io {
                offset: extent.offset,
                kind: error.kind(),
            }),
        }
    }

    /// Whether the file holds all that its headers and bitmap predict. Counts the bitmap.
    ///
    /// # Errors
    /// Returns an error if the bitmap cannot be read.
    pub fn completeness(&self) -> Result<Completeness, Absence> {
        let have = self.memory.source().len();
        let page_size = self.memory.page_size();
        let (end, pages_at) = match (self.memory.sparse(), self.memory.segments()) {
            (Some(sparse), _) => {
                let pages = sparse.layout().section(Section::Pages).offset;
                for section in [
                    Section::MessageBuffer,
                    Section::DumpAvail,
                    Section::Bitmap,
                    Section::PageTables,
                ] {
                    let extent = sparse.layout().section(section);
                    if extent.offset.0 + extent.len_bytes > have {
                        let section = match section {
                            Section::MessageBuffer => "message buffer",
                            Section::DumpAvail => "dump_avail",
                            Section::Bitmap => "bitmap",
                            _ => "page tables",
                        };
                        return Ok(Completeness::TruncatedSection { section });
                    }
                }
                let set_bits = sparse.set_bits(self.memory.source())?;
                (
                    sparse
                        .layout()
                        .end(set_bits)
                        .unwrap_or(FileOffset(u64::MAX)),
                    pages,
                )
            }
            (_, Some(segments)) => {
                let ends = segments
                    .segments()
                    .iter()
                    .map(|segment| segment.offset.0 + segment.file_bytes);
                (FileOffset(ends.max().unwrap_or(0)), FileOffset(0))
            }
            (None, None) => (FileOffset(0), FileOffset(0)),
        };
        Ok(match end.checked_sub(FileOffset(have)) {
            Some(missing_bytes) if missing_bytes > 0 => Completeness::Truncated {
                missing_bytes,
                missing_pages: page_size
                    .pages(missing_bytes)
                    .min(page_size.pages(end.0 - pages_at.0)),
            },
            _ => Completeness::Complete {
                trailing_bytes: have - end.0,
            },
        })
    }

    /// A 128-bit identity: the hash of header, message buffer and bitmap, as 32 hexadecimal digits.
    /// Of a full dump, its headers and 64 pages spread over the file.
    ///
    /// # Errors
    /// Returns an error if the operating system does.
    pub fn id(&self) -> Result<String, Absence> {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let source = self.memory.source();
        let mut feed = |offset: u64, len: u64| -> Result<(), Absence> {
            let mut buf = vec![0; usize::try_from(len.min(1 << 20)).unwrap_or(1 << 20)];
            let end = offset.saturating_add(len).min(source.len());
            let mut at = offset;
            while at < end {
                let want = usize::try_from(end - at)
                    .unwrap_or(buf.len())
                    .min(buf.len());
                let part = buf.get_mut(..want).unwrap_or_default();
                let read = source
                    .read_positional(at, part)
                    .map_err(|error| Absence::Io {
                        offset: FileOffset(at),
                        kind: error.kind(),
                    })?;
                if read == 0 {
                    break;
                }
                hash.update(part.get(..read).unwrap_or_default());
                at += read as u64;
            }
            Ok(())
        };
        if let Some(sparse) = self.memory.sparse() {
            for section in [Section::Header, Section::MessageBuffer, Section::Bitmap] {
                let extent = sparse.layout().section(section);
                feed(extent.offset.0, extent.len_bytes)?;
            }
        } else {
            feed(0, 4096)?;
            for sample in 0..64 {
                feed((source.len() / 64).saturating_mul(sample), 4096)?;
            }
        }
        Ok(format!("{:032x}", hash.digest128()))
    }

    /// Whether `pa` is RAM by the dump's headers; what a full dump does not hold is not.
    #[must_use]
    pub fn is_ram(&self, pa: PhysAddr) -> bool {
        !matches!(self.memory.locate(pa), Err(Absence::NotRam { .. }))
    }
}
