//! The disk: virtio-blk, polled from the first request to the last.
//!
//! There is no interrupt path that a panic would have to avoid: the running system uses the same few
//! lines as the dump. In a panic the dump resets the device first, so that a request that was under
//! way, and the threads that waited for it, are forgotten.

use crate::arch::layout;
use crate::arch::layout::dmap;
use crate::arch::time::Deadline;
use crate::dev::pci;
use crate::dev::virtio::{Piece, VENDOR, Virtio};
use crate::sys::console::printf;
use crate::sys::lock::SpinLock;
use core::sync::atomic::{AtomicBool, Ordering};
use vmcore_format::addr::{PhysAddr, PhysRange};
use vmcore_writer::device::{BlockDevice, DeviceError, Geometry};

/// A block device: transitional and modern.
const DEVICES: [u16; 2] = [0x1001, 0x1042];
/// Features: the disk says how large its blocks are, and has a cache that can be flushed.
const F_BLK_SIZE: u32 = 1 << 6;
const F_FLUSH: u32 = 1 << 9;
/// Registers of the device.
const CONFIG_CAPACITY: usize = 0;
const CONFIG_BLK_SIZE: usize = 20;
/// Capacity and request positions count in these, whatever the block size.
const SECTOR: u64 = 512;

/// The only queue: one request at a time.
const REQUESTS: usize = 0;
const REQUEST_OUT: u32 = 1;
const REQUEST_FLUSH: u32 = 4;
/// What the status byte holds until the device writes it.
const STATUS_NONE: u8 = 0xff;
const STATUS_OK: u8 = 0;

/// The most bytes of a write: more gives no more speed.
pub(crate) const MAX_TRANSFER: u32 = 1 << 20;
/// How long a request of the running system may take.
const TIMEOUT_MS: u32 = 10_000;

/// The disk, if there is one.
static DISK: SpinLock<Option<Disk>> = SpinLock::new(c"vtblk", None);
/// The next write panics in the driver.
static PANICS: AtomicBool = AtomicBool::new(false);

/// A disk.
pub(crate) struct Disk {
    virtio: Virtio<1>,
    geometry: Geometry,
    has_flush: bool,
    /// Bytes of the write that is under way.
    writing: usize,
}

#[repr(C)]
struct RequestHeader {
    kind: u32,
    reserved: u32,
    sector: u64,
}

/// Looks for a disk.
pub(crate) fn init() {
    let Some(device) = pci::Device::find(VENDOR, &DEVICES) else {
        printf!("vtblk0: no disk\n");
        return;
    };
    let Some(virtio) = Virtio::attach(device) else {
        printf!("vtblk0: the disk has no usable registers\n");
        return;
    };
    let mut disk = Disk {
        virtio,
        geometry: Geometry {
            block_bytes: SECTOR as u32,
            max_transfer_bytes: MAX_TRANSFER,
            media_offset: 0,
            media_bytes: 0,
        },
        has_flush: false,
        writing: 0,
    };
    if let Err(error) = disk.prepare(TIMEOUT_MS) {
        printf!("vtblk0: {error}\n");
        return;
    }
    let mib = disk.geometry.media_bytes >> 20;
    let block = disk.geometry.block_bytes;
    printf!(
        "vtblk0: {mib} MiB, blocks of {block} bytes, PCI slot {}\n",
        device.slot()
    );
    *DISK.lock() = Some(disk);
}

/// The size of the disk in bytes; 0 if there is none.
pub(crate) fn media_bytes() -> u64 {
    DISK.lock()
        .as_ref()
        .map_or(0, |disk| disk.geometry.media_bytes)
}

/// The memory that the driver shares with the disk.
pub(crate) fn memory() -> Option<PhysRange> {
    DISK.lock()
        .as_ref()
        .map(|disk| disk.virtio.memory(REQUESTS))
}

/// Lets `work` use the disk, if there is one.
pub(crate) fn with<T>(work: impl FnOnce(&mut Disk) -> T) -> Option<T> {
    DISK.lock().as_mut().map(work)
}

/// Lets `work` use the disk while everything else is stopped: no lock is taken.
pub(crate) fn in_panic<T>(
    work: impl FnOnce(&mut Disk) -> Result<T, DeviceError>,
) -> Result<T, DeviceError> {
    // SAFETY: the other CPUs have stopped, this one is in the debugger or in the panic path, and
    // neither is entered twice. The previous user of the disk never goes on, or finds it reset.
    match unsafe { &mut *DISK.contents() } {
        Some(disk) => work(disk),
        None => Err(DeviceError::Gone),
    }
}

/// Writes, and panics between handing the request over and its answer.
pub(crate) fn panic_in_driver() {
    PANICS.store(true, Ordering::Release);
    let page = crate::vm::phys::alloc_page(false);
    // SAFETY: the page is ours, and the direct map covers it.
    let data = unsafe { core::slice::from_raw_parts(dmap(page), layout::PAGE_SIZE as usize) };
    let written = with(|disk| disk.submit(0, data));
    printf!("vtblk0: no panic in the driver: {written:?}\n");
}

impl Disk {
    /// Hands a request over: header, data, and a byte for the answer.
    fn start(&mut self, kind: u32, sector: u64, data: &[u8]) -> Result<(), DeviceError> {
        if self.virtio.is_busy(REQUESTS) {
            return Err(DeviceError::Gone);
        }
        let header = self.virtio.scratch();
        let status = PhysAddr(header.0 + size_of::<RequestHeader>() as u64);
        let request = RequestHeader {
            kind,
            reserved: 0,
            sector,
        };
        // SAFETY: the driver's own memory, which the device is not using: nothing is under way.
        unsafe {
            dmap(header).cast::<RequestHeader>().write_volatile(request);
            dmap(status).write_volatile(STATUS_NONE);
        }
        let head = Piece {
            at: header,
            len: size_of::<RequestHeader>() as u32,
            to_memory: false,
        };
        let answer = Piece {
            at: status,
            len: 1,
            to_memory: true,
        };
        if data.is_empty() {
            self.virtio.offer(REQUESTS, 0, &[head, answer]);
        } else {
            let at = data.as_ptr().addr() as u64;
            let body = Piece {
                at: layout::physical(at).ok_or(DeviceError::Gone)?,
                len: data.len() as u32,
                to_memory: false,
            };
            self.virtio.offer(REQUESTS, 0, &[head, body, answer]);
        }
        self.virtio.ring(REQUESTS);
        assert!(
            !PANICS.load(Ordering::Acquire),
            "vtblk0: state is inconsistent"
        );
        Ok(())
    }

    /// Waits for the answer. After a timeout the device is reset: it must not read the buffer any
    /// more when it is used again.
    fn finish(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        let deadline = Deadline::after_us(u64::from(timeout_ms) * 1000);
        if let Err(error) = self.virtio.wait(REQUESTS, deadline) {
            self.prepare(timeout_ms)?;
            return Err(error.into());
        }
        let status = self.virtio.scratch().0 + size_of::<RequestHeader>() as u64;
        // SAFETY: the device has written its answer into the driver's own memory.
        match unsafe { dmap(PhysAddr(status)).read_volatile() } {
            STATUS_OK => Ok(()),
            error => Err(DeviceError::Io(error.into())),
        }
    }
}

impl BlockDevice for Disk {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn prepare(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        PANICS.store(false, Ordering::Release);
        let deadline = Deadline::after_us(u64::from(timeout_ms) * 1000);
        let features = self.virtio.reset(F_BLK_SIZE | F_FLUSH, deadline)?;
        self.has_flush = features & F_FLUSH != 0;
        let config = &self.virtio.config;
        let low = u64::from(config.read(CONFIG_CAPACITY));
        let high = u64::from(config.read(CONFIG_CAPACITY + 4));
        self.geometry.media_bytes = (high << 32 | low) * SECTOR;
        if features & F_BLK_SIZE != 0 {
            self.geometry.block_bytes = config.read(CONFIG_BLK_SIZE);
        }
        Ok(())
    }

    fn submit(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.writing = data.len();
        self.start(REQUEST_OUT, offset / SECTOR, data)
    }

    fn complete(&mut self, timeout_ms: u32) -> Result<usize, DeviceError> {
        self.finish(timeout_ms)?;
        Ok(self.writing)
    }

    fn flush(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        if !self.has_flush {
            return Ok(());
        }
        self.start(REQUEST_FLUSH, 0, &[])?;
        self.finish(timeout_ms)
    }
}
