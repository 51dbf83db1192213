//! A dump, compressed so that it can be read in place: in pieces that do not refer to each other.
//!
//! zstd: frames of 256 KiB with their lengths and checksums, and a seek table in a skippable frame at
//! the end, in the seekable format of the zstd project. gzip: members of 1 MiB, with the header that
//! FreeBSD's kernel writes. Every stock decoder reads both as one file. Pieces are compressed on all
//! cores while the ones before are written.
//!
//! ```
//! use vmcore::source::{Access, Source};
//! use vmcore_pipeline::compress::{self, Method};
//! let dir = tempfile::tempdir()?;
//! let (plain, packed) = (dir.path().join("vmcore.0"), dir.path().join("vmcore.0.zst"));
//! std::fs::write(&plain, vec![7; 1 << 20])?;
//! let source = Source::open(&plain, Access::Auto)?;
//! let done = compress::convert(&source, Method::Zstd, &packed, false, |_, _| {})?;
//! assert_eq!(done.expanded_bytes, 1 << 20);
//! assert!(done.len_bytes < 1000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::output::{OutputError, OutputFile};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use rayon::Yield;
use serde::Serialize;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;
use vmcore::source::Source;
use vmcore_format::zstd::SeekTable;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// Bytes of a piece of zstd: small enough that reading one page is quick, large enough that
/// compression loses little.
const ZSTD_PIECE: u64 = 256 << 10;
/// Bytes of a piece of gzip.
const GZIP_PIECE: u64 = 1 << 20;
/// Faster than level 1, at little loss: most of a dump is zeros, pointers and text.
const ZSTD_LEVEL: i32 = -1;
/// gzip's own.
const GZIP_LEVEL: u32 = 6;
/// Pieces of each core that are made, or wait to be written.
const PIECES_PER_CORE: usize = 8;
/// What a kernel that compresses writes: deflate, no name, no time, from Unix.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// How a dump is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// zstd.
    Zstd,
    /// gzip.
    Gzip,
}

impl Method {
    const fn piece_bytes(self) -> u64 {
        match self {
            Self::Zstd => ZSTD_PIECE,
            Self::Gzip => GZIP_PIECE,
        }
    }
}

/// What became of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compressed {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub len_bytes: u64,
    /// Bytes that it expands to.
    pub expanded_bytes: u64,
}

/// Why a dump cannot be compressed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompressError {
    /// It cannot be read.
    #[error("reading the dump at {offset:#x} failed: {source}")]
    Read {
        /// Where.
        offset: u64,
        /// What is wrong.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Compresses all bytes of `source` to `path`. `on_progress` is told the bytes that are done, and
/// how many there are.
///
/// # Errors
/// Returns an error if the dump cannot be read or the file cannot be written. Then there is no file
/// at `path`.
pub fn convert(
    source: &Source,
    method: Method,
    path: &Path,
    overwrite: bool,
    on_progress: impl FnMut(u64, u64),
) -> Result<Compressed, CompressError> {
    let mut output = OutputFile::create(path, overwrite)?;
    let expanded_bytes = source.len();
    let read = |offset: u64, buf: &mut [u8]| match source.read_positional(offset, buf) {
        Ok(count) if count == buf.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) => Err(error),
    };
    let written = compress(expanded_bytes, &read, method, output.file(), on_progress);
    let len_bytes = written.map_err(|failed| match failed {
        Failed::Read(offset, source) => CompressError::Read { offset, source },
        Failed::Write(source) => output.error(source).into(),
    })?;
    output.commit()?;
    Ok(Compressed {
        path: path.to_owned(),
        len_bytes,
        expanded_bytes,
    })
}

/// What went wrong.
pub(crate) enum Failed<E> {
    /// Reading, at this offset.
    Read(u64, E),
    /// Compressing or writing.
    Write(io::Error),
}

/// Compresses `len` bytes that `read` gives to `to`; gives the bytes that it wrote.
pub(crate) fn compress<E: Send>(
    len: u64,
    read: &(impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync),
    method: Method,
    mut to: impl Write,
    mut on_progress: impl FnMut(u64, u64),
) -> Result<u64, Failed<E>> {
    let piece = method.piece_bytes();
    let most = PIECES_PER_CORE.saturating_mul(rayon::current_num_threads());
    let workers = Workers::new(method);
    let (mut written, mut table) = (0u64, Vec::new());
    let mut offsets = (0..len).step_by(usize::try_from(piece).unwrap_or(usize::MAX));
    // What writes stays on this thread; the rest makes pieces meanwhile, in any order.
    rayon::in_place_scope(|scope| {
        let mut ready = VecDeque::new();
        let mut done = 0;
        loop {
            let room = most.saturating_sub(ready.len());
            for offset in offsets.by_ref().take(room) {
                let (to_writer, piece_made) = mpsc::sync_channel(1);
                let workers = &workers;
                scope.spawn(move |_| {
                    // The writer has gone if something failed.
                    let _ = to_writer.send(workers.pack(offset, piece.min(len - offset), read));
                });
                ready.push_back(piece_made);
            }
            let Some(first) = ready.pop_front() else {
                return Ok(());
            };
            let packed = received(&first)??;
            to.write_all(&packed.bytes).map_err(Failed::Write)?;
            written += packed.bytes.len() as u64;
            done += packed.expanded;
            table.push((packed.bytes.len(), packed.expanded));
            workers.take_back(packed.bytes);
            on_progress(done, len);
        }
    })?;
    if len == 0 || method == Method::Zstd {
        let end = match method {
            Method::Zstd => seek_table(&table),
            Method::Gzip => workers.empty(),
        };
        let end = end.map_err(Failed::Write)?;
        to.write_all(&end).map_err(Failed::Write)?;
        written += end.len() as u64;
    }
    Ok(written)
}

/// Waits for a piece.
fn received<T, E>(from: &Receiver<T>) -> Result<T, Failed<E>> {
    loop {
        if let Ok(piece) = from.try_recv() {
            return Ok(piece);
        }
        // A thread of the pool helps: otherwise all of them could wait.
        if rayon::yield_now() != Some(Yield::Executed) {
            let gone = |error| Failed::Write(io::Error::other(error));
            return from.recv().map_err(gone);
        }
    }
}

/// The seek table; nothing if it would be too large for the format.
fn seek_table(frames: &[(usize, u64)]) -> io::Result<Vec<u8>> {
    let count = u32::try_from(frames.len()).ok();
    let Some((count, header)) = count.and_then(|count| {
        let header = SeekTable::encode_header(count)?;
        Some((count, header))
    }) else {
        return Ok(Vec::new());
    };
    let mut table = header.to_vec();
    for (stored, expanded) in frames {
        let stored = u32::try_from(*stored).map_err(io::Error::other)?;
        let expanded = u32::try_from(*expanded).map_err(io::Error::other)?;
        table.extend(SeekTable::encode_entry(stored, expanded));
    }
    table.extend(SeekTable::encode_footer(count));
    Ok(table)
}

/// A piece, compressed.
struct Packed {
    bytes: Vec<u8>,
    expanded: u64,
}

/// Compressors and buffers that are not at work: each has tables to set up.
struct Workers {
    method: Method,
    idle: Mutex<Vec<Worker>>,
    buffers: Mutex<Vec<Vec<u8>>>,
}

struct Worker {
    codec: Codec,
    input: Vec<u8>,
}

enum Codec {
    Zstd(Compressor<'static>),
    Gzip(Compress),
}

impl Workers {
    fn new(method: Method) -> Self {
        Self {
            method,
            idle: Mutex::default(),
            buffers: Mutex::default(),
        }
    }

    fn worker(&self) -> io::Result<Worker> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle().pop();
        if let Some(worker) = waiting {
            return Ok(worker);
        }
        let codec = match self.method {
            Method::Zstd => {
                let mut zstd = Compressor::new(ZSTD_LEVEL)?;
                zstd.set_parameter(CParameter::ChecksumFlag(true))?;
                Codec::Zstd(zstd)
            }
            Method::Gzip => Codec::Gzip(Compress::new(Compression::new(GZIP_LEVEL), false)),
        };
        Ok(Worker {
            codec,
            input: Vec::new(),
        })
    }

    /// A buffer that has been written is used again.
    fn take_back(&self, buffer: Vec<u8>) {
        let buffers = self.buffers.lock();
        buffers.unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    fn pack<E>(
        &self,
        offset: u64,
        expanded: u64,
        read: &impl Fn(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Packed, Failed<E>> {
        let mut worker = self.worker().map_err(Failed::Write)?;
        let len = usize::try_from(expanded).map_err(io::Error::other);
        worker.input.resize(len.map_err(Failed::Write)?, 0);
        read(offset, &mut worker.input).map_err(|error| Failed::Read(offset, error))?;
        let buffers = || self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = buffers().pop();
        let bytes = worker
            .pack(waiting.unwrap_or_default())
            .map_err(Failed::Write)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(worker);
        Ok(Packed { bytes, expanded })
    }

    /// A file of nothing.
    fn empty(&self) -> io::Result<Vec<u8>> {
        self.worker()?.pack(Vec::new())
    }
}

impl Worker {
    fn pack(&mut self, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        bytes.clear();
        match &mut self.codec {
            Codec::Zstd(zstd) => {
                bytes.reserve(zstd::zstd_safe::compress_bound(self.input.len()));
                zstd.compress_to_buffer(&self.input, &mut bytes)?;
            }
            Codec::Gzip(deflate) => {
                deflate.reset();
                // Stored blocks of deflate add five bytes to each 16 KiB at worst.
                bytes.reserve(self.input.len() + self.input.len() / 1000 + 64);
                bytes.extend(GZIP_HEADER);
                let status = deflate
                    .compress_vec(&self.input, &mut bytes, FlushCompress::Finish)
                    .map_err(io::Error::other)?;
                if status != Status::StreamEnd {
                    return Err(io::Error::other("deflate did not come to an end"));
                }
                let mut sum = Crc::new();
                sum.update(&self.input);
                bytes.extend(sum.sum().to_le_bytes());
                bytes.extend(sum.amount().to_le_bytes());
            }
        }
        Ok(bytes)
    }
}
