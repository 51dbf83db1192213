//! Tests: headers that are written, against the specification's worked examples.

use super::*;
use sha2::{Digest, Sha256};
use std::vec::Vec;
use std::{format, vec};

/// The specification's worked example.
fn example() -> DumpHeader<'static> {
    DumpHeader {
        kind: HeaderKind::Kernel,
        architecture: b"amd64",
        version: 4,
        architectureversion: 2,
        dumplength: 0x1234_5000,
        dumptime: 1_700_000_000,
        dumpkeysize: 0,
        blocksize: 512,
        hostname: b"testhost",
        versionstring: b"FreeBSD 15.0-RELEASE #0: Thu Jan  1 00:00:00 UTC 1970\n    \
                         root@builder:/usr/obj/usr/src/amd64.amd64/sys/GENERIC\n",
        panicstring: b"page fault",
        compression: Compression::None,
        dumpextent: 0x1234_5000,
    }
}

fn sha256(bytes: &[u8]) -> std::string::String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn the_worked_examples_come_out_byte_for_byte() {
    let plain = example().encode();
    assert_eq!(plain[508..], [0x36, 0x23, 0xe6, 0x34]);
    assert_eq!(
        sha256(&plain),
        "9971e33dad2e58aeed4af31429718123935aadbdd8fecfe03c646b3bcb6284fe"
    );
    let encrypted = DumpHeader {
        dumplength: 1_234_567,
        dumpkeysize: 4096,
        blocksize: 4096,
        compression: Compression::Zstd,
        ..example()
    };
    let encrypted = encrypted.encode();
    assert_eq!(encrypted[508..], [0x24, 0x05, 0x62, 0xb1]);
    assert_eq!(
        sha256(&encrypted),
        "cdee871168f4660e1783ae239cbb2e5da98362c43471f48a07aeb1936e3e1a4b"
    );
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = example().encode();
    assert_eq!(DumpHeader::parse(&bytes), Ok(example()));
    for bit in 20 * 8..HEADER_LEN * 8 {
        let mut damaged = bytes;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(DumpHeader::parse(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn a_cleared_header_has_the_parity_that_gives_it_away() {
    let mut bytes = example().encode();
    put_text(&mut bytes[..20], MAGIC_CLEARED);
    assert_eq!(parity(&bytes), 0x3528_2004);
}

#[test]
fn long_strings_are_cut_where_the_kernel_cuts_them() {
    let long: Vec<u8> = vec![b'x'; 300];
    let header = DumpHeader {
        versionstring: &long,
        panicstring: &long,
        hostname: &long,
        ..example()
    };
    let bytes = header.encode();
    let read = DumpHeader::parse(&bytes).unwrap();
    assert_eq!(
        (read.versionstring.len(), read.versionstring[190]),
        (191, b'\n')
    );
    assert_eq!(
        (read.panicstring.len(), bytes[494], bytes[495]),
        (174, 0, 0)
    );
    assert_eq!(read.hostname.len(), 63);
    let fits = DumpHeader {
        versionstring: &long[..191],
        ..example()
    };
    assert_eq!(
        DumpHeader::parse(&fits.encode()).unwrap().versionstring,
        &long[..191]
    );
}
