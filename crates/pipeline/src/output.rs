//! Output files: private to their owner, and under their final name only when they are whole.
//!
//! A dump holds secrets, so every file is created with mode 0600 where the system has modes. It is
//! written beside its final place under a temporary name and renamed at the end; if it is dropped
//! before, it is removed. A file that exists is kept unless the caller says otherwise.
//!
//! ```
//! use std::io::Write as _;
//! use vmcore_pipeline::output::OutputFile;
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("vmcore.elf");
//! let mut output = OutputFile::create(&path, false)?;
//! output.file().write_all(b"all of it")?;
//! assert!(!path.exists());
//! output.commit()?;
//! assert_eq!(std::fs::read(&path)?, b"all of it");
//! assert!(OutputFile::create(&path, false).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Why an output file cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A file of that name is there, and must not be overwritten.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Something of that name is there, and it is not a file that may be replaced.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The device, directory or pipe.
        path: PathBuf,
    },
    /// The operating system could not create, write or rename it.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A file in the making.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    path: PathBuf,
    /// Where it is until it is whole; empty afterwards.
    temporary: PathBuf,
    /// The same, as it is noted in [`UNFINISHED`].
    unfinished: PathBuf,
    overwrite: bool,
}

impl OutputFile {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// Returns an error if `path` exists and `overwrite` is false or it is not a file, or a file
    /// cannot be created in its directory.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, OutputError> {
        if let Ok(there) = path.symlink_metadata() {
            let path = path.to_owned();
            if !is_replaceable(&path, &there) {
                return Err(OutputError::NotAFile { path });
            }
            if !overwrite {
                return Err(OutputError::Exists { path });
            }
        }
        let io_error = |source| OutputError::Io {
            path: path.to_owned(),
            source,
        };
        let name = path.file_name().ok_or_else(|| {
            io_error(io::Error::new(
                io::ErrorKind::InvalidInput,
                "is not a file name",
            ))
        })?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(hidden);
        // Left over by a process of the same number that was killed.
        let _ = fs::remove_file(&temporary);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&temporary).map_err(io_error)?;
        unfinished().push(temporary.clone());
        Ok(Self {
            unfinished: temporary.clone(),
            file,
            path: path.to_owned(),
            temporary,
            overwrite,
        })
    }

    /// The file, to write to.
    pub const fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where it will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Attaches the file's name to an error of writing it.
    #[must_use]
    pub fn error(&self, source: io::Error) -> OutputError {
        OutputError::Io {
            path: self.path.clone(),
            source,
        }
    }

    /// Gives the whole file its name.
    ///
    /// # Errors
    /// Returns an error if a file of that name has appeared in the meantime and must be kept, or
    /// the file cannot be renamed.
    pub fn commit(mut self) -> Result<(), OutputError> {
        if self.overwrite {
            fs::rename(&self.temporary, &self.path).map_err(|source| self.error(source))?;
            self.temporary = PathBuf::new();
            return Ok(());
        }
        // A second name, unlike a new one, never takes the place of a file. The first one goes
        // when this is dropped.
        match fs::hard_link(&self.temporary, &self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(OutputError::Exists {
                    path: self.path.clone(),
                })
            }
            Err(_) => self.rename_if_free(),
        }
    }

    /// Where the file system knows one name a file only.
    fn rename_if_free(mut self) -> Result<(), OutputError> {
        if self.path.symlink_metadata().is_ok() {
            return Err(OutputError::Exists {
                path: self.path.clone(),
            });
        }
        fs::rename(&self.temporary, &self.path).map_err(|source| self.error(source))?;
        self.temporary = PathBuf::new();
        Ok(())
    }
}

/// Whether what is at `path` may give way to a file. A link is replaced, not what it points to; but
/// not one to a device or pipe, and none of the system's own: `/dev/stdout` may well point to a
/// regular file.
fn is_replaceable(path: &Path, there: &fs::Metadata) -> bool {
    if there.is_file() {
        return true;
    }
    // One that points nowhere is harmless.
    let is_harmless = |target: fs::Metadata| target.is_file();
    let is_systems = |directory: PathBuf| {
        SYSTEM_DIRECTORIES
            .iter()
            .any(|system| directory.starts_with(system))
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    there.is_symlink()
        && path.metadata().map_or(true, is_harmless)
        && !directory.canonicalize().is_ok_and(is_systems)
}

/// Where the links are the system's.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/dev", "/proc"];

/// Files in the making, for [`remove_unfinished`].
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all files in the making: for a process that is about to be ended by a signal.
pub fn remove_unfinished() {
    for path in unfinished().drain(..) {
        // Nothing better can be done about a failure here.
        let _ = fs::remove_file(path);
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        unfinished().retain(|path| *path != self.unfinished);
        if !self.temporary.as_os_str().is_empty() {
            // Nothing better can be done about a failure here.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_dropped_file_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut output = OutputFile::create(&path, false).unwrap();
        output.file().write_all(b"half").unwrap();
        drop(output);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let output = OutputFile::create(&path, false).unwrap();
        fs::write(&path, b"somebody else's").unwrap();
        assert!(matches!(output.commit(), Err(OutputError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"somebody else's");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        OutputFile::create(&path, true).unwrap().commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_directory_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let error = OutputFile::create(dir.path(), true).unwrap_err();
        assert!(matches!(error, OutputError::NotAFile { .. }), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_only_if_it_points_to_a_file() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), b"kept").unwrap();
        for (target, is_replaced) in [
            ("file", true),
            ("absent", true),
            ("/dev/null", false),
            ("/proc/self/fd/1", false),
            (".", false),
        ] {
            let link = dir.path().join("link");
            symlink(target, &link).unwrap();
            let made = OutputFile::create(&link, true).map(OutputFile::commit);
            // What the test's own output is decides.
            if target != "/proc/self/fd/1" || !link.metadata().unwrap().is_file() {
                assert_eq!(made.is_ok(), is_replaced, "{target}");
                assert_eq!(link.is_symlink(), !is_replaced, "{target}");
            }
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"kept");
        for path in ["/dev/stdout", "/dev/fd/1", "/dev/null", "/proc/self/exe"] {
            for overwrite in [false, true] {
                let error = OutputFile::create(path.as_ref(), overwrite).unwrap_err();
                assert!(
                    matches!(error, OutputError::NotAFile { .. }),
                    "{path}: {error}"
                );
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        OutputFile::create(&path, false).unwrap().commit().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
