//! How a dump is opened, and why a file is none.

use super::DeviceHeader;
use crate::crypt::KeyError;
use crate::kinds::OtherKind;
use crate::locate::Problem;
use crate::source::{Access, Damage, Recorder};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;
use vmcore_format::elf::ElfError;
use vmcore_format::header::HeaderError;
use vmcore_format::kerneldumpkey::KeyBlockError;
use vmcore_format::layout::Section;

/// How to open a dump.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// How the file is read.
    pub access: Access,
    /// The last section that must be whole: a dump truncated behind it opens all the same.
    pub up_to: Section,
    /// The RSA private key of an encrypted dump, in PEM form.
    pub key: Option<PathBuf>,
    /// The key block of an encrypted dump, if it is neither on the device nor `key.N` beside
    /// `vmcore_encrypted.N`.
    pub key_block: Option<PathBuf>,
    /// The partition of a disk with several dumps: `p3`, `s1b`, or a number.
    pub partition: Option<String>,
    /// Whether pages that the writer lost are looked for, so that those behind are found. For a
    /// compressed file that does not say how long it is, all of it is expanded when it is opened.
    pub realign: bool,
    /// Who is to be told what is read of the dump.
    pub recorder: Option<Arc<Recorder>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            access: Access::Auto,
            up_to: Section::PageTables,
            key: None,
            key_block: None,
            partition: None,
            realign: true,
            recorder: None,
        }
    }
}

/// Why a file is no dump that can be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
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
    /// Neither a minidump nor an ELF core.
    #[error("{path} is not a kernel dump: it starts with neither \"minidump\" nor an ELF header")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A file of another kind, which is known.
    #[error("{path} is {}, not a FreeBSD kernel dump", kind.name)]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: OtherKind,
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
    #[error("{path} is encrypted; to read it takes the RSA private key: --key PRIVATE.pem")]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// Encrypted, as its name or the caller says, and the encrypted key is missing.
    #[error("{path} is encrypted, and its key block {key_file} is missing: --key-block KEY.N")]
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
        /// Why not.
        source: KeyError,
    },
    /// Text, not memory.
    #[error("{path} is a textdump: a tar archive of text, not memory")]
    Textdump {
        /// The file.
        path: PathBuf,
    },
    /// A textdump in which no archive is found.
    #[error("{path}: its header says that it is a textdump, and no tar archive follows")]
    BadTextdump {
        /// The file.
        path: PathBuf,
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
    /// A kernel file where a dump was expected.
    #[error("{path} is a {arch} kernel or program, not a dump; use it with -k {path}")]
    KernelFile {
        /// The file.
        path: PathBuf,
        /// Its architecture, as far as known.
        arch: String,
    },
    /// The minidump header is wrong.
    #[error("{path}: {source}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// The ELF header is wrong.
    #[error("{path}: {source}")]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ElfError,
    },
    /// An ELF core that is not a dump we know.
    #[error("{path}: an ELF core, but {reason}")]
    BadCore {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file ends inside a section.
    #[error("{path} is truncated inside its {section}: {need} bytes needed, the file has {have}")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The section.
        section: Section,
        /// Bytes up to the end of the section.
        need: u64,
        /// Bytes there are.
        have: u64,
    },
    /// The ranges of RAM cannot number the bitmap.
    #[error("{path}: {reason}")]
    BadRanges {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

fn list(problems: &[Problem]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

fn names(partitions: &[(String, DeviceHeader)]) -> String {
    let names: Vec<&str> = partitions.iter().map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}
