//! A dump file: what kind it is, and its parts.
//!
//! [`Dump::open`] reads the first page and the RAM ranges, nothing else: its cost does not grow
//! with the machine. Everything that the file claims is checked against the file's length here;
//! what cannot be read at all is an [`OpenError`], what is merely unusual a [`Warning`].
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
mod extension;
mod full;
mod header;
mod minidump;
mod open;
mod realign;
mod sparc64;
mod translation;
mod uneven;
mod warning;

pub use crate::translation::KernelDelta;
pub use extension::Extension;
pub use header::{DumpFormat, FullHeader};
pub use open::{OpenError, OpenOptions};
pub use warning::{Warning, WarningSubject};

use crate::container::{self, ContainerError, DeviceHeader, Layer, Opened};
use crate::kinds;
use crate::memory::{Memory, PageReadError};
use crate::source::OpenFile;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use vmcore_format::addr::{FileOffset, PhysAddr};
use vmcore_format::arch::Arch;
use vmcore_format::elf::FileHeader;
use vmcore_format::header::Header;
use vmcore_format::identity::{IDENTITY_OFFSET, Identity, IdentityError};
use vmcore_format::layout::Section;

/// The system whose dumps these are.
const FREEBSD: &[u8] = b"FreeBSD";

/// How much of the dump is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Completeness {
    /// The file is as long as its headers predict, or longer.
    Complete {
        /// Bytes after the last page and the extension, such as the header of a live dump.
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
    kind: DumpFormat,
    memory: Memory,
    /// Those of the headers.
    header_warnings: Vec<Warning>,
    layers: Vec<Layer>,
    device_header: Option<DeviceHeader>,
    /// What the header page holds.
    identity_block: Result<Identity, IdentityError>,
    /// Read when first wanted, because the bitmap has to be counted to find it.
    extension: OnceLock<Option<Extension>>,
    /// All of them.
    warnings: OnceLock<Vec<Warning>>,
}

impl Dump {
    /// Opens a dump.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is not a dump of a known kind, or ends before its
    /// pages begin.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, OpenError> {
        let opened = container::open(path, &options.container)?;
        Self::of(path, opened, options)
    }

    /// Opens a dump in a file that is open.
    ///
    /// # Errors
    /// As [`Dump::open`].
    pub fn open_file(file: &OpenFile, options: &OpenOptions) -> Result<Self, OpenError> {
        let opened = container::open_file(file, &options.container)?;
        Self::of(file.path(), opened, options)
    }

    /// Opens a dump in memory.
    ///
    /// # Errors
    /// As [`Dump::open`].
    ///
    /// ```
    /// use vmcore::{Dump, OpenError, OpenOptions};
    /// let error = Dump::from_bytes(b"not a dump".to_vec(), &OpenOptions::default()).unwrap_err();
    /// assert!(matches!(error, OpenError::UnknownFormat { .. }));
    /// ```
    pub fn from_bytes(bytes: Vec<u8>, options: &OpenOptions) -> Result<Self, OpenError> {
        let name = Path::new("<memory>");
        let opened = container::open_given(name, bytes, &options.container)?;
        Self::of(name, opened, options)
    }

    /// Opens a dump that a pipe or another reader gives: it is copied to a temporary file first.
    ///
    /// # Errors
    /// As [`Dump::open`], or if it cannot be copied.
    ///
    /// ```
    /// use vmcore::{Dump, OpenError, OpenOptions};
    /// let error = Dump::from_reader(&b"not a dump"[..], &OpenOptions::default()).unwrap_err();
    /// assert!(matches!(error, OpenError::UnknownFormat { .. }));
    /// ```
    pub fn from_reader(
        reader: impl std::io::Read,
        options: &OpenOptions,
    ) -> Result<Self, OpenError> {
        let name = Path::new("<pipe>");
        let opened = container::open_reader(name, reader, &options.container)?;
        Self::of(name, opened, options)
    }

    /// Opens the dump in what a container held. Errors call it `path`.
    ///
    /// # Errors
    /// As [`Dump::open`].
    pub fn of(path: &Path, opened: Opened, options: &OpenOptions) -> Result<Self, OpenError> {
        let Opened {
            source,
            layers,
            device_header,
        } = opened;
        if device_header.as_ref().is_some_and(DeviceHeader::is_text) {
            return Err(OpenError::Textdump {
                path: path.to_owned(),
            });
        }
        let mut first = [0; 4096];
        let len = source
            .read_positional(0, &mut first)
            .map_err(|error| OpenError::io(path, error))?;
        let first = first.get(..len).unwrap_or_default();
        if let (true, Some(source)) = (first.is_empty(), source.damage()) {
            let path = path.to_owned();
            return Err(ContainerError::Broken { path, source }.into());
        }
        let (kind, memory, header_warnings) = match detect::detect(path, &source, first)? {
            detect::Format::Minidump => minidump::open(path, source, first, options)?,
            detect::Format::Elf => {
                detect::refuse_foreign_core(path, &source, first)?;
                full::open(path, source, first)?
            }
            detect::Format::Sparc64 => sparc64::open(path, source, first)?,
        };
        let block = usize::try_from(IDENTITY_OFFSET).ok();
        let block = block.and_then(|at| first.get(at..)).unwrap_or_default();
        let identity_block = Identity::parse(block);
        let (mut memory, mut header_warnings) = (memory, header_warnings);
        if let DumpFormat::Mini(header) = &kind {
            memory = uneven::settle(
                memory,
                header,
                &layers,
                device_header.as_ref(),
                identity_block.as_ref().ok(),
                &mut header_warnings,
            );
        }
        if let (true, DumpFormat::Mini(header)) = (options.realign, &kind) {
            memory = realign::realign(
                memory,
                header,
                &layers,
                device_header.as_ref(),
                &mut header_warnings,
            );
        }
        if let Some(recorder) = &options.recorder {
            let pages = memory.sparse().map(|sparse| sparse.offset_of_rank(0));
            recorder.align(pages.map_or(0, |pages| pages.0));
            memory.source = memory.source.recorded(recorder.clone());
        }
        Ok(Self {
            path: path.to_owned(),
            kind,
            memory,
            header_warnings,
            layers,
            device_header,
            identity_block,
            extension: OnceLock::new(),
            warnings: OnceLock::new(),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header.
    #[must_use]
    pub const fn kind(&self) -> &DumpFormat {
        &self.kind
    }

    /// The minidump header; `None` in a full dump.
    #[must_use]
    pub const fn minidump(&self) -> Option<&Header> {
        match &self.kind {
            DumpFormat::Mini(header) => Some(header),
            DumpFormat::Full(_) => None,
        }
    }

    /// How far the kernel ran from the addresses in its file, as the header or the notes of a core say.
    pub(crate) fn displacement(&self) -> u64 {
        match &self.kind {
            DumpFormat::Mini(header) => header.displacement(),
            DumpFormat::Full(header) => header
                .elf
                .and_then(|elf| kinds::displacement(self.memory.source(), &elf))
                .unwrap_or(0),
        }
    }

    /// The architecture of the machine.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        match &self.kind {
            DumpFormat::Mini(header) => header.arch,
            DumpFormat::Full(header) => header.arch,
        }
    }

    /// The physical memory.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What is unusual about the headers, the identity block and the extension. Reads the extension.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        self.warnings.get_or_init(|| {
            let mut warnings = self.header_warnings.clone();
            let extension = self.extension();
            match self.identity_block {
                Err(IdentityError::Absent) => {
                    let copy = extension.and_then(Extension::identity);
                    if copy.is_some() && self.has_room_for_identity() {
                        warnings.push(Warning::IdentityLost);
                    }
                }
                Err(reason) => warnings.push(Warning::IdentityDamaged { reason }),
                Ok(_) if extension.is_none() && self.has_all_pages() => {
                    warnings.push(Warning::ExtensionMissing);
                }
                Ok(_) => {}
            }
            warnings.extend(extension.into_iter().flat_map(Extension::warnings).cloned());
            let damage = self.memory.source().damage();
            warnings.extend(damage.map(|damage| Warning::StreamBroken { damage }));
            for layer in &self.layers {
                if let Layer::Device {
                    headers_differ: true,
                    ..
                } = layer
                {
                    warnings.push(Warning::HeadersDiffer);
                }
            }
            warnings
        })
    }

    /// Why what is read of its pages may be wrong, if it may: its writer lost some, or it is not known
    /// where they start.
    #[must_use]
    pub fn doubt(&self) -> Option<&Warning> {
        let is_doubt = |warning: &&Warning| {
            matches!(
                warning,
                Warning::PagesLost { .. } | Warning::PagesUncertain { .. }
            )
        };
        self.header_warnings.iter().find(is_doubt)
    }

    /// Whether the headers leave room for the identity block: a full dump's may be longer.
    fn has_room_for_identity(&self) -> bool {
        match &self.kind {
            DumpFormat::Mini(_) => true,
            DumpFormat::Full(header) => {
                let end = |elf: &FileHeader| {
                    let len = u64::from(elf.e_phnum) * elf.phdr_len() as u64;
                    elf.e_phoff.saturating_add(len)
                };
                let end = header.elf.as_ref().map(end);
                end.is_some_and(|end| end <= IDENTITY_OFFSET)
            }
        }
    }

    /// The identity block in the header page: which dump this is, of which boot, and when.
    ///
    /// # Errors
    /// Returns an error if there is none, or if it is damaged.
    pub const fn identity_block(&self) -> Result<&Identity, IdentityError> {
        match &self.identity_block {
            Ok(identity) => Ok(identity),
            Err(error) => Err(*error),
        }
    }

    /// What the identity block says, or else its copy in the extension; `None` in a dump by another
    /// writer. Reads the extension if it has to.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        match self.identity_block {
            Ok(identity) => Some(identity),
            Err(_) => self.extension()?.identity(),
        }
    }

    /// The name of the system whose kernel crashed: FreeBSD, unless the writer said another one.
    #[must_use]
    pub fn system_name(&self) -> String {
        let system = self.extension().and_then(Extension::system);
        let name = system
            .map(|system| system.name)
            .filter(|name| !name.is_empty());
        String::from_utf8_lossy(name.unwrap_or(FREEBSD)).into_owned()
    }

    /// Whether its writer said that it is of a kernel which is not FreeBSD's.
    #[must_use]
    pub fn is_of_another_system(&self) -> bool {
        self.system_name().as_bytes() != FREEBSD
    }

    /// What our writer put after the last page; `None` in a dump by another writer, or if it is
    /// lost. Reads it when first asked, and counts the bitmap for that.
    #[must_use]
    pub fn extension(&self) -> Option<&Extension> {
        self.extension
            .get_or_init(|| {
                if self.cut_section().is_some() {
                    return None;
                }
                let page_size = self.memory.page_size();
                let pages_end = page_size.round_up(self.pages_end().ok()?.0)?;
                let block = self.identity_block.as_ref().ok();
                Extension::read(
                    self.memory.source(),
                    page_size,
                    FileOffset(pages_end),
                    block,
                )
            })
            .as_ref()
    }

    /// The dump header of the device that stood in front, if there was one.
    #[must_use]
    pub const fn device_header(&self) -> Option<&DeviceHeader> {
        self.device_header.as_ref()
    }

    /// What was around the dump in its file, the outermost first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The bytes of a section, with its stored slack; `None` in a full dump. A section that the
    /// file's end cuts comes as far as it goes.
    ///
    /// # Errors
    /// Returns an error if reading fails.
    pub fn section(&self, section: Section) -> Result<Option<Vec<u8>>, PageReadError> {
        let Some(sparse) = self.memory.sparse() else {
            return Ok(None);
        };
        let extent = sparse.layout().section(section);
        let source = self.memory.source();
        let mut want = extent.stored_bytes;
        if !source.reaches(extent.offset.0.saturating_add(want)) {
            want = want.min(source.len().saturating_sub(extent.offset.0));
        }
        let mut bytes = vec![0; usize::try_from(want).unwrap_or(0)];
        match self
            .memory
            .source()
            .read_positional(extent.offset.0, &mut bytes)
        {
            Ok(read) => {
                bytes.truncate(read);
                Ok(Some(bytes))
            }
            Err(error) => Err(PageReadError::io(extent.offset, &error)),
        }
    }

    /// Bytes of a section of a minidump that lie past the end of the file.
    #[must_use]
    pub fn missing_of(&self, section: Section) -> u64 {
        let Some(sparse) = self.memory.sparse() else {
            return 0;
        };
        let extent = sparse.layout().section(section);
        let source = self.memory.source();
        if source.reaches(extent.offset.0.saturating_add(extent.len_bytes)) {
            return 0;
        }
        let have = source.len().saturating_sub(extent.offset.0);
        extent.len_bytes.saturating_sub(have)
    }

    /// The section before the pages that the file's end cuts.
    fn cut_section(&self) -> Option<&'static str> {
        let sections = [
            (Section::MessageBuffer, "message buffer"),
            (Section::DumpAvail, "dump_avail"),
            (Section::Bitmap, "bitmap"),
            (Section::PageTables, "page tables"),
        ];
        let cut = sections
            .into_iter()
            .find(|(section, _)| self.missing_of(*section) > 0);
        cut.map(|(_, name)| name)
    }

    /// Where the last page ends by the headers and the bitmap.
    fn pages_end(&self) -> Result<FileOffset, PageReadError> {
        Ok(match (self.memory.sparse(), self.memory.segments()) {
            (Some(sparse), _) => {
                let set_bits = sparse.set_bits(self.memory.source())?;
                let end = sparse.layout().end(set_bits);
                end.unwrap_or(FileOffset(u64::MAX))
            }
            (_, Some(segments)) => {
                let ends = segments
                    .segments()
                    .iter()
                    .map(|segment| segment.offset.0 + segment.file_bytes);
                FileOffset(ends.max().unwrap_or(0))
            }
            (None, None) => FileOffset(0),
        })
    }

    fn has_all_pages(&self) -> bool {
        matches!(self.completeness(), Ok(Completeness::Complete { .. }))
    }

    /// Whether the file holds all that its headers and bitmap predict. Counts the bitmap.
    ///
    /// # Errors
    /// Returns an error if the bitmap cannot be read.
    pub fn completeness(&self) -> Result<Completeness, PageReadError> {
        if let Some(section) = self.cut_section() {
            return Ok(Completeness::TruncatedSection { section });
        }
        let have = self.memory.source().len();
        let page_size = self.memory.page_size();
        let end = self.pages_end()?;
        if end.0 > have {
            let missing_bytes = end.0 - have;
            let pages_at = match self.memory.sparse() {
                Some(sparse) => sparse.layout().section(Section::Pages).offset.0,
                None => 0,
            };
            return Ok(Completeness::Truncated {
                missing_bytes,
                missing_pages: page_size
                    .pages(missing_bytes)
                    .min(page_size.pages(end.0 - pages_at)),
            });
        }
        // Where the bitmap does not lead to the extension, it is not known where the dump ends.
        let extension = self
            .extension()
            .filter(|extension| page_size.round_up(end.0) == Some(extension.start().0));
        let dump_end = extension.map_or(end, Extension::end);
        Ok(Completeness::Complete {
            trailing_bytes: have - dump_end.0.min(have),
        })
    }

    /// A 128-bit identity, as 32 hexadecimal digits: the dump id of its identity block. Of a dump
    /// without one, the hash of header, message buffer and bitmap; of such a full dump, that of its
    /// headers and 64 pages spread over the file.
    ///
    /// # Errors
    /// Returns an error if reading fails.
    pub fn id(&self) -> Result<String, PageReadError> {
        let named = self.identity().map(|identity| identity.dump_id);
        if let Some(id) = named.filter(|id| *id != [0; 16]) {
            return Ok(format!("{:032x}", u128::from_be_bytes(id)));
        }
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let source = self.memory.source();
        let mut feed = |offset: u64, len: u64| -> Result<(), PageReadError> {
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
                    .map_err(|error| PageReadError::io(FileOffset(at), &error))?;
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
        !matches!(self.memory.locate(pa), Err(PageReadError::NotRam { .. }))
    }
}
