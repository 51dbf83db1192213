//! `struct kerneldumpheader`: the 512 bytes before and after a dump on a device.
//!
//! Source: `sys/sys/kerneldump.h`. All integers are big-endian on every architecture; strings are
//! NUL-terminated. Versions 1 (2002), 2 (2016), 3 (2017, packed oddly, short-lived) and 4 (2018)
//! hold the same facts at different offsets. The XOR of all 128 words of a valid header is 0.
//!
//! ```
//! use vmcore_format::kerneldump::{DumpHeader, DumpHeaderError};
//! assert_eq!(DumpHeader::parse(&[0; 512]), Err(DumpHeaderError::BadMagic));
//! assert_eq!(DumpHeader::parse(&[0; 100]), Err(DumpHeaderError::Truncated));
//! ```

use core::ops::Range;
use thiserror::Error;
use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the structure in every version.
pub const HEADER_LEN: usize = 512;
/// Bytes of the field that holds the magic.
const MAGIC_LEN: usize = 20;
/// The newest version, which FreeBSD has written since 12.0.
pub const NEWEST_VERSION: u32 = 4;
/// Bytes of the blocks that a textdump is written in, the last one first.
pub const TEXT_BLOCK: usize = 512;
/// Magic of a kernel dump, full or mini, compressed or encrypted.
pub const MAGIC: &[u8] = b"FreeBSD Kernel Dump";
/// Magic of a textdump.
pub const MAGIC_TEXT: &[u8] = b"FreeBSD Text Dump";
/// Magic after savecore has cleared the header.
pub const MAGIC_CLEARED: &[u8] = b"Cleared Kernel Dump";

/// The part that all versions share.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Common {
    magic: [u8; MAGIC_LEN],
    architecture: [u8; 12],
    version: U32,
    architectureversion: U32,
    dumplength: U64,
}

/// Version 1, up to FreeBSD 11.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct V1 {
    common: Common,
    dumptime: U64,
    blocksize: U32,
    hostname: [u8; 64],
    versionstring: [u8; 192],
    panicstring: [u8; 192],
    parity: U32,
}

/// Versions 2 and 4; version 2 has a longer panic string where version 4 has its new fields.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct V4 {
    common: Common,
    dumptime: U64,
    dumpkeysize: U32,
    blocksize: U32,
    hostname: [u8; 64],
    versionstring: [u8; 192],
    panicstring: [u8; 175],
    compression: u8,
    dumpextent: U64,
    unused: [u8; 4],
    parity: U32,
}

/// Version 3, known from the compatibility header shipped with netdumpd.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct V3 {
    common: Common,
    dumpextent: U64,
    dumptime: U64,
    dumpkeysize: U32,
    blocksize: U32,
    compression: u8,
    hostname: [u8; 64],
    versionstring: [u8; 192],
    panicstring: [u8; 179],
    parity: U32,
}

const _: () = {
    assert!(size_of::<Common>() == 48);
    assert!(size_of::<V1>() == HEADER_LEN);
    assert!(size_of::<V3>() == HEADER_LEN);
    assert!(size_of::<V4>() == HEADER_LEN);
    assert!(core::mem::offset_of!(V1, hostname) == 60);
    assert!(core::mem::offset_of!(V1, panicstring) == 316);
    assert!(core::mem::offset_of!(V3, compression) == 72);
    assert!(core::mem::offset_of!(V3, panicstring) == 329);
    assert!(core::mem::offset_of!(V4, panicstring) == 320);
    assert!(core::mem::offset_of!(V4, compression) == 495);
    assert!(core::mem::offset_of!(V4, dumpextent) == 496);
};

/// What the header precedes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderKind {
    /// A memory dump.
    Kernel,
    /// A textdump: a tar archive written backwards.
    Text,
    /// A dump that savecore has already taken.
    Cleared,
}

/// How the dump after the header is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// A number without a known meaning.
    Unknown(u8),
}

/// A dump header of any version, decoded. Strings are raw bytes up to their NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpHeader<'a> {
    /// From the magic.
    pub kind: HeaderKind,
    /// `MACHINE_ARCH`, such as `amd64` or `aarch64`.
    pub architecture: &'a [u8],
    /// Version of the header, 1 to 4.
    pub version: u32,
    /// 2 on amd64 and i386, 1 elsewhere; not the minidump's version.
    pub architectureversion: u32,
    /// Bytes of the dump, without headers and key.
    pub dumplength: u64,
    /// Seconds since 1970 by the kernel's clock.
    pub dumptime: u64,
    /// Bytes of the encrypted key after the header; 0 if not encrypted.
    pub dumpkeysize: u32,
    /// Bytes of a device block.
    pub blocksize: u32,
    /// Host name.
    pub hostname: &'a [u8],
    /// The kernel's version string.
    pub versionstring: &'a [u8],
    /// The panic message; empty if the dump was forced.
    pub panicstring: &'a [u8],
    /// Compression of the dump.
    pub compression: Compression,
    /// Bytes reserved on the device.
    pub dumpextent: u64,
}

/// Where the parts of a dump are on its medium, in bytes from the medium's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnMedium {
    /// The leading header, a twin of the trailing one.
    pub leader: u64,
    /// The key block; empty if the dump is not encrypted.
    pub key: Range<u64>,
    /// The dump. The blocks of a textdump are in it last one first.
    pub payload: Range<u64>,
}

/// Why bytes are not a dump header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DumpHeaderError {
    /// Fewer than 512 bytes.
    #[error("truncated inside the dump header")]
    Truncated,
    /// None of the three magics.
    #[error("no dump header: its magic is missing")]
    BadMagic,
    /// A version without a known layout.
    #[error("dump header version {0}; versions 1 to 4 are known")]
    BadVersion(u32),
    /// The XOR of the header's words is not 0.
    #[error("the dump header is damaged: its parity is {0:#x}, not 0")]
    BadParity(u32),
}

/// The XOR of a header's 128 words as big-endian numbers: 0 in a valid one.
#[must_use]
pub fn parity(header: &[u8; HEADER_LEN]) -> u32 {
    let (words, _) = header.as_chunks::<4>();
    words
        .iter()
        .fold(0, |sum, word| sum ^ u32::from_be_bytes(*word))
}

/// Changes the length of the dump in a header of version 4, and its parity with it: that of a
/// compressed dump is known at its end only.
pub fn set_dumplength(header: &mut [u8; HEADER_LEN], dumplength: u64) {
    let raw: &mut V4 = zerocopy::transmute_mut!(header);
    raw.common.dumplength = U64::new(dumplength);
    raw.parity = U32::new(0);
    let sum = parity(header);
    let raw: &mut V4 = zerocopy::transmute_mut!(header);
    raw.parity = U32::new(sum);
}

/// Marks a header as saved, as savecore does: the magic changes, the parity does not.
pub fn clear(header: &mut [u8; HEADER_LEN]) {
    set_magic(header, MAGIC_CLEARED);
}

/// Gives a cleared header its magic back: the one for which its parity is right, else that of a
/// kernel dump. Any other header stays as it is.
pub fn revive(header: &mut [u8; HEADER_LEN]) {
    let is_cleared = header
        .first_chunk::<MAGIC_LEN>()
        .is_some_and(|magic| text(magic) == MAGIC_CLEARED);
    if is_cleared {
        set_magic(header, MAGIC_TEXT);
        if parity(header) != 0 {
            set_magic(header, MAGIC);
        }
    }
}

fn set_magic(header: &mut [u8; HEADER_LEN], magic: &[u8]) {
    let padded = magic.iter().copied().chain(core::iter::repeat(0));
    for (to, from) in header.iter_mut().take(MAGIC_LEN).zip(padded) {
        *to = from;
    }
}

impl<'a> DumpHeader<'a> {
    /// Decodes the header at the start of `bytes`. A cleared header keeps the parity of before, so
    /// parity is not checked there.
    ///
    /// # Errors
    /// Returns an error if bytes, magic, version or parity are wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DumpHeaderError> {
        let decoded = Self::parse_damaged(bytes)?;
        let parity = bytes.first_chunk().map_or(0, parity);
        if parity != 0 && decoded.kind != HeaderKind::Cleared {
            return Err(DumpHeaderError::BadParity(parity));
        }
        if !(1..=NEWEST_VERSION).contains(&decoded.version) {
            return Err(DumpHeaderError::BadVersion(decoded.version));
        }
        Ok(decoded)
    }

    /// Decodes what is in the fields of a header that may be damaged: the parity is not
    /// checked, and a version without a known layout is read like the newest.
    ///
    /// # Errors
    /// Returns an error if there are fewer than 512 bytes, or the magic is wrong.
    pub fn parse_damaged(bytes: &'a [u8]) -> Result<Self, DumpHeaderError> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(DumpHeaderError::Truncated)?;
        let common: &Common = view(header)?;
        let kind = match text(&common.magic) {
            magic if magic == MAGIC => HeaderKind::Kernel,
            magic if magic == MAGIC_TEXT => HeaderKind::Text,
            magic if magic == MAGIC_CLEARED => HeaderKind::Cleared,
            _ => return Err(DumpHeaderError::BadMagic),
        };
        let base = Self {
            kind,
            architecture: text(&common.architecture),
            version: common.version.get(),
            architectureversion: common.architectureversion.get(),
            dumplength: common.dumplength.get(),
            dumptime: 0,
            dumpkeysize: 0,
            blocksize: 0,
            hostname: &[],
            versionstring: &[],
            panicstring: &[],
            compression: Compression::None,
            dumpextent: common.dumplength.get(),
        };
        match base.version {
            1 => {
                let raw: &V1 = view(header)?;
                Ok(Self {
                    dumptime: raw.dumptime.get(),
                    blocksize: raw.blocksize.get(),
                    hostname: text(&raw.hostname),
                    versionstring: text(&raw.versionstring),
                    panicstring: text(&raw.panicstring),
                    ..base
                })
            }
            2 => {
                let raw: &V4 = view(header)?;
                Ok(Self {
                    dumptime: raw.dumptime.get(),
                    dumpkeysize: raw.dumpkeysize.get(),
                    blocksize: raw.blocksize.get(),
                    hostname: text(&raw.hostname),
                    versionstring: text(&raw.versionstring),
                    // It runs on where version 4 has its new fields.
                    panicstring: text(header.get(320..508).unwrap_or_default()),
                    ..base
                })
            }
            3 => {
                let raw: &V3 = view(header)?;
                Ok(Self {
                    dumptime: raw.dumptime.get(),
                    dumpkeysize: raw.dumpkeysize.get(),
                    blocksize: raw.blocksize.get(),
                    hostname: text(&raw.hostname),
                    versionstring: text(&raw.versionstring),
                    panicstring: text(&raw.panicstring),
                    compression: compression(raw.compression),
                    dumpextent: raw.dumpextent.get(),
                    ..base
                })
            }
            _ => {
                let raw: &V4 = view(header)?;
                Ok(Self {
                    dumptime: raw.dumptime.get(),
                    dumpkeysize: raw.dumpkeysize.get(),
                    blocksize: raw.blocksize.get(),
                    hostname: text(&raw.hostname),
                    versionstring: text(&raw.versionstring),
                    panicstring: text(&raw.panicstring),
                    compression: compression(raw.compression),
                    dumpextent: raw.dumpextent.get(),
                    ..base
                })
            }
        }
    }

    /// Where the parts are on a medium with blocks of `block` bytes whose trailing header is at
    /// `trailer`. `None` if they cannot be there.
    #[must_use]
    pub fn on_medium(&self, trailer: u64, block: u64) -> Option<OnMedium> {
        let reserved = trailer.checked_sub(self.dumpextent)?;
        let key = reserved.checked_sub(self.dumpkeysize.into())?;
        if self.dumplength > self.dumpextent {
            return None;
        }
        Some(OnMedium {
            leader: key.checked_sub(block)?,
            key: key..reserved,
            payload: match self.kind {
                HeaderKind::Text => trailer - self.dumplength..trailer,
                HeaderKind::Kernel | HeaderKind::Cleared => reserved..reserved + self.dumplength,
            },
        })
    }

    /// The header's bytes in version 4, the only one that is written; `version` is not looked at.
    /// Strings that do not fit are cut; a version string that is cut still ends in a newline.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        self.encode_to(&mut header);
        header
    }

    /// As [`DumpHeader::encode`], in place: for those with little stack.
    pub fn encode_to(&self, header: &mut [u8; HEADER_LEN]) {
        let raw: &mut V4 = zerocopy::transmute_mut!(header);
        let magic = match self.kind {
            HeaderKind::Kernel => MAGIC,
            HeaderKind::Text => MAGIC_TEXT,
            HeaderKind::Cleared => MAGIC_CLEARED,
        };
        put_text(&mut raw.common.magic, magic);
        put_text(&mut raw.common.architecture, self.architecture);
        raw.common.version = U32::new(4);
        raw.common.architectureversion = U32::new(self.architectureversion);
        raw.dumptime = U64::new(self.dumptime);
        raw.dumpkeysize = U32::new(self.dumpkeysize);
        raw.blocksize = U32::new(self.blocksize);
        put_text(&mut raw.hostname, self.hostname);
        put_text(&mut raw.versionstring, self.versionstring);
        if self.versionstring.len() >= raw.versionstring.len()
            && let [.., last, _] = &mut raw.versionstring
        {
            *last = b'\n';
        }
        put_text(&mut raw.panicstring, self.panicstring);
        raw.compression = match self.compression {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Zstd => 2,
            Compression::Unknown(raw) => raw,
        };
        raw.dumpextent = U64::new(self.dumpextent);
        raw.unused = [0; 4];
        set_dumplength(header, self.dumplength);
    }
}

/// Writes as much of `text` as fits to a field, and NULs after it.
fn put_text(field: &mut [u8], text: &[u8]) {
    field.fill(0);
    let room = field.len().saturating_sub(1);
    for (to, from) in field.iter_mut().take(room).zip(text) {
        *to = *from;
    }
}

const fn compression(raw: u8) -> Compression {
    match raw {
        0 => Compression::None,
        1 => Compression::Gzip,
        2 => Compression::Zstd,
        other => Compression::Unknown(other),
    }
}

fn view<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    header: &[u8; HEADER_LEN],
) -> Result<&T, DumpHeaderError> {
    T::ref_from_prefix(header)
        .map(|(view, _)| view)
        .map_err(|_| DumpHeaderError::Truncated)
}

/// A field's bytes up to its NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod encoded;
#[cfg(test)]
mod tests;
