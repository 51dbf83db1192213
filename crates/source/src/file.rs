//! The bytes of a file, by positional reads and by mapping.
//!
//! The first touch of a page of a fresh mapping costs several times as much as a positional read,
//! every later touch next to nothing. So reading starts with positional reads and goes over to the
//! mapping region by region, as soon as a region has been read often enough to pay for it. Devices,
//! and files on request, are only ever read.
//!
//! A mapped file must not be shortened while it is open: the operating system ends a process that
//! touches a page past the new end. Positional access has no such limit.

use crate::bytes::{Access, Bytes};
use crate::map::Mapping;
use crate::open::OpenFile;
use crate::positional::PositionalFile;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// log2 of the bytes of a region whose touches are counted together: what one page fault on a
/// cached file maps around itself on Linux.
const REGION_SHIFT: u32 = 16;
/// Reads of a region before it is worth a fault; a fault costs about as much as this many reads.
const READS_BEFORE_MAPPING: u8 = 5;

/// A file's bytes from a starting point on, shared by any number of threads.
#[derive(Debug)]
pub(crate) struct FileSource {
    file: Arc<PositionalFile>,
    /// Offset in the file of the source's byte 0.
    start: u64,
    len: u64,
    access: Access,
    /// Made when first wanted; `None` if the file cannot be mapped.
    mapping: OnceLock<Option<Mapping>>,
    /// Every read may use the mapping.
    is_warm: AtomicBool,
    /// Reads of each region so far; empty if the file is never mapped, or always.
    touches: Vec<AtomicU8>,
    /// The sum of them.
    reads: AtomicUsize,
}

impl FileSource {
    /// All of a file or a device.
    pub(crate) fn of(file: &OpenFile, access: Access) -> Self {
        let access = match file.is_regular() {
            true => access,
            false => Access::Positional,
        };
        Self::new(file.shared().clone(), 0, file.len_bytes(), access)
    }

    /// `len` bytes of `file` from `start`.
    pub(crate) fn new(file: Arc<PositionalFile>, start: u64, len: u64, access: Access) -> Self {
        let regions = match access {
            Access::Auto => usize::try_from(len >> REGION_SHIFT).map_or(0, |last| last + 1),
            Access::Positional | Access::Mapped => 0,
        };
        // Zeroed by the allocator: no page of it is touched until used.
        let touches = zerocopy::FromZeros::new_vec_zeroed(regions).unwrap_or_default();
        Self {
            file,
            start,
            len,
            access,
            mapping: OnceLock::new(),
            is_warm: AtomicBool::new(access == Access::Mapped),
            touches,
            reads: AtomicUsize::new(0),
        }
    }

    /// The same file from `offset` on, as when a device's dump header precedes the dump.
    pub(crate) fn starting_at(self, offset: u64) -> Self {
        let offset = offset.min(self.len);
        Self::new(
            self.file,
            self.start + offset,
            self.len - offset,
            self.access,
        )
    }

    /// Whether two reads of one place may differ.
    pub(crate) fn may_change(&self) -> bool {
        self.file.may_change()
    }

    /// Bytes there are.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buf` from `offset`; fewer bytes only at the end of the file.
    #[inline]
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(mapped) = self.mapped_if_warm(offset)
            && let Some(bytes) = usize::try_from(offset)
                .ok()
                .and_then(|start| mapped.get(start..start.checked_add(buf.len())?))
        {
            buf.copy_from_slice(bytes);
            return Ok(buf.len());
        }
        self.read_positional(offset, buf)
    }

    /// `N` bytes at `offset`; `None` if they cannot be read, for whatever reason.
    #[inline(always)]
    pub(crate) fn array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        if let Some(mapped) = self.mapped_if_warm(offset)
            && let Some(bytes) = usize::try_from(offset)
                .ok()
                .and_then(|start| mapped.get(start..)?.first_chunk())
        {
            return Some(*bytes);
        }
        self.array_by_position(offset)
    }

    #[inline(never)]
    fn array_by_position<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let read = self.read_positional(offset, &mut bytes).ok()?;
        (read == N).then_some(bytes)
    }

    /// Reads by position whatever the history of the region: for passes over the whole file.
    pub(crate) fn read_positional(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.len.checked_sub(offset) else {
            return Ok(0);
        };
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        self.file
            .read_at(self.start + offset, buf.get_mut(..len).unwrap_or_default())
    }

    /// Bytes `range`, borrowed from the mapping if there is one, or `None` beyond the end.
    pub(crate) fn bytes(&self, range: Range<u64>) -> io::Result<Option<Bytes<'_>>> {
        if range.end > self.len || range.start > range.end {
            return Ok(None);
        }
        if let Some(mapped) = self.mapped(range.clone()) {
            return Ok(Some(Bytes::Borrowed(mapped)));
        }
        let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut chunk = vec![0; len];
        let read = self.read_positional(range.start, &mut chunk)?;
        Ok((read == len).then(|| Bytes::from(chunk)))
    }

    /// Bytes `range` of the mapping; `None` if the file is not mapped or ends before.
    pub(crate) fn mapped(&self, range: Range<u64>) -> Option<&[u8]> {
        let start = usize::try_from(range.start).ok()?;
        let end = usize::try_from(range.end).ok()?;
        self.mapping()?.get(start..end)
    }

    /// Says that `range` will be read through the mapping soon, so that the operating system can
    /// prepare it in one go.
    pub(crate) fn expect_mapped_reads(&self, range: Range<u64>) {
        if let Some(Some(mapping)) = self.mapping.get() {
            mapping.populate(range);
        }
    }

    /// The mapping, if the region of `offset` has been read often enough; counts the read if not.
    #[inline(always)]
    fn mapped_if_warm(&self, offset: u64) -> Option<&[u8]> {
        if self.is_warm.load(Ordering::Relaxed) {
            return self.mapping().map(|mapping| &**mapping);
        }
        self.count_read(offset)
    }

    /// As long as not all of the file is warm.
    #[inline(never)]
    fn count_read(&self, offset: u64) -> Option<&[u8]> {
        let region = usize::try_from(offset >> REGION_SHIFT).ok()?;
        let touches = self.touches.get(region)?;
        let seen = touches.load(Ordering::Relaxed);
        // Two threads may count as one: it is an estimate.
        if seen < READS_BEFORE_MAPPING {
            touches.store(seen + 1, Ordering::Relaxed);
            let reads = self.reads.load(Ordering::Relaxed).saturating_add(1);
            self.reads.store(reads, Ordering::Relaxed);
            // So many reads have cost as much as faulting in the whole file.
            if reads
                >= self
                    .touches
                    .len()
                    .saturating_mul(usize::from(READS_BEFORE_MAPPING))
                    / 2
            {
                self.is_warm.store(true, Ordering::Relaxed);
            }
            return None;
        }
        self.mapping().map(|mapping| &**mapping)
    }

    /// The mapping of all bytes, made when first wanted.
    #[inline]
    fn mapping(&self) -> Option<&Mapping> {
        if let Some(mapping) = self.mapping.get() {
            return mapping.as_ref();
        }
        self.make_mapping()
    }

    #[cold]
    fn make_mapping(&self) -> Option<&Mapping> {
        let wanted = self.access != Access::Positional;
        self.mapping
            .get_or_init(|| {
                let file = self.file.as_file().filter(|_| wanted)?;
                Mapping::new(file, self.start, self.len)
            })
            .as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(contents: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, contents).unwrap();
        (dir, path)
    }

    #[test]
    fn every_access_reads_the_same_bytes_before_and_after_it_is_warm() {
        let contents: Vec<u8> = (0..200_000u32)
            .map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1])
            .collect();
        let (_dir, path) = file(&contents);
        for access in [Access::Auto, Access::Positional, Access::Mapped] {
            let source = FileSource::of(&OpenFile::open(&path).unwrap(), access).starting_at(512);
            for round in 0..20u64 {
                for offset in [0, 1, 65_535, 65_536, 131_071 - round, 199_480] {
                    let mut buf = [0; 16];
                    let len = source.read_at(offset, &mut buf).unwrap();
                    let start = usize::try_from(offset).unwrap() + 512;
                    let expected = &contents[start..contents.len().min(start + 16)];
                    assert_eq!(
                        &buf[..len],
                        expected,
                        "{access:?} round {round} offset {offset}"
                    );
                }
            }
            assert_eq!(source.read_at(source.len(), &mut [0; 4]).unwrap(), 0);
            assert_eq!(source.read_at(u64::MAX, &mut [0; 4]).unwrap(), 0);
        }
    }

    #[test]
    fn ranges_beyond_the_end_are_none() {
        let (_dir, path) = file(b"0123456789");
        for access in [Access::Positional, Access::Mapped] {
            let source = FileSource::of(&OpenFile::open(&path).unwrap(), access);
            assert_eq!(&*source.bytes(2..5).unwrap().unwrap(), b"234");
            assert!(source.bytes(5..11).unwrap().is_none());
            assert!(source.bytes(u64::MAX - 1..u64::MAX).unwrap().is_none());
        }
    }
}
