//! How fast disk and network are, and how near a dump comes to the least work that a dump must do.
//!
//! On the disk, three ways to put the same number of bytes on the disk, in writes of the same size, in turns:
//!
//! - *raw*: one buffer again and again, and a flush;
//! - *reference*: pages are copied into one of two buffers and summed while the other is written. As
//!   in a dump, a torn one must not pass for a whole one: a block is made invalid and flushed first,
//!   and after the data, and a flush, two blocks are written and flushed;
//! - *dump*: the dump itself.
//!
//! What is left between the last two is choosing the pages, the page tables and the bitmap.
//!
//! Over the network, two: *datagrams* of the size of netdump's, one after the other, which no host
//! answers; and the dump itself.

use crate::arch::layout::PAGE_SIZE;
use crate::arch::{layout, probe, time};
use crate::ddb::split;
use crate::dev::{vtblk, vtnet};
use crate::dump;
use crate::dump::config;
use crate::dump::config::Config;
use crate::sys::console::printf;
use crate::sys::tunable;
use crate::vm::phys;
use core::slice;
use vmcore_format::addr::PhysAddr;
use vmcore_format::checksum::Checksum;
use vmcore_format::inet::{Endpoint, encode_udp};
use vmcore_writer::device::{BlockDevice, DeviceError};
use vmcore_writer::netdump::NetDevice;
use vmcore_writer::reserve::STAGING_BYTES;

/// Bytes of a write.
const WRITE_BYTES: usize = STAGING_BYTES as usize;
const TIMEOUT_MS: u32 = 10_000;
/// How often each way is measured unless the person says otherwise, and at most.
const ROUNDS: usize = 25;
const MAX_ROUNDS: usize = 99;

/// Bytes of a full frame of netdump, and those of the dump in it.
const FRAME: usize = 1514;
const PAYLOAD: u64 = 1448;
/// The port of an abandoned service.
const DISCARD: u16 = 9;

type Buffers = [&'static mut [u8]; 2];

pub(super) fn command(what: &str) {
    let (what, rounds) = split(what);
    let rounds = tunable::parse(rounds).map_or(ROUNDS, |rounds| rounds as usize);
    let rounds = rounds.clamp(1, MAX_ROUNDS);
    match what {
        "disk" => disk(rounds),
        "net" => net(rounds),
        _ => printf!("bench disk | net [ROUNDS]\n"),
    }
}

/// Datagrams and dumps over the network, in turns.
fn net(rounds: usize) {
    let config = match config::over_network("") {
        Ok(config) => config.plain(),
        Err(why) => {
            printf!("{why}\n");
            return;
        }
    };
    let (mut sent, mut dumped) = ([0; MAX_ROUNDS], [0; MAX_ROUNDS]);
    let (sent, dumped) = (&mut sent[..rounds], &mut dumped[..rounds]);
    let mut bytes = 0;
    for (sent, dumped) in sent.iter_mut().zip(&mut *dumped) {
        let Some((len_bytes, dump)) = dump::measure(&config) else {
            printf!("no dump\n");
            return;
        };
        bytes = len_bytes;
        let Some(datagrams) = timed(bytes, || datagrams(bytes, &config)) else {
            return;
        };
        (*sent, *dumped) = (datagrams, dump);
    }
    let mib = bytes >> 20;
    printf!("{rounds} rounds, {mib} MiB each: median and best\n");
    for (name, rates) in [("datagrams", sent), ("dump", dumped)] {
        rates.sort_unstable();
        let (middle, best) = (rates[rounds / 2], rates[rounds - 1]);
        printf!("{name:<12}{middle:>6} {best:>6} MB/s\n");
    }
}

/// Sends as many datagrams as a dump of `bytes` takes to a closed port.
fn datagrams(bytes: u64, config: &Config) -> Result<(), DeviceError> {
    let config = config.network().ok_or(DeviceError::Gone)?;
    let mut frame = [0xa5; FRAME];
    let sent = vtnet::in_panic(|net| {
        net.prepare(TIMEOUT_MS)?;
        let from = Endpoint {
            mac: net.mac(),
            ip: config.client,
            port: config.client_port,
        };
        let to = Endpoint {
            mac: [0xff; 6],
            ip: config.server,
            port: DISCARD,
        };
        encode_udp(&mut frame, &from, &to).ok_or(DeviceError::Gone)?;
        for _ in 0..bytes.div_ceil(PAYLOAD) {
            net.transmit(&frame, TIMEOUT_MS)?;
        }
        net.finish(TIMEOUT_MS)
    });
    sent.unwrap_or(Err(DeviceError::Gone))
}

fn disk(rounds: usize) {
    let mut buffers = [buffer(), buffer()];
    let mut rates = [[0; MAX_ROUNDS]; 3];
    let mut shares = [0; MAX_ROUNDS];
    let mut bytes = 0;
    for round in 0..rounds {
        // The dump is first: the others write as much.
        let Some((len_bytes, dump)) = dump::measure(&Config::PLAIN_DISK) else {
            printf!("no dump\n");
            return;
        };
        bytes = len_bytes.next_multiple_of(WRITE_BYTES as u64);
        if bytes > vtblk::media_bytes() / 2 {
            printf!("the disk is too small: a dump is in its second half\n");
            return;
        }
        let (Some(raw), Some(reference)) = (
            timed(bytes, || raw(bytes, &buffers)),
            timed(bytes, || reference(bytes, &mut buffers)),
        ) else {
            return;
        };
        for (rates, rate) in rates.iter_mut().zip([raw, reference, dump]) {
            rates[round] = rate;
        }
        shares[round] = dump * 100 / reference.max(1);
    }
    for values in rates.iter_mut().chain([&mut shares]) {
        values[..rounds].sort_unstable();
    }
    printf!(
        "{rounds} rounds, {} MiB each, writes of {} KiB: median and best\n",
        bytes >> 20,
        WRITE_BYTES >> 10
    );
    let (middle, last) = (rounds / 2, rounds - 1);
    let names = ["raw writes", "reference", "dump"];
    for (name, rates) in names.iter().zip(&rates) {
        printf!("{name:<12}{:>6} {:>6} MB/s\n", rates[middle], rates[last]);
    }
    let [_, reference, dump] = &rates;
    let best = dump[last] * 100 / reference[last].max(1);
    printf!(
        "the dump has {}% of the reference's rate ({best}% of the best)\n",
        shares[middle]
    );
}

/// Bytes in a microsecond; `None` if the disk failed.
fn timed(bytes: u64, work: impl FnOnce() -> Result<(), DeviceError>) -> Option<u64> {
    let start = time::uptime_us();
    let result = work();
    let elapsed = (time::uptime_us() - start).max(1);
    match result {
        Ok(()) => Some(bytes / elapsed),
        Err(error) => {
            printf!("{error}\n");
            None
        }
    }
}

/// Memory for a write, which is not given back: benches are few. It is not zeros, for which disks
/// have short cuts.
fn buffer() -> &'static mut [u8] {
    let memory = phys::alloc_contiguous(WRITE_BYTES as u64, PAGE_SIZE);
    // SAFETY: fresh memory, in the direct map, and not shared.
    let buffer = unsafe { slice::from_raw_parts_mut(layout::dmap(memory.start), WRITE_BYTES) };
    buffer.fill(0xa5);
    buffer
}

fn prepare() -> Result<(), DeviceError> {
    vtblk::in_panic(|disk| disk.prepare(TIMEOUT_MS))
}

fn submit(offset: u64, data: &[u8]) -> Result<(), DeviceError> {
    vtblk::in_panic(|disk| disk.submit(offset, data))
}

fn complete() -> Result<(), DeviceError> {
    vtblk::in_panic(|disk| disk.complete(TIMEOUT_MS)).map(|_| ())
}

fn flush() -> Result<(), DeviceError> {
    vtblk::in_panic(|disk| disk.flush(TIMEOUT_MS))
}

fn raw(bytes: u64, buffers: &Buffers) -> Result<(), DeviceError> {
    prepare()?;
    for offset in (0..bytes).step_by(WRITE_BYTES) {
        submit(offset, buffers[0])?;
        complete()?;
    }
    flush()
}

fn reference(bytes: u64, buffers: &mut Buffers) -> Result<(), DeviceError> {
    let block = vtblk::in_panic(|disk| Ok(disk.geometry().block_bytes))? as usize;
    let [filling, other] = buffers;
    let (mut filling, mut other) = (&mut **filling, &mut **other);
    let (first, last) = (bytes, bytes + block as u64);
    prepare()?;
    submit(last, &other[..block])?;
    complete()?;
    flush()?;
    // The memory that the load filled last: from the top down, as it was allocated.
    let mut page = phys::top().0;
    let mut sum = Checksum::new();
    for offset in (0..bytes).step_by(WRITE_BYTES) {
        for room in filling.chunks_exact_mut(PAGE_SIZE as usize) {
            page = page.saturating_sub(PAGE_SIZE).max(PAGE_SIZE);
            // An unreadable page is as good as any here.
            let _ = probe::copy(layout::dmap_address(PhysAddr(page)), room);
            sum.update(room);
        }
        if offset > 0 {
            complete()?;
        }
        submit(offset, filling)?;
        core::mem::swap(&mut filling, &mut other);
    }
    core::hint::black_box(sum.value());
    complete()?;
    flush()?;
    for offset in [first, last] {
        submit(offset, &other[..block])?;
        complete()?;
    }
    flush()
}
