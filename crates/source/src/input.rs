//! The stored bytes that a dump is made of: a part of a file or device, or of what a compressed one
//! expands to; decrypted if need be.

use crate::bytes::{Access, ReadAt};
use crate::crypt::PayloadKey;
use crate::file::FileSource;
use crate::map::Mapping;
use crate::open::OpenFile;
use crate::positional::PositionalFile;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a cipher's block.
const CIPHER_BLOCK: u64 = 16;

/// A part of a file, of a device, or of what a file expands to, read by position; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    medium: Medium,
    start: u64,
    /// `None`: up to the end, which is known only once all is expanded.
    len: Option<u64>,
    key: Option<Arc<PayloadKey>>,
    access: Access,
}

/// What a file expands to.
pub(crate) trait Expanded: std::fmt::Debug + Send + Sync {
    /// Its length; all of it is expanded for that.
    fn len(&self) -> u64;

    /// Whether there are at least `end` bytes. Expands no more than it has to.
    fn reaches(&self, end: u64) -> bool;

    /// Fills `buf` from `offset` on this thread alone; fewer bytes only at the end.
    fn read_alone(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

/// Where the bytes are.
#[derive(Clone, Debug)]
enum Medium {
    /// In a regular file, or given.
    File(Arc<PositionalFile>),
    /// On a device: reads start and end at multiples of so many bytes.
    Device(Arc<PositionalFile>, u64),
    /// In what a file expands to.
    Expanded(Arc<dyn Expanded>),
}

impl Input {
    /// All of a file or device.
    pub(crate) fn of(file: &OpenFile, access: Access) -> Self {
        let (shared, len) = (file.shared().clone(), file.len_bytes());
        let medium = match len {
            _ if file.is_regular() => Medium::File(shared),
            len if len.is_multiple_of(4096) => Medium::Device(shared, 4096),
            _ => Medium::Device(shared, 512),
        };
        Self {
            medium,
            start: 0,
            len: Some(len),
            key: None,
            access,
        }
    }

    /// All of what the caller gives.
    pub(crate) fn given(given: Box<dyn ReadAt>) -> Self {
        let len = given.len_bytes();
        Self::plain(PositionalFile::Given(given), len, Access::Positional)
    }

    /// A copy of what `reader` gives.
    pub(crate) fn spooled(reader: &mut dyn io::Read, access: Access) -> io::Result<Self> {
        let (file, len) = PositionalFile::spooled(reader)?;
        Ok(Self::plain(file, len, access))
    }

    fn plain(file: PositionalFile, len: u64, access: Access) -> Self {
        Self {
            medium: Medium::File(Arc::new(file)),
            start: 0,
            len: Some(len),
            key: None,
            access,
        }
    }

    /// Whether it is in a regular file.
    pub(crate) const fn is_file(&self) -> bool {
        matches!(self.medium, Medium::File(_))
    }

    /// All that a file expands to.
    pub(crate) fn expanded(chunks: Arc<dyn Expanded>) -> Self {
        Self {
            medium: Medium::Expanded(chunks),
            start: 0,
            len: None,
            key: None,
            access: Access::Auto,
        }
    }

    /// A part of it, or as much of that as there is.
    pub(crate) fn part(&self, range: Range<u64>) -> Self {
        let (start, end) = match self.reaches(range.end) {
            true => (range.start.min(range.end), range.end),
            false => (range.start.min(self.len()), self.len()),
        };
        Self {
            start: self.start + start,
            len: Some(end - start),
            ..self.clone()
        }
    }

    /// Whether there are at least `end` bytes. Expands no more than it has to.
    pub(crate) fn reaches(&self, end: u64) -> bool {
        match (&self.medium, self.len) {
            (Medium::Expanded(chunks), None) => self
                .start
                .checked_add(end)
                .is_some_and(|end| chunks.reaches(end)),
            _ => end <= self.len(),
        }
    }

    /// What it is when decrypted. A last block that is cut cannot be.
    pub(crate) fn decrypted(mut self, key: PayloadKey) -> Self {
        if key.is_block_cipher() {
            let len = self.len();
            self.len = Some(len - len % CIPHER_BLOCK);
        }
        self.key = Some(Arc::new(key));
        self
    }

    /// Where byte `offset` of it lies in the file.
    pub(crate) const fn place_of(&self, offset: u64) -> u64 {
        self.start.saturating_add(offset)
    }

    pub(crate) fn len(&self) -> u64 {
        match (&self.medium, self.len) {
            (_, Some(len)) => len,
            (Medium::Expanded(chunks), None) => chunks.len().saturating_sub(self.start),
            (_, None) => 0,
        }
    }

    /// The part of a plain file that it is, if it is one.
    pub(crate) fn plain_file(&self) -> Option<FileSource> {
        match &self.medium {
            Medium::File(file) if self.key.is_none() => Some(FileSource::new(
                file.clone(),
                self.start,
                self.len(),
                self.access,
            )),
            _ => None,
        }
    }

    /// Fills `buf` from `offset`; fewer bytes only at the end.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let want = offset.saturating_add(buf.len() as u64);
        let len = match self.reaches(want) {
            true => buf.len(),
            false => usize::try_from(self.len().saturating_sub(offset)).unwrap_or(buf.len()),
        };
        let buf = buf.get_mut(..len).unwrap_or_default();
        let Some(key) = &self.key else {
            return self.read_stored(offset, buf);
        };
        // Whole blocks, and for a chain of blocks the one before.
        let skip = offset % CIPHER_BLOCK;
        let first = offset - skip;
        let before = if first == 0 { 0 } else { CIPHER_BLOCK };
        let wide = (before + skip + len as u64).next_multiple_of(CIPHER_BLOCK);
        let mut bytes = vec![0; usize::try_from(wide).map_err(io::Error::other)?];
        let read = self.read_stored(first - before, &mut bytes)?;
        bytes.truncate(read);
        let plain = key.decrypt(first - before, &mut bytes, before != 0);
        let skip = usize::try_from(before + skip).map_err(io::Error::other)?;
        let plain = plain.get(skip..).unwrap_or_default();
        let plain = plain.get(..len).unwrap_or(plain);
        if let Some(to) = buf.get_mut(..plain.len()) {
            to.copy_from_slice(plain);
        }
        Ok(plain.len())
    }

    /// `len` bytes from `offset`, fewer at the end, as a mapping that is read in order: far quicker
    /// than a copy. `None` if there are none, or no mapping is possible or wanted.
    pub(crate) fn map(&self, offset: u64, len: u64) -> Option<Mapping> {
        let Medium::File(file) = &self.medium else {
            return None;
        };
        if self.key.is_some() || self.access == Access::Positional {
            return None;
        }
        let len = len.min(self.len().checked_sub(offset)?);
        Mapping::in_order(file.as_file()?, self.start.checked_add(offset)?, len)
    }

    /// `len` bytes from `offset`, or as many as there are.
    pub(crate) fn read_vec(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let want = offset.saturating_add(len as u64);
        let have = match self.reaches(want) {
            true => len,
            false => usize::try_from(self.len().saturating_sub(offset)).unwrap_or(len),
        };
        let mut bytes = vec![0; have];
        let read = self.read_at(offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// As they are stored.
    fn read_stored(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let at = self.start + offset;
        let (file, unit) = match &self.medium {
            Medium::File(file) => return file.read_at(at, buf),
            Medium::Expanded(chunks) => return chunks.read_alone(at, buf),
            Medium::Device(file, unit) => (file, *unit),
        };
        let skip = at % unit;
        if skip == 0 && (buf.len() as u64).is_multiple_of(unit) {
            return file.read_at(at, buf);
        }
        let wide = (skip + buf.len() as u64).next_multiple_of(unit);
        let mut sectors = vec![0; usize::try_from(wide).map_err(io::Error::other)?];
        let read = file.read_at(at - skip, &mut sectors)?;
        let skip = usize::try_from(skip).map_err(io::Error::other)?;
        let bytes = sectors.get(skip..read).unwrap_or_default();
        let len = bytes.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_requests_of_a_device_read_the_same_bytes_in_whole_sectors() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let media: Vec<u8> = (0..32_768u32)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        std::fs::write(file.path(), &media).unwrap();
        let file = OpenFile::open(file.path()).unwrap();
        let disk = Input {
            medium: Medium::Device(file.shared().clone(), 4096),
            ..Input::of(&file, Access::Positional)
        };
        for (offset, len) in [
            (0, 4096),
            (0, 1),
            (4095, 2),
            (32_256, 512),
            (100, 20_000),
            (7, 0),
        ] {
            let read = disk.read_vec(offset as u64, len).unwrap();
            assert_eq!(read, media[offset..offset + len], "{offset}+{len}");
        }
        assert_eq!(disk.read_vec(32_256, 513).unwrap().len(), 512);
        assert!(disk.read_vec(1 << 40, 8).unwrap().is_empty());
    }
}
