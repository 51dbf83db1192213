//! Dump headers of all four versions, written at the offsets of the specification.

use super::*;
use proptest::prelude::*;
use std::vec;

/// A header under construction.
struct Raw([u8; HEADER_LEN]);

impl Raw {
    /// Magic, architecture, version and the two numbers that all versions share.
    fn new(magic: &[u8], version: u32) -> Self {
        let mut raw = Self([0; HEADER_LEN]);
        raw.bytes(0, magic)
            .bytes(20, b"amd64")
            .u32(32, version)
            .u32(36, 2)
            .u64(40, 0x1234_5000);
        raw
    }

    fn bytes(&mut self, offset: usize, bytes: &[u8]) -> &mut Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn u32(&mut self, offset: usize, value: u32) -> &mut Self {
        self.bytes(offset, &value.to_be_bytes())
    }

    fn u64(&mut self, offset: usize, value: u64) -> &mut Self {
        self.bytes(offset, &value.to_be_bytes())
    }

    /// The parity word: the XOR of all others.
    fn seal(&mut self) -> [u8; HEADER_LEN] {
        self.u32(508, 0);
        let sum = self.0.chunks(4).fold([0; 4], |sum, word| {
            [
                sum[0] ^ word[0],
                sum[1] ^ word[1],
                sum[2] ^ word[2],
                sum[3] ^ word[3],
            ]
        });
        self.bytes(508, &sum);
        self.0
    }
}

const HOST: &[u8] = b"testhost";
const VERSION: &[u8] = b"FreeBSD 15.0-RELEASE GENERIC\n";
const PANIC: &[u8] = b"page fault";

/// What every version says of the same dump.
fn expected(version: u32) -> DumpHeader<'static> {
    DumpHeader {
        kind: HeaderKind::Kernel,
        architecture: b"amd64",
        version,
        architectureversion: 2,
        dumplength: 0x1234_5000,
        dumptime: 1_700_000_000,
        dumpkeysize: 0,
        blocksize: 512,
        hostname: HOST,
        versionstring: VERSION,
        panicstring: PANIC,
        compression: Compression::None,
        dumpextent: 0x1234_5000,
    }
}

fn v4(magic: &[u8]) -> Raw {
    let mut raw = Raw::new(magic, 4);
    raw.u64(48, 1_700_000_000)
        .u32(56, 4096)
        .u32(60, 4096)
        .bytes(64, HOST)
        .bytes(128, VERSION)
        .bytes(320, PANIC)
        .u64(496, 0x2000_0000);
    raw.0[495] = 2;
    raw
}

#[test]
fn version_1_lies_where_it_lay_until_freebsd_11() {
    let header = Raw::new(MAGIC, 1)
        .u64(48, 1_700_000_000)
        .u32(56, 512)
        .bytes(60, HOST)
        .bytes(124, VERSION)
        .bytes(316, PANIC)
        .seal();
    assert_eq!(DumpHeader::parse(&header), Ok(expected(1)));
}

#[test]
fn version_2_has_a_key_size_and_a_longer_panic_string() {
    let long = [b'p'; 187];
    let header = Raw::new(MAGIC, 2)
        .u64(48, 1_700_000_000)
        .u32(56, 4096)
        .u32(60, 512)
        .bytes(64, HOST)
        .bytes(128, VERSION)
        .bytes(320, &long)
        .seal();
    let expected = DumpHeader {
        dumpkeysize: 4096,
        panicstring: &long,
        ..expected(2)
    };
    assert_eq!(DumpHeader::parse(&header), Ok(expected));
}

#[test]
fn version_3_is_packed_oddly() {
    let mut raw = Raw::new(MAGIC, 3);
    raw.u64(48, 0x2000_0000)
        .u64(56, 1_700_000_000)
        .u32(64, 4096)
        .u32(68, 512)
        .bytes(73, HOST)
        .bytes(137, VERSION)
        .bytes(329, PANIC);
    raw.0[72] = 1;
    let expected = DumpHeader {
        dumpextent: 0x2000_0000,
        dumpkeysize: 4096,
        compression: Compression::Gzip,
        ..expected(3)
    };
    assert_eq!(DumpHeader::parse(&raw.seal()), Ok(expected));
}

#[test]
fn version_4_has_compression_and_extent_at_its_end() {
    let expected = DumpHeader {
        dumpextent: 0x2000_0000,
        dumpkeysize: 4096,
        blocksize: 4096,
        compression: Compression::Zstd,
        ..expected(4)
    };
    assert_eq!(DumpHeader::parse(&v4(MAGIC).seal()), Ok(expected));
    for (byte, compression) in [
        (0, Compression::None),
        (1, Compression::Gzip),
        (2, Compression::Zstd),
        (7, Compression::Unknown(7)),
    ] {
        let mut raw = v4(MAGIC);
        raw.0[495] = byte;
        assert_eq!(
            DumpHeader::parse(&raw.seal()).unwrap().compression,
            compression
        );
    }
}

/// The header of the specification's first test vector: its parity bytes are known.
#[test]
fn parity_is_that_of_the_test_vector() {
    let mut raw = Raw::new(MAGIC, 4);
    raw.u64(48, 1_700_000_000)
        .u32(60, 512)
        .bytes(64, HOST)
        .bytes(
            128,
            b"FreeBSD 15.0-RELEASE #0: Thu Jan  1 00:00:00 UTC 1970\n    \
              root@builder:/usr/obj/usr/src/amd64.amd64/sys/GENERIC\n",
        )
        .bytes(320, PANIC)
        .u64(496, 0x1234_5000);
    let mut header = raw.seal();
    assert_eq!(header[508..], [0x36, 0x23, 0xe6, 0x34]);
    assert_eq!(parity(&header), 0);
    // Cleared by savecore, which changes the magic alone.
    header[..20].copy_from_slice(b"Cleared Kernel Dump\0");
    assert_eq!(parity(&header), 0x3528_2004);
    assert_eq!(
        DumpHeader::parse(&header).map(|header| header.kind),
        Ok(HeaderKind::Cleared)
    );
}

#[test]
fn the_second_test_vector_is_compressed_and_encrypted() {
    let mut raw = Raw::new(MAGIC, 4);
    raw.u64(40, 1_234_567)
        .u64(48, 1_700_000_000)
        .u32(56, 4096)
        .u32(60, 4096)
        .bytes(64, HOST)
        .bytes(
            128,
            b"FreeBSD 15.0-RELEASE #0: Thu Jan  1 00:00:00 UTC 1970\n    \
              root@builder:/usr/obj/usr/src/amd64.amd64/sys/GENERIC\n",
        )
        .bytes(320, PANIC)
        .u64(496, 0x1234_5000);
    raw.0[495] = 2;
    let header = raw.seal();
    assert_eq!(header[508..], [0x24, 0x05, 0x62, 0xb1]);
    let parsed = DumpHeader::parse(&header).unwrap();
    assert_eq!(
        (parsed.dumplength, parsed.dumpextent),
        (1_234_567, 0x1234_5000)
    );
    assert_eq!(
        (parsed.compression, parsed.dumpkeysize),
        (Compression::Zstd, 4096)
    );
}

#[test]
fn the_magic_gives_the_kind_of_dump() {
    for (magic, kind) in [
        (MAGIC, HeaderKind::Kernel),
        (MAGIC_TEXT, HeaderKind::Text),
        (MAGIC_CLEARED, HeaderKind::Cleared),
    ] {
        let header = v4(magic).seal();
        assert_eq!(
            DumpHeader::parse(&header).map(|header| header.kind),
            Ok(kind)
        );
    }
    for magic in [
        &b""[..],
        b"FreeBSD Kernel Dumps",
        b"FreeBSD Kernel Dum",
        b"freebsd kernel dump",
    ] {
        assert_eq!(
            DumpHeader::parse(&v4(magic).seal()),
            Err(DumpHeaderError::BadMagic)
        );
    }
    // Text up to the NUL counts, the byte after it does not.
    let mut raw = v4(MAGIC_TEXT);
    raw.0[19] = b'x';
    assert!(DumpHeader::parse(&raw.seal()).is_ok());
}

#[test]
fn any_flipped_bit_is_noticed() {
    let sealed = v4(MAGIC).seal();
    for bit in 20 * 8..HEADER_LEN * 8 {
        let mut header = sealed;
        header[bit / 8] ^= 1 << (bit % 8);
        assert!(
            matches!(DumpHeader::parse(&header), Err(DumpHeaderError::BadParity(sum)) if sum != 0),
            "bit {bit}"
        );
    }
}

#[test]
fn other_versions_and_shorter_headers_are_refused() {
    for version in [0, 5, 0x0400_0000, u32::MAX] {
        let header = Raw::new(MAGIC, version).seal();
        assert_eq!(
            DumpHeader::parse(&header),
            Err(DumpHeaderError::BadVersion(version))
        );
    }
    let header = v4(MAGIC).seal();
    for len in [0, 1, 20, 511] {
        assert_eq!(
            DumpHeader::parse(&header[..len]),
            Err(DumpHeaderError::Truncated)
        );
    }
    let mut block = vec![0xff; 4096];
    block[..HEADER_LEN].copy_from_slice(&header);
    assert!(DumpHeader::parse(&block).is_ok());
}

#[test]
fn strings_without_nul_end_with_their_field() {
    let header = v4(MAGIC)
        .bytes(20, &[b'a'; 12])
        .bytes(64, &[b'h'; 64])
        .bytes(128, &[b'v'; 192])
        .bytes(320, &[b'p'; 175])
        .seal();
    let parsed = DumpHeader::parse(&header).unwrap();
    let lengths = [
        parsed.architecture.len(),
        parsed.hostname.len(),
        parsed.versionstring.len(),
        parsed.panicstring.len(),
    ];
    assert_eq!(lengths, [12, 64, 192, 175]);
    assert_eq!(parsed.compression, Compression::Zstd);
}

#[test]
fn a_cleared_header_comes_back_as_what_it_was() {
    for (magic, kind) in [(MAGIC, HeaderKind::Kernel), (MAGIC_TEXT, HeaderKind::Text)] {
        let sealed = v4(magic).seal();
        let mut header = sealed;
        clear(&mut header);
        assert_eq!(header[..20], *b"Cleared Kernel Dump\0");
        assert_eq!(header[20..], sealed[20..]);
        revive(&mut header);
        assert_eq!(header, sealed, "{kind:?}");
        revive(&mut header);
        assert_eq!(header, sealed, "{kind:?} was not cleared");
    }
    // Damaged as well: a kernel dump is the better guess, and its parity stays wrong.
    let mut header = v4(MAGIC_TEXT).seal();
    header[100] ^= 1;
    clear(&mut header);
    revive(&mut header);
    let damaged = DumpHeader::parse_damaged(&header).unwrap();
    assert_eq!(damaged.kind, HeaderKind::Kernel);
    assert!(matches!(
        DumpHeader::parse(&header),
        Err(DumpHeaderError::BadParity(_))
    ));
}

#[test]
fn a_damaged_header_still_tells_its_fields() {
    let mut header = v4(MAGIC).u32(32, 9).seal();
    header[508] ^= 0x80;
    let damaged = DumpHeader::parse_damaged(&header).unwrap();
    assert_eq!((damaged.version, damaged.dumpextent), (9, 0x2000_0000));
    assert_eq!(damaged.panicstring, PANIC);
    assert!(matches!(
        DumpHeader::parse(&header),
        Err(DumpHeaderError::BadParity(_))
    ));
}

proptest! {
    #[test]
    fn any_512_bytes_decode_or_are_refused(
        bytes in prop::collection::vec(any::<u8>(), HEADER_LEN),
        magic in prop::sample::select(&[MAGIC, MAGIC_TEXT, MAGIC_CLEARED][..]),
        version in 0u32..6,
    ) {
        let mut raw = Raw([0; HEADER_LEN]);
        raw.bytes(0, &bytes).bytes(0, &[0; 20]).bytes(0, magic).u32(32, version);
        let header = raw.seal();
        prop_assert_eq!(parity(&header), 0);
        match DumpHeader::parse(&header) {
            Ok(parsed) => {
                prop_assert!((1..=4).contains(&parsed.version));
                prop_assert!(!parsed.panicstring.contains(&0));
            }
            Err(error) => prop_assert_eq!(error, DumpHeaderError::BadVersion(version)),
        }
    }
}

#[test]
fn parts_lie_on_the_medium_where_the_worked_examples_say() {
    let plain = DumpHeader {
        dumplength: 0x1234_5000,
        dumpextent: 0x1234_5000,
        ..expected(4)
    };
    let parts = plain.on_medium(8_589_934_080, 512).unwrap();
    assert_eq!(parts.payload, 8_284_515_840..8_589_934_080);
    assert_eq!((parts.leader, parts.key.is_empty()), (8_284_515_328, true));
    let encrypted = DumpHeader {
        dumpkeysize: 4096,
        ..plain
    };
    let parts = encrypted.on_medium(8_589_930_496, 4096).unwrap();
    assert_eq!(parts.leader, 8_284_504_064);
    assert_eq!(parts.key, 8_284_508_160..8_284_512_256);
    assert_eq!(parts.payload.start, 8_284_512_256);
    for (trailer, dumplength) in [(0x1234_5000, 0x1234_5000), (1 << 40, 0x1234_5001)] {
        let impossible = DumpHeader {
            dumplength,
            ..plain
        };
        assert_eq!(impossible.on_medium(trailer, 512), None);
    }
}
