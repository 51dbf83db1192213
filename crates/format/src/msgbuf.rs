//! The kernel's message buffer: the ring, and `struct msgbuf`, which says where it starts.
//!
//! Source: `sys/sys/msgbuf.h`, `sys/kern/subr_prf.c`. A minidump carries the ring raw; the slack
//! of its last page normally holds the structure, because the boot code carves it out of the top
//! of the same memory. The structure is in the kernel's byte order and word size. Sequence numbers
//! run modulo 16 × the size; a position is a sequence number modulo the size; bytes never written
//! are NUL.
//!
//! ```
//! use vmcore_format::endian::{Endian, Width};
//! use vmcore_format::msgbuf::{Msgbuf, in_order};
//! let mut raw = [0u8; 72];
//! raw[8..12].copy_from_slice(&0x063062u32.to_le_bytes());
//! raw[12..16].copy_from_slice(&8u32.to_le_bytes()); // msg_size
//! raw[16..20].copy_from_slice(&11u32.to_le_bytes()); // msg_wseq
//! let msgbuf = Msgbuf::parse(&raw, Endian::Little, Width::W64)?;
//! let (old, new) = in_order(b"lo!world", Some(&msgbuf));
//! assert_eq!([old, new], [&b"world"[..], b"lo!"]);
//! # Ok::<(), vmcore_format::msgbuf::MsgbufError>(())
//! ```

use crate::addr::VirtAddr;
use crate::endian::{Endian, Width};
use thiserror::Error;

/// `MSG_MAGIC`.
pub const MSG_MAGIC: u32 = 0x06_3062;

/// `struct msgbuf`, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msgbuf {
    /// Address of the ring's first byte.
    pub msg_ptr: VirtAddr,
    /// Bytes of the ring.
    pub msg_size: u32,
    /// Write sequence number.
    pub msg_wseq: u32,
    /// Read sequence number: what the log daemon has taken.
    pub msg_rseq: u32,
    /// Sum of the ring's bytes.
    pub msg_cksum: u32,
}

/// Why bytes are not a `struct msgbuf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MsgbufError {
    /// Fewer bytes than the structure has.
    #[error("struct msgbuf is cut short")]
    Truncated,
    /// Another magic.
    #[error("the message buffer has the magic {0:#x}, not 0x63062")]
    BadMagic(u32),
}

impl Msgbuf {
    /// Bytes of the structure, its lock included.
    #[must_use]
    pub const fn len_bytes(word: Width) -> usize {
        match word {
            Width::W32 => 56,
            Width::W64 => 72,
        }
    }

    /// Decodes the structure at the start of `bytes`.
    ///
    /// # Errors
    /// Returns an error if the bytes are too few or the magic is another.
    pub fn parse(bytes: &[u8], endian: Endian, word: Width) -> Result<Self, MsgbufError> {
        let w = match word {
            Width::W32 => 4,
            Width::W64 => 8,
        };
        let field = |offset| endian.u32_at(bytes, offset).ok_or(MsgbufError::Truncated);
        let magic = field(w)?;
        if magic != MSG_MAGIC {
            return Err(MsgbufError::BadMagic(magic));
        }
        Ok(Self {
            msg_ptr: VirtAddr(word.item(endian, bytes, 0).ok_or(MsgbufError::Truncated)?),
            msg_size: field(w + 4)?,
            msg_wseq: field(w + 8)?,
            msg_rseq: field(w + 12)?,
            msg_cksum: field(w + 16)?,
        })
    }
}

/// The ring's bytes from oldest to newest, in two parts. Without positions the ring is taken as it
/// is, which is right unless it has wrapped. NULs (never written) are left in: skip them when
/// printing.
#[must_use]
pub fn in_order<'a>(ring: &'a [u8], msgbuf: Option<&Msgbuf>) -> (&'a [u8], &'a [u8]) {
    let write_at = msgbuf.map_or(0, |msgbuf| msgbuf.msg_wseq);
    let write_at = usize::try_from(write_at)
        .unwrap_or(0)
        .checked_rem(ring.len())
        .unwrap_or(0);
    let (newest, oldest) = ring.split_at(write_at);
    (oldest, newest)
}

/// Whether the ring has wrapped: the byte at the write position was written before.
#[must_use]
pub fn has_wrapped(ring: &[u8], msgbuf: Option<&Msgbuf>) -> bool {
    let (oldest, _) = in_order(ring, msgbuf);
    oldest.last().is_some_and(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_word_sizes_and_byte_orders_decode() {
        for (word, w) in [(Width::W32, 4), (Width::W64, 8)] {
            for endian in [Endian::Little, Endian::Big] {
                let mut raw = [0u8; 72];
                let mut put = |offset: usize, value: u32| {
                    let bytes = match endian {
                        Endian::Little => value.to_le_bytes(),
                        Endian::Big => value.to_be_bytes(),
                    };
                    raw[offset..offset + 4].copy_from_slice(&bytes);
                };
                put(w, MSG_MAGIC);
                put(w + 4, 98232);
                put(w + 8, 5);
                put(w + 12, 3);
                put(w + 16, 77);
                let msgbuf = Msgbuf::parse(&raw, endian, word).unwrap();
                assert_eq!(
                    (msgbuf.msg_size, msgbuf.msg_wseq, msgbuf.msg_rseq),
                    (98232, 5, 3)
                );
                assert_eq!(msgbuf.msg_cksum, 77);
            }
        }
    }

    #[test]
    fn wrong_magic_and_short_input_are_refused() {
        assert_eq!(
            Msgbuf::parse(&[0; 72], Endian::Little, Width::W64),
            Err(MsgbufError::BadMagic(0))
        );
        assert_eq!(
            Msgbuf::parse(&[0; 4], Endian::Little, Width::W64),
            Err(MsgbufError::Truncated)
        );
    }

    #[test]
    fn rings_of_every_fill_come_out_in_order() {
        let state = |wseq| Msgbuf {
            msg_ptr: VirtAddr(0),
            msg_size: 8,
            msg_wseq: wseq,
            msg_rseq: 0,
            msg_cksum: 0,
        };
        let text = |ring: &[u8], wseq| {
            let (old, new) = in_order(ring, Some(&state(wseq)));
            let mut all = std::vec::Vec::from(old);
            all.extend_from_slice(new);
            all.retain(|byte| *byte != 0);
            std::string::String::from_utf8(all).unwrap()
        };
        assert_eq!(text(&[0; 8], 0), "");
        assert_eq!(text(b"abc\0\0\0\0\0", 3), "abc");
        assert_eq!(text(b"abcdefgh", 8), "abcdefgh");
        assert_eq!(text(b"ijcdefgh", 10), "cdefghij");
        assert_eq!(text(b"ijcdefgh", 16 * 8 * 3 + 2), "cdefghij");
        assert!(has_wrapped(b"ijcdefgh", Some(&state(10))));
        assert!(!has_wrapped(b"abc\0\0\0\0\0", Some(&state(3))));
        assert_eq!(in_order(&[], Some(&state(3))), (&[][..], &[][..]));
    }
}
