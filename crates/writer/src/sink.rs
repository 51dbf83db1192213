//! Where a dump goes: a disk now, the network later; compression and encryption are sinks around
//! sinks.

use crate::device::DeviceError;
use thiserror::Error;
use vmcore_format::kerneldump::DumpHeader;

/// Why a sink cannot take a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The dump does not fit. Nothing was written.
    #[error("no room: {need_bytes} bytes are needed, the partition has {have_bytes}")]
    NoRoom {
        /// Bytes that the dump takes, with its headers and what must not be touched.
        need_bytes: u64,
        /// Bytes there are.
        have_bytes: u64,
    },
    /// Blocks, transfers or places that no dump can be written in. Nothing was written.
    #[error("unusable geometry: blocks of {block_bytes} bytes, transfers of {max_transfer_bytes}")]
    Geometry {
        /// Bytes of a block.
        block_bytes: u32,
        /// The most bytes of a write.
        max_transfer_bytes: u32,
    },
    /// The device cannot be taken over. Nothing was written.
    #[error("the device cannot be used: {0}")]
    Prepare(DeviceError),
    /// A write failed for good.
    #[error("writing at byte {offset} of the device failed {attempts} times: {error}")]
    Write {
        /// Where, in bytes from the start of the device.
        offset: u64,
        /// How often it was tried.
        attempts: u32,
        /// What the device said last.
        error: DeviceError,
    },
    /// A compressed dump became larger than the room there is. Nothing on the device says that there
    /// is a dump.
    #[error("the compressed dump outgrew the partition: there is room for {have_bytes} bytes")]
    Outgrown {
        /// Bytes that it could have had.
        have_bytes: u64,
    },
    /// A layer cannot do its work.
    #[error("the layer before the device {0}")]
    Layer(&'static str),
    /// The server did not answer, or cannot be reached.
    #[error("{0}")]
    Network(crate::netdump::NetError),
    /// What was written may not be on the media.
    #[error("the device could not flush its cache: {0}")]
    Flush(DeviceError),
    /// More or less was written than announced. Nothing on the device says that there is a dump.
    #[error("{written} bytes were written of {announced}")]
    Length {
        /// Bytes announced.
        announced: u64,
        /// Bytes written.
        written: u64,
    },
}

/// Why a layer cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LayerError {
    /// The memory is too small, or not aligned.
    #[error("the layer's memory is too small or not aligned")]
    Memory,
    /// The encrypted key is not one that the format can hold.
    #[error("an encrypted key has 1 to 2048 bytes")]
    Key,
}

/// Whether a finished dump is known to be on the media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is.
    Flushed,
    /// The last flush failed: the dump is written, and may still be in the device's cache.
    Unknown(DeviceError),
}

/// Where a dump goes.
///
/// The writer calls [`Sink::begin`], then [`Sink::submit`] and [`Sink::complete`] in turn, and at last
/// [`Sink::finish`]; or [`Sink::cancel`] at any point. Between `submit` and `complete` it fills the
/// other staging buffer. A layer is a sink that changes the bytes and hands them to another sink.
pub trait Sink {
    /// Begins a dump of `header.dumplength` bytes, forgetting any earlier one. Block size, extent and
    /// size of the key in the header are the sink's to fill in. If the header says that the dump is
    /// compressed, its length is the most that it can become. `key` is the key block of an encrypted
    /// dump without its padding, or empty.
    ///
    /// # Errors
    /// Returns an error if the sink cannot take the dump. It has written nothing, if the error says so.
    fn begin(&mut self, header: &DumpHeader<'_>, key: &[u8]) -> Result<(), SinkError>;

    /// Preferred transfer size in bytes.
    fn chunk_bytes(&self) -> usize;

    /// The dump's bytes must be a whole number of these: more than 1 if a cipher works on blocks.
    fn granule_bytes(&self) -> usize {
        1
    }

    /// Takes the next bytes of the dump. The caller leaves them as they are until
    /// [`Sink::complete`] has returned.
    ///
    /// # Errors
    /// Returns an error if the dump has failed.
    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError>;

    /// Waits for the bytes of the last [`Sink::submit`], which are handed over once more in case they
    /// must be sent again.
    ///
    /// # Errors
    /// Returns an error if the dump has failed.
    fn complete(&mut self, bytes: &[u8]) -> Result<(), SinkError>;

    /// Makes the dump valid: only now is there anything that says so. It has `len_bytes` bytes; what
    /// was submitted beyond them, less than 4 KiB, is padding.
    ///
    /// # Errors
    /// Returns an error if the dump has failed.
    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError>;

    /// Gives the dump up. Whatever was under way has ended when this returns.
    fn cancel(&mut self);
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn begin(&mut self, header: &DumpHeader<'_>, key: &[u8]) -> Result<(), SinkError> {
        (**self).begin(header, key)
    }

    fn chunk_bytes(&self) -> usize {
        (**self).chunk_bytes()
    }

    fn granule_bytes(&self) -> usize {
        (**self).granule_bytes()
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        (**self).submit(bytes)
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        (**self).complete(bytes)
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        (**self).finish(len_bytes)
    }

    fn cancel(&mut self) {
        (**self).cancel();
    }
}
