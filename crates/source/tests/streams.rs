//! Compressed streams of every shape, whole, cut and damaged: what is read is what was there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

use std::io::Write as _;
use vmcore_source::container::{self, ContainerOptions};
use vmcore_source::{Access, Source};
use zstd::zstd_safe::CParameter;

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
    let options = ContainerOptions {
        access,
        ..ContainerOptions::default()
    };
    container::open(&path, &options).unwrap().source
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

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One frame that does not say its length, as kernels write it.
fn zstd(bytes: &[u8], level: i32, window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), level).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder
        .set_parameter(CParameter::WindowLog(window_log))
        .unwrap();
    // In pieces, as a dump is written.
    for piece in bytes.chunks(65_536) {
        encoder.write_all(piece).unwrap();
    }
    encoder.finish().unwrap()
}

#[test]
fn gzip_reads_from_its_checkpoints() {
    let bytes = memory(13_000_000, 1);
    for level in [1, 6] {
        compare(&gzip(&bytes, level), &bytes, &format!("level {level}"));
    }
}

#[test]
fn gzip_in_members_and_with_padding_behind() {
    let bytes = memory(5_000_000, 2);
    let (a, b) = bytes.split_at(3_333_333);
    let mut file = [gzip(a, 1), gzip(&[], 1), gzip(b, 9)].concat();
    file.extend([0; 512]);
    compare(&file, &bytes, "members");
}

#[test]
fn one_long_zstd_frame_reads_from_its_checkpoints() {
    // Windows of 128 KiB: a checkpoint every 2 MiB.
    let bytes = memory(24_000_000, 3);
    for level in [-3, 1, 3, 9, 16] {
        let file = zstd(&bytes, level, 17);
        compare(&file, &bytes, &format!("level {level}"));
    }
}

#[test]
fn zstd_with_tables_of_one_symbol_and_runs_of_zeros() {
    let mut bytes = memory(200_000, 4);
    for round in 0..40u32 {
        bytes.resize(bytes.len() + 150_000, 0);
        // Sequences that are all alike.
        for i in 0..3000u32 {
            bytes.extend((i / 7 + round).to_le_bytes());
            bytes.extend([0x55; 60]);
        }
        bytes.extend(memory(70_000, u64::from(round) + 5));
    }
    for level in [1, 3, 12] {
        let file = zstd(&bytes, level, 15);
        compare(&file, &bytes, &format!("level {level}"));
    }
}

#[test]
fn zstd_in_frames_with_and_without_their_lengths() {
    let bytes = memory(9_000_000, 6);
    let frames: Vec<Vec<u8>> = bytes
        .chunks(700_001)
        .map(|piece| zstd::bulk::compress(piece, 1).unwrap())
        .collect();
    let skippable = [0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    compare(&frames.concat(), &bytes, "frames");
    let mut mixed = frames.join(skippable.as_slice());
    compare(&mixed, &bytes, "skippable frames between");
    mixed.extend([0; 100]);
    compare(&mixed, &bytes, "padding behind");
    let unknown: Vec<Vec<u8>> = bytes
        .chunks(700_001)
        .map(|piece| zstd(piece, 1, 17))
        .collect();
    compare(&unknown.concat(), &bytes, "lengths unknown");
}

#[test]
fn a_damaged_frame_is_an_error_for_who_reads_over_it() {
    let bytes = memory(2 << 20, 12);
    let mut frames: Vec<Vec<u8>> = bytes
        .chunks(1 << 18)
        .map(|piece| zstd::bulk::compress(piece, 1).unwrap())
        .collect();
    // In its first block.
    frames[5][20..60].fill(0xff);
    let source = open(&frames.concat());
    let mut all = vec![0; bytes.len()];
    let good = 5 << 18;
    assert_eq!(source.read_at(0, &mut all[..good]).unwrap(), good);
    assert!(all[..good] == bytes[..good]);
    let error = source.read_at(0, &mut all).unwrap_err().to_string();
    assert!(error.starts_with("zstd frame 5, at "), "{error}");
    let behind = 6 << 18;
    assert_eq!(
        source.read_at(behind as u64, &mut all[behind..]).unwrap(),
        2 << 18
    );
    assert!(all[behind..] == bytes[behind..]);
}

#[test]
fn a_seek_table_is_used_only_if_it_fits() {
    let bytes = memory(3_000_000, 7);
    let (mut file, mut table) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(262_144) {
        let frame = zstd::bulk::compress(piece, 1).unwrap();
        table.extend((frame.len() as u32).to_le_bytes());
        table.extend((piece.len() as u32).to_le_bytes());
        file.extend(frame);
    }
    let frames = (table.len() / 8) as u32;
    let with_table = |table: &[u8]| {
        let mut file = file.clone();
        file.extend([0x5e, 0x2a, 0x4d, 0x18]);
        file.extend((table.len() as u32 + 9).to_le_bytes());
        file.extend(table);
        file.extend(frames.to_le_bytes());
        file.extend([0, 0xb1, 0xea, 0x92, 0x8f]);
        file
    };
    let sound = with_table(&table);
    assert!(open(&sound).knows_len());
    compare(&sound, &bytes, "sound");
    // One frame claims 8 MiB more than there is room for: the headers of the frames tell then.
    let mut large = table.clone();
    large[3] = 1;
    compare(&with_table(&large), &bytes, "too large");
    // A length that is not the frame's is found out when it is read.
    let mut wrong = table;
    wrong[4] = 1;
    let source = open(&with_table(&wrong));
    let error = source.read_at(0, &mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    assert_eq!(source.read_at(500_000, &mut [0; 16]).unwrap(), 16);
}

#[test]
fn a_stream_that_is_cut_gives_what_is_there_and_says_where_it_broke() {
    let bytes = memory(7_000_000, 8);
    for (what, file) in [("gzip", gzip(&bytes, 1)), ("zstd", zstd(&bytes, 1, 17))] {
        let mut random = Random(9);
        for _ in 0..6 {
            let len = 100 + random.next() as usize % (file.len() - 200);
            let source = open(&file[..len]);
            let have = source.len() as usize;
            let damage = source.damage().unwrap();
            assert_eq!(damage.expanded_bytes, have as u64, "{what} at {len}");
            assert!(damage.stored_bytes <= len as u64);
            // Blocks are 128 KiB at most, those of gzip are not lost at all.
            let share = bytes.len() as f64 * len as f64 / file.len() as f64;
            assert!(have as f64 > share * 0.5 - 400_000.0, "{what} at {len}");
            let mut read = vec![0; have];
            assert_eq!(source.read_at(0, &mut read).unwrap(), have);
            assert!(read == bytes[..have], "{what} at {len}");
            // The same in one go.
            let mut all = vec![0; bytes.len()];
            assert_eq!(open(&file[..len]).read_at(0, &mut all).unwrap(), have);
            assert!(all[..have] == bytes[..have], "{what} at {len}");
        }
    }
}

#[test]
fn a_flipped_bit_never_goes_unnoticed() {
    let bytes = memory(3_000_000, 10);
    for (what, file) in [("gzip", gzip(&bytes, 1)), ("zstd", zstd(&bytes, 1, 17))] {
        let mut random = Random(11);
        for _ in 0..12 {
            let at = 20 + random.next() as usize % (file.len() - 40);
            let mut damaged = file.clone();
            damaged[at] ^= 1 << (random.next() % 8);
            let source = open(&damaged);
            let have = source.len() as usize;
            let mut read = vec![0; have];
            let is_same = source
                .read_at(0, &mut read)
                .is_ok_and(|count| count == have)
                && read == bytes;
            assert!(source.damage().is_some() || is_same, "{what}: bit at {at}");
            let before = source.damage().map_or(0, |damage| damage.stored_bytes);
            assert!(
                before == 0 || before >= at as u64 / 2,
                "{what}: {before} for {at}"
            );
        }
    }
}

#[test]
fn reading_begins_without_expanding_all() {
    let mut bytes = memory(9_000_000, 12);
    // What starts like nothing may be a device, whose header is at its end.
    bytes[..8].copy_from_slice(b"minidump");
    for file in [gzip(&bytes, 1), zstd(&bytes, 1, 17)] {
        let source = open(&file);
        assert!(!source.knows_len());
        assert!(source.reaches(5_000_000));
        assert!(!source.knows_len());
        assert!(!source.reaches(9_000_001));
        assert!(source.knows_len());
    }
}

/// Zeros expand without end; memory does not.
#[test]
fn a_bomb_takes_no_memory() {
    let mut file = Vec::new();
    let mut encoder = zstd::stream::Encoder::new(&mut file, 1).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..2048 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap();
    assert!(file.len() < 200_000);
    let source = open(&file);
    assert_eq!(source.len(), 2 << 30);
    let mut last = [1; 16];
    assert_eq!(source.read_at((2 << 30) - 16, &mut last).unwrap(), 16);
    assert_eq!(last, [0; 16]);
    // A window that nobody can want is refused.
    let mut huge = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0xf8];
    huge.extend([0; 100]);
    let source = open(&huge);
    assert!(source.is_empty());
    assert!(source.damage().unwrap().reason.contains("back"));
}
