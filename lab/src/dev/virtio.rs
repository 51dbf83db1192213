//! A virtio device on the PCI bus, driven by polling (virtio 1.x, split queues).
//!
//! Each queue has a page that was set aside at boot. A request that is not answered in time is not
//! waited for any longer: the device is reset, and touches memory no more.

use crate::arch::layout::{PAGE_SIZE, dmap};
use crate::arch::mmio::Mmio;
use crate::arch::time::Deadline;
use crate::dev::pci::{CAP_VENDOR, Device};
use crate::vm::{phys, pmap};
use core::ptr;
use core::sync::atomic::{AtomicU16, Ordering, fence};
use vmcore_format::addr::{PhysAddr, PhysRange};
use vmcore_writer::device::DeviceError;

/// Who makes these devices, on the PCI bus.
pub(crate) const VENDOR: u16 = 0x1af4;
/// Kinds of register windows.
const CFG_COMMON: u8 = 1;
const CFG_NOTIFY: u8 = 2;
const CFG_DEVICE: u8 = 4;

/// Registers of the common window.
const DEVICE_FEATURE_SELECT: usize = 0;
const DEVICE_FEATURE: usize = 4;
const DRIVER_FEATURE_SELECT: usize = 8;
const DRIVER_FEATURE: usize = 12;
const DEVICE_STATUS: usize = 20;
const QUEUE_SELECT: usize = 22;
const QUEUE_SIZE: usize = 24;
const QUEUE_ENABLE: usize = 28;
const QUEUE_NOTIFY_OFF: usize = 30;
const QUEUE_DESC: usize = 32;
const QUEUE_DRIVER: usize = 40;
const QUEUE_DEVICE: usize = 48;

const STATUS_ACKNOWLEDGE: u8 = 1;
const STATUS_DRIVER: u8 = 2;
const STATUS_DRIVER_OK: u8 = 4;
const STATUS_FEATURES_OK: u8 = 8;
/// Virtio 1.0, which is bit 0 of the second word of features.
const VERSION_1: u32 = 1;

/// Descriptors in a queue.
pub(crate) const QUEUE_LEN: u16 = 64;
const DESC_NEXT: u16 = 1;
/// The device writes there.
const DESC_WRITE: u16 = 2;
/// The device's interrupts are not used.
const NO_INTERRUPT: u16 = 1;
/// The device is looking at the queue as it is.
const NO_NOTIFY: u16 = 1;

/// Offsets in the page of a queue.
const AT_AVAILABLE: usize = 1024;
const AT_USED: usize = 1536;
/// Where the driver keeps the small parts of its request.
const AT_SCRATCH: u64 = 3072;

const _: () = assert!(
    size_of::<Descriptor>() * QUEUE_LEN as usize <= AT_AVAILABLE
        && AT_AVAILABLE + 6 + 2 * QUEUE_LEN as usize <= AT_USED
        && AT_USED + 6 + 8 * QUEUE_LEN as usize <= AT_SCRATCH as usize
);

#[repr(C)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// A piece of a request.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) at: PhysAddr,
    pub(crate) len: u32,
    /// Whether the device writes it.
    pub(crate) to_memory: bool,
}

/// The device did not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VirtioError {
    /// It did not answer in time.
    Timeout,
    /// It does not take what the driver needs.
    Refused,
}

impl From<VirtioError> for DeviceError {
    fn from(error: VirtioError) -> Self {
        match error {
            VirtioError::Timeout => Self::Timeout,
            VirtioError::Refused => Self::Gone,
        }
    }
}

/// What the device has done with a request.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    /// The request's first descriptor.
    pub(crate) first: u16,
    /// Bytes that the device wrote.
    pub(crate) len: u32,
}

/// A queue: the page that holds it, and how far both sides are.
struct Queue {
    page: PhysRange,
    /// Where it is rung.
    doorbell: usize,
    /// Requests made and answered since the last reset.
    available: u16,
    used: u16,
}

/// A device, and its queues.
pub(crate) struct Virtio<const QUEUES: usize> {
    common: Mmio,
    notify: Mmio,
    notify_multiplier: u32,
    pub(crate) config: Mmio,
    queues: [Queue; QUEUES],
}

impl<const QUEUES: usize> Virtio<QUEUES> {
    /// Finds the windows of a device's registers and maps them.
    pub(crate) fn attach(device: Device) -> Option<Self> {
        device.enable();
        let mut virtio = Self {
            common: Mmio::new(),
            notify: Mmio::new(),
            notify_multiplier: 0,
            config: Mmio::new(),
            queues: core::array::from_fn(|_| Queue {
                page: phys::alloc_contiguous(PAGE_SIZE, PAGE_SIZE),
                doorbell: 0,
                available: 0,
                used: 0,
            }),
        };
        let mut found = 0u8;
        for at in device.capabilities(CAP_VENDOR) {
            let kind = (device.read(at) >> 24) as u8;
            let bar = device.read(at + 4) as u8;
            let (offset, len) = (device.read(at + 8), device.read(at + 12));
            let window = match kind {
                CFG_COMMON => &virtio.common,
                CFG_NOTIFY => {
                    virtio.notify_multiplier = device.read(at + 16);
                    &virtio.notify
                }
                CFG_DEVICE => &virtio.config,
                _ => continue,
            };
            let base = PhysAddr(device.bar(bar)?.0 + u64::from(offset));
            window.set(pmap::map_device(base, u64::from(len)), len as usize);
            found |= 1 << kind;
        }
        let all = 1 << CFG_COMMON | 1 << CFG_NOTIFY | 1 << CFG_DEVICE;
        (found == all).then_some(virtio)
    }

    /// The memory of a queue.
    pub(crate) fn memory(&self, queue: usize) -> PhysRange {
        self.queues[queue].page
    }

    /// Physical address of memory that the driver may use for itself.
    pub(crate) fn scratch(&self) -> PhysAddr {
        PhysAddr(self.queues[0].page.start.0 + AT_SCRATCH)
    }

    /// Resets the device: whatever it was doing has ended when this returns. Then makes it ready, with
    /// those of `features` (of the first 32) that it has; returns them.
    pub(crate) fn reset(&mut self, features: u32, deadline: Deadline) -> Result<u32, VirtioError> {
        self.common.write8(DEVICE_STATUS, 0);
        while self.common.read8(DEVICE_STATUS) != 0 {
            if deadline.has_passed() {
                return Err(VirtioError::Timeout);
            }
        }
        let mut status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
        self.common.write8(DEVICE_STATUS, status);
        self.common.write(DEVICE_FEATURE_SELECT, 0);
        let features = features & self.common.read(DEVICE_FEATURE);
        self.common.write(DEVICE_FEATURE_SELECT, 1);
        if self.common.read(DEVICE_FEATURE) & VERSION_1 == 0 {
            return Err(VirtioError::Refused);
        }
        for (select, value) in [(0, features), (1, VERSION_1)] {
            self.common.write(DRIVER_FEATURE_SELECT, select);
            self.common.write(DRIVER_FEATURE, value);
        }
        status |= STATUS_FEATURES_OK;
        self.common.write8(DEVICE_STATUS, status);
        if self.common.read8(DEVICE_STATUS) & STATUS_FEATURES_OK == 0 {
            return Err(VirtioError::Refused);
        }
        for (index, queue) in (0..).zip(&mut self.queues) {
            self.common.write16(QUEUE_SELECT, index);
            if self.common.read16(QUEUE_SIZE) < QUEUE_LEN {
                return Err(VirtioError::Refused);
            }
            queue.clear();
            self.common.write16(QUEUE_SIZE, QUEUE_LEN);
            let page = queue.page.start.0;
            self.common.write64(QUEUE_DESC, page);
            self.common
                .write64(QUEUE_DRIVER, page + AT_AVAILABLE as u64);
            self.common.write64(QUEUE_DEVICE, page + AT_USED as u64);
            let offset = u32::from(self.common.read16(QUEUE_NOTIFY_OFF));
            queue.doorbell = (offset * self.notify_multiplier) as usize;
            self.common.write16(QUEUE_ENABLE, 1);
        }
        self.common.write8(DEVICE_STATUS, status | STATUS_DRIVER_OK);
        Ok(features)
    }

    /// Offers a request in the descriptors from `first` on, which the device does not have. It may
    /// not notice before it is rung.
    pub(crate) fn offer(&mut self, queue: usize, first: u16, pieces: &[Piece]) {
        self.queues[queue].offer(first, pieces);
    }

    /// Tells the device to look at a queue, unless it says that it does so anyway.
    pub(crate) fn ring(&self, queue: usize) {
        fence(Ordering::SeqCst);
        let doorbell = self.queues[queue].doorbell;
        if self.queues[queue].field(AT_USED).load(Ordering::Relaxed) & NO_NOTIFY == 0 {
            self.notify.write16(doorbell, queue as u16);
        }
    }

    /// The next request that the device has done.
    pub(crate) fn answered(&mut self, queue: usize) -> Option<Answer> {
        self.queues[queue].answered()
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self, queue: usize) -> bool {
        self.queues[queue].available != self.queues[queue].used
    }

    /// Waits until a request that is under way is answered.
    pub(crate) fn wait(&mut self, queue: usize, deadline: Deadline) -> Result<Answer, VirtioError> {
        loop {
            if let Some(answer) = self.answered(queue) {
                return Ok(answer);
            }
            if deadline.has_passed() {
                return Err(VirtioError::Timeout);
            }
            core::hint::spin_loop();
        }
    }
}

impl Queue {
    /// Makes it empty.
    fn clear(&mut self) {
        // SAFETY: the page is ours, and the device, which was reset, has let go of it.
        unsafe { ptr::write_bytes(dmap(self.page.start), 0, PAGE_SIZE as usize) }
        (self.available, self.used) = (0, 0);
        self.field(AT_AVAILABLE)
            .store(NO_INTERRUPT, Ordering::Relaxed);
    }

    /// A field of the queue's page.
    fn field(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: the page is ours forever, and the field is in it; the device changes it as
        // another CPU would.
        unsafe { &*dmap(self.page.start).add(offset).cast::<AtomicU16>() }
    }

    fn offer(&mut self, first: u16, pieces: &[Piece]) {
        for (index, piece) in (first..QUEUE_LEN).zip(pieces) {
            let is_last = usize::from(index - first) + 1 == pieces.len();
            let next = if is_last { 0 } else { DESC_NEXT };
            let write = if piece.to_memory { DESC_WRITE } else { 0 };
            let descriptor = Descriptor {
                address: piece.at.0,
                len: piece.len,
                flags: next | write,
                next: if is_last { 0 } else { index + 1 },
            };
            // SAFETY: the table is at the start of the page, which is ours; the device does not
            // look at it before it is told of the request.
            unsafe {
                dmap(self.page.start)
                    .cast::<Descriptor>()
                    .add(usize::from(index))
                    .write_volatile(descriptor);
            }
        }
        let slot = usize::from(self.available % QUEUE_LEN);
        self.field(AT_AVAILABLE + 4 + 2 * slot)
            .store(first, Ordering::Relaxed);
        self.available = self.available.wrapping_add(1);
        self.field(AT_AVAILABLE + 2)
            .store(self.available, Ordering::Release);
    }

    fn answered(&mut self) -> Option<Answer> {
        if self.field(AT_USED + 2).load(Ordering::Acquire) == self.used {
            return None;
        }
        // Two words of 32 bits each: the descriptor, and the bytes.
        let at = AT_USED + 4 + 8 * usize::from(self.used % QUEUE_LEN);
        let half = |at: usize| self.field(at).load(Ordering::Relaxed);
        let answer = Answer {
            first: half(at) % QUEUE_LEN,
            len: u32::from(half(at + 4)) | u32::from(half(at + 6)) << 16,
        };
        self.used = self.used.wrapping_add(1);
        Some(answer)
    }
}
