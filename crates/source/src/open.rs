//! The one place that opens files for reading, so that nothing with a hostile or unlucky name blocks.
//!
//! A named pipe called `info.0` or `kernel` would wait for a writer for ever, and what is read from a
//! terminal cannot be read again. Regular files and disks are opened, everything else is refused by
//! what it is.

use crate::bytes::Access;
use crate::input::Input;
use crate::positional::PositionalFile;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens a regular file or a device for reading.
///
/// # Errors
/// Returns an error if it cannot be opened, or is a directory, a pipe or a socket.
///
/// ```
/// let error = vmcore_source::open_file(std::env::temp_dir().as_path()).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::IsADirectory);
/// ```
pub fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        // Refused before it is opened, where that is known: a socket cannot be opened at all.
        refuse(path.metadata()?.file_type())?;
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
    }
    let file = options.open(path)?;
    refuse(file.metadata()?.file_type())?;
    Ok(file)
}

/// A file or device that is open for reading, and where. Clones share it, so that what has been looked
/// at need not be opened again to be read.
///
/// ```
/// use vmcore_source::{Access, OpenFile, Source};
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("file");
/// std::fs::write(&path, b"minidump")?;
/// let file = OpenFile::open(&path)?;
/// assert_eq!(file.first(4)?, b"mini");
/// assert_eq!(Source::of_file(&file, Access::Auto).len(), 8);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenFile {
    path: PathBuf,
    file: Arc<PositionalFile>,
    metadata: Metadata,
    len_bytes: u64,
}

impl OpenFile {
    /// Opens a regular file or a device.
    ///
    /// # Errors
    /// As [`open_file`], or if it has no end.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open_file(path)?;
        let metadata = file.metadata()?;
        // A device ends where its end can be sought to.
        let len_bytes = match metadata.is_file() {
            true => metadata.len(),
            false => (&file).seek(SeekFrom::End(0)).map_err(|_| {
                let what = "is neither a file nor a disk: it has no end to read from";
                io::Error::new(io::ErrorKind::InvalidInput, what)
            })?,
        };
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(PositionalFile::of(file)),
            metadata,
            len_bytes,
        })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the operating system said of it when it was opened.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Bytes there are, on a device, too.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Whether it is a file, not a device.
    pub(crate) fn is_regular(&self) -> bool {
        self.metadata.is_file()
    }

    /// The file itself.
    pub(crate) const fn shared(&self) -> &Arc<PositionalFile> {
        &self.file
    }

    /// The first bytes, `max_len` at most.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    pub fn first(&self, max_len: usize) -> io::Result<Vec<u8>> {
        Input::of(self, Access::Positional).read_vec(0, max_len)
    }
}

/// The first `max_len` bytes of a small file.
///
/// # Errors
/// As [`OpenFile::open`], or if it cannot be read.
pub fn read_small(path: &Path, max_len: usize) -> io::Result<Vec<u8>> {
    OpenFile::open(path)?.first(max_len)
}

fn refuse(kind: std::fs::FileType) -> io::Result<()> {
    if kind.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "is a directory",
        ));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        let what = match kind {
            kind if kind.is_fifo() => Some("is a pipe, not a file"),
            kind if kind.is_socket() => Some("is a socket, not a file"),
            _ => None,
        };
        if let Some(what) = what {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
    }
    Ok(())
}
