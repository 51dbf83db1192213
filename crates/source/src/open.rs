//! The one place that opens files for reading, so that nothing with a hostile or unlucky name blocks.
//!
//! A named pipe called `info.0` or `kernel` would wait for a writer for ever, and what is read from a
//! terminal cannot be read again. Regular files and disks are opened, everything else is refused by
//! what it is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

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

/// The first `max_len` bytes of a small file.
///
/// # Errors
/// As [`open_file`], or if it cannot be read.
pub fn read_small(path: &Path, max_len: usize) -> io::Result<Vec<u8>> {
    let mut file = open_file(path)?;
    // In one go: of a disk there are whole sectors only.
    let mut bytes = vec![0; max_len];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
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
