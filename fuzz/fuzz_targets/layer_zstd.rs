//! zstd as the writer makes it: libzstd and our reader expand it to the memory that went in, frame by
//! frame and as a whole.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::container::Layer;
use vmcore_fuzz::input::Input;
use vmcore_fuzz::reader;
use vmcore_fuzz::sink::{Kept, memory, send};
use vmcore_writer::zstd::{ZSTD_MEMORY_BYTES, Zstd};
use zerocopy::IntoBytes as _;

/// A bit more than two frames.
const MOST: usize = (2 << 20) + 5000;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let piece = 4096 << (input.byte() % 8);
    let chunk = 4096 << (input.byte() % 6);
    let plain = memory(&mut input, MOST);
    if plain.is_empty() {
        return;
    }
    // What a kernel gives the layer is not zeroed.
    let mut words = vec![0x5a5a_5a5a_5a5a_5a5au64; ZSTD_MEMORY_BYTES.div_ceil(8)];
    let mut sink = Kept::new(chunk);
    let mut layer = Zstd::new(&mut sink, words.as_mut_bytes()).expect("enough memory");
    send(&mut layer, &plain, piece);
    assert!(sink.bytes.len() <= plain.len() + 64, "it has grown");
    let mut rest = sink.bytes.as_slice();
    let mut at = 0;
    while !rest.is_empty() {
        let len = zstd::zstd_safe::find_frame_compressed_size(rest).expect("a frame");
        let frame = zstd::bulk::decompress(&rest[..len], 1 << 20).expect("it is sound");
        assert!(plain[at..].starts_with(&frame), "the frame at {at}");
        at += frame.len();
        rest = &rest[len..];
    }
    assert_eq!(at, plain.len());
    reader::check(&sink.bytes, &Layer::Zstd, &plain);
});
