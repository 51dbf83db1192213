//! Inputs as files that have no name, in memory where the system has a place for that.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where temporary files cost no disk access; elsewhere the system's folder does.
const IN_MEMORY: &str = "/dev/shm";

/// A file without a name: it is gone when it is dropped, or the process is.
#[derive(Debug)]
pub struct InputFile {
    _file: File,
    path: PathBuf,
}

impl InputFile {
    /// A file that holds `contents`.
    pub fn new(contents: &[u8]) -> Self {
        let mut file = tempfile::tempfile_in(folder()).expect("a temporary file");
        file.write_all(contents).expect("room for the input");
        let path = PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()));
        Self { _file: file, path }
    }

    /// By which name it can be opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A folder for output, gone when it is dropped.
pub fn output_folder() -> TempDir {
    tempfile::tempdir_in(folder()).expect("a temporary folder")
}

fn folder() -> PathBuf {
    let in_memory = Path::new(IN_MEMORY);
    if in_memory.is_dir() {
        in_memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}
