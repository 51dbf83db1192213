//! The message buffer's text in order, and its lines; a minidump's own copy of it.

use crate::dump::Dump;
use crate::memory::PageReadError;
use serde::Serialize;
use vmcore_format::layout::Section;
use vmcore_format::msgbuf::{self, Msgbuf};

/// Where the message buffer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// The minidump's own section.
    Section,
    /// The kernel's memory, by the symbol `msgbufp`.
    Symbol,
    /// A textdump's `msgbuf.txt`.
    Textdump,
}

/// How it is known where the oldest line starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogOrder {
    /// `struct msgbuf` says it.
    Msgbuf,
    /// It is not known; the buffer has room left, so it has not wrapped.
    NotFull,
    /// It is not known, and the buffer is full: it is shown as it lies.
    Unknown,
}

/// The message buffer in order.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where it was found.
    pub source: LogSource,
    /// How its start is known.
    pub order: LogOrder,
    /// Bytes that the buffer can hold.
    pub capacity_bytes: u64,
    /// Whether older lines were overwritten.
    pub wrapped: bool,
    /// Bytes from oldest to newest, without those never written.
    text: Vec<u8>,
}

/// One line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The number in `<N>` before it: facility × 8 + severity. Kernel messages have none.
    pub priority: Option<u32>,
    /// The text, without the mark and the newline.
    pub text: &'a [u8],
}

impl Log {
    /// A log of a ring's bytes.
    pub(crate) fn new(source: LogSource, ring: &[u8], state: Option<&Msgbuf>) -> Self {
        let (oldest, newest) = msgbuf::in_order(ring, state);
        let text: Vec<u8> = oldest
            .iter()
            .chain(newest)
            .copied()
            .filter(|byte| *byte != 0)
            .collect();
        let order = match state {
            Some(_) => LogOrder::Msgbuf,
            None if text.len() < ring.len() => LogOrder::NotFull,
            None => LogOrder::Unknown,
        };
        let wrapped = match state {
            Some(state) => msgbuf::has_wrapped(ring, Some(state)) && state.msg_wseq != 0,
            None => order == LogOrder::Unknown && !ring.is_empty(),
        };
        Self {
            source,
            order,
            capacity_bytes: ring.len() as u64,
            wrapped,
            text,
        }
    }

    /// The log of a textdump, which is in order.
    #[must_use]
    pub fn of_text(text: &[u8]) -> Self {
        Self {
            source: LogSource::Textdump,
            order: LogOrder::Msgbuf,
            capacity_bytes: text.len() as u64,
            wrapped: false,
            text: text.iter().copied().filter(|byte| *byte != 0).collect(),
        }
    }

    /// Bytes from oldest to newest.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether the kernel said nothing, or the dump lost it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Its lines, with priority marks taken off.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = Line<'_>> {
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        let lines = (!text.is_empty()).then(|| text.split(|byte| *byte == b'\n'));
        lines.into_iter().flatten().map(Line::parse)
    }
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Self {
        let marked = line.strip_prefix(b"<").and_then(|rest| {
            let end = rest.iter().position(|byte| *byte == b'>')?;
            let digits = std::str::from_utf8(rest.get(..end)?).ok()?;
            Some((digits.parse().ok()?, rest.get(end + 1..)?))
        });
        match marked {
            Some((priority, text)) => Self {
                priority: Some(priority),
                text,
            },
            None => Self {
                priority: None,
                text: line,
            },
        }
    }
}

/// The message buffer in a dump's own section; `None` if there is no such section.
pub(crate) fn of_section(dump: &Dump) -> Result<Option<Log>, PageReadError> {
    let section = dump.section(Section::MessageBuffer)?;
    let Some(section) = section else {
        return Ok(None);
    };
    let size = dump.minidump().map_or(0, |header| header.msgbufsize);
    let len = usize::try_from(size).unwrap_or(0).min(section.len());
    let (ring, slack) = section.split_at(len);
    let state = Msgbuf::parse(slack, dump.memory().endian(), dump.arch().word())
        .ok()
        .filter(|state| state.msg_size == size);
    Ok(Some(Log::new(LogSource::Section, ring, state.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_priority_marks_and_nothing_else() {
        let log = Log::new(LogSource::Section, b"one\n<118>two\n<x>three\n\0\0", None);
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(
            lines[0],
            Line {
                priority: None,
                text: b"one"
            }
        );
        assert_eq!(
            lines[1],
            Line {
                priority: Some(118),
                text: b"two"
            }
        );
        assert_eq!(
            lines[2],
            Line {
                priority: None,
                text: b"<x>three"
            }
        );
        assert_eq!(lines.len(), 3);
        assert_eq!((log.order, log.wrapped), (LogOrder::NotFull, false));
    }

    #[test]
    fn an_empty_buffer_has_no_lines() {
        let log = Log::new(LogSource::Section, &[0; 64], None);
        assert!(log.is_empty());
        assert_eq!(log.lines().count(), 0);
    }
}
