//! Why what is around a dump cannot be taken off.

use crate::crypt::KeyError;
use crate::device_header::DeviceHeader;
use crate::locate::Problem;
use crate::stream::Damage;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use vmcore_format::kerneldumpkey::KeyBlockError;

/// Why the bytes of a dump cannot be reached.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// The operating system could not open or read it.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A file of length 0.
    #[error("{path} is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A compressed stream of which nothing can be read.
    #[error("{path}: {source}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// Where it breaks off.
        source: Damage,
    },
    /// Encrypted, and there is no private key.
    #[error("{path} is encrypted, and no RSA private key is given")]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// Encrypted, as its name or the caller says, and the encrypted key is missing.
    #[error("{path} is encrypted, and its key block {key_file} is missing")]
    NoKeyBlock {
        /// The file.
        path: PathBuf,
        /// Where the key block should be.
        key_file: PathBuf,
    },
    /// The key block is damaged.
    #[error("{path}: {source}")]
    KeyBlock {
        /// The dump.
        path: PathBuf,
        /// What is wrong.
        source: KeyBlockError,
    },
    /// The private key does not help.
    #[error("{path}: {source}")]
    Key {
        /// The private key.
        path: PathBuf,
        /// The reason.
        source: KeyError,
    },
    /// A disk with more than one dump.
    #[error(
        "{path} is a disk with dumps in several partitions: {}",
        names(partitions)
    )]
    SeveralDumps {
        /// The disk.
        path: PathBuf,
        /// The partitions, and the header of the dump in each.
        partitions: Vec<(String, DeviceHeader)>,
    },
    /// A disk without a dump.
    #[error("{path} is a disk, and none of its partitions ends in a dump header")]
    NoDumpOnDisk {
        /// The disk.
        path: PathBuf,
        /// All of its partitions.
        partitions: Vec<String>,
    },
    /// A disk without a partition of that name.
    #[error("{path} has no partition {wanted}")]
    NoSuchPartition {
        /// The disk.
        path: PathBuf,
        /// The partition that was asked for.
        wanted: String,
        /// All of its partitions.
        partitions: Vec<String>,
    },
    /// A dump header at the end of a device that cannot be relied on.
    #[error(
        "the dump header at the end of {path} is not sound: {}",
        list(problems)
    )]
    UnsoundHeader {
        /// The device.
        path: PathBuf,
        /// What is wrong with it.
        problems: Vec<Problem>,
    },
}

impl ContainerError {
    /// An error of the operating system, about the file at `path`.
    #[must_use]
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

fn list(problems: &[Problem]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

fn names(partitions: &[(String, DeviceHeader)]) -> String {
    let names: Vec<&str> = partitions.iter().map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}
