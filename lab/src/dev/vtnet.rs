//! The network: virtio-net, polled, for dumps alone.
//!
//! The running system does not use it. A dump resets it, gives it buffers for what comes in, and looks
//! at the queues. Frames are copied, so a buffer belongs to the device only while it is in a queue.

use crate::arch::layout::{PAGE_SIZE, dmap};
use crate::arch::time;
use crate::arch::time::Deadline;
use crate::dev::pci;
use crate::dev::virtio::{Piece, QUEUE_LEN, VENDOR, Virtio, VirtioError};
use crate::sys::console::printf;
use crate::sys::lock::SpinLock;
use crate::vm::phys;
use core::ptr;
use vmcore_format::addr::{PhysAddr, PhysRange};
use vmcore_writer::device::DeviceError;
use vmcore_writer::netdump::NetDevice;

/// A network device: transitional and modern.
const DEVICES: [u16; 2] = [0x1000, 0x1041];
/// Feature: the device knows its address, which its first registers hold.
const F_MAC: u32 = 1 << 5;
/// The queues: what comes in, what goes out.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// What is before each frame, in both directions: nothing that is of use here.
const HEADER_LEN: usize = 12;
/// Bytes of a buffer: a descriptor each.
const BUFFER: usize = 2048;
const BUFFERS: u64 = 2 * QUEUE_LEN as u64;
/// The most bytes of a packet, and of a frame around it.
const MTU: u32 = 1500;
const FRAME_MAX: usize = MTU as usize + 14;
/// How long the device may take for the reset at boot.
const TIMEOUT_MS: u32 = 1000;

/// The network device, if there is one.
static NET: SpinLock<Option<Net>> = SpinLock::new(c"vtnet", None);

/// A network device.
pub(crate) struct Net {
    virtio: Virtio<2>,
    mac: [u8; 6],
    /// Those that the device fills first, then those that it sends.
    buffers: PhysRange,
    /// Which of the latter it has, a bit each.
    sending: u64,
}

/// Looks for a network device.
pub(crate) fn init() {
    let Some(device) = pci::Device::find(VENDOR, &DEVICES) else {
        return;
    };
    let Some(virtio) = Virtio::attach(device) else {
        printf!("vtnet0: the device has no usable registers\n");
        return;
    };
    let buffers = phys::alloc_contiguous(BUFFERS * BUFFER as u64, PAGE_SIZE);
    phys::mark_no_dump(buffers);
    let mut net = Net {
        virtio,
        mac: [0; 6],
        buffers,
        sending: 0,
    };
    if let Err(error) = net.prepare(TIMEOUT_MS) {
        printf!("vtnet0: {error}\n");
        return;
    }
    let [a, b, c, d, e, f] = net.mac;
    printf!(
        "vtnet0: {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}, PCI slot {}\n",
        device.slot()
    );
    *NET.lock() = Some(net);
}

/// Whether there is one.
pub(crate) fn is_there() -> bool {
    NET.lock().is_some()
}

/// The memory that the driver shares with the device.
pub(crate) fn memory() -> [Option<PhysRange>; 3] {
    NET.lock().as_ref().map_or([None; 3], |net| {
        let queues = [RECEIVE, TRANSMIT].map(|queue| net.virtio.memory(queue));
        [Some(queues[0]), Some(queues[1]), Some(net.buffers)]
    })
}

/// Lets `work` use the device while everything else is stopped: no lock is taken.
pub(crate) fn in_panic<T>(work: impl FnOnce(&mut Net) -> T) -> Option<T> {
    // SAFETY: the other CPUs have stopped, this one is in the debugger or in the panic path, and
    // neither is entered twice. The device has no other user.
    unsafe { &mut *NET.contents() }.as_mut().map(work)
}

impl Net {
    /// A buffer of a queue.
    fn buffer(&self, queue: usize, index: u16) -> PhysAddr {
        let number = queue * usize::from(QUEUE_LEN) + usize::from(index % QUEUE_LEN);
        PhysAddr(self.buffers.start.0 + (number * BUFFER) as u64)
    }

    /// Gives the device a buffer for what comes in.
    fn offer_room(&mut self, index: u16) {
        let room = Piece {
            at: self.buffer(RECEIVE, index),
            len: BUFFER as u32,
            to_memory: true,
        };
        self.virtio.offer(RECEIVE, index, &[room]);
    }

    /// Waits until the device has sent everything.
    pub(crate) fn finish(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        let deadline = Deadline::after_us(u64::from(timeout_ms) * 1000);
        while self.sending != 0 {
            let answer = self.virtio.wait(TRANSMIT, deadline)?;
            self.sending &= !(1 << answer.first);
        }
        Ok(())
    }

    /// A buffer that the device does not have.
    fn free_buffer(&mut self, deadline: Deadline) -> Result<u16, VirtioError> {
        loop {
            while let Some(answer) = self.virtio.answered(TRANSMIT) {
                self.sending &= !(1 << answer.first);
            }
            if self.sending != u64::MAX {
                return Ok(self.sending.trailing_ones() as u16);
            }
            if deadline.has_passed() {
                return Err(VirtioError::Timeout);
            }
            core::hint::spin_loop();
        }
    }
}

impl NetDevice for Net {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> u32 {
        MTU
    }

    fn prepare(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        let deadline = Deadline::after_us(u64::from(timeout_ms) * 1000);
        if self.virtio.reset(F_MAC, deadline)? & F_MAC == 0 {
            return Err(DeviceError::Gone);
        }
        for (offset, byte) in self.mac.iter_mut().enumerate() {
            *byte = self.virtio.config.read8(offset);
        }
        self.sending = 0;
        for index in 0..QUEUE_LEN {
            self.offer_room(index);
        }
        self.virtio.ring(RECEIVE);
        Ok(())
    }

    fn transmit(&mut self, frame: &[u8], timeout_ms: u32) -> Result<(), DeviceError> {
        if frame.len() > FRAME_MAX {
            return Err(DeviceError::Gone);
        }
        let deadline = Deadline::after_us(u64::from(timeout_ms) * 1000);
        let index = self.free_buffer(deadline)?;
        let at = self.buffer(TRANSMIT, index);
        // SAFETY: the buffer is ours, the device does not have it, and the frame fits.
        unsafe {
            ptr::write_bytes(dmap(at), 0, HEADER_LEN);
            ptr::copy_nonoverlapping(frame.as_ptr(), dmap(at).add(HEADER_LEN), frame.len());
        }
        self.sending |= 1 << index;
        let whole = Piece {
            at,
            len: (HEADER_LEN + frame.len()) as u32,
            to_memory: false,
        };
        self.virtio.offer(TRANSMIT, index, &[whole]);
        self.virtio.ring(TRANSMIT);
        Ok(())
    }

    fn receive(&mut self, frame: &mut [u8]) -> Option<usize> {
        while let Some(answer) = self.virtio.answered(RECEIVE) {
            let len = (answer.len as usize).min(BUFFER).checked_sub(HEADER_LEN);
            let fits = len.filter(|len| *len <= frame.len());
            if let Some(len) = fits {
                let at = dmap(self.buffer(RECEIVE, answer.first));
                // SAFETY: the device has written the buffer and let go of it, and the frame fits.
                unsafe {
                    ptr::copy_nonoverlapping(at.add(HEADER_LEN), frame.as_mut_ptr(), len);
                }
            }
            self.offer_room(answer.first);
            self.virtio.ring(RECEIVE);
            if fits.is_some() {
                return fits;
            }
        }
        None
    }

    fn pause(&mut self, us: u32) {
        time::delay_us(u64::from(us));
    }
}
