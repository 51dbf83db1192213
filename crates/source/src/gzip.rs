//! A gzip file from its start or from a checkpoint: members, their deflate streams, their checksums.

use crate::input::Input;
use crate::points::{Packed, Point, PointState, Points};
use crate::stream::{Broken, Window};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
    TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use std::io;
use vmcore_format::gzip::{self, GzipError, HEADER_MAX, TRAILER_LEN};

/// How far back deflate refers.
const HISTORY: usize = 32 << 10;
/// Bytes that are expanded before the history is moved to the front.
const ROOM: usize = 256 << 10;
/// Starting a member takes as long as expanding some KiB: so many may be as short as they like, and
/// the others have so many bytes on average.
const MEMBERS_FREE: u64 = 10_000;
const MEMBER_BYTES_MIN: u64 = 256;
const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT
    | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
    | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;

/// What comes next in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MemberPart {
    Header,
    Deflate,
    Trailer,
    End,
}

/// A decoder at some place of the file.
pub(crate) struct GzipCursor {
    window: Window,
    /// Compressed bytes taken.
    stored: u64,
    /// Bytes expanded, handed out or not.
    out: u64,
    place: MemberPart,
    core: Box<DecompressorOxide>,
    /// The history, and after it what has been expanded.
    buf: Vec<u8>,
    filled: usize,
    handed: usize,
    /// Of the member so far; `None` if its start has not been seen.
    sum: Option<crc32fast::Hasher>,
    /// Where in the output the member starts.
    member_start: u64,
    members: u64,
    has_member: bool,
}

impl GzipCursor {
    pub(crate) fn at(point: &Point) -> io::Result<Self> {
        let mut cursor = Self {
            window: Window::default(),
            stored: point.stored,
            out: point.out,
            place: MemberPart::Header,
            core: Box::default(),
            buf: vec![0; HISTORY + ROOM],
            filled: 0,
            handed: 0,
            sum: None,
            member_start: point.out,
            members: 0,
            has_member: point.out != 0,
        };
        if let PointState::Gzip { bits, window } = &point.state {
            let history = window.unpack()?;
            if let Some(to) = cursor.buf.get_mut(..history.len()) {
                to.copy_from_slice(&history);
            }
            cursor.filled = history.len();
            cursor.handed = history.len();
            cursor.place = MemberPart::Deflate;
            *cursor.core = DecompressorOxide::from_block_boundary_state(bits);
        }
        Ok(cursor)
    }

    /// Fills `out` with what comes next; fewer bytes only at the end. Leaves checkpoints in `points`.
    pub(crate) fn fill(
        &mut self,
        input: &Input,
        out: &mut [u8],
        mut points: Option<&mut Points>,
    ) -> Result<usize, Broken> {
        let mut done = 0;
        // Where in `out` the member starts, or what is known of it.
        let mut member = 0;
        let mut is_direct = false;
        let result = loop {
            let ready = self.buf.get(self.handed..self.filled).unwrap_or_default();
            let rest = out.get_mut(done..).unwrap_or_default();
            let len = ready.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..len), ready.get(..len)) {
                to.copy_from_slice(from);
            }
            self.handed += len;
            done += len;
            if done == out.len() {
                break Ok(());
            }
            let step = match self.place {
                MemberPart::Header => {
                    (member, is_direct) = (done, false);
                    self.header(input)
                }
                MemberPart::Deflate if done - member >= HISTORY => {
                    // `out` has the history itself: nothing needs to be copied.
                    is_direct = true;
                    let out = out.get_mut(member..).unwrap_or_default();
                    let (made, step) =
                        self.inflate(input, out, done - member, points.as_deref_mut());
                    done += made;
                    step
                }
                MemberPart::Deflate => self.deflate(input, points.as_deref_mut()),
                MemberPart::Trailer => self.trailer(input),
                MemberPart::End => break Ok(()),
            };
            // What has been expanded is handed out first.
            if step.is_err() && self.handed == self.filled {
                break step;
            }
        };
        if is_direct {
            let history = out.get(done - HISTORY..done).unwrap_or_default();
            if let Some(to) = self.buf.get_mut(..HISTORY) {
                to.copy_from_slice(history);
            }
            (self.filled, self.handed) = (HISTORY, HISTORY);
        }
        self.broken(result, done)
    }

    /// Goes over `len` bytes that are not wanted; gives their number, fewer only at the end. Leaves
    /// checkpoints in `points`.
    pub(crate) fn pass_over(
        &mut self,
        input: &Input,
        len: usize,
        points: &mut Points,
    ) -> Result<usize, Broken> {
        let mut done = 0;
        let result = loop {
            let ready = self.filled - self.handed;
            let passed = ready.min(len - done);
            self.handed += passed;
            done += passed;
            if done == len {
                break Ok(());
            }
            let step = match self.place {
                MemberPart::Header => self.header(input),
                MemberPart::Deflate => self.deflate(input, Some(points)),
                MemberPart::Trailer => self.trailer(input),
                MemberPart::End => break Ok(()),
            };
            if step.is_err() && self.handed == self.filled {
                break step;
            }
        };
        self.broken(result, done)
    }

    fn broken(&self, result: Result<(), String>, done: usize) -> Result<usize, Broken> {
        match result {
            Ok(()) => Ok(done),
            Err(reason) => Err(Broken {
                stored: self.stored,
                filled: done,
                reason,
            }),
        }
    }

    fn header(&mut self, input: &Input) -> Result<(), String> {
        let bytes = self.window.get(input, self.stored, HEADER_MAX);
        let bytes = bytes.map_err(|error| error.to_string())?;
        match gzip::header_len(bytes) {
            Ok(len) => {
                self.stored += len as u64;
                self.core.init();
                self.sum = Some(crc32fast::Hasher::new());
                self.member_start = self.out;
                self.members += 1;
                if self.members > MEMBERS_FREE && self.members > self.out / MEMBER_BYTES_MIN {
                    let members = self.members;
                    return Err(format!("its {members} members so far are almost empty"));
                }
                self.has_member = true;
                // Another member does not refer to this one.
                (self.filled, self.handed) = (0, 0);
                self.place = MemberPart::Deflate;
            }
            // What follows the last member is not ours: padding, a header.
            Err(GzipError::BadMagic) if self.has_member => self.place = MemberPart::End,
            Err(GzipError::Truncated) if self.has_member && bytes.is_empty() => {
                self.place = MemberPart::End;
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// Expands some of the member into the cursor's own memory.
    fn deflate(&mut self, input: &Input, points: Option<&mut Points>) -> Result<(), String> {
        if self.filled == self.buf.len() {
            self.buf.copy_within(self.filled - HISTORY.., 0);
            (self.filled, self.handed) = (HISTORY, HISTORY);
        }
        let mut buf = std::mem::take(&mut self.buf);
        let (made, result) = self.inflate(input, &mut buf, self.filled, points);
        self.buf = buf;
        self.filled += made;
        result
    }

    /// Expands some of the member into `buf` from `filled` on, before which the history lies; gives
    /// the number of bytes.
    fn inflate(
        &mut self,
        input: &Input,
        buf: &mut [u8],
        filled: usize,
        points: Option<&mut Points>,
    ) -> (usize, Result<(), String>) {
        let bytes = match self.window.get(input, self.stored, 1) {
            Ok(bytes) => bytes,
            Err(error) => return (0, Err(error.to_string())),
        };
        let has_input = !bytes.is_empty();
        let (status, taken, made) = decompress(&mut self.core, bytes, buf, filled, FLAGS);
        let end = filled + made;
        if let (Some(sum), Some(new)) = (&mut self.sum, buf.get(filled..end)) {
            sum.update(new);
        }
        self.stored += taken as u64;
        self.out += made as u64;
        let result = match status {
            TINFLStatus::Done => {
                self.place = MemberPart::Trailer;
                Ok(())
            }
            TINFLStatus::BlockBoundary => {
                if let Some(points) = points.filter(|points| points.wants(self.out)) {
                    self.leave_point(buf.get(..end).unwrap_or_default(), points);
                }
                Ok(())
            }
            TINFLStatus::HasMoreOutput => Ok(()),
            TINFLStatus::NeedsMoreInput if has_input => Ok(()),
            TINFLStatus::NeedsMoreInput => Err("the file ends inside it".to_owned()),
            _ => Err("its deflate stream is damaged".to_owned()),
        };
        (made, result)
    }

    fn leave_point(&self, before: &[u8], points: &mut Points) {
        let window = before.get(before.len().saturating_sub(HISTORY)..);
        let (Some(window), Some(bits)) = (window, self.core.block_boundary_state()) else {
            return;
        };
        // Without memory for it reading starts again farther away.
        if let Ok(window) = Packed::new(window.to_vec()) {
            points.add(Point {
                out: self.out,
                stored: self.stored,
                state: PointState::Gzip { bits, window },
            });
        }
    }

    fn trailer(&mut self, input: &Input) -> Result<(), String> {
        let bytes = self.window.get(input, self.stored, TRAILER_LEN);
        let bytes = bytes.map_err(|error| error.to_string())?;
        let bytes = *bytes.first_chunk().ok_or("the file ends inside it")?;
        if let Some(sum) = self.sum.take() {
            let (crc, len) = gzip::trailer(bytes);
            if sum.finalize() != crc {
                self.place = MemberPart::End;
                return Err("the checksum at its end is another one".to_owned());
            }
            let expanded = self.out - self.member_start;
            if expanded & u64::from(u32::MAX) != u64::from(len) {
                self.place = MemberPart::End;
                return Err(format!(
                    "the length at its end is {len}, and {expanded} bytes were expanded"
                ));
            }
        }
        self.stored += TRAILER_LEN as u64;
        self.place = MemberPart::Header;
        Ok(())
    }
}
