//! A dump device that is a file.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use vmcore_writer::device::{BlockDevice, DeviceError, Geometry};
use vmcore_writer::reserve::STAGING_BYTES;

/// Bytes of one write.
pub(crate) const TRANSFER: usize = STAGING_BYTES as usize;

/// A disk that is a file; flushed means that the file is on the medium.
pub(crate) struct Disk {
    file: File,
    media_bytes: u64,
    taken: usize,
}

impl Disk {
    pub(crate) fn create(path: &Path, media_bytes: u64) -> Self {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file.expect("room for a disk");
        file.set_len(media_bytes).expect("room for a disk");
        Self {
            file,
            media_bytes,
            taken: 0,
        }
    }

    /// As a driver's user writes: one command, waited for.
    pub(crate) fn write(&mut self, at: &mut u64, bytes: &[u8]) {
        self.submit(*at, bytes).expect("it is written");
        let taken = self.complete(0).expect("it is written");
        *at += taken as u64;
    }
}

impl BlockDevice for Disk {
    fn geometry(&self) -> Geometry {
        Geometry {
            block_bytes: 512,
            max_transfer_bytes: TRANSFER as u32,
            media_offset: 0,
            media_bytes: self.media_bytes,
        }
    }

    fn prepare(&mut self, _: u32) -> Result<(), DeviceError> {
        Ok(())
    }

    fn submit(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.taken = data.len();
        self.file
            .write_all_at(data, offset)
            .map_err(|error| DeviceError::Io(error.raw_os_error().map_or(0, i32::cast_unsigned)))
    }

    fn complete(&mut self, _: u32) -> Result<usize, DeviceError> {
        Ok(self.taken)
    }

    fn flush(&mut self, _: u32) -> Result<(), DeviceError> {
        self.file.sync_data().map_err(|_| DeviceError::Gone)
    }
}
