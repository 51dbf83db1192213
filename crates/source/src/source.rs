//! The bytes of a dump file.
//!
//! A [`Source`] is a plain file, or part of one, read by position and by mapping; or what a
//! compressed or encrypted file, or a device, expands to: chunks, made when first asked for and
//! kept in bounded memory. Nobody who reads has to know which.
//!
//! ```
//! use vmcore_source::{Access, Source};
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("file");
//! std::fs::write(&path, b"minidump")?;
//! let source = Source::open(&path, Access::Auto)?;
//! let mut word = [0; 4];
//! assert_eq!(source.read_at(4, &mut word)?, 4);
//! assert_eq!(&word, b"dump");
//! assert_eq!(source.read_at(6, &mut word)?, 2); // the end of the file
//! # Ok::<(), std::io::Error>(())
//! ```

use crate::bytes::{Access, Bytes, ReadAt};
use crate::chunks::ChunkSource;
use crate::file::FileSource;
use crate::input::Input;
use crate::open::OpenFile;
use crate::recorder::Recorder;
use crate::stream::Damage;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A dump's bytes, shared by any number of threads.
#[derive(Debug)]
pub struct Source(Body);

#[derive(Debug)]
enum Body {
    File(FileSource),
    Chunks(Arc<ChunkSource>, u64),
    Recorded(Box<Source>, Arc<Recorder>),
}

impl Source {
    /// Opens a regular file or a device, and takes its bytes as they are.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or is a directory, or its length is unknown.
    pub fn open(path: &Path, access: Access) -> io::Result<Self> {
        Ok(Self::of_file(&OpenFile::open(path)?, access))
    }

    /// The bytes of a file or device that is open, as they are.
    #[must_use]
    pub fn of_file(file: &OpenFile, access: Access) -> Self {
        Self(Body::File(FileSource::of(file, access)))
    }

    /// Bytes that are not in a file.
    #[must_use]
    pub fn of(given: impl ReadAt + 'static) -> Self {
        Self::of_input(Input::given(Box::new(given)))
    }

    /// The bytes of an input: of a part of a plain file without a detour.
    pub(crate) fn of_input(input: Input) -> Self {
        match input.plain_file() {
            Some(file) => Self(Body::File(file)),
            None => Self::of_chunks(Arc::new(ChunkSource::stored(input))),
        }
    }

    /// What an input expands to.
    pub(crate) const fn of_chunks(chunks: Arc<ChunkSource>) -> Self {
        Self(Body::Chunks(chunks, 0))
    }

    /// The same bytes from `offset` on, as when a device's dump header precedes the dump.
    #[must_use]
    pub fn starting_at(self, offset: u64) -> Self {
        Self(match self.0 {
            Body::File(file) => Body::File(file.starting_at(offset)),
            Body::Chunks(chunks, start) => Body::Chunks(chunks, start.saturating_add(offset)),
            Body::Recorded(source, recorder) => {
                Body::Recorded(Box::new(source.starting_at(offset)), recorder)
            }
        })
    }

    /// The same bytes, recording in `recorder` what is read of them.
    #[must_use]
    pub fn recorded(self, recorder: Arc<Recorder>) -> Self {
        recorder.begin(self.len());
        Self(Body::Recorded(Box::new(self), recorder))
    }

    /// Bytes there are. Of a compressed file that does not say, this expands all of it, once.
    #[must_use]
    #[inline]
    pub fn len(&self) -> u64 {
        match &self.0 {
            Body::File(file) => file.len(),
            Body::Chunks(chunks, start) => chunks.len().saturating_sub(*start),
            Body::Recorded(source, _) => source.len(),
        }
    }

    /// Whether [`Source::len`] is known without expanding anything.
    #[must_use]
    pub fn knows_len(&self) -> bool {
        match &self.0 {
            Body::File(_) => true,
            Body::Chunks(chunks, _) => chunks.knows_len(),
            Body::Recorded(source, _) => source.knows_len(),
        }
    }

    /// Whether there are at least `end` bytes. Expands no more than it has to.
    #[must_use]
    #[inline(always)]
    pub fn reaches(&self, end: u64) -> bool {
        match &self.0 {
            Body::File(file) => end <= file.len(),
            Body::Chunks(..) | Body::Recorded(..) => self.expands_to(end),
        }
    }

    #[inline(never)]
    fn expands_to(&self, end: u64) -> bool {
        match &self.0 {
            Body::File(file) => end <= file.len(),
            Body::Chunks(chunks, start) => start
                .checked_add(end)
                .is_some_and(|end| chunks.reaches(end)),
            Body::Recorded(source, _) => source.reaches(end),
        }
    }

    /// Whether two reads of one place may differ.
    #[must_use]
    pub fn may_change(&self) -> bool {
        match &self.0 {
            Body::File(file) => file.may_change(),
            Body::Chunks(..) => false,
            Body::Recorded(source, _) => source.may_change(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.reaches(1)
    }

    /// Where a compressed file broke, as far as it has been read: what follows is lost.
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        match &self.0 {
            Body::File(_) => None,
            Body::Chunks(chunks, _) => chunks.damage(),
            Body::Recorded(source, _) => source.damage(),
        }
    }

    /// Fills `buf` from `offset`; fewer bytes only at the end.
    ///
    /// # Errors
    /// Returns an error if reading fails, or if compressed bytes are damaged.
    #[inline]
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Body::File(file) => file.read_at(offset, buf),
            Body::Chunks(chunks, start) => chunks.read_at(start.saturating_add(offset), buf),
            Body::Recorded(source, recorder) => {
                recorder.note(offset, buf.len());
                source.read_at(offset, buf)
            }
        }
    }

    /// `N` bytes at `offset`; `None` if they cannot be read, for whatever reason.
    #[inline(always)]
    #[must_use]
    pub fn array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        match &self.0 {
            Body::File(file) => file.array(offset),
            Body::Chunks(..) | Body::Recorded(..) => self.read_array(offset),
        }
    }

    #[inline(never)]
    fn read_array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let read = self.read_at(offset, &mut bytes);
        (read.ok()? == N).then_some(bytes)
    }

    /// Reads by position whatever the history of the region: for passes over the whole file.
    ///
    /// # Errors
    /// Returns an error if reading fails, or if compressed bytes are damaged.
    pub fn read_positional(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Body::File(file) => file.read_positional(offset, buf),
            Body::Chunks(chunks, start) => chunks.read_at(start.saturating_add(offset), buf),
            Body::Recorded(source, recorder) => {
                recorder.note(offset, buf.len());
                source.read_positional(offset, buf)
            }
        }
    }

    /// Bytes `range`, borrowed from the mapping or shared with a chunk if that is possible, or
    /// `None` beyond the end.
    ///
    /// # Errors
    /// Returns an error if reading fails, or if compressed bytes are damaged.
    pub fn bytes(&self, range: Range<u64>) -> io::Result<Option<Bytes<'_>>> {
        match &self.0 {
            Body::File(file) => file.bytes(range),
            Body::Chunks(chunks, start) => {
                let at = |offset: u64| start.saturating_add(offset);
                chunks.bytes(at(range.start)..at(range.end))
            }
            Body::Recorded(source, recorder) => {
                let len = range.end.saturating_sub(range.start);
                recorder.note(range.start, usize::try_from(len).unwrap_or(0));
                source.bytes(range)
            }
        }
    }

    /// Bytes `range` of the mapping; `None` if the file is not mapped or ends before.
    #[must_use]
    pub fn mapped(&self, range: Range<u64>) -> Option<&[u8]> {
        match &self.0 {
            Body::File(file) => file.mapped(range),
            // What is done with a mapping cannot be recorded.
            Body::Chunks(..) | Body::Recorded(..) => None,
        }
    }

    /// Says that `range` will be read through the mapping soon, so that the operating system can
    /// prepare it in one go.
    pub fn expect_mapped_reads(&self, range: Range<u64>) {
        if let Body::File(file) = &self.0 {
            file.expect_mapped_reads(range);
        }
    }
}
