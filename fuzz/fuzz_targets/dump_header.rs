//! The 512-byte header around a dump on a device: whatever decodes is what is at the offsets of
//! its version.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::kerneldump::{Compression, DumpHeader, HEADER_LEN, HeaderKind, parity};

fuzz_target!(|data: &[u8]| {
    check(data);
    // The same with a parity that is right: hardly any change of a header leaves it so.
    if let Some(header) = data.first_chunk::<HEADER_LEN>() {
        let mut header = *header;
        let word = header.last_chunk_mut::<4>().expect("a header is longer");
        *word = (u32::from_be_bytes(*word) ^ parity(data.first_chunk().expect("as above")))
            .to_be_bytes();
        check(&header);
    }
});

/// Where the fields of a version are.
struct Offsets {
    dumptime: usize,
    dumpkeysize: Option<usize>,
    blocksize: usize,
    hostname: (usize, usize),
    versionstring: (usize, usize),
    panicstring: (usize, usize),
    compression: Option<usize>,
    dumpextent: usize,
}

impl Offsets {
    fn of(version: u32) -> Self {
        let v4 = Self {
            dumptime: 48,
            dumpkeysize: Some(56),
            blocksize: 60,
            hostname: (64, 128),
            versionstring: (128, 320),
            panicstring: (320, 495),
            compression: Some(495),
            dumpextent: 496,
        };
        match version {
            1 => Self {
                dumpkeysize: None,
                blocksize: 56,
                hostname: (60, 124),
                versionstring: (124, 316),
                panicstring: (316, 508),
                compression: None,
                dumpextent: 40,
                ..v4
            },
            2 => Self {
                panicstring: (320, 508),
                compression: None,
                dumpextent: 40,
                ..v4
            },
            3 => Self {
                dumpextent: 48,
                dumptime: 56,
                dumpkeysize: Some(64),
                blocksize: 68,
                compression: Some(72),
                hostname: (73, 137),
                versionstring: (137, 329),
                panicstring: (329, 508),
            },
            _ => v4,
        }
    }
}

fn check(data: &[u8]) {
    let Ok(header) = DumpHeader::parse(data) else {
        return;
    };
    assert!((1..=4).contains(&header.version));
    let raw = data
        .first_chunk()
        .expect("a shorter header does not decode");
    assert!(header.kind == HeaderKind::Cleared || parity(raw) == 0);

    let u32_at = |at: usize| u32::from_be_bytes(raw[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_be_bytes(raw[at..at + 8].try_into().expect("eight bytes"));
    let text = |(from, to): (usize, usize)| {
        let end = (from..to).find(|at| raw[*at] == 0).unwrap_or(to);
        &raw[from..end]
    };
    let offsets = Offsets::of(header.version);
    assert_eq!(header.version, u32_at(32));
    assert_eq!(header.architectureversion, u32_at(36));
    assert_eq!(header.dumplength, u64_at(40));
    assert_eq!(header.architecture, text((20, 32)));
    assert_eq!(header.dumptime, u64_at(offsets.dumptime));
    assert_eq!(header.dumpkeysize, offsets.dumpkeysize.map_or(0, u32_at));
    assert_eq!(header.blocksize, u32_at(offsets.blocksize));
    assert_eq!(header.hostname, text(offsets.hostname));
    assert_eq!(header.versionstring, text(offsets.versionstring));
    assert_eq!(header.panicstring, text(offsets.panicstring));
    assert_eq!(header.dumpextent, u64_at(offsets.dumpextent));
    let compression = match offsets.compression.map_or(0, |at| raw[at]) {
        0 => Compression::None,
        1 => Compression::Gzip,
        2 => Compression::Zstd,
        other => Compression::Unknown(other),
    };
    assert_eq!(header.compression, compression);

    // Version 4 is the one that is written. Strings that fill their fields lose their last bytes.
    let encoded = header.encode();
    let again = DumpHeader::parse(&encoded).expect("a header of our own");
    let is_short = header.architecture.len() < 12
        && header.hostname.len() < 64
        && header.versionstring.len() < 192
        && header.panicstring.len() < 175;
    if is_short {
        assert_eq!(
            again,
            DumpHeader {
                version: 4,
                ..header
            }
        );
    }
}
