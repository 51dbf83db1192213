//! A compressed stream without an index: gzip, or zstd in one long frame.
//!
//! It is expanded once, from its start, as far as somebody reads, and leaves checkpoints behind:
//! there reading can start again. So nothing is expanded a second time but what lies between a
//! checkpoint and what is wanted, and the memory for it is bounded however long the stream is.

use crate::gzip::GzipCursor;
use crate::input::Input;
use crate::map::Mapping;
use crate::points::{Point, Points};
use crate::zstd::ZstdCursor;
use serde::Serialize;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// log2 of the bytes of a chunk.
const CHUNK_SHIFT: u32 = 20;
/// Bytes of a chunk.
const CHUNK: usize = 1 << CHUNK_SHIFT;
/// Bytes that a pass expands at once when they are not wanted: they stay in the processor's cache.
const PIECE: usize = 128 << 10;
/// Expanded bytes between two checkpoints, at least.
const SPACING: u64 = 2 << 20;

/// Where a compressed stream breaks off: what is before is there.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
#[error(
    "the compressed stream breaks off at {stored_bytes:#x} of the file, after {expanded_bytes} \
     bytes of the dump: {reason}"
)]
pub struct Damage {
    /// Compressed bytes before it.
    pub stored_bytes: u64,
    /// Expanded bytes before it.
    pub expanded_bytes: u64,
    /// What is wrong.
    pub reason: String,
}

/// How a stream is compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    Gzip,
    Zstd,
}

/// Why a stream cannot be expanded further.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Compressed bytes before it.
    pub(crate) stored: u64,
    /// Bytes of the output that are good.
    pub(crate) filled: usize,
    pub(crate) reason: String,
}

/// A stretch of an input that is read ahead, or mapped.
#[derive(Debug, Default)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    /// Instead of `bytes`.
    mapping: Option<Mapping>,
    start: u64,
}

impl Window {
    /// Bytes that are read at once.
    const LEN: usize = 1 << 19;
    /// Bytes that are mapped at once.
    const MAPPED_LEN: usize = 1 << 20;

    /// At least `len` bytes at `at`, fewer only at the end.
    pub(crate) fn get(&mut self, input: &Input, at: u64, len: usize) -> io::Result<&[u8]> {
        let skip = at
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok());
        let have = self.bytes().len();
        if let Some(skip) = skip.filter(|skip| skip.saturating_add(len) <= have) {
            return Ok(self.bytes().get(skip..).unwrap_or_default());
        }
        self.mapping = input.map(at, len.max(Self::MAPPED_LEN) as u64);
        if self.mapping.is_some() {
            (self.bytes, self.start) = (Vec::new(), at);
            return Ok(self.bytes());
        }
        // What is there already is not read again.
        let have = self.bytes.len();
        let kept = have - skip.unwrap_or(have).min(have);
        self.bytes.copy_within(have - kept.., 0);
        self.bytes.resize(len.max(Self::LEN), 0);
        self.start = at;
        let fresh = self.bytes.get_mut(kept..).unwrap_or_default();
        let read = input.read_at(at.saturating_add(kept as u64), fresh);
        self.bytes.truncate(kept + read.as_ref().unwrap_or(&0));
        read.map(|_| self.bytes.as_slice())
    }

    fn bytes(&self) -> &[u8] {
        self.mapping.as_deref().unwrap_or(&self.bytes)
    }
}

/// A decoder at some place of the stream.
enum Cursor {
    Gzip(Box<GzipCursor>),
    Zstd(Box<ZstdCursor>),
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl Cursor {
    fn at(format: Format, point: &Point) -> io::Result<Self> {
        Ok(match format {
            Format::Gzip => Self::Gzip(Box::new(GzipCursor::at(point)?)),
            Format::Zstd => Self::Zstd(Box::new(ZstdCursor::at(point)?)),
        })
    }

    /// Goes over `len` bytes, piece by piece in `scratch`; gives their number, fewer only at the end.
    fn pass_over(
        &mut self,
        input: &Input,
        len: usize,
        scratch: &mut Vec<u8>,
        points: &mut Points,
    ) -> Result<usize, Broken> {
        let cursor = match self {
            Self::Gzip(cursor) => return cursor.pass_over(input, len, points),
            Self::Zstd(cursor) => cursor,
        };
        scratch.resize(PIECE, 0);
        let mut done = 0;
        while done < len {
            let len = PIECE.min(len - done);
            let piece = scratch.get_mut(..len).unwrap_or_default();
            match cursor.fill(input, piece, Some(points)) {
                Ok(count) => {
                    done += count;
                    if count < len {
                        break;
                    }
                }
                Err(broken) => {
                    return Err(Broken {
                        filled: done + broken.filled,
                        ..broken
                    });
                }
            }
        }
        Ok(done)
    }

    /// Fills `out` with what comes next; fewer bytes only at the end. Leaves checkpoints in `points`,
    /// if they are given.
    fn fill(
        &mut self,
        input: &Input,
        out: &mut [u8],
        points: Option<&mut Points>,
    ) -> Result<usize, Broken> {
        match self {
            Self::Gzip(cursor) => cursor.fill(input, out, points),
            Self::Zstd(cursor) => cursor.fill(input, out, points),
        }
    }
}

/// A stream that is expanded once.
#[derive(Debug)]
pub(crate) struct Stream {
    input: Input,
    format: Format,
    state: Mutex<State>,
    /// Bytes that have been expanded so far.
    reached: AtomicU64,
    /// All bytes, once the end has been seen.
    len: AtomicU64,
}

/// What `len` is as long as the end has not been seen.
const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
struct State {
    /// The decoder of the one pass; `None` before its start and past its end.
    pass: Option<Cursor>,
    has_ended: bool,
    reached: u64,
    points: Points,
    damage: Option<Damage>,
    /// Where the last reader after the pass stopped: the next one may go on there.
    reader: Option<(u64, Cursor)>,
    scratch: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(input: Input, format: Format) -> Self {
        Self {
            input,
            format,
            state: Mutex::new(State {
                pass: None,
                has_ended: false,
                reached: 0,
                points: Points::new(SPACING),
                damage: None,
                reader: None,
                scratch: Vec::new(),
            }),
            reached: AtomicU64::new(0),
            len: AtomicU64::new(UNKNOWN),
        }
    }

    /// The chunk that would hold `offset`, and where it starts.
    #[inline]
    pub(crate) const fn find(offset: u64) -> (u64, u64) {
        let number = offset >> CHUNK_SHIFT;
        (number, number << CHUNK_SHIFT)
    }

    #[inline]
    pub(crate) fn len(&self) -> u64 {
        match self.len.load(Ordering::Acquire) {
            UNKNOWN => {
                self.advance(&mut self.state(), u64::MAX);
                self.len.load(Ordering::Acquire)
            }
            len => len,
        }
    }

    pub(crate) fn knows_len(&self) -> bool {
        self.len.load(Ordering::Acquire) != UNKNOWN
    }

    #[inline]
    pub(crate) fn reaches(&self, end: u64) -> bool {
        if end <= self.reached.load(Ordering::Acquire) {
            return true;
        }
        if self.len.load(Ordering::Acquire) != UNKNOWN {
            return false;
        }
        let mut state = self.state();
        self.advance(&mut state, end);
        end <= state.reached
    }

    pub(crate) fn damage(&self) -> Option<Damage> {
        self.state().damage.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with the pass until `end` bytes are expanded, or all are. Nobody wants them now.
    fn advance(&self, state: &mut State, end: u64) {
        // Who reads in order is there already, and needs no memory for it.
        if state.reached >= end || state.has_ended {
            return;
        }
        let mut scratch = std::mem::take(&mut state.scratch);
        while state.reached < end && !state.has_ended {
            self.step(state, CHUNK, |pass, points| {
                pass.pass_over(&self.input, CHUNK, &mut scratch, points)
            });
        }
        if !state.has_ended {
            state.scratch = scratch;
        }
    }

    /// Goes on with the pass by `len` bytes, which `expand` makes; gives their number, fewer only at
    /// the end.
    fn step(
        &self,
        state: &mut State,
        len: usize,
        expand: impl FnOnce(&mut Cursor, &mut Points) -> Result<usize, Broken>,
    ) -> usize {
        if state.pass.is_none() {
            let first = state.points.before(0);
            state.pass = first.and_then(|first| Cursor::at(self.format, first).ok());
        }
        let filled = match &mut state.pass {
            Some(pass) => expand(pass, &mut state.points),
            None => Err(Broken {
                stored: 0,
                filled: 0,
                reason: "out of memory while decompressing".to_owned(),
            }),
        };
        let count = match &filled {
            Ok(count) => *count,
            Err(broken) => broken.filled,
        };
        state.reached += count as u64;
        if let Err(broken) = filled {
            state.damage = Some(Damage {
                stored_bytes: self.input.place_of(broken.stored),
                expanded_bytes: state.reached,
                reason: broken.reason,
            });
            state.has_ended = true;
        } else if count < len {
            state.has_ended = true;
        }
        self.reached.store(state.reached, Ordering::Release);
        if state.has_ended {
            state.pass = None;
            state.scratch = Vec::new();
            self.len.store(state.reached, Ordering::Release);
        }
        count
    }

    /// Fills `buf` with chunk `number` and those after it, as many as fit, if the pass comes there
    /// next; gives the bytes, fewer only at the end. `None` if it does not.
    pub(crate) fn read_next(&self, number: u64, buf: &mut [u8]) -> Option<usize> {
        let mut state = self.state();
        if number.checked_mul(CHUNK as u64)? != state.reached || buf.len() < CHUNK {
            return None;
        }
        let mut done = 0;
        for chunk in buf.chunks_exact_mut(CHUNK) {
            if state.has_ended {
                break;
            }
            done += self.step(&mut state, chunk.len(), |pass, points| {
                pass.fill(&self.input, chunk, Some(points))
            });
        }
        Some(done)
    }

    /// Chunk `number`; shorter, or empty, at the end. `chunk` is memory for it.
    pub(crate) fn chunk(&self, number: u64, mut chunk: Vec<u8>) -> io::Result<Arc<Vec<u8>>> {
        let start = number.saturating_mul(CHUNK as u64);
        let mut state = self.state();
        if start < state.reached {
            return self.again(&mut state, start, chunk);
        }
        self.advance(&mut state, start);
        if state.has_ended {
            return Ok(Arc::default());
        }
        chunk.resize(CHUNK, 0);
        let count = self.step(&mut state, CHUNK, |pass, points| {
            pass.fill(&self.input, &mut chunk, Some(points))
        });
        chunk.truncate(count);
        Ok(Arc::new(chunk))
    }

    /// The chunk from `start` on, which the pass has left behind.
    fn again(&self, state: &mut State, start: u64, mut chunk: Vec<u8>) -> io::Result<Arc<Vec<u8>>> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let nearest = state.points.before(start);
        let nearest = nearest.ok_or_else(|| invalid("no checkpoint".to_owned()))?;
        let reader = state.reader.take();
        let reader = reader.filter(|(at, _)| (nearest.out..=start).contains(at));
        let (mut at, mut cursor) = match reader {
            Some(reader) => reader,
            None => (nearest.out, Cursor::at(self.format, nearest)?),
        };
        chunk.resize(CHUNK, 0);
        while at < start {
            let skip = usize::try_from(start - at).unwrap_or(CHUNK).min(CHUNK);
            let skipped = chunk.get_mut(..skip).unwrap_or_default();
            match cursor.fill(&self.input, skipped, None) {
                Ok(count) if count == skip => at += count as u64,
                Ok(_) => return Err(invalid("the compressed file has changed".to_owned())),
                Err(broken) => return Err(invalid(broken.reason)),
            }
        }
        // What the pass has expanded is there, whatever follows.
        let have = usize::try_from(state.reached - start).unwrap_or(CHUNK);
        chunk.truncate(have);
        match cursor.fill(&self.input, &mut chunk, None) {
            Ok(count) => {
                chunk.truncate(count);
                state.reader = Some((start + count as u64, cursor));
            }
            Err(broken) if broken.filled == chunk.len() => {}
            Err(broken) => return Err(invalid(broken.reason)),
        }
        Ok(Arc::new(chunk))
    }
}
