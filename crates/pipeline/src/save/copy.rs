//! The bytes of a dump on its device, in the order of the file that they become.

use super::changes::NewFile;
use super::device::Device;
use super::error::SaveError;
use super::find::{Found, Parts, TEXT_BLOCK};
use super::info::DumpType;
use crate::sparse::SparseWriter;
use std::io::{self, Read as _, Write as _};
use std::ops::{ControlFlow, Range};
use std::path::Path;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Runs of so many zeros become holes.
const HOLE: usize = 4096;

/// Shows the chunks of the dump to `each`, with their offsets in the file, until it has enough.
fn each_chunk(
    device: &Device,
    found: &Found,
    parts: &Parts,
    mut each: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>, SaveError>,
) -> Result<(), SaveError> {
    let is_text = found.header().dump_type == DumpType::Textdump;
    let payload = parts.payload.clone();
    let len = payload.end - payload.start;
    let mut buf = vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK))];
    let mut done = 0;
    while done < len {
        let count = usize::try_from(len - done).map_or(buf.len(), |left| left.min(buf.len()));
        let chunk = buf.get_mut(..count).unwrap_or_default();
        if is_text {
            device.read(payload.end - done - count as u64, chunk)?;
            reverse_blocks(chunk);
        } else {
            device.read(payload.start + done, chunk)?;
        }
        if each(done, chunk)?.is_break() {
            break;
        }
        done += count as u64;
    }
    Ok(())
}

/// Puts the last block first; within a block nothing moves.
fn reverse_blocks(chunk: &mut [u8]) {
    let block = usize::try_from(TEXT_BLOCK).unwrap_or(512);
    chunk.reverse();
    chunk.chunks_mut(block).for_each(<[u8]>::reverse);
}

/// Copies the dump to `file`, with holes for zeros in a plain one, and gives it its length.
pub(super) fn dump(
    device: &Device,
    found: &Found,
    parts: &Parts,
    file: &mut NewFile<'_>,
    path: &Path,
    mut on_progress: impl FnMut(u64, u64),
) -> Result<(), SaveError> {
    let len = parts.payload.end - parts.payload.start;
    if found.is_plain() {
        let mut writer = SparseWriter::new(&mut *file, HOLE);
        each_chunk(device, found, parts, |at, bytes| {
            writer
                .write(at, bytes)
                .map_err(SaveError::directory(path))?;
            on_progress(at + bytes.len() as u64, len);
            Ok(ControlFlow::Continue(()))
        })?;
        // The last page may be a hole.
        return file.set_len(len).map_err(SaveError::directory(path));
    }
    each_chunk(device, found, parts, |at, bytes| {
        file.write_all(bytes).map_err(SaveError::directory(path))?;
        on_progress(at + bytes.len() as u64, len);
        Ok(ControlFlow::Continue(()))
    })
}

/// Copies the bytes `range` of the device to `file`.
pub(super) fn range(
    device: &Device,
    range: Range<u64>,
    file: &mut NewFile<'_>,
    path: &Path,
) -> Result<(), SaveError> {
    let mut at = range.start;
    let mut buf = vec![0; CHUNK.min(usize::try_from(range.end - at).unwrap_or(CHUNK))];
    while at < range.end {
        let count = usize::try_from(range.end - at).map_or(buf.len(), |left| left.min(buf.len()));
        let chunk = buf.get_mut(..count).unwrap_or_default();
        device.read(at, chunk)?;
        file.write_all(chunk).map_err(SaveError::directory(path))?;
        at += count as u64;
    }
    Ok(())
}

/// Whether the file at `path` has the dump's bytes, all of them and no more.
pub(super) fn equals(
    device: &Device,
    found: &Found,
    parts: &Parts,
    path: &Path,
) -> Result<bool, SaveError> {
    let error = |source: io::Error| SaveError::directory(path)(source);
    let mut file = std::fs::File::open(path).map_err(error)?;
    let len = parts.payload.end - parts.payload.start;
    if file.metadata().map_err(error)?.len() != len {
        return Ok(false);
    }
    let mut copy = vec![0; CHUNK];
    let mut is_equal = true;
    each_chunk(device, found, parts, |_, bytes| {
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
