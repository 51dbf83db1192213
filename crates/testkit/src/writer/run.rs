//! Runs the writer on a simulated machine.

use super::disk::{Disk, State};
use super::sim::{Sim, ix};
use std::rc::Rc;
use vmcore_writer::arch::KernelPaging;
use vmcore_writer::disk::DiskSink;
use vmcore_writer::latch::Owner;
use vmcore_writer::reserve::reserve_size;
use vmcore_writer::settings::{Patience, Settings};
use vmcore_writer::writer::Summary;
use vmcore_writer::{DumpError, Latch, Sink, Writer};
use zerocopy::IntoBytes;

/// What FreeBSD's own kernel writes, and no more but what every dump of ours has.
pub fn settings(version: Option<u32>) -> Settings {
    Settings {
        version,
        self_describing: false,
        ..Settings::default()
    }
}

/// Full dumps.
pub fn full() -> Settings {
    Settings {
        minidump: false,
        self_describing: false,
        ..Settings::default()
    }
}

/// A dump of `sim` into any sink.
pub fn into_sink<P: KernelPaging, S: Sink>(
    sim: &Sim<P>,
    settings: Settings,
    sink: &mut S,
) -> Result<Summary, DumpError> {
    let latch = Latch::new();
    owned(&latch.enter().unwrap(), sim, settings, sink)
}

/// The same for an owner of the latch.
pub fn owned<P: KernelPaging, S: Sink>(
    owner: &Owner<'_>,
    sim: &Sim<P>,
    settings: Settings,
    sink: &mut S,
) -> Result<Summary, DumpError> {
    let len = reserve_size(P::PAGE_SIZE, &sim.ranges).unwrap().len_bytes;
    let mut memory = vec![0xaaaa_aaaa_aaaa_aaaau64; ix(len) / 8];
    let mut writer = Writer::new(&sim.map, settings, memory.as_mut_bytes()).unwrap();
    writer.dump(owner, sim, sink)
}

/// A dump of `sim` on a disk, and the disk.
pub fn onto_disk<P: KernelPaging>(
    sim: &Sim<P>,
    settings: Settings,
    disk: Disk,
) -> (Result<Summary, DumpError>, Rc<State>) {
    let state = Rc::clone(&disk.state);
    let mut sink = DiskSink::new(
        disk,
        Patience {
            attempts: 3,
            timeout_ms: 10,
        },
    );
    (into_sink(sim, settings, &mut sink), state)
}

/// A dump of `sim` as a file.
pub fn dump<P: KernelPaging>(sim: &Sim<P>, settings: Settings) -> (Summary, Vec<u8>) {
    // Room for all RAM, and for the largest page-table section of the tests.
    let ram: u64 = sim.ranges.iter().map(|range| range.len_bytes()).sum();
    let media = (12 << 20) + ix(ram.next_multiple_of(1 << 20));
    let (result, state) = onto_disk(sim, settings, Disk::new(media, 512));
    let summary = result.unwrap();
    assert!(
        state.cached.borrow().is_empty(),
        "the last write was not flushed"
    );
    let file = recover(&state.media(), 512).expect("a dump");
    assert_eq!(file.len() as u64, summary.len_bytes);
    (summary, file)
}

/// What savecore would find on media: both headers, intact and equal, and what is between them.
pub fn recover(media: &[u8], block: usize) -> Option<Vec<u8>> {
    let be = |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let trailer_at = media.len() - block;
    let trailer = &media[trailer_at..][..512];
    if !trailer.starts_with(b"FreeBSD Kernel Dump\0") {
        return None;
    }
    let words = trailer
        .chunks(4)
        .map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
    if words.fold(0, |sum, word| sum ^ word) != 0 {
        return None;
    }
    assert_eq!(trailer[32..36], [0, 0, 0, 4]);
    let (length, extent) = (ix(be(trailer, 40)), ix(be(trailer, 496)));
    let data_at = trailer_at - extent;
    let leader = &media[data_at - block..][..512];
    (leader == trailer).then(|| media[data_at..data_at + length].to_vec())
}
