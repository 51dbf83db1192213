//! Disk and network as the dump sees them: the drivers' own functions, without the lock that the
//! running system takes.

use crate::dev::{vtblk, vtnet};
use vmcore_writer::device::{BlockDevice, DeviceError, Geometry};
use vmcore_writer::netdump::NetDevice;

/// The disk in a panic. The dump's first call is `prepare`, which resets the controller: whoever
/// used the disk before is stopped, and its request is lost.
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

/// The network in a panic; it has no other user.
#[derive(Debug)]
pub(crate) struct PanicNet;

impl NetDevice for PanicNet {
    fn mac(&self) -> [u8; 6] {
        vtnet::in_panic(|net| net.mac()).unwrap_or_default()
    }

    fn mtu(&self) -> u32 {
        vtnet::in_panic(|net| net.mtu()).unwrap_or_default()
    }

    fn prepare(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        vtnet::in_panic(|net| net.prepare(timeout_ms)).unwrap_or(Err(DeviceError::Gone))
    }

    fn transmit(&mut self, frame: &[u8], timeout_ms: u32) -> Result<(), DeviceError> {
        vtnet::in_panic(|net| net.transmit(frame, timeout_ms)).unwrap_or(Err(DeviceError::Gone))
    }

    fn receive(&mut self, frame: &mut [u8]) -> Option<usize> {
        vtnet::in_panic(|net| net.receive(frame)).flatten()
    }

    fn pause(&mut self, us: u32) {
        vtnet::in_panic(|net| net.pause(us));
    }
}
