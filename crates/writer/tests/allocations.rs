//! A dump allocates nothing, whatever it goes through: the kernel of the proof, whose machine, disk
//! and network allocate nothing either, on an allocator that counts.
//!
//! No harness: its other thread would allocate meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

use peak_alloc::PeakAlloc;
use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use vmcore_format::paging::Amd64;
use vmcore_writer::arch::KernelPaging as _;
use vmcore_writer::disk::DiskSink;
use vmcore_writer::gzip::{GZIP_MEMORY_BYTES, Gzip};
use vmcore_writer::reserve::reserve_size;
use vmcore_writer::settings::{Patience, Settings};
use vmcore_writer::{DumpMap, Latch, Sink, Writer};
use vmcore_writer_proof::kernel::{Disk, NO_RANGE, RANGES, Ram, Toy};
use vmcore_writer_proof::layers::{self, Memory, WAYS};
use zerocopy::IntoBytes as _;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The most bytes that were allocated at a time while `work` ran.
fn allocated(work: impl FnOnce()) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    work();
    ALLOCATOR.peak_usage() - before
}

/// Dumps the toy kernel to `sink`, and returns the bytes that were allocated for it.
fn dump(minidump: bool, sink: &mut dyn Sink) -> usize {
    let mut numbered = [NO_RANGE; 2];
    let words = [const { AtomicU64::new(0) }; 8];
    let map = DumpMap::new(Amd64::PAGE_SIZE, &RANGES, &mut numbered, &words).unwrap();
    let reserve = reserve_size(Amd64::PAGE_SIZE, &RANGES).unwrap();
    let len = usize::try_from(reserve.len_bytes).unwrap();
    let mut memory = vec![0u64; len / 8];
    let settings = Settings {
        minidump,
        ..Settings::default()
    };
    let mut writer = Writer::new(&map, settings, memory.as_mut_bytes()).unwrap();
    let mut ram = Box::new(Ram::EMPTY);
    let toy = Toy::<Amd64>::new(&mut ram);
    let latch = Latch::new();
    let owner = latch.enter().unwrap();
    let mut sink = sink;
    let mut written = None;
    let allocated = allocated(|| written = Some(writer.dump(&owner, &toy, &mut sink)));
    let written = written.unwrap();
    assert!(written.is_ok(), "{written:?}");
    allocated
}

fn main() {
    assert_eq!(allocated(|| drop(black_box(Box::new(7u64)))), 8);
    for minidump in [true, false] {
        let mut disk = DiskSink::new(Disk::new(), Patience::default());
        assert_eq!(dump(minidump, &mut disk), 0, "plain");
        let mut room = vec![0; GZIP_MEMORY_BYTES];
        let mut gzip = Gzip::new(disk, 1, &mut room).unwrap();
        assert_eq!(dump(minidump, &mut gzip), 0, "gzip");
        for (way, name) in WAYS {
            let mut memory = Box::new(Memory::EMPTY);
            let used = layers::with(&mut memory, way, &mut |sink| dump(minidump, sink));
            assert_eq!(used, Some(0), "{name}");
        }
    }
    println!("no dump has allocated anything");
}
