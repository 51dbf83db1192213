//! What a dump can be converted to, and why it cannot be.

use crate::output::OutputError;
use serde::Serialize;
use thiserror::Error;
use vmcore::memory::PageReadError;
use vmcore::session::SessionError;
use vmcore_format::arch::Arch;
use vmcore_writer::DumpError;

/// What a dump becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetFormat {
    /// A minidump of the newest version that is written.
    Minidump,
    /// A full dump: all RAM.
    Full,
}

impl TargetFormat {
    /// `minidump` or `full dump`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minidump => "minidump",
            Self::Full => "full dump",
        }
    }
}

/// Why a dump cannot be converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// The page tables are not known, or the kernel file is another kernel's.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The file cannot be read.
    #[error(transparent)]
    Absent(#[from] PageReadError),
    /// The dump cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A minidump has not all that is needed.
    #[error("a minidump lacks the upper page tables and most of RAM: no {} can be made of it", .0.name())]
    IsMinidump(TargetFormat),
    /// An ELF core that translates by its segments.
    #[error("this ELF core has the kernel's addresses, but not where its page tables start")]
    NoRoot,
    /// Neither full dumps nor hypervisors' files of this architecture are read.
    #[error("full dumps of {0} cannot be read or written")]
    Architecture(Arch),
    /// No CPU's page tables map a kernel.
    #[error("the page tables of no CPU map a FreeBSD kernel")]
    NoKernelMap,
    /// Nothing of RAM is in the file, or more than can be counted.
    #[error("the file has no whole page of RAM, or claims more than can be counted")]
    Ram,
    /// The writer refused.
    #[error("the dump cannot be written: {0}")]
    Dump(#[from] DumpError),
}
