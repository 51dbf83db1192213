//! The bytes of a dump and of its key on their device, in the order of the file that they become.

use super::device::Device;
use super::error::SaveError;
use crate::changes::NewFile;
use crate::compress::{Failed, Method, compress};
use crate::sparse::SparseWriter;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use vmcore::container::{self, ContainerOptions, DeviceHeader};
use vmcore::source::{Access, Source};
use vmcore::textdump::reverse_blocks;
use vmcore_format::kerneldump::{Compression, OnMedium, TEXT_BLOCK};
use vmcore_format::tar;

/// Bytes that are read at once; a multiple of what follows.
const CHUNK: usize = 1 << 20;
/// Runs of so many zeros become holes.
const HOLE: usize = 4096;

/// What becomes of the bytes of a dump. What is encrypted stays unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// They stay as they are.
    #[default]
    AsIs,
    /// They are compressed, if they are not yet.
    Packed(Method),
    /// They are expanded, if the kernel has compressed them.
    Unpacked,
}

impl Form {
    /// What becomes of a dump with this header when `self` is asked for.
    pub(super) fn possible(self, header: &DeviceHeader) -> Self {
        let is_packed = matches!(header.compression, Compression::Gzip | Compression::Zstd);
        let is_possible = match self {
            Self::AsIs => true,
            Self::Packed(_) => header.is_text() || header.is_plain(),
            Self::Unpacked => is_packed && !header.is_text() && !header.is_encrypted(),
        };
        match is_possible {
            true => self,
            false => Self::AsIs,
        }
    }
}

/// A part of a device that becomes a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it is, in bytes from the start of the device.
    range: Range<u64>,
    /// Whether its blocks are stored last one first, as in a textdump.
    is_backwards: bool,
}

impl Part {
    /// The encrypted key; empty if there is none.
    pub(super) fn key(parts: &OnMedium) -> Self {
        Self {
            range: parts.key.clone(),
            is_backwards: false,
        }
    }

    /// The dump.
    pub(super) fn payload(
        device: &Device,
        header: &DeviceHeader,
        parts: &OnMedium,
    ) -> Result<Self, SaveError> {
        let mut part = Self {
            range: parts.payload.clone(),
            is_backwards: false,
        };
        if header.is_text() && part.len_bytes() >= TEXT_BLOCK as u64 {
            // Tools that copy a textdump turn it round on the way.
            let mut first = [0; TEXT_BLOCK];
            device.read(part.range.start, &mut first)?;
            part.is_backwards = tar::parse(&first).is_none();
        }
        Ok(part)
    }

    fn len_bytes(&self) -> u64 {
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
            self.read(device, done, chunk)?;
            if each(done, chunk)?.is_break() {
                break;
            }
            done += count as u64;
        }
        Ok(())
    }

    /// Fills `buf` with the bytes from `offset` of the file.
    fn read(&self, device: &Device, offset: u64, buf: &mut [u8]) -> Result<(), SaveError> {
        if self.is_backwards {
            device.read(self.range.end - offset - buf.len() as u64, buf)?;
            reverse_blocks(buf);
            return Ok(());
        }
        device.read(self.range.start + offset, buf)
    }

    /// Copies it to `file`, which will be at `path`: compressed, or with holes for zeros, expanded or
    /// unchanged.
    pub(super) fn copy(
        &self,
        device: &Device,
        file: &mut NewFile<'_>,
        path: &Path,
        form: Form,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<(), SaveError> {
        let len = self.len_bytes();
        if let Form::Packed(method) = form {
            let read = |offset: u64, buf: &mut [u8]| self.read(device, offset, buf);
            let written = compress(len, &read, method, file, on_progress);
            return written.map(|_| ()).map_err(|failed| match failed {
                Failed::Read(_, error) => error,
                Failed::Write(error) => SaveError::directory(path)(error),
            });
        }
        if form == Form::Unpacked {
            return self.expand(device, file, path, on_progress);
        }
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

    /// What it expands to.
    fn expanded(&self, device: &Device) -> Result<Source, SaveError> {
        let expanded = device.medium().expand(self.range.clone());
        expanded.map_err(|source| SaveError::read(device.path(), self.range.start, source))
    }

    fn expand(
        &self,
        device: &Device,
        file: &mut NewFile<'_>,
        path: &Path,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<(), SaveError> {
        let source = self.expanded(device)?;
        let broken = |reason: String| SaveError::Unpack {
            device: device.path().to_owned(),
            reason,
        };
        let mut buf = vec![0; CHUNK];
        let mut writer = SparseWriter::new(&mut *file, HOLE);
        let mut at = 0;
        loop {
            let read = source.read_positional(at, &mut buf);
            let read = read.map_err(|error| broken(error.to_string()))?;
            if read == 0 {
                break;
            }
            writer
                .write(at, buf.get(..read).unwrap_or_default())
                .map_err(SaveError::directory(path))?;
            at += read as u64;
            on_progress(at, at.max(self.len_bytes()));
        }
        if let Some(damage) = source.damage() {
            return Err(broken(damage.to_string()));
        }
        file.set_len(at).map_err(SaveError::directory(path))
    }

    /// Whether it expands to `file`, all of it and no more.
    fn expands_to(&self, device: &Device, file: &Source) -> io::Result<bool> {
        let source = self.expanded(device).map_err(io::Error::other)?;
        let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut at = 0;
        loop {
            let read = source.read_positional(at, &mut ours)?;
            let have = file.read_positional(at, &mut theirs)?;
            if ours.get(..read) != theirs.get(..have) {
                return Ok(false);
            }
            if read == 0 {
                return Ok(source.damage().is_none());
            }
            at += read as u64;
        }
    }

    /// Whether the file at `path` has its bytes, all of them and no more, in this form.
    pub(super) fn equals(
        &self,
        device: &Device,
        path: &Path,
        form: Form,
    ) -> Result<bool, SaveError> {
        let error = |source: io::Error| SaveError::directory(path)(source);
        let file = match form {
            Form::Packed(_) => container::open(path, &ContainerOptions::default())
                .map(|opened| opened.source)
                .map_err(io::Error::other),
            Form::AsIs | Form::Unpacked => Source::open(path, Access::Positional),
        };
        let file = file.map_err(error)?;
        if form == Form::Unpacked {
            return self.expands_to(device, &file).map_err(error);
        }
        if file.len() != self.len_bytes() {
            return Ok(false);
        }
        let mut copy = vec![0; CHUNK];
        let mut is_equal = true;
        self.each_chunk(device, |at, bytes| {
            let copy = copy.get_mut(..bytes.len()).unwrap_or_default();
            let read = file.read_positional(at, copy).map_err(error)?;
            is_equal = read == bytes.len() && copy == bytes;
            Ok(if is_equal {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?;
        Ok(is_equal)
    }
}
