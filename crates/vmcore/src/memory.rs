//! The physical memory in a dump: which pages are there, where, and why another is not.
//!
//! A minidump holds the pages whose bit is set, one after the other; a full dump holds ranges of
//! addresses. Both answer one question, [`Memory::locate`]: where in the file is the byte at this
//! physical address? The bitmap is read and its index built when first needed, not on open.
//!
//! ```no_run
//! use vmcore::format::addr::PhysAddr;
//! use vmcore::memory::PageReadError;
//! use vmcore::{Dump, OpenOptions};
//! let dump = Dump::open("vmcore.0".as_ref(), &OpenOptions::default())?;
//! match dump.memory().locate(PhysAddr(0x1a3_4000)) {
//!     Ok(offset) => println!("at {offset} of the file"),
//!     Err(PageReadError::NotDumped { .. }) => println!("RAM that the kernel did not dump"),
//!     Err(other) => println!("{other}"),
//! }
//! # Ok::<(), vmcore::OpenError>(())
//! ```

mod page_cache;
mod segments;
mod sparse;

pub(crate) use page_cache::PageCache;
pub use segments::{PhysSegment, SegmentMemory};
pub use sparse::{LostPage, RangeSummary, SparseMemory};

use crate::source::{Bytes, DamagedFrame, Source};
use std::io;
use thiserror::Error;
use vmcore_format::addr::{FileOffset, PageSize, Pfn, PhysAddr, PhysRange};
use vmcore_format::elf::{PT_LOAD, Segment};
use vmcore_format::endian::{Endian, Width};
use vmcore_format::layout::Section;
use vmcore_format::paging::{TableRef, Tables};

/// Why the bytes at a physical address cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PageReadError {
    /// Outside every RAM range of the machine.
    #[error("physical page {pa} is not RAM of this machine (a hole or device memory)")]
    NotRam {
        /// The page.
        pa: PhysAddr,
    },
    /// RAM, but not in the dump.
    #[error("physical page {pa} is RAM, but its bit is clear (free, user or no-dump)")]
    NotDumped {
        /// The page.
        pa: PhysAddr,
    },
    /// In the dump by the bitmap, but its writer left it out: see [`crate::dump::Warning::PagesLost`].
    #[error(
        "the bitmap names physical page {pa}, but the writer left out it, or another page between \
         {from} and {to}"
    )]
    Lost {
        /// The page.
        pa: PhysAddr,
        /// Between which pages the lost one is: after this one,
        from: PhysAddr,
        /// and before this one.
        to: PhysAddr,
    },
    /// In the dump by the bitmap or the headers, but the file ends before it.
    #[error(
        "physical page {pa} belongs at {offset} of the file, but the file is truncated at {file_len}"
    )]
    Truncated {
        /// The page.
        pa: PhysAddr,
        /// Where it would be.
        offset: FileOffset,
        /// Where the file ends.
        file_len: FileOffset,
    },
    /// A section of the dump (not a page) is past the end of the file.
    #[error("the {section} section is truncated")]
    SectionTruncated {
        /// The section.
        section: Section,
    },
    /// The compressed bytes that hold it are damaged.
    #[error(
        "the compressed bytes from {stored} of the file on are damaged, and {offset} of the dump is \
         among them"
    )]
    Damaged {
        /// Where in the dump as it was before it was compressed.
        offset: FileOffset,
        /// Where the damaged frame starts in the file.
        stored: FileOffset,
    },
    /// The operating system could not read the file.
    #[error("reading the file at {offset} failed: {kind}")]
    Io {
        /// Where in the file.
        offset: FileOffset,
        /// What it said.
        kind: io::ErrorKind,
    },
}

impl PageReadError {
    /// Whether the dump should have it: a loss, not a hole.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        !matches!(self, Self::NotRam { .. } | Self::NotDumped { .. })
    }

    /// Why reading at `offset` failed.
    pub(crate) fn io(offset: FileOffset, error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(DamagedFrame { stored, .. }) => Self::Damaged {
                offset,
                stored: FileOffset(*stored),
            },
            None => Self::Io {
                offset,
                kind: error.kind(),
            },
        }
    }
}

/// How far a read got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "fewer bytes than were asked for may have been read"]
pub struct PartialRead<E> {
    /// Bytes read.
    pub len: usize,
    /// Why it stopped before the end of the buffer.
    pub error: Option<E>,
}

impl<E> PartialRead<E> {
    /// Nothing if the buffer was filled.
    ///
    /// # Errors
    /// Returns why it was not.
    pub fn exact(self) -> Result<(), E> {
        self.error.map_or(Ok(()), Err)
    }
}

/// Where the pages are, by kind of dump.
#[derive(Debug)]
pub(crate) enum Store {
    Sparse(SparseMemory),
    Segments(SegmentMemory),
}

/// The physical memory of one dump.
#[derive(Debug)]
pub struct Memory {
    pub(crate) source: Source,
    pub(crate) store: Store,
    pub(crate) page_size: PageSize,
    pub(crate) endian: Endian,
}

impl Memory {
    /// The physical memory that is in ranges of `source`, each from its offset on: that of a running
    /// guest, or a hypervisor's memory file. Of overlapping ranges the first wins.
    ///
    /// ```
    /// use vmcore::format::addr::{FileOffset, PageSize, PhysAddr, PhysRange};
    /// use vmcore::format::endian::Endian;
    /// use vmcore::memory::Memory;
    /// use vmcore::source::Source;
    /// let ram = PhysRange { start: PhysAddr(0x10_0000), end: PhysAddr(0x10_2000) };
    /// let guest = Source::of(vec![7; 0x2000]);
    /// let memory = Memory::of_ranges(guest, [(ram, FileOffset(0))], PageSize::SIZE_4K, Endian::Little);
    /// let mut word = [0; 8];
    /// memory.read(PhysAddr(0x10_1000), &mut word).exact()?;
    /// assert_eq!(word, [7; 8]);
    /// assert!(memory.locate(PhysAddr(0)).is_err());
    /// # Ok::<(), vmcore::memory::PageReadError>(())
    /// ```
    #[must_use]
    pub fn of_ranges(
        source: Source,
        ranges: impl IntoIterator<Item = (PhysRange, FileOffset)>,
        page_size: PageSize,
        endian: Endian,
    ) -> Self {
        let header = |(range, offset): (PhysRange, FileOffset)| Segment {
            p_type: PT_LOAD,
            p_flags: 0,
            p_offset: offset.0,
            p_vaddr: 0,
            p_paddr: range.start.0,
            p_filesz: range.len_bytes(),
            p_memsz: range.len_bytes(),
            p_align: 0,
        };
        let headers: Vec<Segment> = ranges.into_iter().map(header).collect();
        let (segments, _) = SegmentMemory::new(&headers, page_size, source.len());
        Self {
            source,
            store: Store::Segments(segments),
            page_size,
            endian,
        }
    }

    /// The bytes of the file.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// The dump's page size.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Byte order of the kernel's integers.
    #[must_use]
    pub const fn endian(&self) -> Endian {
        self.endian
    }

    /// The sparse pages of a minidump; `None` in a full dump.
    #[must_use]
    pub const fn sparse(&self) -> Option<&SparseMemory> {
        match &self.store {
            Store::Sparse(sparse) => Some(sparse),
            Store::Segments(_) => None,
        }
    }

    /// The ranges of a full dump; `None` in a minidump.
    #[must_use]
    pub const fn segments(&self) -> Option<&SegmentMemory> {
        match &self.store {
            Store::Segments(segments) => Some(segments),
            Store::Sparse(_) => None,
        }
    }

    /// Where in the file the byte at `pa` lies. The rest of its page follows it there.
    ///
    /// # Errors
    /// Returns why it is absent.
    #[inline(always)]
    pub fn locate(&self, pa: PhysAddr) -> Result<FileOffset, PageReadError> {
        match &self.store {
            Store::Sparse(sparse) => {
                let page = sparse.page_offset(&self.source, self.page_size.pfn(pa))?;
                self.in_page(pa, page)
            }
            Store::Segments(segments) => segments.locate(pa, self.source.len()),
        }
    }

    /// As [`Memory::locate`], for page tables: they are few, and each is asked for many times.
    #[inline(always)]
    fn locate_in_table(&self, pa: PhysAddr) -> Result<FileOffset, PageReadError> {
        match &self.store {
            Store::Sparse(sparse) => {
                let page = sparse.table_offset(&self.source, self.page_size.pfn(pa))?;
                self.in_page(pa, page)
            }
            Store::Segments(segments) => segments.locate(pa, self.source.len()),
        }
    }

    /// Where the byte at `pa` lies in its page, unless the file ends before.
    #[inline(always)]
    fn in_page(&self, pa: PhysAddr, page: FileOffset) -> Result<FileOffset, PageReadError> {
        let offset = FileOffset(page.0 + self.page_size.offset_in_page(pa.0));
        match self.source.reaches(offset.0 + 1) {
            true => Ok(offset),
            false => Err(self.truncated(self.page_size.base(self.page_size.pfn(pa)), page)),
        }
    }

    /// Where the first page lies in the file: the others follow in whole pages, but for those of a
    /// full dump whose ranges lie otherwise.
    pub(crate) fn first_page(&self) -> FileOffset {
        match &self.store {
            Store::Sparse(sparse) => sparse.offset_of_rank(0),
            Store::Segments(segments) => {
                let first = segments.segments().first();
                first.map_or(FileOffset(0), |segment| segment.offset)
            }
        }
    }

    /// A cache for the pages of the file, of a compressed one whose length is not known for many;
    /// `None` if they may change places.
    pub(crate) fn page_cache(&self) -> Option<PageCache> {
        let pages = match self.source.knows_len() {
            true => self.page_size.pages(self.source.len()),
            false => u64::MAX,
        };
        (!self.source.may_change()).then(|| PageCache::for_pages(pages))
    }

    /// Whether `pa` is RAM by the dump's headers.
    pub(crate) fn is_ram(&self, pa: PhysAddr) -> bool {
        match &self.store {
            Store::Sparse(sparse) => {
                let pfn = self.page_size.pfn(pa);
                sparse.numbering().bit_of(pfn).is_some()
            }
            Store::Segments(segments) => segments.find(pa, 1).is_some(),
        }
    }

    /// Whether the dump has the page of `pa` by its bitmap or headers, in the file or past its end.
    pub(crate) fn is_dumped(&self, pa: PhysAddr) -> bool {
        !matches!(
            self.locate(pa),
            Err(PageReadError::NotRam { .. } | PageReadError::NotDumped { .. })
        )
    }

    /// How many of `want_bytes` from `pa` lie together in the file for sure: those of its page, and
    /// a full dump's range may end inside a page.
    #[inline]
    pub(crate) fn contiguous(&self, pa: PhysAddr, want_bytes: usize) -> usize {
        match &self.store {
            Store::Sparse(_) => {
                let left = self.page_size.bytes() - self.page_size.offset_in_page(pa.0);
                usize::try_from(left).map_or(want_bytes, |left| left.min(want_bytes))
            }
            Store::Segments(segments) => segments.contiguous(pa, want_bytes),
        }
    }

    #[cold]
    fn truncated(&self, pa: PhysAddr, offset: FileOffset) -> PageReadError {
        PageReadError::Truncated {
            pa,
            offset,
            file_len: FileOffset(self.source.len()),
        }
    }

    /// Reads file bytes that belong to the memory at `pa`.
    #[inline]
    pub(crate) fn read_file(
        &self,
        pa: PhysAddr,
        offset: FileOffset,
        buf: &mut [u8],
    ) -> Result<(), PageReadError> {
        match self.source.read_at(offset.0, buf) {
            Ok(len) if len == buf.len() => Ok(()),
            Ok(_) => Err(self.truncated(pa, offset)),
            Err(error) => Err(PageReadError::io(offset, &error)),
        }
    }

    /// Reads physical memory into `buf`, page by page, up to the first absent page.
    pub fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> PartialRead<PageReadError> {
        let mut len = 0;
        while let Some(rest) = buf.get_mut(len..).filter(|rest| !rest.is_empty()) {
            let last = PhysAddr(u64::MAX);
            let read = match pa.checked_add(len as u64) {
                Some(at) => self.read_some(at, rest),
                None => Err(PageReadError::NotRam { pa: last }),
            };
            match read {
                Ok(read) => len += read,
                Err(error) => {
                    return PartialRead {
                        len,
                        error: Some(error),
                    };
                }
            }
        }
        PartialRead { len, error: None }
    }

    /// Reads what lies together in the file from `pa` on, at most the rest of its page.
    fn read_some(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<usize, PageReadError> {
        let offset = self.locate(pa)?;
        let len = self.contiguous(pa, buf.len()).max(1);
        let part = buf.get_mut(..len).unwrap_or_default();
        match self.source.read_at(offset.0, part) {
            Ok(0) => Err(self.truncated(pa, offset)),
            Ok(read) => Ok(read),
            Err(error) => Err(PageReadError::io(offset, &error)),
        }
    }

    /// A whole page.
    ///
    /// # Errors
    /// Returns why it is absent; a page that the file's end cuts is truncated.
    pub fn page(&self, pfn: Pfn) -> Result<Bytes<'_>, PageReadError> {
        let pa = self.page_size.base(pfn);
        let offset = self.locate(pa)?;
        let len = usize::try_from(self.page_size.bytes()).unwrap_or(usize::MAX);
        if self.contiguous(pa, len) < len {
            // A full dump's range ends inside the page; another one may go on.
            let mut bytes = vec![0; len];
            self.read(pa, &mut bytes).exact()?;
            return Ok(Bytes::from(bytes));
        }
        let end = offset.0.saturating_add(self.page_size.bytes());
        match self.source.bytes(offset.0..end) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(self.truncated(pa, offset)),
            Err(error) => Err(PageReadError::io(offset, &error)),
        }
    }

    /// Where entry `index` of a table lies in the file.
    #[inline(always)]
    fn entry_offset(
        &self,
        table: TableRef,
        index: u64,
        width: Width,
    ) -> Result<FileOffset, PageReadError> {
        match table {
            TableRef::At(pa) => self.locate_in_table(
                pa.checked_add(index * width.bytes())
                    .ok_or(PageReadError::NotRam { pa })?,
            ),
            TableRef::Section => {
                let section = match &self.store {
                    Store::Sparse(sparse) => sparse.tables_offset(),
                    Store::Segments(_) => FileOffset(0),
                };
                Ok(FileOffset(section.0 + index * width.bytes()))
            }
        }
    }

    /// `N` bytes of an entry.
    #[inline(always)]
    fn entry_bytes<const N: usize>(
        &self,
        table: TableRef,
        index: u64,
        width: Width,
    ) -> Result<[u8; N], PageReadError> {
        let offset = self.entry_offset(table, index, width)?;
        match self.source.array(offset.0) {
            Some(bytes) => Ok(bytes),
            None => self.read_entry(table, offset),
        }
    }

    /// As [`Memory::entry_bytes`], with the reason if it fails.
    #[cold]
    fn read_entry<const N: usize>(
        &self,
        table: TableRef,
        offset: FileOffset,
    ) -> Result<[u8; N], PageReadError> {
        let mut bytes = [0; N];
        match table {
            TableRef::At(pa) => self.read_file(pa, offset, &mut bytes)?,
            TableRef::Section => self
                .read_file(PhysAddr(0), offset, &mut bytes)
                .map_err(in_section)?,
        }
        Ok(bytes)
    }
}

/// Page tables in a dump: the section of a minidump, or physical pages.
impl Tables for Memory {
    type Error = PageReadError;

    #[inline]
    fn endian(&self) -> Endian {
        self.endian
    }

    #[inline(always)]
    fn entry(&self, table: TableRef, index: u64, width: Width) -> Result<u64, PageReadError> {
        Ok(match width {
            Width::W64 => self.endian.u64(self.entry_bytes(table, index, width)?),
            Width::W32 => u64::from(self.endian.u32(self.entry_bytes(table, index, width)?)),
        })
    }

    fn load<'b>(
        &'b self,
        table: TableRef,
        first: u64,
        count: u64,
        width: Width,
        buf: &'b mut [u8],
    ) -> Result<&'b [u8], PageReadError> {
        let offset = self.entry_offset(table, first, width)?;
        let len = usize::try_from(count * width.bytes()).unwrap_or(usize::MAX);
        let no_room = PageReadError::Io {
            offset,
            kind: io::ErrorKind::OutOfMemory,
        };
        if let TableRef::At(pa) = table {
            let start = PhysAddr(pa.0.wrapping_add(first * width.bytes()));
            if self.contiguous(start, len) < len {
                // What follows in the file is another page's.
                let buf = buf.get_mut(..len).ok_or(no_room)?;
                let read = self.read(start, buf).len;
                return Ok(buf.get(..read).unwrap_or_default());
            }
        }
        let end = offset.0.saturating_add(len as u64);
        if let Some(mapped) = self.source.mapped(offset.0..end) {
            return Ok(mapped);
        }
        let buf = buf.get_mut(..len).ok_or(no_room)?;
        // A table that the file's end cuts gives the entries that are there.
        match self.source.read_positional(offset.0, buf) {
            Ok(read) => Ok(buf.get(..read).unwrap_or_default()),
            Err(error) => Err(PageReadError::io(offset, &error)),
        }
    }
}

/// The section of page tables is not a page: it can only be cut as a whole.
#[cold]
fn in_section(reason: PageReadError) -> PageReadError {
    match reason {
        PageReadError::Truncated { .. } => PageReadError::SectionTruncated {
            section: Section::PageTables,
        },
        other => other,
    }
}
