//! A zstd file from its start or from a checkpoint: frame by frame, block by block.
//!
//! libzstd expands; here its input is cut at block boundaries, so that it is known at which of them
//! what has come out. libzstd cannot start inside a frame, but it can start a frame with a
//! dictionary. A checkpoint is such a dictionary: the tables and offsets in force between two
//! blocks, and the bytes before. Behind it the blocks that follow are a frame with that dictionary.

use crate::input::Input;
use crate::points::{Packed, Point, PointState, Points};
use crate::sequences::Offsets;
use crate::stream::{Broken, Window};
use crate::zstd_block::{Table, Tables};
use std::io;
use std::ops::Range;
use vmcore_format::zstd::{
    BLOCK_HEADER_LEN, BlockHeader, BlockKind, CHECKSUM_LEN, FRAME_HEADER_MAX, FrameError,
    FrameHeader, SKIPPABLE_HEADER_LEN, skippable_len,
};
use zstd::stream::raw::{Decoder, Operation as _};

/// The largest window: what decoders take unless told otherwise.
const WINDOW_MAX: u64 = 128 << 20;
/// Checkpoints of a window are so many windows apart: making one takes time.
const WINDOWS_APART: u64 = 16;
/// Bytes that are kept beyond a small window, so that they are seldom moved.
const RECENT_MORE: usize = 1 << 20;

/// A decoder at some place of the file.
pub(crate) struct ZstdCursor {
    window: Window,
    decoder: Decoder<'static>,
    /// Compressed bytes before the next block or header.
    stored: u64,
    /// What the decoder has yet to take.
    feed: Range<u64>,
    /// Whether the decoder may hold back bytes for which there was no room.
    may_hold: bool,
    /// Bytes expanded.
    out: u64,
    frame: Option<Frame>,
    has_frame: bool,
    has_dictionary: bool,
    tracker: Tracker,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    window_bytes: u64,
    has_checksum: bool,
    /// Whether the decoder has seen its start, and so takes its checksum.
    is_whole: bool,
    has_ended: bool,
}

/// What a checkpoint takes, followed during the pass.
#[derive(Debug, Default)]
struct Tracker {
    tables: Tables,
    /// Whether the tables could be followed from the frame's start.
    is_sound: bool,
    /// Bytes of the frame so far.
    frame_out: u64,
    /// The bytes before, once a checkpoint comes near.
    recent: Option<Recent>,
    /// The last three offsets, as far as they have been followed.
    offsets: Offsets,
    /// Where the last block lies that changed them and was not followed.
    skipped: Option<Range<u64>>,
    /// A checkpoint that holds if none of these tables is used again.
    doubtful: Option<(u64, [bool; 3])>,
}

/// The last bytes of a frame, as many as its blocks may refer to, and some more.
#[derive(Debug)]
struct Recent {
    bytes: Vec<u8>,
    need: usize,
}

impl Recent {
    fn new(window_bytes: u64) -> Self {
        Self {
            bytes: Vec::new(),
            need: usize::try_from(window_bytes).unwrap_or(usize::MAX),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        // No checkpoint may come for gigabytes: what repeats offsets does not tell them.
        let most = self.need.saturating_add((self.need / 4).max(RECENT_MORE));
        if self.bytes.len() > most {
            self.bytes.drain(..self.bytes.len() - self.need);
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= self.need
    }

    /// All that is needed, after `header`.
    fn into_dictionary(mut self, header: Vec<u8>) -> Vec<u8> {
        let start = self.bytes.len().saturating_sub(self.need);
        self.bytes.splice(..start, header);
        self.bytes
    }
}

impl ZstdCursor {
    pub(crate) fn at(point: &Point) -> io::Result<Self> {
        let mut cursor = Self {
            window: Window::default(),
            decoder: Decoder::new()?,
            stored: point.stored,
            feed: point.stored..point.stored,
            may_hold: false,
            out: point.out,
            frame: None,
            has_frame: point.out != 0,
            has_dictionary: false,
            tracker: Tracker::default(),
        };
        if let PointState::Zstd {
            window_bytes,
            has_checksum,
            dictionary,
        } = &point.state
        {
            cursor.decoder = Decoder::with_dictionary(&dictionary.unpack()?)?;
            cursor.has_dictionary = true;
            let header = FrameHeader::encode_plain(*window_bytes);
            let header = header.ok_or(io::ErrorKind::InvalidData)?;
            cursor.decoder.run_on_buffers(&header, &mut [])?;
            cursor.frame = Some(Frame {
                window_bytes: *window_bytes,
                has_checksum: *has_checksum,
                is_whole: false,
                has_ended: false,
            });
        }
        Ok(cursor)
    }

    pub(crate) fn fill(
        &mut self,
        input: &Input,
        out: &mut [u8],
        mut points: Option<&mut Points>,
    ) -> Result<usize, Broken> {
        let mut done = 0;
        loop {
            let step = self.step(input, out, &mut done, points.as_deref_mut());
            match step {
                Ok(true) if done < out.len() => {}
                Ok(_) => return Ok(done),
                Err(reason) => {
                    let stored = match self.feed.is_empty() {
                        true => self.stored,
                        false => self.feed.start,
                    };
                    return Err(Broken {
                        stored,
                        filled: done,
                        reason,
                    });
                }
            }
        }
    }

    /// Expands what the decoder has yet to take, or gives it more; false at the end.
    fn step(
        &mut self,
        input: &Input,
        out: &mut [u8],
        done: &mut usize,
        points: Option<&mut Points>,
    ) -> Result<bool, String> {
        let text = |error: io::Error| error.to_string();
        if self.feed.is_empty() && !self.may_hold {
            let Some(points) = points else {
                return self.feed_more(input, None);
            };
            if points.wants(self.out)
                && let Some(place) = self.tracker.skipped.take()
            {
                let len = usize::try_from(place.end - place.start).unwrap_or(0);
                let block = self.window.get(input, place.start, len).map_err(text)?;
                self.tracker.catch_up(block.get(..len).unwrap_or_default());
            }
            self.tracker
                .boundary(self.frame, self.out, self.stored, points);
            return self.feed_more(input, Some(points));
        }
        let len = usize::try_from(self.feed.end - self.feed.start).unwrap_or(0);
        let bytes = self.window.get(input, self.feed.start, len).map_err(text)?;
        let bytes = bytes.get(..len).ok_or("the file ends inside it")?;
        let room = out.get_mut(*done..).unwrap_or_default();
        let status = self.decoder.run_on_buffers(bytes, room).map_err(text)?;
        if status.bytes_read == 0 && status.bytes_written == 0 && !bytes.is_empty() {
            return Err("it is damaged".to_owned());
        }
        self.may_hold = status.bytes_written == room.len();
        let made = room.get(..status.bytes_written).unwrap_or_default();
        self.tracker.output(made);
        self.feed.start += status.bytes_read as u64;
        self.out += status.bytes_written as u64;
        *done += status.bytes_written;
        Ok(true)
    }

    /// Gives the decoder the next header, block or checksum; false if there is none.
    fn feed_more(&mut self, input: &Input, points: Option<&mut Points>) -> Result<bool, String> {
        let text = |error: io::Error| error.to_string();
        let Some(frame) = &mut self.frame else {
            return self.start_frame(input, points);
        };
        if frame.has_ended {
            let checksum = match frame.has_checksum {
                true => CHECKSUM_LEN as u64,
                false => 0,
            };
            if frame.is_whole {
                self.feed = self.stored..self.stored + checksum;
            }
            self.stored += checksum;
            self.frame = None;
            return Ok(true);
        }
        let header = self.window.get(input, self.stored, BLOCK_HEADER_LEN);
        let header = header.map_err(text)?;
        let header = header.first_chunk().ok_or("the file ends inside it")?;
        let block = BlockHeader::parse(*header).ok_or("a block of it is damaged")?;
        let len = BLOCK_HEADER_LEN + block.stored_bytes;
        if let Some(points) = points
            && self.tracker.is_sound
            && block.kind == BlockKind::Compressed
        {
            let bytes = self.window.get(input, self.stored, len).map_err(text)?;
            let bytes = bytes.get(BLOCK_HEADER_LEN..len).unwrap_or_default();
            let place = self.stored + BLOCK_HEADER_LEN as u64..self.stored + len as u64;
            self.tracker.block(bytes, place, self.out, points);
        }
        frame.has_ended = block.is_last;
        self.feed = self.stored..self.stored + len as u64;
        self.stored = self.feed.end;
        Ok(true)
    }

    fn start_frame(&mut self, input: &Input, points: Option<&mut Points>) -> Result<bool, String> {
        let bytes = self.window.get(input, self.stored, FRAME_HEADER_MAX);
        let bytes = bytes.map_err(|error| error.to_string())?;
        if let Some(len) = skippable_len(bytes) {
            let len = len + SKIPPABLE_HEADER_LEN as u64;
            let end = self.stored.saturating_add(len);
            if !input.reaches(end) {
                return Err("the file ends inside a frame to be skipped".to_owned());
            }
            self.stored = end;
            return Ok(true);
        }
        let header = match FrameHeader::parse(bytes) {
            Ok(header) => header,
            // What follows the last frame is not ours: padding, a header.
            Err(FrameError::BadMagic) if self.has_frame => return Ok(false),
            Err(FrameError::Truncated) if self.has_frame && bytes.is_empty() => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        if header.dictionary_id != 0 {
            return Err(format!("it needs dictionary {}", header.dictionary_id));
        }
        if header.window_bytes > WINDOW_MAX {
            return Err(format!(
                "it refers {} bytes back, and {WINDOW_MAX} are kept",
                header.window_bytes
            ));
        }
        if let Some(points) = points {
            points.space_out(WINDOWS_APART * header.window_bytes);
            if points.wants(self.out) {
                points.add(Point {
                    out: self.out,
                    stored: self.stored,
                    state: PointState::Start,
                });
            }
        }
        if self.has_dictionary {
            self.decoder = Decoder::new().map_err(|error| error.to_string())?;
            self.has_dictionary = false;
        }
        self.tracker = Tracker {
            is_sound: true,
            offsets: Offsets::AT_START,
            ..Tracker::default()
        };
        self.has_frame = true;
        self.frame = Some(Frame {
            window_bytes: header.window_bytes,
            has_checksum: header.has_checksum,
            is_whole: true,
            has_ended: false,
        });
        self.feed = self.stored..self.stored + header.header_len as u64;
        self.stored = self.feed.end;
        Ok(true)
    }
}

impl Tracker {
    /// Follows a compressed block, which lies at `place`, before the decoder gets it.
    fn block(&mut self, bytes: &[u8], place: Range<u64>, out: u64, points: &mut Points) {
        let Some(sequences) = self.tables.follow(bytes) else {
            // The decoder will refuse it, or knows a form that is not known here.
            self.is_sound = false;
            return;
        };
        if let Some((at, tables)) = self.doubtful.as_mut().filter(|_| sequences.count > 0) {
            let wrong = tables.iter().zip(sequences.is_repeated);
            if wrong.clone().any(|(is_lost, again)| *is_lost && again) {
                points.withdraw(*at);
                self.doubtful = None;
            } else {
                // All that were not used again are new.
                let left: Vec<bool> = wrong.map(|(is_lost, again)| *is_lost && again).collect();
                if !left.contains(&true) {
                    self.doubtful = None;
                }
            }
        }
        if points.wants(out) {
            self.offsets.follow(&sequences, &self.tables.sequences);
            self.skipped = None;
        } else if sequences.count > 0 {
            // The last block before a checkpoint tells mostly all of them.
            self.offsets = Offsets::default();
            self.skipped = Some(place);
        }
    }

    /// Follows the offsets of the last block that has sequences.
    fn catch_up(&mut self, block: &[u8]) {
        // The tables of sequences are still those of that block, the one of literals may be newer.
        if let Some(sequences) = self.tables.clone().follow(block) {
            self.offsets.follow(&sequences, &self.tables.sequences);
        }
    }

    fn output(&mut self, bytes: &[u8]) {
        self.frame_out += bytes.len() as u64;
        if let Some(recent) = &mut self.recent {
            recent.push(bytes);
        }
    }

    /// Between two blocks: leaves a checkpoint if one is wanted, or gets ready for the next.
    fn boundary(&mut self, frame: Option<Frame>, out: u64, stored: u64, points: &mut Points) {
        let Some(frame) = frame.filter(|frame| !frame.has_ended && self.is_sound) else {
            return;
        };
        let is_full = match &self.recent {
            Some(recent) => recent.is_full(),
            None => {
                if out + frame.window_bytes >= points.next_at() {
                    self.recent = Some(Recent::new(frame.window_bytes));
                }
                false
            }
        };
        let Some(offsets) = self.offsets.known() else {
            return;
        };
        let ready = self.recent.take_if(|_| is_full && points.wants(out));
        let Some(recent) = ready else {
            return;
        };
        let lost = self
            .tables
            .sequences
            .each_ref()
            .map(|table| matches!(table, Table::One(_)));
        let header = self.tables.dictionary_header(offsets);
        let dictionary = Packed::new(recent.into_dictionary(header));
        // Without memory for it reading starts again farther away.
        if let Ok(dictionary) = dictionary {
            points.add(Point {
                out,
                stored,
                state: PointState::Zstd {
                    window_bytes: frame.window_bytes,
                    has_checksum: frame.has_checksum,
                    dictionary,
                },
            });
            self.doubtful = lost.contains(&true).then_some((out, lost));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Access;
    use std::io::Write as _;

    #[test]
    fn between_stored_blocks_are_checkpoints() {
        // Sequences are only before what does not become smaller.
        let mut bytes: Vec<u8> = (0..20_000u32)
            .flat_map(|number| (number * number % 977).to_le_bytes())
            .collect();
        let mut state = 1u64;
        bytes.extend((0..8 << 20).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        }));
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(17).unwrap();
        encoder.write_all(&bytes).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), encoder.finish().unwrap()).unwrap();

        let input = Input::of(&crate::OpenFile::open(file.path()).unwrap(), Access::Auto);
        let mut points = Points::new(1 << 20);
        let mut out = vec![0; bytes.len()];
        let mut pass = ZstdCursor::at(points.before(0).unwrap()).unwrap();
        pass.fill(&input, &mut out, Some(&mut points)).unwrap();
        assert!(out == bytes);
        let last = points.before(u64::MAX).unwrap();
        assert!(last.out > 5 << 20, "{last:?}");
        let at = usize::try_from(last.out).unwrap();
        let mut again = vec![0; bytes.len() - at];
        let mut reader = ZstdCursor::at(last).unwrap();
        reader.fill(&input, &mut again, None).unwrap();
        assert!(again == bytes[at..]);
    }
}
