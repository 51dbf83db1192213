//! gzip as the writer makes it: another decoder and our reader expand it to the memory that went in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Read as _;
use vmcore::container::Layer;
use vmcore_fuzz::input::Input;
use vmcore_fuzz::reader;
use vmcore_fuzz::sink::{Kept, memory, send};
use vmcore_writer::gzip::{GZIP_MEMORY_BYTES, Gzip};

/// More than any window or buffer has.
const MOST: usize = 400 << 10;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let piece = 4096 << (input.byte() % 8);
    let chunk = 4096 << (input.byte() % 6);
    let level = input.byte() % 11;
    let plain = memory(&mut input, MOST);
    if plain.is_empty() {
        return;
    }
    let mut room = vec![0x5a; GZIP_MEMORY_BYTES];
    let mut sink = Kept::new(chunk);
    let mut layer = Gzip::new(&mut sink, level, &mut room).expect("enough memory");
    send(&mut layer, &plain, piece);
    let mut expanded = Vec::new();
    flate2::read::MultiGzDecoder::new(sink.bytes.as_slice())
        .read_to_end(&mut expanded)
        .expect("it is sound");
    assert!(expanded == plain, "the stock decoder differs");
    reader::check(&sink.bytes, &Layer::Gzip, &plain);
});
