//! Every change that saving and receiving make to a file system or a device goes through here, one
//! at a time.
//!
//! A watcher sees each change before it happens and can forbid it. Tests use that to let the work
//! fail, or die, at every single one; elsewhere there is no watcher.

#[cfg(unix)]
#[cfg(test)]
pub(crate) mod fate;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A change that is about to happen.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "only tests look at what happens")
)]
pub(crate) enum Change<'a> {
    /// A new, empty file.
    Create(&'a Path),
    /// Bytes written to a file or device.
    Write {
        path: &'a Path,
        offset: u64,
        bytes: &'a [u8],
    },
    /// A file gets its length.
    SetLen(&'a Path),
    /// The contents of a file or device become durable.
    Sync(&'a Path),
    /// A file gets a second name.
    HardLink { from: &'a Path, to: &'a Path },
    /// A file gets another name.
    Rename { from: &'a Path, to: &'a Path },
    /// A file goes.
    Remove(&'a Path),
    /// A symbolic link appears.
    Link(&'a Path),
    /// The names in the directory become durable.
    SyncDirectory,
}

/// Asked before each change; an error is what the change ends with.
type Watcher<'w> = &'w (dyn Fn(&Change<'_>) -> io::Result<()> + Sync);

/// Makes changes.
#[derive(Clone, Copy)]
pub(crate) struct Changes<'w> {
    watcher: Watcher<'w>,
}

impl fmt::Debug for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl<'w> Changes<'w> {
    /// Unmonitored changes.
    pub(crate) fn unwatched() -> Self {
        Self {
            watcher: &|_| Ok(()),
        }
    }

    #[cfg(test)]
    pub(crate) const fn watched(watcher: Watcher<'w>) -> Self {
        Self { watcher }
    }

    /// Creates a file for its owner alone.
    pub(crate) fn create(self, path: &Path) -> io::Result<NewFile<'w>> {
        (self.watcher)(&Change::Create(path))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        self.file(options.open(path)?, path)
    }

    /// Opens a device or its image to be changed in place.
    pub(crate) fn open(self, path: &Path) -> io::Result<NewFile<'w>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        self.file(file, path)
    }

    fn file(self, file: File, path: &Path) -> io::Result<NewFile<'w>> {
        Ok(NewFile {
            file,
            path: path.to_owned(),
            offset: 0,
            changes: self,
        })
    }

    /// Gives a file a second name; unlike a new one, it never takes the place of a file.
    pub(crate) fn hard_link(self, from: &Path, to: &Path) -> io::Result<()> {
        (self.watcher)(&Change::HardLink { from, to })?;
        fs::hard_link(from, to)
    }

    pub(crate) fn rename(self, from: &Path, to: &Path) -> io::Result<()> {
        (self.watcher)(&Change::Rename { from, to })?;
        fs::rename(from, to)
    }

    pub(crate) fn remove(self, path: &Path) -> io::Result<()> {
        (self.watcher)(&Change::Remove(path))?;
        fs::remove_file(path)
    }

    /// Makes a symbolic link, where the system has them foreverybody.
    pub(crate) fn link(self, target: &Path, link: &Path) -> io::Result<()> {
        (self.watcher)(&Change::Link(link))?;
        #[cfg(unix)]
        std::os::unix::fs::symlink(target, link)?;
        #[cfg(not(unix))]
        let _ = target;
        Ok(())
    }

    /// Makes the names in a directory durable; elsewhere than on Unix they need no help.
    pub(crate) fn sync_directory(self, directory: &Path) -> io::Result<()> {
        (self.watcher)(&Change::SyncDirectory)?;
        #[cfg(unix)]
        File::open(directory)?.sync_all()?;
        Ok(())
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct NewFile<'w> {
    file: File,
    path: PathBuf,
    offset: u64,
    changes: Changes<'w>,
}

impl NewFile<'_> {
    /// Takes an advisory lock that is held while the file is open; where the file system has
    /// locks.
    pub(crate) fn lock(&self) {
        let _ = self.file.lock();
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        let path = &self.path;
        (self.changes.watcher)(&Change::SetLen(path))?;
        self.file.set_len(len)
    }

    /// Makes the contents durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        (self.changes.watcher)(&Change::Sync(&self.path))?;
        self.file.sync_all()
    }
}

impl io::Read for NewFile<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buf)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Write for NewFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.changes.watcher)(&Change::Write {
            path: &self.path,
            offset: self.offset,
            bytes,
        })?;
        let count = self.file.write(bytes)?;
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for NewFile<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.offset = self.file.seek(to)?;
        Ok(self.offset)
    }
}
