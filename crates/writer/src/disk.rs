//! A dump on a disk: payload flush with the end of the partition, a dump header on either side.
//!
//! From the end: the trailing header in the last block, before it the payload, before that the
//! leading header, or the key block of an encrypted dump and then the leading header; the first 64 KiB of
//! the partition are never touched (`sys/kern/kern_shutdown.c`, `dump_start` and `dump_finish`). Where FreeBSD can leave an older dump's headers around a newer
//! dump's half, this sink cannot: it destroys the old trailing header, and flushes, before it writes
//! anything else, and writes its own headers only when all data are on the media.

use crate::device::{BlockDevice, DeviceError, Geometry};
use crate::settings::Patience;
use crate::sink::{Durability, Sink, SinkError};
use vmcore_format::kerneldump::{Compression, DumpHeader, HEADER_LEN, set_dumplength};

/// Bytes at the start of the partition that are never touched: disk labels live there.
pub const SIZEOF_METADATA: u64 = 64 << 10;
/// The largest block.
const MAX_BLOCK: usize = 4096;

/// A [`BlockDevice`] as a place for dumps.
///
/// It has its own block for the headers: make it at boot, in memory that the device can reach.
#[derive(Debug)]
pub struct DiskSink<D> {
    device: D,
    patience: Patience,
    /// The header, as written in its own block.
    block: [u8; MAX_BLOCK],
    geometry: Geometry,
    /// Where things are on the device, and how much is to be written.
    place: DumpLocation,
    written: u64,
    /// The first part of the bytes last submitted, if the device has it.
    submitted: Option<Result<(), DeviceError>>,
}

/// Where a dump is on the device, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct DumpLocation {
    leader: u64,
    data: u64,
    trailer: u64,
    /// Bytes of the dump; if it is compressed, the most that it may have.
    len_bytes: u64,
    is_compressed: bool,
    key: u64,
    key_bytes: u32,
}

impl<D: BlockDevice> DiskSink<D> {
    /// A sink on `device`.
    pub fn new(device: D, patience: Patience) -> Self {
        let geometry = device.geometry();
        Self {
            device,
            patience,
            block: [0; MAX_BLOCK],
            geometry,
            place: DumpLocation::default(),
            written: 0,
            submitted: None,
        }
    }

    /// The device.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// Bytes of a block, if blocks and transfers are usable.
    fn block_bytes(geometry: &Geometry) -> Option<u64> {
        let block = geometry.block_bytes;
        let usable = block.is_power_of_two()
            && (512..=4096).contains(&block)
            && geometry.max_transfer_bytes >= block
            && geometry.media_offset.is_multiple_of(u64::from(block))
            && geometry.media_bytes.is_multiple_of(u64::from(block));
        usable.then_some(u64::from(block))
    }

    /// Where a dump with this header goes, or what is wrong with that.
    fn place(
        geometry: &Geometry,
        header: &DumpHeader<'_>,
        key_len: usize,
    ) -> Result<DumpLocation, SinkError> {
        let unusable = SinkError::Geometry {
            block_bytes: geometry.block_bytes,
            max_transfer_bytes: geometry.max_transfer_bytes,
        };
        let block = Self::block_bytes(geometry).ok_or(unusable)?;
        let end = geometry
            .media_offset
            .checked_add(geometry.media_bytes)
            .ok_or(unusable)?;
        let key_bytes = key_len.next_multiple_of(usize::try_from(block).unwrap_or(MAX_BLOCK));
        let key_bytes = u32::try_from(key_bytes).map_err(|_| unusable)?;
        if key_len > MAX_BLOCK {
            return Err(SinkError::Layer("has a key that is too long"));
        }
        let is_compressed = header.compression != Compression::None;
        let have_bytes = geometry.media_bytes;
        let around = SIZEOF_METADATA + 2 * block + u64::from(key_bytes);
        let extent = header.dumplength.checked_next_multiple_of(block);
        let need = extent.and_then(|extent| extent.checked_add(around));
        let need_bytes = need.unwrap_or(u64::MAX);
        let extent = match extent {
            Some(extent) if need_bytes <= have_bytes => extent,
            // It may become small enough.
            _ if is_compressed && have_bytes > around => have_bytes - around,
            _ => {
                return Err(SinkError::NoRoom {
                    need_bytes,
                    have_bytes,
                });
            }
        };
        // There is room: nothing below can underflow.
        let trailer = end - block;
        let data = trailer - extent;
        let key = data - u64::from(key_bytes);
        Ok(DumpLocation {
            leader: key - block,
            data,
            trailer,
            len_bytes: header.dumplength.min(extent),
            is_compressed,
            key,
            key_bytes,
        })
    }

    /// Writes `bytes` at `offset`, a transfer at a time; the first may be under way already.
    fn write(
        device: &mut D,
        geometry: &Geometry,
        patience: Patience,
        offset: u64,
        bytes: &[u8],
        submitted: Option<Result<(), DeviceError>>,
    ) -> Result<(), SinkError> {
        let mut submitted = submitted;
        let mut offset = offset;
        let mut left = bytes;
        let mut attempts = 0;
        while !left.is_empty() {
            let piece = first_transfer(geometry, left);
            let started = submitted
                .take()
                .unwrap_or_else(|| device.submit(offset, piece));
            let result = started.and_then(|()| device.complete(patience.timeout_ms));
            let (taken, error) = match result {
                Ok(taken) if taken >= piece.len() => (piece.len(), None),
                Ok(written) => {
                    // Whole blocks of it count; the rest is written again.
                    let block = usize::try_from(geometry.block_bytes).unwrap_or(usize::MAX);
                    let whole = written - written.checked_rem(block).unwrap_or(written);
                    (
                        whole,
                        Some(DeviceError::Short {
                            written,
                            wanted: piece.len(),
                        }),
                    )
                }
                Err(error) => (0, Some(error)),
            };
            offset = offset.saturating_add(taken as u64);
            left = left.get(taken..).unwrap_or_default();
            match error {
                None => attempts = 0,
                Some(error) => {
                    attempts += 1;
                    if attempts >= patience.attempts.max(1) {
                        return Err(SinkError::Write {
                            offset,
                            attempts,
                            error,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the block of the header at `offset`.
    fn write_block(&mut self, offset: u64) -> Result<(), SinkError> {
        self.write_blocks(offset, self.geometry.block_bytes)
    }

    /// Writes the first `len_bytes` of the block of the header at `offset`.
    fn write_blocks(&mut self, offset: u64, len_bytes: u32) -> Result<(), SinkError> {
        let len = usize::try_from(len_bytes).unwrap_or(MAX_BLOCK);
        let block = self.block.get(..len).unwrap_or(&self.block);
        Self::write(
            &mut self.device,
            &self.geometry,
            self.patience,
            offset,
            block,
            None,
        )
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        let mut result = self.device.flush(self.patience.timeout_ms);
        for _ in 1..self.patience.attempts {
            if result.is_ok() {
                break;
            }
            result = self.device.flush(self.patience.timeout_ms);
        }
        result
    }
}

/// The part of `bytes` that one write can take.
fn first_transfer<'b>(geometry: &Geometry, bytes: &'b [u8]) -> &'b [u8] {
    let block = geometry.block_bytes;
    let most = geometry.max_transfer_bytes;
    let most = most - most.checked_rem(block).unwrap_or(0);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    bytes.get(..most).unwrap_or(bytes)
}

impl<D: BlockDevice> Sink for DiskSink<D> {
    fn begin(&mut self, header: &DumpHeader<'_>, key: &[u8]) -> Result<(), SinkError> {
        self.submitted = None;
        self.written = 0;
        self.geometry = self.device.geometry();
        self.place = Self::place(&self.geometry, header, key.len())?;
        self.device
            .prepare(self.patience.timeout_ms)
            .map_err(SinkError::Prepare)?;
        // From here on there is no dump on this device, until this one is whole.
        self.block.fill(0);
        self.write_block(self.place.trailer)?;
        self.flush().map_err(SinkError::Flush)?;
        if !key.is_empty() {
            for (to, from) in self.block.iter_mut().zip(key) {
                *to = *from;
            }
            self.write_blocks(self.place.key, self.place.key_bytes)?;
            self.block.fill(0);
        }
        let header = DumpHeader {
            blocksize: self.geometry.block_bytes,
            dumpkeysize: self.place.key_bytes,
            dumpextent: self.place.trailer - self.place.data,
            ..*header
        };
        if let Some(block) = self.block.first_chunk_mut::<HEADER_LEN>() {
            header.encode_to(block);
        }
        Ok(())
    }

    fn chunk_bytes(&self) -> usize {
        usize::try_from(self.geometry.max_transfer_bytes).unwrap_or(usize::MAX)
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let end = self.written.saturating_add(bytes.len() as u64);
        let extent = self.place.trailer - self.place.data;
        if end > extent {
            return Err(match self.place.is_compressed {
                true => SinkError::Outgrown { have_bytes: extent },
                false => SinkError::Length {
                    announced: self.place.len_bytes,
                    written: end,
                },
            });
        }
        let offset = self.place.data.saturating_add(self.written);
        let piece = first_transfer(&self.geometry, bytes);
        self.submitted = Some(self.device.submit(offset, piece));
        Ok(())
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let offset = self.place.data.saturating_add(self.written);
        let submitted = self.submitted.take();
        Self::write(
            &mut self.device,
            &self.geometry,
            self.patience,
            offset,
            bytes,
            submitted,
        )?;
        self.written = self.written.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        let place = self.place;
        let (announced, written) = (place.len_bytes, self.written);
        let padding = written.checked_sub(len_bytes);
        let as_announced = len_bytes == announced || place.is_compressed;
        if !as_announced || padding.is_none_or(|bytes| bytes >= MAX_BLOCK as u64) {
            return Err(SinkError::Length { announced, written });
        }
        if let Some(block) = self.block.first_chunk_mut::<HEADER_LEN>() {
            set_dumplength(block, len_bytes);
        }
        self.flush().map_err(SinkError::Flush)?;
        self.write_block(self.place.leader)?;
        self.write_block(self.place.trailer)?;
        Ok(match self.flush() {
            Ok(()) => Durability::Flushed,
            Err(error) => Durability::Unknown(error),
        })
    }

    fn cancel(&mut self) {
        if let Some(Ok(())) = self.submitted.take() {
            // What it says does not matter any more, only that the buffer is free.
            let _ = self.device.complete(self.patience.timeout_ms);
        }
    }
}
