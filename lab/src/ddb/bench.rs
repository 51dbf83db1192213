//! How fast the disk is, and how fast the work of a dump could be at best.
//!
//! Two loops write the same number of bytes in writes of the same size: one sends the same buffer
//! again and again, the other copies pages into a buffer, sums them, and sends that while it fills
//! another. The second is what a dump has to do at least; the dump's own rate is printed with it.

use crate::arch::{probe, time};
use crate::ddb::split;
use crate::dev::vtblk;
use crate::dump;
use crate::kern::console::printf;
use crate::kern::tunable;
use crate::vm::layout::{self, PAGE_SIZE};
use crate::vm::phys;
use core::slice;
use vmcore_format::addr::PhysAddr;
use vmcore_format::checksum::Checksum;
use vmcore_writer::device::{BlockDevice, DeviceError};

/// Bytes of a write.
const WRITE_BYTES: u64 = 256 << 10;
const TIMEOUT_MS: u32 = 10_000;
/// How often everything is measured, in turns: the machine has other work.
const ROUNDS: u32 = 5;

pub(super) fn command(what: &str) {
    let ("disk", mib) = split(what) else {
        printf!("bench disk [MIB]\n");
        return;
    };
    let bytes = tunable::parse(mib).unwrap_or(32) << 20;
    // The first half of the disk at most: a dump lies at its end.
    let bytes = bytes.min(vtblk::media_bytes() / 2) / WRITE_BYTES * WRITE_BYTES;
    if bytes == 0 {
        printf!("no disk, or a very small one\n");
        return;
    }
    let buffers = [buffer(), buffer()];
    let mut best = [0; 3];
    for _ in 0..ROUNDS {
        let rates = [
            timed(|| raw(bytes, &buffers)),
            timed(|| reference(bytes, &buffers)),
            dump::measure(),
        ];
        for (best, rate) in best.iter_mut().zip(rates) {
            *best = rate.unwrap_or(0).max(*best);
        }
    }
    let [raw, reference, dump] = best;
    printf!(
        "best of {ROUNDS} rounds, {} MiB each, writes of {} KiB\n",
        bytes >> 20,
        WRITE_BYTES >> 10
    );
    printf!("raw writes {raw} MB/s, reference {reference} MB/s, dump {dump} MB/s\n");
    printf!(
        "the dump has {}% of the reference's rate\n",
        dump * 100 / reference.max(1)
    );
}

/// Bytes in a microsecond; `None` if the disk failed.
fn timed(work: impl FnOnce() -> Result<u64, DeviceError>) -> Option<u64> {
    let start = time::uptime_us();
    let result = work().and_then(|bytes| flush().map(|()| bytes));
    let elapsed = (time::uptime_us() - start).max(1);
    match result {
        Ok(bytes) => Some(bytes / elapsed),
        Err(error) => {
            printf!("{error}\n");
            None
        }
    }
}

/// Memory for a write, which is not given back: benches are few.
fn buffer() -> &'static mut [u8] {
    // A page more, so that two buffers do not lie a power of two apart: the emulator's translation
    // cache is direct-mapped.
    let memory = phys::alloc_contiguous(WRITE_BYTES + PAGE_SIZE, PAGE_SIZE);
    // SAFETY: fresh memory, in the direct map, and nobody else's.
    unsafe { slice::from_raw_parts_mut(layout::dmap(memory.start), WRITE_BYTES as usize) }
}

fn flush() -> Result<(), DeviceError> {
    vtblk::in_panic(|disk| disk.flush(TIMEOUT_MS))
}

fn raw(bytes: u64, buffers: &[&'static mut [u8]; 2]) -> Result<u64, DeviceError> {
    vtblk::in_panic(|disk| disk.prepare(TIMEOUT_MS))?;
    for offset in (0..bytes).step_by(WRITE_BYTES as usize) {
        vtblk::in_panic(|disk| {
            disk.submit(offset, buffers[0])?;
            disk.complete(TIMEOUT_MS)
        })?;
    }
    Ok(bytes)
}

fn reference(bytes: u64, buffers: &[&'static mut [u8]; 2]) -> Result<u64, DeviceError> {
    vtblk::in_panic(|disk| disk.prepare(TIMEOUT_MS))?;
    // The memory that the load filled last: from the top down, as it was allocated.
    let mut page = phys::top().0;
    let mut sum = Checksum::new();
    let mut under_way = false;
    for (number, offset) in (0..bytes).step_by(WRITE_BYTES as usize).enumerate() {
        // SAFETY: the device reads the other buffer, if any.
        let filling = unsafe {
            &mut *buffers[number % 2]
                .as_ptr()
                .cast::<[u8; WRITE_BYTES as usize]>()
                .cast_mut()
        };
        for room in filling.chunks_exact_mut(PAGE_SIZE as usize) {
            page = page.saturating_sub(PAGE_SIZE).max(PAGE_SIZE);
            // An unreadable page is as good as any here.
            let _ = probe::copy(layout::dmap_address(PhysAddr(page)), room);
            sum.update(room);
        }
        if under_way {
            vtblk::in_panic(|disk| disk.complete(TIMEOUT_MS))?;
        }
        vtblk::in_panic(|disk| disk.submit(offset, filling))?;
        under_way = true;
    }
    core::hint::black_box(sum.value());
    vtblk::in_panic(|disk| disk.complete(TIMEOUT_MS))?;
    Ok(bytes)
}
