//! The 512-byte dump header that surrounds a dump on its device.
//!
//! Everything in it is big-endian, on every architecture (`struct kerneldumpheader`, versions 1
//! to 4).
//!
//! ```
//! use vmcore_synth::header::{DumpHeader, xor_of_words};
//! let header = DumpHeader { panicstring: "page fault".into(), ..DumpHeader::new("amd64", 4096) };
//! let raw = header.build();
//! assert_eq!(&raw[320..330], b"page fault");
//! assert_eq!(xor_of_words(&raw), 0);
//! ```

use crate::bytes::{index, put, round_up};

/// Bytes of the header.
pub const LEN: u64 = 512;
/// `magic` of a dump.
pub const MAGIC: &str = "FreeBSD Kernel Dump";
/// `magic` of a textdump.
pub const MAGIC_TEXT: &str = "FreeBSD Text Dump";
/// `magic` after the dump was saved.
pub const MAGIC_CLEARED: &str = "Cleared Kernel Dump";
/// Bytes at the start of a device that dumps never touch.
pub const SIZEOF_METADATA: u64 = 65536;
/// Where the parity is.
const PARITY_AT: u64 = 508;

/// A dump header to be built, by its fields' own names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub struct DumpHeader {
    /// Version, which decides the layout; 1 to 4.
    pub version: u32,
    pub magic: String,
    pub architecture: String,
    pub architectureversion: u32,
    pub dumplength: u64,
    pub dumptime: u64,
    pub dumpkeysize: u32,
    pub blocksize: u32,
    pub hostname: String,
    pub versionstring: String,
    pub panicstring: String,
    /// 0 none, 1 gzip, 2 zstd.
    pub compression: u8,
    pub dumpextent: u64,
    /// The parity, if it must be wrong.
    pub parity: Option<u32>,
    /// The version as it is stored, if it must not be `version`.
    pub version_field: Option<u32>,
}

/// Where the fields of a version start; 0 if it has no such field.
struct Offsets {
    dumpextent: u64,
    dumptime: u64,
    dumpkeysize: u64,
    blocksize: u64,
    compression: u64,
    hostname: u64,
    versionstring: u64,
    panicstring: u64,
    panicstring_len: usize,
}

impl Offsets {
    const fn of(version: u32) -> Self {
        match version {
            1 => Self {
                dumpextent: 0,
                dumptime: 48,
                dumpkeysize: 0,
                blocksize: 56,
                compression: 0,
                hostname: 60,
                versionstring: 124,
                panicstring: 316,
                panicstring_len: 192,
            },
            2 => Self {
                dumpextent: 0,
                dumptime: 48,
                dumpkeysize: 56,
                blocksize: 60,
                compression: 0,
                hostname: 64,
                versionstring: 128,
                panicstring: 320,
                panicstring_len: 188,
            },
            3 => Self {
                dumpextent: 48,
                dumptime: 56,
                dumpkeysize: 64,
                blocksize: 68,
                compression: 72,
                hostname: 73,
                versionstring: 137,
                panicstring: 329,
                panicstring_len: 179,
            },
            _ => Self {
                dumpextent: 496,
                dumptime: 48,
                dumpkeysize: 56,
                blocksize: 60,
                compression: 495,
                hostname: 64,
                versionstring: 128,
                panicstring: 320,
                panicstring_len: 175,
            },
        }
    }
}

impl DumpHeader {
    /// A header of version 4 for an uncompressed dump of `dumplength` bytes.
    #[must_use]
    pub fn new(architecture: &str, dumplength: u64) -> Self {
        Self {
            version: 4,
            magic: MAGIC.to_owned(),
            architecture: architecture.to_owned(),
            architectureversion: if matches!(architecture, "amd64" | "i386") {
                2
            } else {
                1
            },
            dumplength,
            dumptime: 0,
            dumpkeysize: 0,
            blocksize: 512,
            hostname: String::new(),
            versionstring: String::new(),
            panicstring: String::new(),
            compression: 0,
            dumpextent: dumplength,
            parity: None,
            version_field: None,
        }
    }

    /// The 512 bytes. Strings are cut to their fields, with a NUL at the end.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let at = Offsets::of(self.version);
        let mut raw = vec![0; index(LEN)];
        let mut string = |offset: u64, len: usize, text: &str| {
            put(
                &mut raw,
                offset,
                &text.as_bytes()[..text.len().min(len - 1)],
            );
        };
        string(0, 20, &self.magic);
        string(20, 12, &self.architecture);
        string(at.hostname, 64, &self.hostname);
        string(at.versionstring, 192, &self.versionstring);
        string(at.panicstring, at.panicstring_len, &self.panicstring);
        let mut number = |offset: u64, bytes: &[u8]| {
            if offset != 0 {
                put(&mut raw, offset, bytes);
            }
        };
        number(
            32,
            &self.version_field.unwrap_or(self.version).to_be_bytes(),
        );
        number(36, &self.architectureversion.to_be_bytes());
        number(40, &self.dumplength.to_be_bytes());
        number(at.dumpextent, &self.dumpextent.to_be_bytes());
        number(at.dumptime, &self.dumptime.to_be_bytes());
        number(at.dumpkeysize, &self.dumpkeysize.to_be_bytes());
        number(at.blocksize, &self.blocksize.to_be_bytes());
        number(at.compression, &[self.compression]);
        let parity = self.parity.unwrap_or_else(|| xor_of_words(&raw));
        put(&mut raw, PARITY_AT, &parity.to_be_bytes());
        raw
    }

    /// One block of the device: the header and zeros.
    fn block(&self) -> Vec<u8> {
        let mut block = self.build();
        block.resize(block.len().max(index(u64::from(self.blocksize))), 0);
        block
    }

    /// The header's block before a dump, as tools leave it that copy a device's end.
    #[must_use]
    pub fn before(&self, dump: &[u8]) -> Vec<u8> {
        let mut file = self.block();
        file.extend_from_slice(dump);
        file
    }

    /// A whole dump device of `media_len` bytes with `dump` at its end, between two headers; `key`
    /// is the block before the dump, empty if not encrypted. `None` if it does not fit.
    #[must_use]
    pub fn device(&self, media_len: u64, key: &[u8], dump: &[u8]) -> Option<Vec<u8>> {
        let block = u64::from(self.blocksize);
        let extent = round_up(self.dumpextent, block);
        let trailer = media_len.checked_sub(block)?;
        let dump_at = trailer.checked_sub(extent)?;
        let key_at = dump_at.checked_sub(key.len() as u64)?;
        let leader = key_at
            .checked_sub(block)
            .filter(|at| *at >= SIZEOF_METADATA)?;
        if dump.len() as u64 > extent {
            return None;
        }
        let mut device = vec![0; index(media_len)];
        put(&mut device, leader, &self.block());
        put(&mut device, key_at, key);
        put(&mut device, dump_at, dump);
        put(&mut device, trailer, &self.block());
        Some(device)
    }
}

/// XOR of the 32-bit big-endian words: 0 for a header as the kernel wrote it.
#[must_use]
pub fn xor_of_words(raw: &[u8]) -> u32 {
    let words = raw
        .chunks_exact(4)
        .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    words.fold(0, |all, word| all ^ word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain header whose parity was computed elsewhere.
    fn example() -> DumpHeader {
        DumpHeader {
            dumptime: 1_700_000_000,
            hostname: "testhost".into(),
            versionstring: "FreeBSD 15.0-RELEASE #0: Thu Jan  1 00:00:00 UTC 1970\n    \
                            root@builder:/usr/obj/usr/src/amd64.amd64/sys/GENERIC\n"
                .into(),
            panicstring: "page fault".into(),
            ..DumpHeader::new("amd64", 0x1234_5000)
        }
    }

    #[test]
    fn the_parity_of_a_plain_header_is_the_known_one() {
        let raw = example().build();
        assert_eq!(raw[508..], [0x36, 0x23, 0xe6, 0x34]);
        assert_eq!(u32::from_le_bytes([0x36, 0x23, 0xe6, 0x34]), 887_497_526);
    }

    #[test]
    fn the_parity_of_an_encrypted_header_is_the_known_one() {
        let header = DumpHeader {
            dumplength: 1_234_567,
            dumpkeysize: 4096,
            blocksize: 4096,
            compression: 2,
            ..example()
        };
        assert_eq!(header.build()[508..], [0x24, 0x05, 0x62, 0xb1]);
    }

    #[test]
    fn clearing_a_header_leaves_a_known_sum() {
        let mut raw = example().build();
        raw[..MAGIC_CLEARED.len()].copy_from_slice(MAGIC_CLEARED.as_bytes());
        assert_eq!(xor_of_words(&raw), 0x3528_2004);
    }

    #[test]
    fn every_version_has_parity_and_its_own_layout() {
        for (version, panic_at) in [(1, 316), (2, 320), (3, 329), (4, 320)] {
            let raw = DumpHeader {
                version,
                ..example()
            }
            .build();
            assert_eq!(raw.len(), 512);
            assert_eq!(xor_of_words(&raw), 0, "version {version}");
            assert_eq!(
                &raw[panic_at..panic_at + 11],
                b"page fault\0",
                "version {version}"
            );
            assert_eq!(raw[32..36], version.to_be_bytes());
        }
    }

    #[test]
    fn a_long_panic_message_never_touches_the_compression() {
        let raw = DumpHeader {
            panicstring: "x".repeat(300),
            compression: 2,
            ..example()
        }
        .build();
        assert_eq!(raw[493..496], [b'x', 0, 2]);
    }

    #[test]
    fn parts_of_a_device_stand_where_the_kernel_puts_them() {
        let header = DumpHeader {
            dumpkeysize: 4096,
            blocksize: 4096,
            ..DumpHeader::new("amd64", 5000)
        };
        let device = header.device(1 << 17, &[9; 4096], &[7; 5000]).unwrap();
        let raw = header.build();
        assert_eq!(device[126_976..126_976 + 512], raw[..]);
        assert_eq!(device[118_784..118_784 + 5000], [7; 5000]);
        assert_eq!(device[114_688..114_688 + 4096], [9; 4096]);
        assert_eq!(device[110_592..110_592 + 512], raw[..]);
        assert!(device[..65536].iter().all(|byte| *byte == 0));
        assert_eq!(header.device(65536 + 4096, &[], &[7; 5000]), None);
    }
}
