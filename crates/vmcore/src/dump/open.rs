//! How a dump is opened, and why a file is none.

use crate::container::{ContainerError, ContainerOptions};
use crate::kinds::OtherKind;
use crate::source::Recorder;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use vmcore_format::elf::ElfError;
use vmcore_format::header::HeaderError;
use vmcore_format::layout::Section;

/// How to open a dump.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// How the file is read, and what is around the dump in it.
    pub container: ContainerOptions,
    /// The last section that must be whole: a dump truncated after it opens all the same.
    pub up_to: Section,
    /// Whether pages that the writer lost are looked for, so that those after are found. For a
    /// compressed file that does not say how long it is, all of it is expanded when it is opened.
    pub realign: bool,
    /// Records what is read of the dump.
    pub recorder: Option<Arc<Recorder>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            container: ContainerOptions::default(),
            up_to: Section::PageTables,
            realign: true,
            recorder: None,
        }
    }
}

impl From<ContainerOptions> for OpenOptions {
    fn from(container: ContainerOptions) -> Self {
        Self {
            container,
            ..Self::default()
        }
    }
}

/// Why a file cannot be read as a dump.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes of the dump cannot be reached.
    #[error(transparent)]
    Container(#[from] ContainerError),
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
    /// A kernel file where a dump was expected.
    #[error("{path} is a {arch} kernel or program, not a dump")]
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

impl OpenError {
    /// An error of the operating system, about the file at `path`.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        ContainerError::io(path, source).into()
    }
}
