//! Why there is no dump.

use crate::sink::SinkError;
use thiserror::Error;

/// Why a dump cannot be planned. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A minidump version that is not written.
    #[error("minidump version {0} is not written for this architecture")]
    Version(u32),
    /// The kernel map ends before it starts, or starts where no table does.
    #[error("the kernel map is reversed or not aligned to its page tables")]
    KernelMap,
    /// The kernel map is too large for this version: its page-table section has a 32-bit size.
    #[error(
        "the kernel map needs a page-table section of {section_bytes} bytes, more than this version can say"
    )]
    SpanTooLarge {
        /// Bytes of the section.
        section_bytes: u64,
    },
    /// Some other size does not fit its field.
    #[error("the {0} is too large for its field")]
    TooLarge(&'static str),
    /// No full dumps of this architecture, or of this machine.
    #[error("a full dump cannot say where {0}")]
    Full(&'static str),
    /// The kernel's page size is not that of the dump map.
    #[error("the dump map has pages of another size than the kernel")]
    PageSize,
    /// The header cannot say what the kernel says of itself.
    #[error("the minidump header cannot say what the kernel says of itself")]
    Header,
}

/// Why there is no dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DumpError {
    /// It cannot be planned. Nothing was written.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// It cannot be written there: try the next device.
    #[error("{0}")]
    Sink(#[from] SinkError),
    /// Aborted at the console: do not try the next device.
    #[error("aborted from the console")]
    Aborted,
    /// A section did not come out as planned. Nothing on the device says that there is a dump.
    #[error("a section ends at byte {position} instead of {planned}")]
    Inconsistent {
        /// Where it ended.
        position: u64,
        /// Where it was planned to end.
        planned: u64,
    },
}
