//! Dumps as they come: what is read from a compressed, encrypted or wrapped dump is what was there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

mod realign;
mod streams;

use std::io::Write as _;
use vmcore::OpenOptions;
use vmcore::source::{Access, Source};

/// Bytes like those of memory: text, tables of pointers, zeros, and some noise.
fn memory(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::with_capacity(len + 4096);
    while bytes.len() < len {
        match random.next() % 8 {
            0..2 => bytes.resize(bytes.len() + 4096, 0),
            2 => bytes.extend(std::iter::repeat_with(|| random.next() as u8).take(2048)),
            3..5 => {
                let base = 0xffff_f800_0000_0000 | random.next() & 0xfff_f000;
                bytes.extend((0..256u64).flat_map(|i| (base + i * 64).to_le_bytes()));
            }
            5 if bytes.len() > 200_000 => {
                // Something from some way back: offsets that are used again.
                let back = 1000 + random.next() as usize % 190_000;
                let start = bytes.len() - back;
                bytes.extend_from_within(start..start + 900);
            }
            _ => {
                for _ in 0..64 {
                    write!(
                        bytes,
                        "thread {} waits for lock {}; ",
                        random.next() % 500,
                        random.next() % 9
                    )
                    .unwrap();
                }
            }
        }
    }
    bytes.truncate(len);
    bytes
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}

/// What a file holds.
fn open(bytes: &[u8]) -> Source {
    open_by(bytes, Access::Auto)
}

fn open_by(bytes: &[u8], access: Access) -> Source {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    let options = OpenOptions {
        access,
        ..OpenOptions::default()
    };
    vmcore::container::open(&path, &options).unwrap().source
}

/// Reads all that a file holds in order, by small and by large pieces, and pieces of it in disorder.
fn compare(file: &[u8], expected: &[u8], what: &str) {
    // Less than a chunk or frame; exactly a chunk; several.
    for (len, access) in [
        (300_000, Access::Auto),
        (1 << 20, Access::Positional),
        (2_500_000, Access::Auto),
    ] {
        in_order(&open_by(file, access), expected, len, what);
    }
    let source = open(file);
    let mut buf = vec![0; 9000];
    in_order(&source, expected, 1 << 21, what);
    let mut random = Random(42);
    for _ in 0..60 {
        let at = random.next() as usize % expected.len();
        let len = (random.next() as usize % 9000).min(expected.len() - at);
        let read = source.read_at(at as u64, &mut buf[..len]).unwrap();
        assert_eq!(read, len, "{what}: at {at}");
        assert!(buf[..len] == expected[at..at + len], "{what}: at {at}");
        let bytes = source.bytes(at as u64..(at + len) as u64).unwrap().unwrap();
        assert!(*bytes == expected[at..at + len], "{what}: at {at}");
    }
    let end = expected.len() as u64;
    assert!(source.bytes(end - 1..end + 1).unwrap().is_none(), "{what}");
}

fn in_order(source: &Source, expected: &[u8], piece_bytes: usize, what: &str) {
    let mut buf = vec![0; piece_bytes];
    let mut at = 0;
    while at < expected.len() {
        let read = source.read_at(at as u64, &mut buf).unwrap();
        assert!(read > 0, "{what}: nothing at {at}");
        assert!(buf[..read] == expected[at..at + read], "{what}: at {at}");
        at += read;
    }
    assert_eq!(source.read_at(at as u64, &mut buf).unwrap(), 0, "{what}");
    assert_eq!(source.len(), expected.len() as u64, "{what}");
    assert_eq!(source.damage(), None, "{what}");
}
