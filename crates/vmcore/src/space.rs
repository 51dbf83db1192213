//! Reading the kernel's virtual memory.
//!
//! A read meets holes in one of three ways, chosen by the method: [`AddressSpace::read`] returns as
//! much as there is and why it stopped; [`AddressSpace::read_exact`] makes a hole an error;
//! [`AddressSpace::read_with_holes`] reads on after them and reports each. All fill a caller's
//! buffer; none allocates.
//!
//! ```no_run
//! use vmcore::format::addr::VirtAddr;
//! use vmcore::space::AddressSpace;
//! use vmcore::translation::Translation;
//! use vmcore::{Dump, OpenOptions};
//! let dump = Dump::open("vmcore.0".as_ref(), &OpenOptions::default())?;
//! let translation = dump.translation(None)?;
//! let space = AddressSpace::new(dump.memory(), dump.arch(), &translation);
//! let mut page = [0; 4096];
//! let part = space.read(VirtAddr(0xffff_fe00_0079_2000), &mut page);
//! println!("{} bytes; stopped by {:?}", part.len, part.error);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::memory::{Memory, PageCache, PageReadError, PartialRead};
use crate::translation::{Translated, Translation, TranslationError, Via};
use vmcore_format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::endian::{Endian, Width};

/// The kernel's virtual memory: cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct AddressSpace<'a> {
    memory: &'a Memory,
    translation: &'a Translation,
    arch: Arch,
    /// The pages that reads have found, if they are remembered.
    cache: Option<&'a PageCache>,
}

/// A part of a read that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// First missing address.
    pub va: VirtAddr,
    /// Bytes up to the end of the page or of the read.
    pub len: usize,
    /// Why.
    pub error: TranslationError,
}

impl<'a> AddressSpace<'a> {
    /// The address space that `translation` describes over `memory`.
    #[must_use]
    pub const fn new(memory: &'a Memory, arch: Arch, translation: &'a Translation) -> Self {
        Self {
            memory,
            translation,
            arch,
            cache: None,
        }
    }

    /// The same, with the pages that reads find remembered in `cache`: that of this memory and this
    /// translation alone.
    pub(crate) const fn remembering(self, cache: Option<&'a PageCache>) -> Self {
        Self { cache, ..self }
    }

    /// The physical memory behind it.
    #[must_use]
    pub const fn memory(&self) -> &'a Memory {
        self.memory
    }

    /// The translation.
    #[must_use]
    pub const fn translation(&self) -> &'a Translation {
        self.translation
    }

    /// Width of the kernel's pointers.
    #[must_use]
    pub const fn word(&self) -> Width {
        self.arch.word()
    }

    /// Byte order of the kernel's integers.
    #[must_use]
    pub const fn endian(&self) -> Endian {
        self.memory.endian
    }

    /// Where `va` leads, and where in the file its bytes are.
    ///
    /// # Errors
    /// Returns an error if it is not mapped or its page is not there.
    #[inline(always)]
    pub fn locate(&self, va: VirtAddr) -> Result<(Translated, FileOffset), TranslationError> {
        let found = self.translation.lookup(self.memory, va)?;
        let pa = found.leaf.pa;
        match self.memory.locate(pa) {
            Ok(offset) => Ok((found, offset)),
            Err(reason) => Err(TranslationError::PageAbsent { va, pa, reason }),
        }
    }

    /// Where the bytes at `va` lie, if its page is remembered: the rest of the page follows.
    #[inline(always)]
    fn remembered(&self, va: VirtAddr) -> Option<FileOffset> {
        let size = self.memory.page_size;
        let number = self.cache?.get(va.0 >> size.shift())?;
        let first = self.memory.first_page();
        Some(FileOffset(
            first.0 + (number << size.shift()) + size.offset_in_page(va.0),
        ))
    }

    /// Where up to `want` bytes from `va` lie together, and how many do.
    #[inline(always)]
    fn part(&self, va: VirtAddr, want: usize) -> Result<(FileOffset, usize), TranslationError> {
        let len = self.left_in_page(va, want);
        match self.remembered(va) {
            Some(offset) => Ok((offset, len)),
            None => self.find_part(va, len),
        }
    }

    #[inline(never)]
    fn find_part(&self, va: VirtAddr, len: usize) -> Result<(FileOffset, usize), TranslationError> {
        let (found, offset) = self.locate(va)?;
        let pa = found.leaf.pa;
        // The direct map costs little more than a look at the cache: not worth a page that does.
        if let Some(cache) = self.cache
            && (found.via != Via::DirectMap || cache.is_roomy())
        {
            self.remember(cache, va, pa, offset);
        }
        Ok((offset, self.memory.contiguous(pa, len).max(1)))
    }

    /// Remembers where the page of `va` lies, if all of it is in the file, as one page.
    fn remember(&self, cache: &PageCache, va: VirtAddr, pa: PhysAddr, offset: FileOffset) {
        let (memory, size) = (self.memory, self.memory.page_size);
        let inside = size.offset_in_page(va.0);
        let page = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
        let distance = offset
            .0
            .checked_sub(inside)
            .and_then(|start| start.checked_sub(memory.first_page().0));
        if let Some(distance) = distance
            && inside == size.offset_in_page(pa.0)
            && size.offset_in_page(distance) == 0
            && memory.contiguous(PhysAddr(pa.0 - inside), page) == page
            && memory.source.reaches(offset.0 - inside + size.bytes())
            && self.translation.maps_whole_page(
                VirtAddr(va.0 - inside),
                VirtAddr(va.0 - inside + (size.bytes() - 1)),
            )
        {
            cache.put(va.0 >> size.shift(), distance >> size.shift());
        }
    }

    /// Reads up to the first byte that is not there.
    pub fn read(&self, va: VirtAddr, buf: &mut [u8]) -> PartialRead<TranslationError> {
        let mut pending = Run::default();
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = va.checked_add(done as u64) else {
                return pending.finish(
                    self,
                    va,
                    buf,
                    Some(TranslationError::NoWindow {
                        va: VirtAddr(u64::MAX),
                    }),
                );
            };
            match self.part(at, buf.len() - done) {
                Ok((offset, len)) => {
                    if !pending.extend(offset, done, len) {
                        if let Err(part) = pending.read(self, va, buf) {
                            return part;
                        }
                        pending = Run {
                            offset,
                            start: done,
                            len,
                        };
                    }
                    done += len;
                }
                Err(error) => return pending.finish(self, va, buf, Some(error)),
            }
        }
        pending.finish(self, va, buf, None)
    }

    /// Fills `buf`.
    ///
    /// # Errors
    /// Returns why the first missing byte is missing; `buf` may have been changed before it.
    #[inline]
    pub fn read_exact(&self, va: VirtAddr, buf: &mut [u8]) -> Result<(), TranslationError> {
        // The most common length, without a call that copies any.
        if let Ok(word) = <&mut [u8; 8]>::try_from(&mut *buf) {
            *word = self.array(va)?;
            return Ok(());
        }
        // Nothing can be read from anywhere.
        if !buf.is_empty() && self.left_in_page(va, buf.len()) == buf.len() {
            let (offset, len) = self.part(va, buf.len())?;
            if len == buf.len() && self.memory.source.read_at(offset.0, buf).ok() == Some(len) {
                return Ok(());
            }
        }
        self.read(va, buf).exact()
    }

    /// Fills `buf` with what there is and zeros elsewhere; `on_hole` is called for each missing part.
    pub fn read_with_holes(&self, va: VirtAddr, buf: &mut [u8], mut on_hole: impl FnMut(Hole)) {
        let mut done = 0;
        while done < buf.len() {
            let at = VirtAddr(va.0.wrapping_add(done as u64));
            let part = match buf.get_mut(done..) {
                Some(rest) if at >= va => self.read(at, rest),
                _ => PartialRead {
                    len: 0,
                    error: Some(TranslationError::NoWindow { va: at }),
                },
            };
            done += part.len;
            let Some(error) = part.error else { break };
            let at = VirtAddr(va.0.wrapping_add(done as u64));
            let len = self.left_in_page(at, buf.len() - done);
            if let Some(hole) = buf.get_mut(done..done + len) {
                hole.fill(0);
            }
            on_hole(Hole { va: at, len, error });
            done += len;
        }
    }

    /// `N` bytes.
    #[inline(always)]
    fn array<const N: usize>(&self, va: VirtAddr) -> Result<[u8; N], TranslationError> {
        if self.left_in_page(va, N) == N {
            let (offset, len) = self.part(va, N)?;
            if let (true, Some(bytes)) = (len == N, self.memory.source.array(offset.0)) {
                return Ok(bytes);
            }
        }
        self.read_array(va)
    }

    /// `N` bytes on two pages, or that cannot be read.
    #[cold]
    fn read_array<const N: usize>(&self, va: VirtAddr) -> Result<[u8; N], TranslationError> {
        let mut raw = [0; N];
        self.read(va, &mut raw).exact()?;
        Ok(raw)
    }

    /// A 32-bit integer.
    ///
    /// # Errors
    /// Returns an error if it is not there.
    #[inline(always)]
    pub fn read_u32(&self, va: VirtAddr) -> Result<u32, TranslationError> {
        Ok(self.endian().u32(self.array(va)?))
    }

    /// A 32-bit signed integer.
    ///
    /// # Errors
    /// Returns an error if it is not there.
    #[inline]
    pub fn read_i32(&self, va: VirtAddr) -> Result<i32, TranslationError> {
        self.read_u32(va).map(u32::cast_signed)
    }

    /// A 64-bit integer.
    ///
    /// # Errors
    /// Returns an error if it is not there.
    #[inline(always)]
    pub fn read_u64(&self, va: VirtAddr) -> Result<u64, TranslationError> {
        Ok(self.endian().u64(self.array(va)?))
    }

    /// An integer of the kernel's word size.
    ///
    /// # Errors
    /// Returns an error if it is not there.
    #[inline]
    pub fn read_word(&self, va: VirtAddr) -> Result<u64, TranslationError> {
        match self.word() {
            Width::W32 => self.read_u32(va).map(u64::from),
            Width::W64 => self.read_u64(va),
        }
    }

    /// A pointer.
    ///
    /// # Errors
    /// Returns an error if it is not there.
    #[inline]
    pub fn read_pointer(&self, va: VirtAddr) -> Result<VirtAddr, TranslationError> {
        self.read_word(va).map(VirtAddr)
    }

    /// A string up to its NUL, or up to `max` bytes. A string that runs into a hole ends there.
    ///
    /// # Errors
    /// Returns an error if not even its first byte is there.
    pub fn read_string(&self, va: VirtAddr, max: usize) -> Result<Vec<u8>, TranslationError> {
        let mut text = vec![0; max];
        let part = self.read(va, &mut text);
        if let (0, Some(error)) = (part.len, part.error) {
            return Err(error);
        }
        text.truncate(part.len);
        if let Some(end) = text.iter().position(|byte| *byte == 0) {
            text.truncate(end);
        }
        Ok(text)
    }

    /// How much of `want` bytes from `va` lies in the same page.
    #[inline]
    fn left_in_page(&self, va: VirtAddr, want: usize) -> usize {
        let size = self.memory.page_size();
        let left = size.bytes() - size.offset_in_page(va.0);
        usize::try_from(left).map_or(want, |left| left.min(want))
    }
}

/// Bytes that lie together in the file and will be read in one go.
#[derive(Clone, Copy, Default)]
struct Run {
    offset: FileOffset,
    /// Where in the buffer.
    start: usize,
    len: usize,
}

impl Run {
    /// Adds a page's part if it continues the run in the file.
    fn extend(&mut self, offset: FileOffset, start: usize, len: usize) -> bool {
        if self.len == 0 {
            *self = Self { offset, start, len };
            return true;
        }
        let continues = self.offset.checked_add(self.len as u64) == Some(offset);
        if continues {
            self.len += len;
        }
        continues
    }

    /// Reads the run into its place.
    fn read(
        self,
        space: &AddressSpace<'_>,
        va: VirtAddr,
        buf: &mut [u8],
    ) -> Result<(), PartialRead<TranslationError>> {
        let Some(part) = buf.get_mut(self.start..self.start + self.len) else {
            return Ok(());
        };
        let (got, error) = match space.memory.source.read_at(self.offset.0, part) {
            Ok(got) => (got, None),
            Err(error) => (0, Some(error)),
        };
        if got == self.len {
            return Ok(());
        }
        let at = VirtAddr(va.0.wrapping_add((self.start + got) as u64));
        let offset = FileOffset(self.offset.0 + got as u64);
        let pa = space
            .translation
            .lookup(space.memory, at)
            .map(|found| found.leaf.pa)
            .unwrap_or_default();
        let reason = match error {
            Some(error) => PageReadError::io(offset, &error),
            None => {
                let file_len = FileOffset(space.memory.source.len());
                PageReadError::Truncated {
                    pa,
                    offset,
                    file_len,
                }
            }
        };
        let error = TranslationError::PageAbsent { va: at, pa, reason };
        Err(PartialRead {
            len: self.start + got,
            error: Some(error),
        })
    }

    /// Reads what is pending and ends the read with `fault`.
    fn finish(
        self,
        space: &AddressSpace<'_>,
        va: VirtAddr,
        buf: &mut [u8],
        error: Option<TranslationError>,
    ) -> PartialRead<TranslationError> {
        match self.read(space, va, buf) {
            Ok(()) => PartialRead {
                len: self.start + self.len,
                error,
            },
            Err(part) => part,
        }
    }
}
