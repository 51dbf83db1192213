//! The message buffer: what the kernel said, in a ring that survives into the dump.
//!
//! `struct msgbuf` is at the end of the memory that holds the ring, in the direct map: a dump
//! carries the ring as its own section, and the structure in the slack after it.

use crate::arch::layout::{PAGE_SIZE, dmap, dmap_address};
use crate::sys::tunable;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use vmcore_format::addr::{PhysAddr, PhysRange, VirtAddr};
use vmcore_format::msgbuf::MSG_MAGIC;

/// Sequence numbers run modulo this many rings.
const SEQMOD: u32 = 16;
const MSGBUF_NEEDNL: u32 = 1;
const MSGBUF_WRAP: u32 = 2;

#[repr(C)]
pub(crate) struct msgbuf {
    msg_ptr: AtomicPtr<AtomicU8>,
    msg_magic: AtomicU32,
    msg_size: u32,
    msg_wseq: AtomicU32,
    msg_rseq: AtomicU32,
    msg_cksum: AtomicU32,
    msg_seqmod: u32,
    msg_lastpri: AtomicI32,
    msg_flags: AtomicU32,
    msg_lock: [AtomicU64; 4],
}

const _: () = assert!(size_of::<msgbuf>() == 72);

/// The structure; null until there is memory for it.
#[unsafe(no_mangle)]
static msgbufp: AtomicPtr<msgbuf> = AtomicPtr::new(ptr::null_mut());
/// Bytes of ring and structure.
#[unsafe(no_mangle)]
static msgbufsize: AtomicI32 = AtomicI32::new(98304);

/// Makes the buffer in zeroed memory that `alloc` returns for a number of bytes.
pub(crate) fn init(alloc: impl FnOnce(u64) -> PhysRange) {
    if let Some(size) = tunable::number("kern.msgbufsize") {
        let size = size.clamp(PAGE_SIZE, 1 << 20).next_multiple_of(PAGE_SIZE);
        msgbufsize.store(size as i32, Ordering::Relaxed);
    }
    let len = msgbufsize.load(Ordering::Relaxed).unsigned_abs();
    let memory = alloc(u64::from(len));
    let size = len - size_of::<msgbuf>() as u32;
    let ring = dmap(memory.start);
    let at = ring.wrapping_add(size as usize).cast::<msgbuf>();
    // SAFETY: the memory is ours, zeroed, and has room for ring and structure; sizes are multiples
    // of eight.
    unsafe {
        at.write(msgbuf {
            msg_ptr: AtomicPtr::new(ring.cast()),
            msg_magic: AtomicU32::new(MSG_MAGIC),
            msg_size: size,
            msg_wseq: AtomicU32::new(0),
            msg_rseq: AtomicU32::new(0),
            msg_cksum: AtomicU32::new(0),
            msg_seqmod: size * SEQMOD,
            msg_lastpri: AtomicI32::new(-1),
            msg_flags: AtomicU32::new(0),
            msg_lock: [const { AtomicU64::new(0) }; 4],
        });
    }
    msgbufp.store(at, Ordering::Release);
}

fn get() -> Option<&'static msgbuf> {
    // SAFETY: what is not null was made by `init` and lives forever.
    unsafe { msgbufp.load(Ordering::Acquire).as_ref() }
}

/// Adds text; under the console's lock.
pub(crate) fn add(text: &str) {
    let Some(buffer) = get() else {
        return;
    };
    let ring = buffer.msg_ptr.load(Ordering::Relaxed);
    for byte in text.bytes() {
        let seq = buffer.msg_wseq.load(Ordering::Relaxed);
        let position = seq % buffer.msg_size;
        // SAFETY: the position is in the ring.
        let slot = unsafe { &*ring.add(position as usize) };
        let old = slot.swap(byte, Ordering::Relaxed);
        let sum = buffer.msg_cksum.load(Ordering::Relaxed);
        let sum = sum
            .wrapping_add(u32::from(byte))
            .wrapping_sub(u32::from(old));
        buffer.msg_cksum.store(sum, Ordering::Relaxed);
        let next = (seq + 1) % buffer.msg_seqmod;
        let mut flags = buffer.msg_flags.load(Ordering::Relaxed) & !MSGBUF_NEEDNL;
        if byte != b'\n' {
            flags |= MSGBUF_NEEDNL;
        }
        if position + 1 == buffer.msg_size {
            flags |= MSGBUF_WRAP;
        }
        buffer.msg_flags.store(flags, Ordering::Relaxed);
        buffer.msg_wseq.store(next, Ordering::Relaxed);
    }
}

/// Where the ring is, and its bytes.
pub(crate) fn ring() -> Option<(VirtAddr, u32)> {
    let buffer = get()?;
    let at = buffer.msg_ptr.load(Ordering::Relaxed).addr() as u64;
    Some((VirtAddr(at), buffer.msg_size))
}

/// The buffer in numbers: magic, size, read and write position, checksum.
pub(crate) fn numbers() -> Option<[u32; 5]> {
    let buffer = get()?;
    Some([
        buffer.msg_magic.load(Ordering::Relaxed),
        buffer.msg_size,
        buffer.msg_rseq.load(Ordering::Relaxed),
        buffer.msg_wseq.load(Ordering::Relaxed),
        buffer.msg_cksum.load(Ordering::Relaxed),
    ])
}

/// Shows the text from the oldest byte to the newest.
pub(crate) fn for_each_byte(mut show: impl FnMut(u8)) {
    let Some(buffer) = get() else {
        return;
    };
    let ring = buffer.msg_ptr.load(Ordering::Relaxed);
    let wseq = buffer.msg_wseq.load(Ordering::Relaxed);
    let wrapped = buffer.msg_flags.load(Ordering::Relaxed) & MSGBUF_WRAP != 0;
    let count = if wrapped { buffer.msg_size } else { wseq };
    for offset in 0..count {
        let seq = if wrapped { wseq + offset } else { offset };
        // SAFETY: the position is in the ring.
        let slot = unsafe { &*ring.add((seq % buffer.msg_size) as usize) };
        show(slot.load(Ordering::Relaxed));
    }
}

/// Where the structure is, for the debugger.
pub(crate) fn address() -> VirtAddr {
    VirtAddr(msgbufp.load(Ordering::Relaxed).addr() as u64)
}

/// Physical start of the ring.
pub(crate) fn physical() -> Option<PhysAddr> {
    let (at, _) = ring()?;
    Some(PhysAddr(at.0 - dmap_address(PhysAddr(0)).0))
}
