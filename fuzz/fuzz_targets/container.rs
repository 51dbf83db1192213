//! What is around a dump: streams, frames, tables and headers that are damaged in every way. Opening
//! never panics, memory is bounded, and reading in any order gives the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Write as _;
use vmcore::container::{self, ContainerOptions};
use vmcore::source::Source;
use vmcore_fuzz::file::InputFile;
use zstd::zstd_safe::CParameter;

/// The most bytes that are expanded: a few bytes may become gigabytes, one after the other.
const EXPANDED: u64 = 1 << 23;
/// Bytes at once.
const PART: usize = 70_000;

fuzz_target!(|data: &[u8]| {
    let Some((form, data)) = data.split_first() else {
        return;
    };
    let bytes = match form % 13 {
        0 => data.to_vec(),
        1 => damaged(data, zstd),
        2 => damaged(data, gzip),
        3 => damaged(data, frames),
        4 => disk(data, b"EFI PART"),
        // A whole disk, compressed.
        5 => gzip(&disk(data, b"EFI PART")),
        6 => frames(&disk(data, b"no table")),
        7 => damaged(data, |bytes| [skipped(data), zstd(bytes)].concat()),
        8 => damaged(data, |bytes| {
            [skipped(data), frames(bytes), skipped(data)].concat()
        }),
        // GEOM metadata after the trailing header, as much of it as the input says.
        9 => geom(data, disk(data, b"no table")),
        10 => geom(data, disk(data, b"EFI PART")),
        // Members that are almost empty, more of them than are taken.
        11 => gzip(data.get(..1).unwrap_or_default()).repeat(12_000),
        12 => return textdump(data),
        _ => disk(data, b"no table"),
    };
    let file = InputFile::new(&bytes);
    let options = ContainerOptions::default();
    let Ok(opened) = container::open(file.path(), &options) else {
        return;
    };
    read(&opened.source);
    let again = container::open(file.path(), &options).expect("it was opened before");
    assert_eq!(all(&opened.source), all(&again.source));
});

/// Reads here and there, and compares with what is read in order.
fn read(source: &Source) {
    let mut part = vec![0; 999];
    for step in 0..12u64 {
        let at = step * 0x9_e377 % EXPANDED;
        let Ok(read) = source.read_at(at, &mut part) else {
            continue;
        };
        assert!(read == 0 || source.reaches(at + read as u64));
        if let Ok(Some(bytes)) = source.bytes(at..at + read as u64) {
            assert_eq!(*bytes, part[..read]);
        }
    }
}

/// What can be read in order, up to a limit or the first error.
fn all(source: &Source) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut part = vec![0; PART];
    while (bytes.len() as u64) < EXPANDED {
        match source.read_at(bytes.len() as u64, &mut part) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&part[..read]),
            _ => break,
        }
    }
    bytes
}

/// Compresses contents made of the first half of `data`; its second half says what to spoil.
fn damaged(data: &[u8], pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (contents, damage) = data.split_at(data.len() / 2);
    let mut long = Vec::new();
    for round in 0..64u8 {
        long.extend(contents.iter().map(|byte| byte.wrapping_mul(round | 1)));
        long.extend(vec![round; usize::from(round) * 300]);
    }
    let mut packed = pack(&long);
    for spoil in damage.chunks_exact(4).take(3) {
        let at = usize::from(u16::from_le_bytes([spoil[0], spoil[1]])) % packed.len();
        packed[at] ^= spoil[2];
        if spoil[3] == 1 {
            packed.truncate(at.max(1));
        }
    }
    packed
}

/// A frame that decoders skip, of a kind and a length that the input says.
fn skipped(data: &[u8]) -> Vec<u8> {
    let (kind, len) = (data.first().copied().unwrap_or(0), data.len().min(300));
    let mut frame = vec![0x50 | kind & 15, 0x2a, 0x4d, 0x18];
    frame.extend(u32::try_from(len).expect("small").to_le_bytes());
    frame.resize(8 + len, 7);
    frame
}

fn geom(data: &[u8], mut disk: Vec<u8>) -> Vec<u8> {
    let layers = usize::from(data.get(1).copied().unwrap_or(0) % 12);
    for _ in 0..layers {
        disk.extend(b"GEOM::LABEL\0\0\0\0\0");
        disk.resize(disk.len().next_multiple_of(512), 3);
    }
    disk
}

/// An archive that is damaged, either way round, between headers that say that it is a textdump.
fn textdump(data: &[u8]) {
    let mut archive = vec![0; 512];
    archive[..7].copy_from_slice(b"ddb.txt");
    archive[124..135].copy_from_slice(b"00000000144");
    archive[257..262].copy_from_slice(b"ustar");
    archive.extend(data.iter().take(4096));
    archive.resize(archive.len().next_multiple_of(512), 0);
    for spoil in data.chunks_exact(3).take(2) {
        let at = usize::from(u16::from_le_bytes([spoil[0], spoil[1]])) % archive.len();
        archive[at] ^= spoil[2] & 7;
    }
    archive[148..156].fill(b' ');
    let sum: u32 = archive[..512].iter().map(|byte| u32::from(*byte)).sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    if data.len() % 2 == 1 {
        vmcore::textdump::reverse_blocks(&mut archive);
    }
    let mut header = vmcore_synth::header::DumpHeader::new("amd64", archive.len() as u64);
    header.magic = vmcore_synth::header::MAGIC_TEXT.to_owned();
    let device = header.device(1 << 17, &[], &archive).expect("room");
    let file = InputFile::new(&device);
    if let Ok(textdump) =
        vmcore::textdump::Textdump::open(file.path(), &ContainerOptions::default())
    {
        let bytes: usize = textdump
            .files()
            .iter()
            .map(|file| file.contents.len())
            .sum();
        assert!(bytes <= archive.len());
        let _ = textdump.info();
    }
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("memory");
    encoder
        .set_parameter(CParameter::WindowLog(12))
        .expect("a parameter");
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let deflate = miniz_oxide::deflate::compress_to_vec(bytes, 1);
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    packed.extend(deflate);
    packed.extend([0; 8]);
    packed
}

fn frames(bytes: &[u8]) -> Vec<u8> {
    let (mut packed, mut table) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(20_000) {
        let frame = zstd::bulk::compress(piece, 1).expect("memory");
        table.extend(u32::try_from(frame.len()).expect("small").to_le_bytes());
        table.extend(u32::try_from(piece.len()).expect("small").to_le_bytes());
        packed.extend(frame);
    }
    let count = u32::try_from(table.len() / 8).expect("small");
    packed.extend([0x5e, 0x2a, 0x4d, 0x18]);
    packed.extend((count * 8 + 9).to_le_bytes());
    packed.extend(table);
    packed.extend(count.to_le_bytes());
    packed.extend([0, 0xb1, 0xea, 0x92, 0x8f]);
    packed
}

/// A disk whose first sectors are `data`, with a dump header at its end.
fn disk(data: &[u8], magic: &[u8]) -> Vec<u8> {
    let mut disk = data.to_vec();
    disk.resize(disk.len().max(4096).next_multiple_of(512), 0);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    if magic == b"EFI PART" {
        disk[512..520].copy_from_slice(magic);
    }
    let mut header = vmcore_synth::header::DumpHeader::new("amd64", 1024);
    header.dumpkeysize = u32::from(data.first().is_some_and(|byte| *byte == 7)) * 512;
    let device = header.device(1 << 17, &[3; 512], &[9; 1024]);
    disk.extend(device.expect("room"));
    disk
}
