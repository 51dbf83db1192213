//! Why a dump cannot be saved.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use vmcore::locate::Problem;
use vmcore_format::addr::FileOffset;

/// Why a dump cannot be saved. Whatever it is, the dump is still on its device.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The device cannot be opened.
    #[error("{what} {} failed: {source}", device.display())]
    Device {
        /// The device.
        device: PathBuf,
        /// What was done.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The device cannot be read.
    #[error("reading {} at {offset} failed: {source}", device.display())]
    Read {
        /// The device.
        device: PathBuf,
        /// Where, from the start of the device.
        offset: FileOffset,
        /// What the operating system said.
        source: io::Error,
    },
    /// A disk with more than one dump.
    #[error("{} has dumps in several partitions: {}", device.display(), partitions.join(", "))]
    SeveralDumps {
        /// The disk.
        device: PathBuf,
        /// The partitions.
        partitions: Vec<String>,
    },
    /// A disk without a partition of that name.
    #[error("{} has no partition {wanted}", device.display())]
    NoSuchPartition {
        /// The disk.
        device: PathBuf,
        /// The partition that was asked for.
        wanted: String,
        /// All of its partitions.
        partitions: Vec<String>,
    },
    /// The kernel's compressed dump cannot be expanded.
    #[error("the dump on {} cannot be expanded: {reason}", device.display())]
    Unpack {
        /// The device.
        device: PathBuf,
        /// Where it ends, and why.
        reason: String,
    },
    /// Unsound headers, or a dump that was saved before; force may help.
    #[error("the dump on {} is not saved: {}", device.display(), list(problems))]
    Unsound {
        /// The device.
        device: PathBuf,
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// Headers that describe an impossible dump; force does not help.
    #[error("there is no dump on {}: {}", device.display(), list(problems))]
    Impossible {
        /// The device.
        device: PathBuf,
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// Something in the directory cannot be read or written.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process is saving to the same directory.
    #[error("another process is saving a dump to {}", directory.display())]
    Busy {
        /// The directory.
        directory: PathBuf,
    },
    /// The dump does not fit.
    #[error(
        "no room for the dump in {}: {need_bytes} bytes needed, {available_bytes} available, \
         {reserved_bytes} kept free as `minfree` says",
        directory.display()
    )]
    NoRoom {
        /// The directory.
        directory: PathBuf,
        /// Bytes of the dump and its companions.
        need_bytes: u64,
        /// Bytes that may be used.
        available_bytes: u64,
        /// Bytes that must stay free.
        reserved_bytes: u64,
    },
}

impl SaveError {
    pub(crate) fn device(device: &Path, what: &'static str, source: io::Error) -> Self {
        Self::Device {
            device: device.to_owned(),
            what,
            source,
        }
    }

    pub(crate) fn read(device: &Path, offset: u64, source: io::Error) -> Self {
        Self::Read {
            device: device.to_owned(),
            offset: FileOffset(offset),
            source,
        }
    }

    /// Attaches the name of a file in the directory.
    pub(crate) fn directory(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Directory {
            path: path.to_owned(),
            source,
        }
    }
}

/// All problems in one sentence.
fn list(problems: &[Problem]) -> String {
    let mut text = String::new();
    for (number, problem) in problems.iter().enumerate() {
        let separator = if number == 0 { "" } else { "; " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{problem}");
    }
    text
}
