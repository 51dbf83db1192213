//! The header and the trailer around a gzip member's deflate stream.
//!
//! Source: RFC 1952; what FreeBSD's kernel writes: `sys/kern/subr_compressor.c`. A file may hold
//! several members, one after the other.
//!
//! ```
//! use vmcore_format::gzip;
//! // The prologue of every dump that a kernel compressed.
//! let kernel = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
//! assert_eq!(gzip::header_len(&kernel), Ok(10));
//! assert_eq!(gzip::header_len(b"minidump"), Err(gzip::GzipError::BadMagic));
//! ```

use thiserror::Error;

/// First bytes of a member.
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Bytes before the optional fields.
const FIXED_LEN: usize = 10;
/// Bytes after the deflate stream: CRC-32 and length modulo 2^32, both little-endian.
pub const TRAILER_LEN: usize = 8;
/// The most bytes of a header that is looked at: names and comments are short.
pub const HEADER_MAX: usize = 1 << 17;

const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;

/// Why bytes are not a member's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GzipError {
    /// Too few bytes.
    #[error("truncated inside a gzip header")]
    Truncated,
    /// Another magic.
    #[error("no gzip header: its magic is missing")]
    BadMagic,
    /// Neither deflate, nor flags that are known.
    #[error("a gzip header of an unknown form")]
    Reserved,
}

/// Bytes of the header at the start of `bytes`.
///
/// # Errors
/// Returns an error if it is not one.
pub fn header_len(bytes: &[u8]) -> Result<usize, GzipError> {
    let short = bytes.get(..2).unwrap_or(bytes);
    if !MAGIC.starts_with(short) {
        return Err(GzipError::BadMagic);
    }
    let fixed: &[u8; FIXED_LEN] = bytes.first_chunk().ok_or(GzipError::Truncated)?;
    let [_, _, method, flags, ..] = *fixed;
    if method != 8 || flags & 0xe0 != 0 {
        return Err(GzipError::Reserved);
    }
    let mut len = FIXED_LEN;
    if flags & FEXTRA != 0 {
        let rest = bytes.get(len..).ok_or(GzipError::Truncated)?;
        let extra = rest.first_chunk().ok_or(GzipError::Truncated)?;
        len += 2 + usize::from(u16::from_le_bytes(*extra));
    }
    for text in [FNAME, FCOMMENT] {
        if flags & text != 0 {
            let rest = bytes.get(len..).ok_or(GzipError::Truncated)?;
            let nul = rest.iter().position(|byte| *byte == 0);
            len += nul.ok_or(GzipError::Truncated)? + 1;
        }
    }
    if flags & FHCRC != 0 {
        len += 2;
    }
    if len > bytes.len() {
        return Err(GzipError::Truncated);
    }
    Ok(len)
}

/// CRC-32 and length modulo 2^32 of a member's contents.
#[must_use]
pub fn trailer(bytes: [u8; TRAILER_LEN]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = bytes;
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn every_optional_field_is_skipped() {
        let mut bytes: Vec<u8> = std::vec![0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 0, 3];
        bytes.extend([3, 0, 1, 2, 3]);
        bytes.extend(b"vmcore.0\0of a host\0");
        bytes.extend([0xaa, 0xbb]);
        assert_eq!(header_len(&bytes), Ok(bytes.len()));
        for len in 0..bytes.len() {
            assert_eq!(header_len(&bytes[..len]), Err(GzipError::Truncated));
        }
    }

    #[test]
    fn what_is_no_header_says_so() {
        assert_eq!(header_len(b"\x1f\x8c"), Err(GzipError::BadMagic));
        assert_eq!(
            header_len(&[0x1f, 0x8b, 7, 0, 0, 0, 0, 0, 0, 3]),
            Err(GzipError::Reserved)
        );
        assert_eq!(
            header_len(&[0x1f, 0x8b, 8, 0x20, 0, 0, 0, 0, 0, 3]),
            Err(GzipError::Reserved)
        );
        assert_eq!(trailer([1, 0, 0, 0, 2, 0, 0, 0]), (1, 2));
    }
}
