//! The headers of a tar archive, as a textdump has them: ustar.
//!
//! A textdump is an archive of a few files: what DDB said, the kernel's configuration, its message
//! buffer, the panic message, its version. Each header takes a block of 512 bytes, its numbers are
//! octal text. Source: `sys/ddb/db_textdump.c`, POSIX.1-1988 section 10.1.1.
//!
//! ```
//! use vmcore_format::tar;
//! assert_eq!(tar::parse(&[0; tar::BLOCK_LEN]), None);
//! ```

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of a header, and of the blocks that files are padded to.
pub const BLOCK_LEN: usize = 512;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    name: [u8; 100],
    mode: [u8; 8],
    uid: [u8; 8],
    gid: [u8; 8],
    size: [u8; 12],
    mtime: [u8; 12],
    checksum: [u8; 8],
    typeflag: u8,
    linkname: [u8; 100],
    magic: [u8; 5],
    rest: [u8; 250],
}

const _: () = {
    assert!(size_of::<Header>() == BLOCK_LEN);
    assert!(core::mem::offset_of!(Header, checksum) == 148);
    assert!(core::mem::offset_of!(Header, magic) == 257);
};

/// A file of an archive, whose contents follow its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Bytes of its contents.
    pub len_bytes: u64,
    /// Whether it is a regular file, and not a directory, a link or an extended header.
    pub is_file: bool,
}

/// Decodes the header at the start of `bytes`; `None` if there is none, or its sum is wrong.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Member<'_>> {
    let header = Header::ref_from_prefix(bytes).ok()?.0;
    let block: &[u8; BLOCK_LEN] = bytes.first_chunk()?;
    let in_sum = block.iter().enumerate().map(|(at, byte)| match at {
        148..156 => u64::from(b' '),
        _ => u64::from(*byte),
    });
    let is_sound =
        &header.magic == b"ustar" && octal(&header.checksum) == Some(in_sum.sum::<u64>());
    is_sound.then_some(())?;
    let name = header.name.split(|byte| *byte == 0).next();
    Some(Member {
        name: name.unwrap_or_default(),
        len_bytes: octal(&header.size)?,
        is_file: matches!(header.typeflag, b'0' | 0),
    })
}

/// A number in a field: spaces, octal digits, then a space or NUL.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.iter().skip_while(|byte| **byte == b' ');
    let mut digits = digits.take_while(|byte| byte.is_ascii_digit()).peekable();
    digits.peek()?;
    digits.try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_at_the_offsets_of_the_standard() {
        let mut block = [0; BLOCK_LEN];
        block[..7].copy_from_slice(b"ddb.txt");
        block[124..136].copy_from_slice(b"00000001234\0");
        block[257..262].copy_from_slice(b"ustar");
        let sum = block.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        let mut digits = [0; 6];
        for (at, digit) in digits.iter_mut().rev().enumerate() {
            *digit = b'0' + u8::try_from(sum >> (3 * at) & 7).unwrap();
        }
        block[148..154].copy_from_slice(&digits);
        let member = parse(&block).unwrap();
        assert_eq!((member.name, member.len_bytes), (&b"ddb.txt"[..], 0o1234));
        block[0] = b'D';
        assert_eq!(parse(&block), None, "its sum is wrong");
        assert_eq!(parse(&block[..511]), None);
        assert_eq!(octal(b"777777777777777777777777"), None);
        assert_eq!(octal(b"        "), None);
    }
}
