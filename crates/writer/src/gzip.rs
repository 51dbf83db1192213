//! Compression by gzip, as FreeBSD does it: one stream over the whole dump.
//!
//! The encoder is that of zlib-rs, in memory given at boot; it allocates nothing later. It was not
//! shown to be unable to panic: see [`Owner::allow_restart`](crate::latch::Owner::allow_restart) for
//! what a kernel does about that. Header and trailer are those of `sys/kern/subr_compressor.c`.
//!
//! ```
//! use vmcore_writer::gzip::GZIP_MEMORY_BYTES;
//! assert!(GZIP_MEMORY_BYTES < 512 << 10);
//! ```

mod shim;

use crate::outlet::{OUTLET_BYTES, Outlet};
use crate::sink::{Durability, LayerError, Sink, SinkError};
use shim::{Deflate, SHIM_BYTES, crc32};
use vmcore_format::kerneldump::{Compression, DumpHeader};

/// Bytes of memory for [`Gzip::new`]; the device reads the first 128 KiB.
pub const GZIP_MEMORY_BYTES: usize = OUTLET_BYTES + SHIM_BYTES;
/// FreeBSD's header: no name, no time, from Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// Preferred transfer size in bytes.
const CHUNK: usize = 128 << 10;

/// Compresses what goes to another sink.
pub struct Gzip<'a, S> {
    sink: S,
    outlet: Outlet<'a>,
    deflate: Deflate<'a>,
    level: u8,
    crc: u32,
    total: u64,
    taken: u64,
}

impl<S> core::fmt::Debug for Gzip<'_, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Gzip")
            .field("level", &self.level)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl<'a, S: Sink> Gzip<'a, S> {
    /// A layer above `sink` in [`GZIP_MEMORY_BYTES`] of memory. Levels from 1, fast, to 9, small; those
    /// beyond are cut, as FreeBSD does.
    ///
    /// # Errors
    /// Returns an error if the memory is too small.
    pub fn new(sink: S, level: u8, memory: &'a mut [u8]) -> Result<Self, LayerError> {
        let (outlet, rest) = memory
            .split_at_mut_checked(OUTLET_BYTES)
            .ok_or(LayerError::Memory)?;
        if rest.len() < SHIM_BYTES {
            return Err(LayerError::Memory);
        }
        Ok(Self {
            sink,
            outlet: Outlet::new(outlet),
            deflate: Deflate::new(rest).ok_or(LayerError::Memory)?,
            level: level.clamp(1, 9),
            crc: 0,
            total: 0,
            taken: 0,
        })
    }

    /// Compresses all of `bytes`; with `finish`, up to the end of the stream.
    fn deflate(&mut self, bytes: &[u8], finish: bool) -> Result<(), SinkError> {
        let mut left = bytes;
        loop {
            let room = self.outlet.room(&mut self.sink)?;
            let step = self.deflate.step(left, room, finish);
            let step = step.ok_or(SinkError::Layer("failed to compress"))?;
            self.outlet.commit(step.given);
            left = left.get(step.taken..).unwrap_or_default();
            let is_done = if finish { step.is_end } else { left.is_empty() };
            if is_done {
                return Ok(());
            }
            if step.given == 0 && step.taken == 0 {
                return Err(SinkError::Layer("does not get on with compressing"));
            }
        }
    }

    /// An empty member that makes the whole a multiple of `granule` bytes long: a header with an
    /// extra field, an empty block, an empty trailer (RFC 1952).
    fn pad_to(&mut self, granule: u64) -> Result<(), SinkError> {
        const LEAST: u64 = 26;
        let position = self.outlet.position();
        let end = position.saturating_add(LEAST).next_multiple_of(granule);
        let zeros = u16::try_from(end - position - LEAST).unwrap_or(0);
        let [extra, extra_high] = (zeros + 4).to_le_bytes();
        let [len, len_high] = zeros.to_le_bytes();
        let mut header = HEADER;
        header[3] = 1 << 2;
        self.outlet.put(&mut self.sink, &header)?;
        let field = [extra, extra_high, b'v', b'm', len, len_high];
        self.outlet.put(&mut self.sink, &field)?;
        for _ in 0..zeros {
            self.outlet.put(&mut self.sink, &[0])?;
        }
        self.outlet
            .put(&mut self.sink, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// The sink below.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl<S: Sink> Sink for Gzip<'_, S> {
    fn begin(&mut self, header: &DumpHeader<'_>, key: &[u8]) -> Result<(), SinkError> {
        (self.total, self.taken, self.crc) = (header.dumplength, 0, 0);
        self.deflate
            .begin(self.level)
            .ok_or(SinkError::Layer("has no memory"))?;
        // The worst case: literals of nine bits.
        let most = self.total.saturating_add(self.total / 8 + 4096);
        let (outlet, sink) = (&mut self.outlet, &mut self.sink);
        outlet.begin_compressed(sink, header, key, Compression::Gzip, most)?;
        self.outlet.put(&mut self.sink, &HEADER)
    }

    fn chunk_bytes(&self) -> usize {
        CHUNK
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.crc = crc32(self.crc, bytes);
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        self.deflate(bytes, false)
    }

    fn complete(&mut self, _: &[u8]) -> Result<(), SinkError> {
        // They are in the encoder's window.
        Ok(())
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        if self.taken != len_bytes || len_bytes != self.total {
            let (announced, written) = (self.total, self.taken);
            return Err(SinkError::Length { announced, written });
        }
        self.deflate(&[], true)?;
        let [a, b, c, d] = self.crc.to_le_bytes();
        let [e, f, g, h, ..] = self.taken.to_le_bytes();
        self.outlet.put(&mut self.sink, &[a, b, c, d, e, f, g, h])?;
        // A cipher that works on blocks wants a whole number of them.
        let granule = self.sink.granule_bytes().max(1) as u64;
        if !self.outlet.position().is_multiple_of(granule) {
            self.pad_to(granule)?;
        }
        self.outlet.finish(&mut self.sink)
    }

    fn cancel(&mut self) {
        self.sink.cancel();
    }
}
