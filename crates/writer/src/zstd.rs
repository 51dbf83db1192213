//! Compression by zstd: frames of 1 MiB that need no other, by an encoder of our own.
//!
//! A frame's content is known by its header and guarded by its checksum; one that is damaged costs
//! itself only, and a reader finds its way to any page without reading what is before. Every zstd
//! decoder takes such frames one after the other (RFC 8878, 3). The encoder is made for a dying
//! kernel: its memory is given at boot, it allocates nothing, and cannot panic. One hash table and
//! greedy search, as libzstd's level 1.
//!
//! ```
//! use vmcore_writer::zstd::ZSTD_MEMORY_BYTES;
//! assert!(ZSTD_MEMORY_BYTES < 2 << 20);
//! ```

mod bits;
mod block;
mod fse;
mod huffman;
mod matches;
mod sequences;

use crate::outlet::{OUTLET_BYTES, Outlet};
use crate::sink::{Durability, LayerError, Sink, SinkError};
use block::{BLOCK, Encoder, FRAME, frame_header, skippable_header};
use core::mem::size_of;
use matches::Recent;
use vmcore_format::checksum::checksum;
use vmcore_format::kerneldump::{Compression, DumpHeader};
use zerocopy::FromBytes;

/// Bytes of memory for [`Zstd::new`], aligned to four bytes; the device reads the first 128 KiB.
pub const ZSTD_MEMORY_BYTES: usize = OUTLET_BYTES + size_of::<Encoder>() + FRAME;

/// Compresses what goes to another sink.
pub struct Zstd<'a, S> {
    sink: S,
    outlet: Outlet<'a>,
    encoder: &'a mut Encoder,
    frame: &'a mut [u8; FRAME],
    /// Bytes of the frame that are there, and that are in blocks already.
    filled: usize,
    encoded: usize,
    recent: Recent,
    /// Bytes of the dump, and those that went into frames that were begun.
    total: u64,
    taken: u64,
    /// Bytes of content of this frame.
    frame_bytes: usize,
}

impl<S> core::fmt::Debug for Zstd<'_, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Zstd")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl<'a, S: Sink> Zstd<'a, S> {
    /// A layer above `sink` in [`ZSTD_MEMORY_BYTES`] of memory. It costs nothing to make one for each
    /// dump.
    ///
    /// # Errors
    /// Returns an error if the memory is too small or not aligned.
    pub fn new(sink: S, memory: &'a mut [u8]) -> Result<Self, LayerError> {
        let (outlet, rest) = memory
            .split_at_mut_checked(OUTLET_BYTES)
            .ok_or(LayerError::Memory)?;
        let (encoder, rest) = rest
            .split_at_mut_checked(size_of::<Encoder>())
            .ok_or(LayerError::Memory)?;
        let encoder = Encoder::mut_from_bytes(encoder).map_err(|_| LayerError::Memory)?;
        let frame = rest.first_chunk_mut().ok_or(LayerError::Memory)?;
        Ok(Self {
            sink,
            outlet: Outlet::new(outlet),
            encoder,
            frame,
            filled: 0,
            encoded: 0,
            recent: Recent::START,
            total: 0,
            taken: 0,
            frame_bytes: 0,
        })
    }

    /// Begins the next frame: as much as is left, at most [`FRAME`].
    fn begin_frame(&mut self) -> Result<(), SinkError> {
        let left = self.total.saturating_sub(self.taken);
        self.frame_bytes = usize::try_from(left).unwrap_or(FRAME).min(FRAME);
        (self.filled, self.encoded, self.recent) = (0, 0, Recent::START);
        let size = u32::try_from(self.frame_bytes).unwrap_or(0);
        self.outlet.put(&mut self.sink, &frame_header(size))
    }

    /// Encodes whole blocks, and the rest if the frame is full.
    fn encode(&mut self) -> Result<(), SinkError> {
        let is_full = self.filled >= self.frame_bytes;
        while self.filled - self.encoded >= BLOCK || (is_full && self.encoded < self.filled) {
            let end = self.filled.min(self.encoded + BLOCK);
            let block = self.encoder.block(
                self.frame.get(..self.filled).unwrap_or_default(),
                (self.encoded, end),
                &mut self.recent,
                end >= self.frame_bytes,
            );
            self.outlet.put(&mut self.sink, &block.header)?;
            self.outlet.put(&mut self.sink, block.body)?;
            self.encoded = block.end.max(self.encoded + 1);
        }
        if is_full {
            let content = self.frame.get(..self.filled).unwrap_or_default();
            let [a, b, c, d, ..] = checksum(content).to_le_bytes();
            self.outlet.put(&mut self.sink, &[a, b, c, d])?;
            (self.filled, self.encoded, self.frame_bytes) = (0, 0, 0);
        }
        Ok(())
    }

    /// The sink below.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl<S: Sink> Sink for Zstd<'_, S> {
    fn begin(&mut self, header: &DumpHeader<'_>, key: &[u8]) -> Result<(), SinkError> {
        self.total = header.dumplength;
        self.taken = 0;
        self.frame_bytes = 0;
        self.encoder.reset();
        // The worst case: nothing becomes smaller, each block and frame has a header more.
        let frames = self.total.div_ceil(FRAME as u64);
        let more = frames.saturating_mul(64);
        let most = self.total.saturating_add(more);
        let (outlet, sink) = (&mut self.outlet, &mut self.sink);
        outlet.begin_compressed(sink, header, key, Compression::Zstd, most)
    }

    fn chunk_bytes(&self) -> usize {
        BLOCK
    }

    fn granule_bytes(&self) -> usize {
        1
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            if self.frame_bytes == 0 {
                self.begin_frame()?;
            }
            let room = self
                .frame
                .get_mut(self.filled..self.frame_bytes)
                .unwrap_or_default();
            let len = room.len().min(bytes.len());
            if len == 0 {
                let (announced, written) = (self.total, self.taken.saturating_add(1));
                return Err(SinkError::Length { announced, written });
            }
            let (now, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
            if let Some(room) = room.get_mut(..now.len()) {
                room.copy_from_slice(now);
            }
            self.filled += len;
            self.taken = self.taken.saturating_add(len as u64);
            bytes = rest;
            self.encode()?;
        }
        Ok(())
    }

    fn complete(&mut self, _: &[u8]) -> Result<(), SinkError> {
        // They were copied.
        Ok(())
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        if self.taken != len_bytes || len_bytes != self.total {
            let (announced, written) = (self.total, self.taken);
            return Err(SinkError::Length { announced, written });
        }
        // A cipher that works on blocks wants a whole number of them.
        let granule = self.sink.granule_bytes().max(1) as u64;
        let missing = self.outlet.position().next_multiple_of(granule) - self.outlet.position();
        if missing > 0 {
            let mut len = missing;
            while len < 8 {
                len = len.saturating_add(granule);
            }
            let zeros = u32::try_from(len - 8).unwrap_or(0);
            self.outlet.put(&mut self.sink, &skippable_header(zeros))?;
            for _ in 0..zeros {
                self.outlet.put(&mut self.sink, &[0])?;
            }
        }
        self.outlet.finish(&mut self.sink)
    }

    fn cancel(&mut self) {
        self.sink.cancel();
    }
}
