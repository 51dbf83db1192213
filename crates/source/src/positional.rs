//! Positional reads: of a file by the system call on Unix, by a lock and a seek elsewhere; of what
//! the caller gives, by a method.

use crate::bytes::ReadAt;
use std::fs::File;
use std::io;
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
    /// A file or a device that is open.
    pub(crate) const fn of(file: File) -> Self {
        Self::File(file, Mutex::new(()))
    }

    /// A copy of what `reader` gives, in a file without a name, with its length.
    pub(crate) fn spooled(reader: &mut dyn io::Read) -> io::Result<(Self, u64)> {
        let mut file = tempfile::tempfile()?;
        let len = io::copy(reader, &mut file)?;
        Ok((Self::of(file), len))
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
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
    io::Read::read(&mut file, buf)
}
