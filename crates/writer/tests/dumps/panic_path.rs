//! What happens around a dump: abort, watchdog, growth, a second panic, the next device.

use crate::golden;
use std::cell::RefCell;
use std::rc::Rc;
use vmcore_format::addr::PhysAddr;
use vmcore_format::paging::Amd64;
use vmcore_testkit::writer::disk::{Disk, Fault, Plan};
use vmcore_testkit::writer::models::{self, small};
use vmcore_testkit::writer::run::{dump, onto_disk, recover, settings};
use vmcore_testkit::writer::sim::ix;
use vmcore_writer::disk::DiskSink;
use vmcore_writer::latch::{Latch, Reentry, Stage};
use vmcore_writer::reserve::{STAGING_BYTES, reserve_size};
use vmcore_writer::settings::{Patience, Settings};
use vmcore_writer::{DumpError, Writer};
use zerocopy::IntoBytes;

#[test]
fn an_abort_at_any_poll_leaves_no_dump() {
    let sim = small::<Amd64>(models::AMD64);
    dump(&sim, settings(None));
    let polls = sim.polls.get();
    assert!(polls > 20, "{polls}");
    for at in 1..=polls {
        sim.polls.set(0);
        sim.abort_at.set(at);
        let (result, state) = onto_disk(&sim, settings(None), Disk::new(16 << 20, 512));
        assert_eq!(result, Err(DumpError::Aborted), "poll {at}");
        assert_eq!(recover(&state.media(), 512), None);
    }
}

#[test]
fn the_watchdog_is_patted_for_every_buffer() {
    let sim = small::<Amd64>(models::AMD64);
    let (summary, _) = dump(&sim, settings(None));
    assert!(sim.pats.get() >= summary.len_bytes / STAGING_BYTES);
}

#[test]
fn progress_goes_from_the_first_byte_to_the_last() {
    let sim = small::<Amd64>(models::AMD64);
    let (summary, _) = dump(&sim, settings(None));
    let progress = sim.progress.borrow();
    assert!(progress.is_sorted_by_key(|progress| (progress.done_bytes, progress.stage)));
    let last = progress.last().unwrap();
    assert_eq!(
        (last.stage, last.done_bytes, last.total_bytes),
        (Stage::Finish, summary.len_bytes, summary.len_bytes)
    );
}

#[test]
fn pages_that_are_added_and_dropped_meanwhile_change_nothing() {
    let mut sim = small::<Amd64>(models::AMD64);
    let expected = golden::minidump(&sim, 3);
    // Another CPU did not stop: it allocates and frees while the dump is written.
    let map = sim.map;
    let slab = *sim.added.iter().next().unwrap() << 12;
    let free = sim.allocate() << 12;
    let started = Rc::new(RefCell::new(false));
    let flag = Rc::clone(&started);
    *sim.on_copy.borrow_mut() = Some(Box::new(move |number| {
        // by the third copy the map was copied
        if number >= 3 {
            *flag.borrow_mut() = true;
            map.drop_page(PhysAddr(slab)).unwrap();
            map.add_page(PhysAddr(free)).unwrap();
        }
    }));
    let (_, file) = dump(&sim, settings(None));
    assert!(*started.borrow());
    assert!(file.len() > expected.len());
    let same = file[..1024] == expected[..1024] && file[2048..expected.len()] == expected[2048..];
    assert!(same, "the dump is not that of the moment of the panic");
}

#[test]
fn a_second_panic_learns_the_stage_and_never_starts_a_dump() {
    let sim = small::<Amd64>(models::AMD64);
    static LATCH: Latch = Latch::new();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let record = Rc::clone(&seen);
    *sim.on_copy.borrow_mut() = Some(Box::new(move |_| {
        record.borrow_mut().push(LATCH.enter().map(|_| ()));
    }));
    let owner = LATCH.enter().unwrap();
    let len = reserve_size(sim.map.page_size(), &sim.ranges)
        .unwrap()
        .len_bytes;
    let mut memory = vec![0u64; ix(len) / 8];
    let mut writer = Writer::new(&sim.map, Settings::default(), memory.as_mut_bytes()).unwrap();
    let mut sink = DiskSink::new(Disk::new(16 << 20, 512), Patience::default());
    writer.dump(&owner, &sim, &mut sink).unwrap();
    let seen = seen.borrow();
    assert!(seen.iter().all(Result::is_err));
    // the first interruption stays on record
    assert_eq!(
        seen[0],
        Err(Reentry {
            stage: Stage::Select,
            count: 1
        })
    );
    let count = u32::try_from(seen.len()).unwrap();
    assert_eq!(
        LATCH.interrupted(),
        Some(Reentry {
            stage: Stage::Select,
            count
        })
    );
    drop(owner);
    assert!(LATCH.enter().is_ok());
}

#[test]
fn after_a_failed_device_the_next_one_gets_a_fresh_dump() {
    let sim = small::<Amd64>(models::AMD64);
    let latch = Latch::new();
    let owner = latch.enter().unwrap();
    let len = reserve_size(sim.map.page_size(), &sim.ranges)
        .unwrap()
        .len_bytes;
    let mut memory = vec![0u64; ix(len) / 8];
    let mut writer = Writer::new(&sim.map, Settings::default(), memory.as_mut_bytes()).unwrap();
    let mut broken = Disk::new(16 << 20, 512);
    broken.plan = Some(Plan {
        fault: Fault::Fail,
        first: 7,
        count: 100,
    });
    let sound = Disk::new(16 << 20, 4096);
    let state = Rc::clone(&sound.state);
    let mut sinks = [broken, sound].map(|disk| {
        DiskSink::new(
            disk,
            Patience {
                attempts: 2,
                timeout_ms: 1,
            },
        )
    });
    let results = sinks
        .each_mut()
        .map(|sink| writer.dump(&owner, &sim, sink).is_ok());
    assert_eq!(results, [false, true]);
    let file = recover(&state.media(), 4096).unwrap();
    let expected = golden::minidump(&sim, 3);
    assert!(file[2048..expected.len()] == expected[2048..]);
}

#[test]
fn the_dump_header_says_what_the_kernel_says_of_itself() {
    let mut sim = small::<Amd64>(models::AMD64);
    sim.panic = vec![b'p'; 300];
    let (result, state) = onto_disk(&sim, settings(None), Disk::new(16 << 20, 512));
    let summary = result.unwrap();
    let media = state.media();
    let header = vmcore_format::kerneldump::DumpHeader::parse(&media[media.len() - 512..]).unwrap();
    assert_eq!(
        (
            header.architecture,
            header.architectureversion,
            header.version
        ),
        (&b"amd64"[..], 2, 4)
    );
    assert_eq!(
        (header.dumplength, header.dumpextent),
        (summary.len_bytes, summary.len_bytes)
    );
    assert_eq!((header.dumptime, header.blocksize), (1_700_000_000, 512));
    assert_eq!(
        (header.hostname, header.versionstring),
        (&b"testhost"[..], &b"FreeBSD 15.1-RELEASE GENERIC\n"[..])
    );
    assert_eq!(header.panicstring, vec![b'p'; 174]);
}
