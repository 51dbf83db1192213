//! What a layer puts out: gathered in two buffers, one of which fills while the sink below has the
//! other.

use crate::sink::{Durability, Sink, SinkError};
use vmcore_format::kerneldump::{Compression, DumpHeader};

/// What a layer puts out is a whole number of these, padded with zeros at the end: no device has
/// larger blocks.
pub(crate) const PIECE: usize = 4096;
/// Bytes of both buffers.
pub(crate) const OUTLET_BYTES: usize = 2 * (64 << 10);

/// Two buffers on the way to a sink.
#[derive(Debug)]
pub(crate) struct Outlet<'a> {
    filling: &'a mut [u8],
    other: &'a mut [u8],
    /// Bytes of a buffer that are used.
    chunk: usize,
    filled: usize,
    in_flight: usize,
    sent: u64,
}

impl<'a> Outlet<'a> {
    /// An outlet in these bytes, [`OUTLET_BYTES`] of them.
    pub(crate) fn new(memory: &'a mut [u8]) -> Self {
        let half = memory.len() / 2 / PIECE * PIECE;
        let (filling, rest) = memory.split_at_mut_checked(half).unwrap_or_default();
        let (other, _) = rest.split_at_mut_checked(half).unwrap_or_default();
        Self {
            filling,
            other,
            chunk: half,
            filled: 0,
            in_flight: 0,
            sent: 0,
        }
    }

    /// Starts over. The sink likes `liked` bytes at a time.
    pub(crate) fn begin(&mut self, liked: usize) {
        self.chunk = (liked / PIECE * PIECE).clamp(PIECE, self.filling.len().max(PIECE));
        self.filled = 0;
        self.in_flight = 0;
        self.sent = 0;
    }

    /// Begins the sink with a dump that is compressed, to at most `most` bytes, and starts over.
    pub(crate) fn begin_compressed<S: Sink>(
        &mut self,
        sink: &mut S,
        header: &DumpHeader<'_>,
        key: &[u8],
        compression: Compression,
        most: u64,
    ) -> Result<(), SinkError> {
        let header = DumpHeader {
            compression,
            dumplength: most,
            dumpextent: most,
            ..*header
        };
        sink.begin(&header, key)?;
        self.begin(sink.chunk_bytes());
        Ok(())
    }

    /// The whole of a buffer, while nothing is in it.
    #[cfg(feature = "encryption")]
    pub(crate) fn scratch(&mut self) -> &mut [u8] {
        self.filling
    }

    /// Free room: at least a byte.
    pub(crate) fn room<S: Sink>(&mut self, sink: &mut S) -> Result<&mut [u8], SinkError> {
        if self.filled >= self.chunk {
            self.push(sink)?;
        }
        Ok(self
            .filling
            .get_mut(self.filled..self.chunk)
            .unwrap_or_default())
    }

    /// Puts out the first `len` bytes of the room.
    pub(crate) fn commit(&mut self, len: usize) {
        self.filled = self.filled.saturating_add(len).min(self.chunk);
    }

    /// Puts out `bytes`.
    pub(crate) fn put<S: Sink>(&mut self, sink: &mut S, bytes: &[u8]) -> Result<(), SinkError> {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let room = self.room(sink)?;
            let len = room.len().min(bytes.len());
            let (now, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
            match room.get_mut(..len) {
                Some(room) if len > 0 => room.copy_from_slice(now),
                _ => return Err(SinkError::Layer("has no memory")),
            }
            self.commit(len);
            bytes = rest;
        }
        Ok(())
    }

    /// Bytes that were put out so far.
    pub(crate) fn position(&self) -> u64 {
        self.sent.saturating_add(self.filled as u64)
    }

    fn push<S: Sink>(&mut self, sink: &mut S) -> Result<(), SinkError> {
        self.wait_in_flight(sink)?;
        let ready = self.filling.get(..self.filled).unwrap_or_default();
        if !ready.is_empty() {
            sink.submit(ready)?;
            self.sent = self.position();
            core::mem::swap(&mut self.filling, &mut self.other);
            self.in_flight = self.filled;
            self.filled = 0;
        }
        Ok(())
    }

    fn wait_in_flight<S: Sink>(&mut self, sink: &mut S) -> Result<(), SinkError> {
        if self.in_flight > 0 {
            let sent = self.other.get(..self.in_flight).unwrap_or_default();
            self.in_flight = 0;
            sink.complete(sent)?;
        }
        Ok(())
    }

    /// Fills the last piece with zeros.
    fn pad(&mut self) {
        let end = self.filled.next_multiple_of(PIECE).min(self.chunk);
        self.filling
            .get_mut(self.filled..end)
            .unwrap_or_default()
            .fill(0);
        self.filled = end;
    }

    /// Sends what is left, in whole pieces, and finishes the sink.
    pub(crate) fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<Durability, SinkError> {
        let len = self.position();
        self.pad();
        self.drain(sink)?;
        sink.finish(len)
    }

    /// Sends what is left. What is in the last piece after the dump's end must have been padded.
    pub(crate) fn drain<S: Sink>(&mut self, sink: &mut S) -> Result<(), SinkError> {
        self.push(sink)?;
        self.wait_in_flight(sink)
    }
}
