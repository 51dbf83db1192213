//! The disk as the dump sees it: the driver's own functions, without the lock that the running
//! system takes.

use crate::dev::vtblk;
use vmcore_writer::device::{BlockDevice, DeviceError, Geometry};

/// The disk in a panic. The dump's first call is `prepare`, which resets the controller: whoever
/// used the disk before stands still, and its request is gone.
#[derive(Debug)]
pub(crate) struct PanicDisk;

impl BlockDevice for PanicDisk {
    fn geometry(&self) -> Geometry {
        vtblk::in_panic(|disk| Ok(disk.geometry())).unwrap_or(Geometry {
            block_bytes: 0,
            max_transfer_bytes: 0,
            media_offset: 0,
            media_bytes: 0,
        })
    }

    fn prepare(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        vtblk::in_panic(|disk| disk.prepare(timeout_ms))
    }

    fn submit(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        vtblk::in_panic(|disk| disk.submit(offset, data))
    }

    fn complete(&mut self, timeout_ms: u32) -> Result<usize, DeviceError> {
        vtblk::in_panic(|disk| disk.complete(timeout_ms))
    }

    fn flush(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        vtblk::in_panic(|disk| disk.flush(timeout_ms))
    }
}
