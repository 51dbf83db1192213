//! A temporary file in the directory of the output file.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The name of a file that is removed when this is dropped. Nothing is there yet.
#[derive(Debug)]
pub(super) struct Beside(PathBuf);

impl Beside {
    /// Beside `path`, so that it is on the same file system.
    pub(super) fn of(path: &Path) -> Self {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.plain", std::process::id()));
        Self(path.with_file_name(name))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = fs::remove_file(&self.0);
    }
}
