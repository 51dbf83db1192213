//! zstd: libzstd decodes whatever the encoder writes, frame by frame.

use crate::memory::{Memory, fill, send, stretches};
use proptest::prelude::*;
use vmcore_format::kerneldump::Compression;
use vmcore_writer::sink::{LayerError, Sink as _, SinkError};
use vmcore_writer::zstd::{ZSTD_MEMORY_BYTES, Zstd};

/// Memory of the layer, aligned.
pub(crate) fn memory() -> Vec<u64> {
    vec![0x5a5a_5a5a_5a5a_5a5a; ZSTD_MEMORY_BYTES.div_ceil(8)]
}

pub(crate) fn bytes(words: &mut [u64]) -> &mut [u8] {
    zerocopy::IntoBytes::as_mut_bytes(words)
}

fn compress(plain: &[u8], piece: usize, chunk: usize) -> Memory {
    let mut words = memory();
    let mut sink = Memory::new(chunk);
    let mut layer = Zstd::new(&mut sink, bytes(&mut words)).unwrap();
    send(&mut layer, plain, piece).unwrap();
    sink
}

/// The frames of a compressed dump, each decoded by itself.
fn decode(compressed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = compressed;
    while !rest.is_empty() {
        let len = zstd::zstd_safe::find_frame_compressed_size(rest).unwrap();
        let frame = zstd::bulk::decompress(&rest[..len], 1 << 20).unwrap();
        plain.extend(frame);
        rest = &rest[len..];
    }
    plain
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn libzstd_decodes_what_is_written(
        stretches in stretches(), piece in 1..64usize, chunk in 1..40usize,
    ) {
        let plain = fill(&stretches);
        let sink = compress(&plain, piece * 4096, chunk * 4096);
        prop_assert_eq!(sink.compression, Some(Compression::Zstd));
        prop_assert!(decode(sink.dump()) == plain);
        prop_assert!(sink.dump().len() <= plain.len() + 64);
    }
}

#[test]
fn frames_have_a_mebibyte_each_and_a_checksum() {
    let plain = fill(&[(crate::memory::Stretch::Pointers(1), 60_000); 60]);
    let sink = compress(&plain, 256 << 10, 64 << 10);
    let compressed = sink.dump();
    let mut frames = 0;
    let mut rest = compressed;
    while !rest.is_empty() {
        let len = zstd::zstd_safe::find_frame_compressed_size(rest).unwrap();
        let left = plain.len() - (frames << 20);
        let size = zstd::zstd_safe::get_frame_content_size(rest).unwrap();
        assert_eq!(size, Some(left.min(1 << 20) as u64));
        // A flipped bit in the content is noticed.
        let mut damaged = rest[..len].to_vec();
        damaged[len / 2] ^= 0x10;
        let result = zstd::bulk::decompress(&damaged, 1 << 20);
        assert!(result.is_err(), "damage in frame {frames} was not noticed");
        frames += 1;
        rest = &rest[len..];
    }
    assert_eq!(frames, plain.len().div_ceil(1 << 20));
    assert!(decode(compressed) == plain);
}

#[test]
fn zeros_and_noise_are_the_extremes() {
    let zeros = vec![0; 3 << 20];
    let sink = compress(&zeros, 256 << 10, 64 << 10);
    assert!(sink.dump().len() < 200, "{}", sink.dump().len());
    assert!(decode(sink.dump()) == zeros);
    let noise = fill(&[(crate::memory::Stretch::Noise(7), 65_000); 40]);
    let sink = compress(&noise, 256 << 10, 64 << 10);
    assert!(sink.dump().len() < noise.len() + noise.len() / 10_000 + 64);
    assert!(decode(sink.dump()) == noise);
}

#[test]
fn a_sink_that_fails_ends_the_dump() {
    let noise = fill(&[(crate::memory::Stretch::Noise(7), 65_000); 20]);
    for at in 1..5 {
        let mut words = memory();
        let mut sink = Memory::new(64 << 10);
        sink.fails_at = Some(at);
        let mut layer = Zstd::new(&mut sink, bytes(&mut words)).unwrap();
        let error = send(&mut layer, &noise, 64 << 10).unwrap_err();
        assert!(matches!(error, SinkError::Write { .. }), "{error}");
        layer.cancel();
        // The next dump starts afresh.
        sink.fails_at = None;
        let mut layer = Zstd::new(&mut sink, bytes(&mut words)).unwrap();
        send(&mut layer, &noise, 64 << 10).unwrap();
        assert!(decode(sink.dump()) == noise);
    }
}

#[test]
fn too_little_memory_is_refused() {
    let mut words = memory();
    let memory = &mut bytes(&mut words)[..ZSTD_MEMORY_BYTES - 1];
    let refused = Zstd::new(Memory::new(4096), memory).err();
    assert_eq!(refused, Some(LayerError::Memory));
}

#[test]
fn more_or_less_than_announced_is_an_error() {
    let mut words = memory();
    let mut layer = Zstd::new(Memory::new(4096), bytes(&mut words)).unwrap();
    layer.begin(&crate::memory::header(8192), &[]).unwrap();
    layer.submit(&[1; 4096]).unwrap();
    assert!(matches!(layer.finish(8192), Err(SinkError::Length { .. })));
    layer.submit(&[1; 4096]).unwrap();
    assert!(matches!(
        layer.submit(&[1; 1]),
        Err(SinkError::Length { .. })
    ));
}
