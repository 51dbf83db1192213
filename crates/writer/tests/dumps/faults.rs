//! Devices that fail: the outcome is the whole dump, or no dump and a clear error.

use crate::golden;
use std::rc::Rc;
use vmcore_format::paging::Amd64;
use vmcore_testkit::writer::disk::{Disk, FAULTS, Fault, Plan};
use vmcore_testkit::writer::models::{self, Model};
use vmcore_testkit::writer::run::{full, onto_disk, recover, settings};
use vmcore_testkit::writer::sim::{Sim, range};
use vmcore_writer::DumpError;
use vmcore_writer::device::{BlockDevice, DeviceError, Geometry};
use vmcore_writer::disk::DiskSink;
use vmcore_writer::settings::{Patience, Settings};
use vmcore_writer::sink::{Durability, SinkError};

/// A machine whose dump takes about a dozen writes.
fn tiny() -> Sim<Amd64> {
    let model = Model {
        kernend: models::AMD64.kernbase + (1 << 30),
        ..models::AMD64
    };
    let ranges = [range(0, 0x8_0000), range(0x10_0000, 0x20_0000)];
    let mut sim = Sim::<Amd64>::new(model, &ranges, 5000);
    for index in 0..100 {
        let pfn = sim.allocate();
        sim.map_page(model.kernbase + index * 4096, pfn << 12, 0);
    }
    sim
}

/// The bytes of a file before the extension, with the writer's identity taken out.
fn is_whole(file: &[u8], golden: &[u8]) -> bool {
    let masked = |bytes: &[u8]| {
        let mut bytes = bytes[..golden.len()].to_vec();
        bytes[golden::IDENTITY].fill(0);
        bytes
    };
    file.len() > golden.len() && masked(file) == masked(golden)
}

const MEDIA: usize = 2 << 20;

fn writes_of_a_sound_dump(settings: Settings) -> usize {
    let (result, state) = onto_disk(&tiny(), settings, Disk::new(MEDIA, 512));
    result.unwrap();
    state.writes.borrow().len()
}

#[test]
fn every_single_write_may_fail_once_and_the_dump_is_whole() {
    let sim = tiny();
    for (settings, golden) in [
        (settings(None), golden::minidump(&sim, 3)),
        (full(), golden::full_dump(&sim)),
    ] {
        let count = writes_of_a_sound_dump(settings);
        assert!(count >= 10, "{count}");
        for fault in FAULTS.into_iter().filter(|fault| *fault != Fault::PowerCut) {
            for first in 0..count {
                let mut disk = Disk::new(MEDIA, 512);
                disk.plan = Some(Plan {
                    fault,
                    first,
                    count: 1,
                });
                let (result, state) = onto_disk(&sim, settings, disk);
                assert!(result.is_ok(), "{fault:?} at write {first}: {result:?}");
                let file = recover(&state.media(), 512).expect("a dump");
                assert!(is_whole(&file, &golden), "{fault:?} at write {first}");
            }
        }
    }
}

#[test]
fn every_single_write_may_fail_for_good_and_there_is_no_dump_but_an_error() {
    let sim = tiny();
    let golden = golden::minidump(&sim, 3);
    let count = writes_of_a_sound_dump(settings(None));
    for fault in FAULTS {
        for first in 0..count {
            let mut disk = Disk::new(MEDIA, 512);
            disk.plan = Some(Plan {
                fault,
                first,
                count: usize::MAX / 2,
            });
            let (result, state) = onto_disk(&sim, settings(None), disk);
            let file = recover(&state.media(), 512);
            match (fault, &result) {
                // Short writes make progress; a write that times out may be on the media.
                (Fault::Short | Fault::Timeout, _) if file.is_some() => {
                    assert!(
                        is_whole(&file.unwrap(), &golden),
                        "{fault:?} at write {first}"
                    );
                }
                (_, Err(DumpError::Sink(SinkError::Write { attempts, .. }))) => {
                    assert!(*attempts <= 3);
                    assert_eq!(file, None, "{fault:?} at write {first}");
                }
                _ => panic!("{fault:?} at write {first}: {result:?}"),
            }
        }
    }
}

/// Chance without its own seed: the same each time.
fn chance(seed: usize) -> impl FnMut() -> bool {
    let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed as u64 + 1);
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state & 1 == 1
    }
}

#[test]
fn a_power_cut_at_any_write_leaves_the_old_dump_or_the_new_one_or_none() {
    let mut sim = tiny();
    let golden = golden::minidump(&sim, 3);
    // a dump that has not been saved yet, of the same size: the worst case
    let (result, first_state) = onto_disk(&sim, settings(None), Disk::new(MEDIA, 512));
    result.unwrap();
    let old_media = first_state.media();
    let old = recover(&old_media, 512).unwrap();
    sim.time_seconds += 1000;
    let count = writes_of_a_sound_dump(settings(None));
    let mut outcomes = [0; 3];
    for first in 0..=count {
        for seed in 0..40 {
            let mut disk = Disk::new(MEDIA, 512);
            disk.state.durable.borrow_mut().clone_from(&old_media);
            disk.plan = Some(Plan {
                fault: Fault::PowerCut,
                first,
                count: 1,
            });
            let (result, state) = onto_disk(&sim, settings(None), disk);
            assert_eq!(result.is_ok(), first == count);
            match recover(&state.media_after_power_cut(chance(seed)), 512) {
                None => outcomes[0] += 1,
                Some(file) if file == old => outcomes[1] += 1,
                Some(file) => {
                    assert!(
                        is_whole(&file, &golden),
                        "power cut at write {first}, seed {seed}"
                    );
                    outcomes[2] += 1;
                }
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

#[test]
fn an_old_dump_is_gone_before_anything_of_it_is_overwritten() {
    let sim = tiny();
    let (result, state) = onto_disk(&sim, settings(None), Disk::new(MEDIA, 512));
    let summary = result.unwrap();
    let writes = state.writes.borrow();
    let end = (1u64 << 20) + MEDIA as u64;
    let data = end - 512 - summary.len_bytes;
    assert_eq!(writes[0], (end - 512, 512)); // the old trailer
    assert_eq!(writes[1].0, data);
    assert_eq!(
        writes[writes.len() - 2..],
        [(data - 512, 512), (end - 512, 512)]
    );
    let middle = &writes[1..writes.len() - 2];
    let mut at = data;
    for (offset, len) in middle {
        assert_eq!(*offset, at);
        at += *len as u64;
    }
    assert_eq!(at, end - 512);
    // flushed: the destruction, the data, the headers
    assert_eq!(*state.flushes.borrow(), [1, writes.len() - 2, writes.len()]);
}

#[test]
fn the_start_of_the_partition_and_what_lies_before_it_are_never_touched() {
    let sim = tiny();
    let (_, state) = onto_disk(&sim, settings(None), Disk::new(MEDIA, 512));
    assert!(
        state.media()[..(1 << 20) + (64 << 10)]
            .iter()
            .all(|byte| *byte == 0x5a)
    );
}

#[test]
fn a_partition_that_just_holds_the_dump_takes_it_and_one_block_less_does_not() {
    let sim = tiny();
    let (result, _) = onto_disk(&sim, settings(None), Disk::new(MEDIA, 512));
    let len = usize::try_from(result.unwrap().len_bytes).unwrap();
    for block in [512u32, 1024, 2048, 4096] {
        let span = (64 << 10) + len + 2 * block as usize;
        let (result, state) = onto_disk(&sim, settings(None), Disk::new(span, block));
        assert!(result.is_ok(), "{result:?}");
        assert!(recover(&state.media(), block as usize).is_some());
        let (result, state) = onto_disk(
            &sim,
            settings(None),
            Disk::new(span - block as usize, block),
        );
        let (need_bytes, have_bytes) = (span as u64, (span - block as usize) as u64);
        assert_eq!(
            result,
            Err(DumpError::Sink(SinkError::NoRoom {
                need_bytes,
                have_bytes
            }))
        );
        assert!(state.writes.borrow().is_empty() && state.flushes.borrow().is_empty());
    }
}

#[test]
fn tiny_partitions_and_odd_geometries_are_refused_before_the_first_byte() {
    let sim = tiny();
    for media in [0, 512, 64 << 10] {
        let (result, state) = onto_disk(&sim, settings(None), Disk::new(media, 512));
        assert!(
            matches!(result, Err(DumpError::Sink(SinkError::NoRoom { .. }))),
            "{result:?}"
        );
        assert!(state.writes.borrow().is_empty());
    }
    for block in [256, 8192, 1000, 0] {
        let (result, state) = onto_disk(&sim, settings(None), Disk::new(MEDIA, block));
        assert!(
            matches!(result, Err(DumpError::Sink(SinkError::Geometry { .. }))),
            "{result:?}"
        );
        assert!(state.writes.borrow().is_empty());
    }
    let mut disk = Disk::new(MEDIA, 512);
    disk.geometry.media_bytes = u64::MAX - 511;
    let (result, _) = onto_disk(&sim, settings(None), disk);
    assert!(
        matches!(result, Err(DumpError::Sink(SinkError::Geometry { .. }))),
        "{result:?}"
    );
}

#[test]
fn small_transfers_and_large_blocks_give_the_same_dump() {
    let sim = tiny();
    let golden = golden::minidump(&sim, 3);
    for (block, transfer) in [
        (512, 512),
        (512, 1000),
        (512, 6000),
        (4096, 4096),
        (4096, 1 << 20),
    ] {
        let mut disk = Disk::new(MEDIA, block);
        disk.geometry.max_transfer_bytes = transfer;
        let (result, state) = onto_disk(&sim, settings(None), disk);
        assert!(result.is_ok(), "{block} {transfer}: {result:?}");
        assert!(is_whole(
            &recover(&state.media(), block as usize).unwrap(),
            &golden
        ));
    }
}

#[test]
fn a_device_that_cannot_be_prepared_is_refused() {
    let sim = tiny();
    let disk = Disk::new(MEDIA, 512);
    disk.state.dead.set(true);
    let (result, _) = onto_disk(&sim, settings(None), disk);
    assert_eq!(
        result,
        Err(DumpError::Sink(SinkError::Prepare(DeviceError::Gone)))
    );
}

#[test]
fn a_dump_whose_data_may_not_be_on_the_media_is_not_declared_whole() {
    let sim = tiny();
    let mut disk = Disk::new(MEDIA, 512);
    disk.flush_fails = true;
    let (result, state) = onto_disk(&sim, settings(None), disk);
    assert_eq!(
        result,
        Err(DumpError::Sink(SinkError::Flush(DeviceError::Io(7))))
    );
    assert_eq!(recover(&state.media(), 512), None);
}

/// A disk whose last flush fails.
#[derive(Debug)]
struct LastFlushFails(Disk);

impl BlockDevice for LastFlushFails {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }
    fn prepare(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        self.0.prepare(timeout_ms)
    }
    fn submit(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.0.submit(offset, data)
    }
    fn complete(&mut self, timeout_ms: u32) -> Result<usize, DeviceError> {
        self.0.complete(timeout_ms)
    }
    fn flush(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        self.0.flush_fails = self.0.state.flushes.borrow().len() >= 2;
        self.0.flush(timeout_ms)
    }
}

#[test]
fn a_last_flush_that_fails_leaves_a_dump_that_may_be_in_the_cache() {
    let sim = tiny();
    let disk = Disk::new(MEDIA, 512);
    let state = Rc::clone(&disk.state);
    let mut sink = DiskSink::new(
        LastFlushFails(disk),
        Patience {
            attempts: 2,
            timeout_ms: 10,
        },
    );
    let summary = vmcore_testkit::writer::run::into_sink(&sim, settings(None), &mut sink).unwrap();
    assert_eq!(summary.durability, Durability::Unknown(DeviceError::Io(7)));
    assert!(recover(&state.media(), 512).is_some());
    assert_eq!(state.flushes.borrow().len(), 4); // the last was tried twice
}
