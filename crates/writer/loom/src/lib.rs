//! The dump map's atomics in every interleaving: the writer's own file, on a model checker's atomics.
#![cfg(test)]

#[path = "../../src/map.rs"]
#[allow(dead_code, reason = "the models ask only a part of it")]
mod map;

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use map::DumpMap;
use std::sync::Arc;
use vmcore_format::addr::{PageSize, PhysAddr, PhysRange};
use vmcore_format::dump_avail::NumberedRange;

const RANGE: PhysRange = PhysRange {
    start: PhysAddr(0),
    end: PhysAddr(64 * 4096),
};

/// A map of one word that lives as long as a model's run may need it.
fn map() -> DumpMap<'static> {
    let ranges = Box::leak(Box::new([RANGE]));
    let numbered = Box::leak(Box::new([NumberedRange::default()]));
    let words = Box::leak(Box::new([AtomicU64::new(0)]));
    DumpMap::new(PageSize::SIZE_4K, ranges, numbered, words).unwrap()
}

fn page(number: u64) -> PhysAddr {
    PhysAddr(number * 4096)
}

fn snapshot(map: &DumpMap<'_>) -> u64 {
    let mut copy = [0];
    map.snapshot(&mut copy);
    copy[0]
}

#[test]
fn neighbours_in_a_word_never_lose_each_others_changes() {
    loom::model(|| {
        let map = map();
        map.add_page(page(2)).unwrap();
        let adder = thread::spawn(move || map.add_page(page(0)).unwrap());
        let dropper = thread::spawn(move || map.drop_page(page(2)).unwrap());
        map.add_page(page(1)).unwrap();
        adder.join().unwrap();
        dropper.join().unwrap();
        assert_eq!(snapshot(&map), 0b011);
    });
}

#[test]
fn a_snapshot_has_each_change_or_not_and_nothing_else() {
    loom::model(|| {
        let map = map();
        map.add_page(page(5)).unwrap();
        let other = thread::spawn(move || {
            map.add_page(page(0)).unwrap();
            map.add_page(page(1)).unwrap();
            map.drop_page(page(0)).unwrap();
        });
        let copy = snapshot(&map);
        assert!(
            [0b10_0000, 0b10_0001, 0b10_0011, 0b10_0010].contains(&copy),
            "{copy:#b}"
        );
        other.join().unwrap();
        assert_eq!(snapshot(&map), 0b10_0010);
    });
}

#[test]
fn who_sees_a_page_in_the_map_sees_what_was_written_to_it_before() {
    loom::model(|| {
        let map = map();
        let content = Arc::new(AtomicU64::new(0));
        let writer = {
            let content = Arc::clone(&content);
            thread::spawn(move || {
                content.store(7, Ordering::Relaxed);
                map.add_page(page(3)).unwrap();
            })
        };
        if snapshot(&map) == 1 << 3 {
            assert_eq!(content.load(Ordering::Relaxed), 7);
        }
        writer.join().unwrap();
    });
}
