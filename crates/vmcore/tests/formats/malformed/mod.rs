//! Malformed dumps: each test is named after what is wrong, or what the reader must do.
//!
//! What cannot be read at all is an error that says where and what; what is merely odd opens, with a
//! warning. Every kind of minidump is asked, [`KINDS`](crate::kinds::KINDS), unless the
//! fault is one of amd64's page tables.

mod bitmap;
mod both_orders;
mod cores;
mod elf;
mod headers;
mod plausible;
mod powerpc64;
mod ranges;
mod sections;
mod sparc64;
mod tables;

use crate::common::try_open;
use vmcore::OpenOptions;
use vmcore::dump::OpenError;
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

const KERNBASE: u64 = 0xffff_fe00_0000_0000;
const DMAP: u64 = 0xffff_f800_0000_0000;

/// A sound amd64 dump: RAM up to 1 MiB, four pages, a page of directory entries.
fn sound() -> Minidump {
    let mut dump = Minidump::new(Arch::Amd64, 3);
    dump.msgbuf = vec![b'm'; 120];
    dump.dump_avail = vec![(0x1000, 0x10_0000)];
    for pa in [0x1000, 0x5000, 0x9000, 0xf_f000] {
        dump.pages.insert(pa, format!("page {pa:#x}").into_bytes());
    }
    dump.page_tables = vec![0; 4096];
    dump
}

/// Why a dump does not open.
fn error_of(bytes: &[u8]) -> OpenError {
    try_open(bytes, &OpenOptions::default()).unwrap_err()
}

/// Checks what people are told.
fn says(error: &OpenError, words: &str) {
    let text = error.to_string();
    assert!(text.contains(words), "{text:?} does not say {words:?}");
}
