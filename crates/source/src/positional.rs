//! Positional reads: of a file by the system call on Unix, by a lock and a seek elsewhere; of what
//! the caller gives, by a method.

use crate::bytes::ReadAt;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

/// Bytes that are read at given offsets only.
#[derive(Debug)]
pub(crate) enum PositionalFile {
    /// A file or a device. Elsewhere than on Unix a read moves its position.
    File(File, Mutex<()>),
    /// Anything else.
    Given(Box<dyn ReadAt>),
}

impl PositionalFile {
    /// Opens a file or a device: with its length, and whether it is a regular file.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, u64, bool)> {
        let file = crate::open::open_file(path)?;
        let metadata = file.metadata()?;
        let is_regular = metadata.is_file();
        // A device ends where its end can be sought to.
        let len = match is_regular {
            true => metadata.len(),
            false => (&file).seek(SeekFrom::End(0)).map_err(|_| {
                let what = "is neither a file nor a disk: it has no end to read from";
                io::Error::new(io::ErrorKind::InvalidInput, what)
            })?,
        };
        Ok((Self::File(file, Mutex::new(())), len, is_regular))
    }

    /// A copy of what `reader` gives, in a file without a name, with its length.
    pub(crate) fn spooled(reader: &mut dyn io::Read) -> io::Result<(Self, u64)> {
        let mut file = tempfile::tempfile()?;
        let len = io::copy(reader, &mut file)?;
        Ok((Self::File(file, Mutex::new(())), len))
    }

    /// The file, if it is one.
    pub(crate) const fn as_file(&self) -> Option<&File> {
        match self {
            Self::File(file, _) => Some(file),
            Self::Given(_) => None,
        }
    }

    /// Whether two reads of one place may differ.
    pub(crate) fn may_change(&self) -> bool {
        match self {
            Self::File(..) => false,
            Self::Given(given) => given.may_change(),
        }
    }

    /// Fills `buf` from `offset`; fewer bytes only at the end.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_some(offset + done as u64, rest) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file, position) => read_file(file, position, offset, buf),
            Self::Given(given) => given.read_at(offset, buf),
        }
    }
}

#[cfg(unix)]
fn read_file(file: &File, _: &Mutex<()>, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(not(unix))]
fn read_file(
    mut file: &File,
    position: &Mutex<()>,
    offset: u64,
    buf: &mut [u8],
) -> io::Result<usize> {
    let _guard = position.lock().map_err(|_| io::Error::other("poisoned"))?;
    file.seek(SeekFrom::Start(offset))?;
    io::Read::read(&mut file, buf)
}
