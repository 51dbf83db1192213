//! Bytes that are made chunk by chunk: decrypted, expanded, or read from a device in large units.
//!
//! What a chunk is depends on what is stored: a piece of fixed size, or a frame. Each is made when
//! first asked for and kept for a while. Reading in order makes several at once, on all cores; whoever
//! wants several whole ones gets them where he wants them, and none is kept.

use crate::bytes::Bytes;
use crate::cache::{Cache, Demand};
use crate::frames::Frames;
use crate::input::{Expanded, Input};
use crate::stream::{Damage, Format, Stream};
use rayon::prelude::*;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a chunk of what is not compressed.
const STORED_CHUNK: u64 = 64 << 10;
/// The most bytes that are expanded ahead.
const AHEAD_BYTES: u64 = 8 << 20;

/// Bytes that are made chunk by chunk.
#[derive(Debug)]
pub(crate) struct ChunkSource {
    body: Body,
    cache: Mutex<Cache>,
    /// The chunk after the last that was made: whoever wants it reads in order.
    next: AtomicU64,
}

/// Who makes chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cores {
    /// All, when reading in order.
    All,
    /// The thread that asks.
    One,
}

#[derive(Debug)]
enum Body {
    /// Not compressed: encrypted, or on a device.
    Stored(Input),
    /// zstd in frames whose places and lengths are known.
    Frames(Frames),
    /// A stream whose contents are known only after a pass over it.
    Stream(Stream),
}

impl Expanded for ChunkSource {
    fn len(&self) -> u64 {
        self.len()
    }

    fn reaches(&self, end: u64) -> bool {
        self.reaches(end)
    }

    fn read_alone(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.read(offset, buf, Cores::One)
    }
}

impl ChunkSource {
    fn new(body: Body) -> Self {
        Self {
            body,
            cache: Mutex::default(),
            next: AtomicU64::new(u64::MAX),
        }
    }

    /// What is not compressed.
    pub(crate) fn stored(input: Input) -> Self {
        Self::new(Body::Stored(input))
    }

    /// A zstd file: by its seek table or its frame headers if these say enough.
    pub(crate) fn zstd(input: Input) -> io::Result<Self> {
        Ok(Self::new(match Frames::of(&input)? {
            Some(frames) => Body::Frames(frames),
            None => Body::Stream(Stream::new(input, Format::Zstd)),
        }))
    }

    /// A gzip file.
    pub(crate) fn gzip(input: Input) -> Self {
        Self::new(Body::Stream(Stream::new(input, Format::Gzip)))
    }

    #[inline]
    pub(crate) fn len(&self) -> u64 {
        match &self.body {
            Body::Stored(input) => input.len(),
            Body::Frames(frames) => frames.len(),
            Body::Stream(stream) => stream.len(),
        }
    }

    pub(crate) fn knows_len(&self) -> bool {
        match &self.body {
            Body::Stored(_) | Body::Frames(_) => true,
            Body::Stream(stream) => stream.knows_len(),
        }
    }

    #[inline]
    pub(crate) fn reaches(&self, end: u64) -> bool {
        match &self.body {
            Body::Stored(input) => end <= input.len(),
            Body::Frames(frames) => end <= frames.len(),
            Body::Stream(stream) => stream.reaches(end),
        }
    }

    pub(crate) fn damage(&self) -> Option<Damage> {
        match &self.body {
            Body::Stored(_) | Body::Frames(_) => None,
            Body::Stream(stream) => stream.damage(),
        }
    }

    /// Fills `buf` from `offset`; fewer bytes only at the end.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.read(offset, buf, Cores::All)
    }

    fn read(&self, offset: u64, buf: &mut [u8], cores: Cores) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(at) = offset.checked_add(done as u64) else {
                break;
            };
            let Some((number, start)) = self.find(at) else {
                break;
            };
            let skip = usize::try_from(at - start).unwrap_or(usize::MAX);
            if skip == 0
                && let Some(count) = self.read_whole(number, rest, cores)?
            {
                done += count;
                continue;
            }
            let cached = self.cache().get(number);
            let chunk = match cached {
                Some(chunk) => chunk,
                None => self.make(number, cores)?,
            };
            let copied = copy(&chunk, skip, rest);
            if copied == 0 {
                break;
            }
            done += copied;
        }
        Ok(done)
    }

    /// Makes chunk `number` and those after it where they are wanted, as many as `buf` has room for;
    /// gives the bytes, which are some. `None` if that does not pay, or some are there already.
    fn read_whole(&self, number: u64, buf: &mut [u8], cores: Cores) -> io::Result<Option<usize>> {
        if let Body::Stream(stream) = &self.body {
            let count = stream.read_next(number, buf);
            return Ok(count.filter(|count| *count > 0));
        }
        let mut parts = Vec::new();
        let mut rest = buf;
        let cache = self.cache();
        for at in number.. {
            let len = usize::try_from(self.len_of(at)).unwrap_or(usize::MAX);
            if len == 0 || len > rest.len() || cache.has(at) {
                break;
            }
            let (part, after) = rest.split_at_mut(len);
            parts.push((at, part));
            rest = after;
        }
        drop(cache);
        let threads = match cores {
            Cores::All => rayon::current_num_threads(),
            Cores::One => 1,
        };
        // With fewer, others would have nothing to do.
        if parts.is_empty() || parts.len() < threads {
            return Ok(None);
        }
        self.next
            .store(number + parts.len() as u64, Ordering::Relaxed);
        let len = parts.iter().map(|(_, part)| part.len()).sum();
        let parts = Mutex::new(parts.into_iter());
        let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
        let make = || -> io::Result<()> {
            while let Some((number, part)) = next() {
                self.make_in(number, part)?;
            }
            Ok(())
        };
        let failed = Mutex::new(None);
        // Who asks begins at once: others may take as long to wake up as one part takes.
        rayon::in_place_scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|_| {
                    if let Err(error) = make() {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                });
            }
            make()
        })?;
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(Some(len)),
        }
    }

    /// Makes a chunk in `buf`, which has its length.
    fn make_in(&self, number: u64, buf: &mut [u8]) -> io::Result<()> {
        match &self.body {
            Body::Stored(input) => {
                let read = input.read_at(number.saturating_mul(STORED_CHUNK), buf)?;
                match read == buf.len() {
                    true => Ok(()),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            Body::Frames(frames) => frames.expand_to(number, buf),
            Body::Stream(_) => Ok(()),
        }
    }

    /// Bytes of a chunk; 0 after the last.
    fn len_of(&self, number: u64) -> u64 {
        match &self.body {
            Body::Stored(input) => {
                let start = number.saturating_mul(STORED_CHUNK);
                input.len().saturating_sub(start).min(STORED_CHUNK)
            }
            Body::Frames(frames) => frames.len_of(number),
            Body::Stream(_) => 0,
        }
    }

    /// Bytes `range`, shared with a chunk if one has them all; `None` beyond the end.
    pub(crate) fn bytes(&self, range: Range<u64>) -> io::Result<Option<Bytes<'static>>> {
        let Some(len) = range.end.checked_sub(range.start) else {
            return Ok(None);
        };
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if let Some((number, start)) = self.find(range.start) {
            let cached = self.cache().get(number);
            let chunk = match cached {
                Some(chunk) => chunk,
                None => self.make(number, Cores::All)?,
            };
            let skip = usize::try_from(range.start - start).unwrap_or(usize::MAX);
            let end = skip.saturating_add(len);
            if end <= chunk.len() {
                return Ok(Some(Bytes::Chunk(chunk, skip..end)));
            }
        }
        if !self.reaches(range.end) {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        let read = self.read_at(range.start, &mut bytes)?;
        Ok((read == len).then(|| Bytes::from(bytes)))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A thread that panicked left whole entries behind.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunk that holds `offset`, and where it starts.
    #[inline]
    fn find(&self, offset: u64) -> Option<(u64, u64)> {
        match &self.body {
            Body::Stored(input) => (offset < input.len())
                .then(|| (offset / STORED_CHUNK, offset - offset % STORED_CHUNK)),
            Body::Frames(frames) => frames.find(offset),
            Body::Stream(_) => Some(Stream::find(offset)),
        }
    }

    /// Makes a chunk, and those after it if it looks as if they will be wanted.
    #[cold]
    fn make(&self, number: u64, cores: Cores) -> io::Result<Arc<Vec<u8>>> {
        let (count, one_bytes) = match &self.body {
            Body::Stored(input) => (input.len().div_ceil(STORED_CHUNK), STORED_CHUNK),
            Body::Frames(frames) => (frames.count(), frames.len_of(number)),
            Body::Stream(stream) => {
                let spare = self.cache().spare();
                let chunk = stream.chunk(number, spare)?;
                self.cache().put(number, chunk.clone(), Demand::Once);
                return Ok(chunk);
            }
        };
        let is_in_order = self.next.load(Ordering::Relaxed) == number;
        let ahead = match is_in_order && cores == Cores::All {
            true => {
                let most = 4 * u64::try_from(rayon::current_num_threads()).unwrap_or(1);
                (AHEAD_BYTES / one_bytes.max(1)).clamp(1, most)
            }
            false => 1,
        };
        let end = count.min(number.saturating_add(ahead));
        self.next.store(end, Ordering::Relaxed);
        if ahead == 1 {
            let chunk = Arc::new(self.expand(number)?);
            self.cache().put(number, chunk.clone(), Demand::Once);
            return Ok(chunk);
        }
        let made: Vec<_> = (number..end)
            .into_par_iter()
            .map(|number| self.expand(number))
            .collect();
        let mut wanted = Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        for (at, chunk) in (number..).zip(made) {
            // A damaged chunk ahead is an error when it is wanted.
            let chunk = chunk.map(Arc::new);
            if let Ok(chunk) = &chunk {
                let kind = match at == number {
                    true => Demand::Once,
                    false => Demand::Ahead,
                };
                self.cache().put(at, chunk.clone(), kind);
            }
            if at == number {
                wanted = chunk;
            }
        }
        wanted
    }

    fn expand(&self, number: u64) -> io::Result<Vec<u8>> {
        match &self.body {
            Body::Stored(input) => {
                let len = usize::try_from(STORED_CHUNK).map_err(io::Error::other)?;
                input.read_vec(number.saturating_mul(STORED_CHUNK), len)
            }
            Body::Frames(frames) => {
                // The cache is not held meanwhile: others expand, too.
                let spare = self.cache().spare();
                frames.expand(number, spare)
            }
            Body::Stream(_) => Ok(Vec::new()),
        }
    }
}

/// Copies what `chunk` has from `skip` on; gives the number of bytes.
#[inline]
fn copy(chunk: &[u8], skip: usize, to: &mut [u8]) -> usize {
    let from = chunk.get(skip..).unwrap_or_default();
    let len = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..len), from.get(..len)) {
        to.copy_from_slice(from);
    }
    len
}
