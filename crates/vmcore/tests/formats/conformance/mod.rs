//! The reader's conformance tests: each is named after what the reader must do.
//!
//! The dumps are built by a crate that shares no code with the reader, and what is expected of them
//! is counted or written down by hand.

mod amd64;
mod both_orders;
mod every_kind;
mod full;
mod general;
mod machines;
mod other_cores;
mod others;
mod reads;
mod uneven;

use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

/// The small dump of the list: a message buffer of 120 bytes, a bitmap of a page, pages of text.
fn dump(arch: Arch, version: u32, pages: &[u64]) -> Minidump {
    let mut dump = Minidump::new(arch, version);
    dump.msgbuf = vec![b'm'; 120];
    for pa in pages {
        dump.pages.insert(*pa, page_text(*pa));
    }
    dump
}

/// A page that says where it is.
fn page_text(pa: u64) -> Vec<u8> {
    format!("<page {pa:#012x}>")
        .bytes()
        .cycle()
        .take(4096)
        .collect()
}

/// Entries of a table, little-endian; those that are not given are zero.
fn entries(len: usize, given: &[(usize, u64)]) -> Vec<u8> {
    let mut table = vec![0; 8 * len];
    for (index, raw) in given {
        table[8 * index..8 * index + 8].copy_from_slice(&raw.to_le_bytes());
    }
    table
}
