//! The stored bytes that a dump is made of: a part of a file or device, decrypted if need be.

use super::chunks::ChunkSource;
use super::file::FileSource;
use super::positional::PositionalFile;
use super::{Access, Body, Source};
use crate::crypt::PayloadKey;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a cipher's block.
const CIPHER_BLOCK: u64 = 16;

/// A part of a file or device, read by position; clones share the file.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    file: Arc<PositionalFile>,
    start: u64,
    len: u64,
    /// Reads of a device start and end at multiples of this many bytes.
    unit: u64,
    is_regular: bool,
    key: Option<Arc<PayloadKey>>,
}

impl Input {
    /// Opens all of a file or device.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let (file, len, is_regular) = PositionalFile::open(path)?;
        let unit = match len {
            _ if is_regular => 1,
            len if len.is_multiple_of(4096) => 4096,
            _ => 512,
        };
        Ok(Self {
            file: Arc::new(file),
            start: 0,
            len,
            unit,
            is_regular,
            key: None,
        })
    }

    /// A part of it, or as much of that as there is.
    pub(crate) fn part(&self, range: Range<u64>) -> Self {
        let start = range.start.min(self.len);
        let end = range.end.clamp(start, self.len);
        Self {
            start: self.start + start,
            len: end - start,
            ..self.clone()
        }
    }

    /// What it is when decrypted. A last block that is cut cannot be.
    pub(crate) fn decrypted(mut self, key: PayloadKey) -> Self {
        if key.is_block_cipher() {
            self.len -= self.len % CIPHER_BLOCK;
        }
        self.key = Some(Arc::new(key));
        self
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Its bytes as a source.
    pub(crate) fn into_source(self, access: Access) -> Source {
        if self.is_regular && self.key.is_none() {
            return Source(Body::File(FileSource::new(
                self.file, self.start, self.len, access,
            )));
        }
        Source::of_chunks(ChunkSource::stored(self))
    }

    /// Fills `buf` from `offset`; fewer bytes only at the end.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.len.checked_sub(offset) else {
            return Ok(0);
        };
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
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

    /// `len` bytes from `offset`, or as many as there are.
    pub(crate) fn read_vec(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(left)];
        let read = self.read_at(offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// As they lie in the file.
    fn read_stored(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let at = self.start + offset;
        let skip = at % self.unit;
        if skip == 0 && (buf.len() as u64).is_multiple_of(self.unit) {
            return self.file.read_at(at, buf);
        }
        let wide = (skip + buf.len() as u64).next_multiple_of(self.unit);
        let mut sectors = vec![0; usize::try_from(wide).map_err(io::Error::other)?];
        let read = self.file.read_at(at - skip, &mut sectors)?;
        let skip = usize::try_from(skip).map_err(io::Error::other)?;
        let bytes = sectors.get(skip..read).unwrap_or_default();
        let len = bytes.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }
}
