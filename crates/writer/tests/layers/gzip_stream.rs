//! gzip: the stock decoder decodes whatever is written, and nothing is allocated on the way but from
//! the memory that was given.

use crate::memory::{Memory, Stretch, fill, send, stretches};
use proptest::prelude::*;
use std::io::Read as _;
use vmcore_format::kerneldump::Compression;
use vmcore_writer::gzip::{GZIP_MEMORY_BYTES, Gzip};
use vmcore_writer::sink::{LayerError, SinkError};

pub(crate) fn decode(compressed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(compressed)
        .read_to_end(&mut plain)
        .unwrap();
    plain
}

fn compress(plain: &[u8], level: u8, piece: usize, skew: usize) -> Memory {
    let mut memory = vec![0x5a; GZIP_MEMORY_BYTES + skew];
    let mut sink = Memory::new(64 << 10);
    let mut layer = Gzip::new(&mut sink, level, &mut memory[skew..]).unwrap();
    send(&mut layer, plain, piece).unwrap();
    sink
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_stock_decoder_decodes_what_is_written(
        stretches in stretches(), level in 0..12u8, piece in 1..64usize, skew in 0..64usize,
    ) {
        let plain = fill(&stretches);
        let sink = compress(&plain, level, piece * 4096, skew);
        prop_assert_eq!(sink.compression, Some(Compression::Gzip));
        prop_assert!(decode(sink.dump()) == plain);
    }
}

#[test]
fn header_and_trailer_are_freebsds() {
    let plain = fill(&[(Stretch::Text(3, 20), 50_000); 4]);
    let sink = compress(&plain, 6, 64 << 10, 0);
    let dump = sink.dump();
    assert_eq!(dump[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    let len = u32::try_from(plain.len()).unwrap();
    assert_eq!(dump[dump.len() - 4..], len.to_le_bytes());
}

#[test]
fn what_becomes_larger_still_fits_what_was_announced() {
    for level in [1, 2, 6, 9] {
        let noise = fill(&[(Stretch::Noise(9), 65_000); 20]);
        let sink = compress(&noise, level, 128 << 10, 0);
        assert!(sink.dump().len() as u64 <= sink.announced);
        assert!(decode(sink.dump()) == noise);
    }
}

#[test]
fn a_sink_that_fails_ends_the_dump() {
    let noise = fill(&[(Stretch::Noise(7), 65_000); 20]);
    let mut memory = vec![0; GZIP_MEMORY_BYTES];
    let mut sink = Memory::new(64 << 10);
    sink.fails_at = Some(2);
    let mut layer = Gzip::new(&mut sink, 1, &mut memory).unwrap();
    let error = send(&mut layer, &noise, 64 << 10).unwrap_err();
    assert!(matches!(error, SinkError::Write { .. }), "{error}");
    // The next dump is its own stream: FreeBSD's would go on with the old one.
    sink.fails_at = None;
    let mut layer = Gzip::new(&mut sink, 1, &mut memory).unwrap();
    send(&mut layer, &noise, 64 << 10).unwrap();
    assert!(decode(sink.dump()) == noise);
}

#[test]
fn too_little_memory_is_refused() {
    let mut memory = vec![0; GZIP_MEMORY_BYTES - 1];
    let refused = Gzip::new(Memory::new(4096), 1, &mut memory).err();
    assert_eq!(refused, Some(LayerError::Memory));
}
