//! Positional reads: by the system call on Unix, by a lock and a seek elsewhere.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

/// A file that is read at given offsets only.
#[derive(Debug)]
pub(crate) struct PositionalFile {
    file: File,
    /// Elsewhere than on Unix a read moves the file's position.
    #[cfg_attr(
        unix,
        expect(dead_code, reason = "used where there is no positional read")
    )]
    position: Mutex<()>,
}

impl PositionalFile {
    /// Opens a file or a device: with its length, and whether it is a regular file.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, u64, bool)> {
        let file = crate::open::open_file(path)?;
        let metadata = file.metadata()?;
        let file = Self {
            file,
            position: Mutex::new(()),
        };
        if metadata.is_file() {
            return Ok((file, metadata.len(), true));
        }
        let len = file.seek_len()?;
        Ok((file, len, false))
    }

    pub(crate) fn as_file(&self) -> &File {
        &self.file
    }

    /// The length of a device: where its end can be sought to.
    fn seek_len(&self) -> io::Result<u64> {
        (&self.file).seek(SeekFrom::End(0)).map_err(|_| {
            let what = "is neither a file nor a disk: it has no end to read from";
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })
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

    #[cfg(unix)]
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buf, offset)
    }

    #[cfg(not(unix))]
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let _guard = self
            .position
            .lock()
            .map_err(|_| io::Error::other("poisoned"))?;
        (&self.file).seek(SeekFrom::Start(offset))?;
        io::Read::read(&mut &self.file, buf)
    }
}
