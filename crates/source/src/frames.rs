//! A zstd file in independent frames whose places and lengths are known without expanding them:
//! from the seek table at its end, or from the headers of frames and blocks.

use crate::input::Input;
use crate::stream::Window;
use std::io;
use std::sync::{Mutex, PoisonError};
use thiserror::Error;
use vmcore_format::zstd::{
    BLOCK_HEADER_LEN, BlockHeader, CHECKSUM_LEN, FRAME_HEADER_MAX, FrameHeader, SEEK_FOOTER_LEN,
    SKIPPABLE_HEADER_LEN, SeekTable, skippable_len,
};
use zstd::bulk::Decompressor;
use zstd::zstd_safe::WriteBuf;

/// The most bytes of a frame that is expanded as a whole.
const FRAME_MAX: u64 = 8 << 20;
/// The most bytes of a frame as it is stored: what does not become smaller becomes little larger.
const STORED_MAX: u64 = FRAME_MAX + (FRAME_MAX >> 4);
/// Stored bytes from which on mapping a frame is quicker than copying it.
const MAP_MIN: usize = 64 << 10;
/// The most frames that are kept in mind; sixteen bytes each.
const FRAMES_MAX: usize = 4 << 20;

/// Where a frame starts in the file, and what it expands to.
#[derive(Clone, Copy, Debug)]
struct Start {
    stored: u64,
    expanded: u64,
}

/// A frame that cannot be expanded; the others can.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("zstd frame {number}, at {stored:#x} of the file, is damaged: {reason}")]
pub struct DamagedFrame {
    /// Where it starts in the file.
    pub stored: u64,
    /// Its number, from 0.
    pub number: u64,
    /// What is wrong.
    pub reason: String,
}

/// A file in frames.
pub(crate) struct Frames {
    input: Input,
    /// Ascending; the last is the end of all.
    starts: Vec<Start>,
    /// Those that are not at work: each has tables to set up.
    idle: Mutex<Vec<Worker>>,
}

/// A decompressor, and room for a frame as it is stored.
struct Worker {
    decompressor: Decompressor<'static>,
    stored: Vec<u8>,
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames")
            .field("frames", &self.count())
            .finish_non_exhaustive()
    }
}

impl Frames {
    /// The frames of a file; `None` if it does not tell, or they are too large.
    pub(crate) fn of(input: &Input) -> io::Result<Option<Self>> {
        let starts = match by_seek_table(input)? {
            Some(starts) => Some(starts),
            None => by_headers(input)?,
        };
        Ok(starts.filter(|starts| starts.len() > 1).map(|starts| Self {
            input: input.clone(),
            starts,
            idle: Mutex::default(),
        }))
    }

    pub(crate) fn count(&self) -> u64 {
        (self.starts.len() as u64).saturating_sub(1)
    }

    #[inline]
    pub(crate) fn len(&self) -> u64 {
        self.starts.last().map_or(0, |end| end.expanded)
    }

    /// The frame that holds `offset`, and where it starts.
    #[inline]
    pub(crate) fn find(&self, offset: u64) -> Option<(u64, u64)> {
        if offset >= self.len() {
            return None;
        }
        let after = self
            .starts
            .partition_point(|start| start.expanded <= offset);
        let number = after.checked_sub(1)?;
        Some((number as u64, self.starts.get(number)?.expanded))
    }

    fn frame(&self, number: u64) -> Option<(Start, Start)> {
        let number = usize::try_from(number).ok()?;
        Some((*self.starts.get(number)?, *self.starts.get(number + 1)?))
    }

    pub(crate) fn len_of(&self, number: u64) -> u64 {
        self.frame(number)
            .map_or(0, |(start, end)| end.expanded - start.expanded)
    }

    /// Expands a frame into `expanded`, of which only the memory is used.
    pub(crate) fn expand(&self, number: u64, mut expanded: Vec<u8>) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len_of(number)).map_err(io::Error::other)?;
        expanded.clear();
        expanded.reserve_exact(len);
        self.expand_to(number, &mut expanded)?;
        Ok(expanded)
    }

    /// Expands a frame to where there is room for it.
    pub(crate) fn expand_to<B: WriteBuf + ?Sized>(
        &self,
        number: u64,
        expanded: &mut B,
    ) -> io::Result<()> {
        let (start, end) = self.frame(number).ok_or(io::ErrorKind::UnexpectedEof)?;
        let damaged = |why: &str| {
            let damage = DamagedFrame {
                stored: self.input.place_of(start.stored),
                number,
                reason: why.to_owned(),
            };
            io::Error::new(io::ErrorKind::InvalidData, damage)
        };
        let len = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
        let stored_len = len(end.stored - start.stored)?;
        let wanted = len(end.expanded - start.expanded)?;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle().pop();
        let mut worker = match waiting {
            Some(worker) => worker,
            None => Worker {
                decompressor: Decompressor::new()?,
                stored: Vec::new(),
            },
        };
        let mapping = match stored_len {
            MAP_MIN.. => self.input.map(start.stored, stored_len as u64),
            _ => None,
        };
        let stored = match &mapping {
            Some(mapping) => mapping,
            None => {
                worker.stored.resize(stored_len, 0);
                let read = self.input.read_at(start.stored, &mut worker.stored)?;
                worker.stored.get(..read).unwrap_or_default()
            }
        };
        let result = worker.decompressor.decompress_to_buffer(stored, expanded);
        drop(mapping);
        idle().push(worker);
        match result {
            Ok(count) if count == wanted => Ok(()),
            Ok(count) => Err(damaged(&format!("it has {count} bytes, not {wanted}"))),
            Err(error) => Err(damaged(&error.to_string())),
        }
    }
}

/// The frames by the seek table; `None` if there is none, or it contradicts the file.
fn by_seek_table(input: &Input) -> io::Result<Option<Vec<Start>>> {
    let footer_at = input.len().saturating_sub(SEEK_FOOTER_LEN as u64);
    let footer = input.read_vec(footer_at, SEEK_FOOTER_LEN)?;
    let Some(table) = SeekTable::parse_footer(&footer) else {
        return Ok(None);
    };
    let Some(table_at) = input.len().checked_sub(table.stored_bytes()) else {
        return Ok(None);
    };
    if usize::try_from(table.frames).map_or(true, |frames| frames > FRAMES_MAX) {
        return Ok(None);
    }
    let len = usize::try_from(table.stored_bytes()).map_err(io::Error::other)?;
    let bytes = input.read_vec(table_at, len)?;
    let Some(entries) = table.entries(&bytes) else {
        return Ok(None);
    };
    let mut starts = vec![Start {
        stored: 0,
        expanded: 0,
    }];
    let entries: Vec<(u32, u32)> = entries.collect();
    // Frames to be skipped may come first, and the table may list them or not.
    let first = entries.iter().find(|(_, expanded)| *expanded > 0);
    if first.is_some() && first == entries.first() {
        let skipped = skippable_at_start(input)?;
        if let Some(start) = starts.first_mut() {
            start.stored = skipped;
        }
    }
    for (stored, expanded) in entries {
        let is_sound = u64::from(stored) <= STORED_MAX && u64::from(expanded) <= FRAME_MAX;
        let Some(last) = starts.last().filter(|_| is_sound) else {
            return Ok(None);
        };
        starts.push(Start {
            stored: last.stored + u64::from(stored),
            expanded: last.expanded + u64::from(expanded),
        });
    }
    let fits = starts.last().is_some_and(|end| end.stored <= table_at);
    Ok(fits.then_some(starts))
}

/// Where the first frame starts that is not to be skipped.
fn skippable_at_start(input: &Input) -> io::Result<u64> {
    let mut window = Window::default();
    let mut at = 0u64;
    while at < input.len() {
        match skippable_len(window.get(input, at, SKIPPABLE_HEADER_LEN)?) {
            Some(len) => at = at.saturating_add(len + SKIPPABLE_HEADER_LEN as u64),
            None => break,
        }
    }
    Ok(at)
}

/// The frames by their headers and those of their blocks; `None` if one does not say its length, is
/// too large, or is not whole.
fn by_headers(input: &Input) -> io::Result<Option<Vec<Start>>> {
    let mut window = Window::default();
    let mut starts = vec![Start {
        stored: 0,
        expanded: 0,
    }];
    let (mut at, mut expanded) = (0u64, 0u64);
    while at < input.len() {
        let header = window.get(input, at, FRAME_HEADER_MAX)?;
        if let Some(len) = skippable_len(header) {
            at = at.saturating_add(len + SKIPPABLE_HEADER_LEN as u64);
            // It belongs to the frame before it, which ends where its last block does.
            if let Some(last) = starts.last_mut() {
                last.stored = at;
            }
            continue;
        }
        let Ok(header) = FrameHeader::parse(header) else {
            return Ok(None);
        };
        let Some(len) = header.content_bytes.filter(|len| *len <= FRAME_MAX) else {
            return Ok(None);
        };
        if header.dictionary_id != 0 || starts.len() > FRAMES_MAX {
            return Ok(None);
        }
        at += header.header_len as u64;
        loop {
            let block = window.get(input, at, BLOCK_HEADER_LEN)?;
            let block = block.first_chunk().copied().and_then(BlockHeader::parse);
            let Some(block) = block else {
                return Ok(None);
            };
            at += (BLOCK_HEADER_LEN + block.stored_bytes) as u64;
            if block.is_last {
                break;
            }
        }
        if header.has_checksum {
            at += CHECKSUM_LEN as u64;
        }
        expanded += len;
        starts.push(Start {
            stored: at,
            expanded,
        });
    }
    Ok((at == input.len()).then_some(starts))
}
