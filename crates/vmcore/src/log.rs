//! The message buffer: what the kernel said before it died. Needs no kernel file in a minidump.
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session, log};
//! let session = Session::open("vmcore.0".as_ref(), KernelChoice::None, &OpenOptions::default())?;
//! let log = log::read(&session)?;
//! for line in log.lines() {
//!     println!("{}", String::from_utf8_lossy(line.text));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use crate::message_buffer::{Line, Log, LogOrder, LogSource};

use crate::message_buffer;
use crate::session::{Session, SessionError};
use thiserror::Error;
use vmcore_format::msgbuf::{Msgbuf, MsgbufError};

/// The largest message buffer that is read through the kernel's pointer: kernels use 96 KiB.
const MAX_RING: u64 = 64 << 20;

/// Why there is no message buffer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The dump has no section for it, and the kernel's pointer cannot be followed.
    #[error("a full dump has its message buffer in kernel memory: {0}")]
    NeedsKernel(#[from] SessionError),
    /// The pointer leads to something else.
    #[error("msgbufp leads to no message buffer: {0}")]
    NotMsgbuf(MsgbufError),
    /// The buffer's memory is not there.
    #[error("the message buffer cannot be read: {0}")]
    Absent(String),
}

/// The message buffer of a dump.
///
/// # Errors
/// Returns an error if a full dump has no matching kernel file, or the buffer is not in the dump.
pub fn read(session: &Session) -> Result<Log, LogError> {
    let section = message_buffer::of_section(session.dump());
    match section.map_err(|reason| LogError::Absent(reason.to_string()))? {
        Some(log) => Ok(log),
        None => through_pointer(session),
    }
}

/// By the symbol `msgbufp`, as a full dump needs.
fn through_pointer(session: &Session) -> Result<Log, LogError> {
    let space = session.space()?;
    let symbol = session.symbol("msgbufp")?;
    let error = |error: crate::translation::TranslationError| LogError::Absent(error.to_string());
    let at = space.read_pointer(symbol.address).map_err(error)?;
    let mut raw = [0; 72];
    let raw = raw
        .get_mut(..Msgbuf::len_bytes(space.word()))
        .unwrap_or_default();
    space.read_exact(at, raw).map_err(error)?;
    let state = Msgbuf::parse(raw, space.endian(), space.word()).map_err(LogError::NotMsgbuf)?;
    let size = u64::from(state.msg_size);
    if size > MAX_RING || !session.dump().memory().source().reaches(size) {
        return Err(LogError::Absent(format!("it claims to have {size} bytes")));
    }
    let mut ring = vec![0; usize::try_from(size).unwrap_or(0)];
    space.read_exact(state.msg_ptr, &mut ring).map_err(error)?;
    Ok(Log::new(LogSource::Symbol, &ring, Some(&state)))
}
