//! The bytes of a dump and of its key on their device, in the order of the file that they become.

use super::changes::NewFile;
use super::device::Device;
use super::error::SaveError;
use crate::sparse::SparseWriter;
use std::io::{self, Read as _};
use std::ops::{ControlFlow, Range};
use std::path::Path;

/// Bytes that are read at once; a multiple of what follows.
const CHUNK: usize = 1 << 20;
/// Blocks that a textdump is written in, last one first.
pub(super) const TEXT_BLOCK: usize = 512;
/// Runs of so many zeros become holes.
const HOLE: usize = 4096;

/// A part of a device that becomes a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where it is.
    pub(super) range: Range<u64>,
    /// Whether its blocks come last one first, as in a textdump.
    pub(super) is_backwards: bool,
}

impl Part {
    pub(super) fn len_bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Shows its chunks to `each`, with their offsets in the file, until that has enough.
    fn each_chunk(
        &self,
        device: &Device,
        mut each: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>, SaveError>,
    ) -> Result<(), SaveError> {
        let len = self.len_bytes();
        let mut buf = vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK))];
        let mut done = 0;
        while done < len {
            let count = usize::try_from(len - done).map_or(buf.len(), |left| left.min(buf.len()));
            let chunk = buf.get_mut(..count).unwrap_or_default();
            if self.is_backwards {
                device.read(self.range.end - done - count as u64, chunk)?;
                reverse_blocks(chunk);
            } else {
                device.read(self.range.start + done, chunk)?;
            }
            if each(done, chunk)?.is_break() {
                break;
            }
            done += count as u64;
        }
        Ok(())
    }

    /// Copies it to `file`, which will be at `path`, with holes for zeros.
    pub(super) fn copy(
        &self,
        device: &Device,
        file: &mut NewFile<'_>,
        path: &Path,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<(), SaveError> {
        let len = self.len_bytes();
        let mut writer = SparseWriter::new(&mut *file, HOLE);
        self.each_chunk(device, |at, bytes| {
            writer
                .write(at, bytes)
                .map_err(SaveError::directory(path))?;
            on_progress(at + bytes.len() as u64, len);
            Ok(ControlFlow::Continue(()))
        })?;
        // The last page may be a hole.
        file.set_len(len).map_err(SaveError::directory(path))
    }

    /// Whether the file at `path` has its bytes, all of them and no more.
    pub(super) fn equals(&self, device: &Device, path: &Path) -> Result<bool, SaveError> {
        let error = |source: io::Error| SaveError::directory(path)(source);
        let mut file = std::fs::File::open(path).map_err(error)?;
        if file.metadata().map_err(error)?.len() != self.len_bytes() {
            return Ok(false);
        }
        let mut copy = vec![0; CHUNK];
        let mut is_equal = true;
        self.each_chunk(device, |_, bytes| {
            let copy = copy.get_mut(..bytes.len()).unwrap_or_default();
            file.read_exact(copy).map_err(error)?;
            is_equal = copy == bytes;
            Ok(if is_equal {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?;
        Ok(is_equal)
    }
}

/// Puts the last block first; within a block nothing moves.
fn reverse_blocks(chunk: &mut [u8]) {
    chunk.reverse();
    chunk.chunks_mut(TEXT_BLOCK).for_each(<[u8]>::reverse);
}
