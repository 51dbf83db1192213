//! The datagrams of netdump: how a dying kernel sends its dump to a server.
//!
//! Source: `sys/netinet/netdump/netdump.h` and `sys/net/debugnet.h` (`struct debugnet_msg_hdr`,
//! `struct debugnet_ack`). UDP over IPv4; all integers are big-endian. A message is a header of 24
//! bytes and `mh_len` bytes after it, in one datagram; the answer to each is its sequence number,
//! in a datagram of four bytes. The protocol has no authentication of any kind.
//!
//! ```
//! use vmcore_format::netdump::{Ack, Message, MessageType};
//! let herald = Message { kind: MessageType::Herald, seqno: 1, offset: 0, payload: b"foo\0" };
//! let mut datagram = [0; 28];
//! herald.encode_to(&mut datagram);
//! assert_eq!(Message::parse(&datagram)?, herald);
//! assert_eq!(Ack(1).encode(), [0, 0, 0, 1]);
//! # Ok::<(), vmcore_format::netdump::MessageError>(())
//! ```

use thiserror::Error;
use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where a server listens for heralds (`NETDUMP_PORT`).
pub const SERVER_PORT: u16 = 20023;
/// Where a client sends from, and listens for acks (`NETDUMP_ACKPORT`).
pub const CLIENT_PORT: u16 = 20024;
/// Bytes of a message's header.
pub const HEADER_LEN: usize = 24;
/// Bytes of an ack.
pub const ACK_LEN: usize = 4;
/// The most bytes after a header that every server takes; FreeBSD's netdumpd drops more without a
/// word.
pub const PAYLOAD_MAX: usize = 4096;
/// The most bytes of a path in a herald, its NUL included (`NETDUMP_DATASIZE` bounds the client's).
pub const PATH_MAX: usize = 1024;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// A dump begins; perhaps with a path on the server.
    Herald,
    /// The dump is whole.
    Finished,
    /// Bytes of the dump.
    Vmcore,
    /// The dump header, 512 bytes.
    DumpHeader,
    /// Bytes of the key block of an encrypted dump.
    Key,
}

impl MessageType {
    const fn number(self) -> u32 {
        match self {
            Self::Herald => 1,
            Self::Finished => 2,
            Self::Vmcore => 3,
            Self::DumpHeader => 4,
            Self::Key => 5,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Herald),
            2 => Some(Self::Finished),
            3 => Some(Self::Vmcore),
            4 => Some(Self::DumpHeader),
            5 => Some(Self::Key),
            _ => None,
        }
    }
}

/// `struct debugnet_msg_hdr`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    mh_type: U32,
    mh_seqno: U32,
    mh_offset: U64,
    mh_len: U32,
    mh_aux2: U32,
}

const _: () = {
    assert!(size_of::<Header>() == HEADER_LEN);
    assert!(core::mem::offset_of!(Header, mh_seqno) == 4);
    assert!(core::mem::offset_of!(Header, mh_offset) == 8);
    assert!(core::mem::offset_of!(Header, mh_len) == 16);
    assert!(core::mem::offset_of!(Header, mh_aux2) == 20);
};

/// A message, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Type of the message.
    pub kind: MessageType,
    /// Number of the datagram; the herald has 1.
    pub seqno: u32,
    /// Where the payload belongs in its file, in bytes.
    pub offset: u64,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// Why a datagram is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Shorter than a header.
    #[error("a datagram of {0} bytes is shorter than a netdump header")]
    Truncated(usize),
    /// The length in the header is not that of what follows it.
    #[error("the header announces {announced} bytes, and {have} follow")]
    Length {
        /// Bytes announced.
        announced: u32,
        /// Bytes that are there.
        have: usize,
    },
    /// A type without a known meaning.
    #[error("message type {0} is not one that is known (1 to 5)")]
    UnknownType(u32),
}

impl<'a> Message<'a> {
    /// Decodes a datagram: all of it must be the message. `mh_aux2` is not looked at.
    ///
    /// # Errors
    /// Returns an error if the datagram's length or type is wrong.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, MessageError> {
        let (header, payload) = Header::ref_from_prefix(datagram)
            .map_err(|_| MessageError::Truncated(datagram.len()))?;
        let kind = MessageType::from_number(header.mh_type.get())
            .ok_or(MessageError::UnknownType(header.mh_type.get()))?;
        let announced = header.mh_len.get();
        if usize::try_from(announced) != Ok(payload.len()) {
            let have = payload.len();
            return Err(MessageError::Length { announced, have });
        }
        Ok(Self {
            kind,
            seqno: header.mh_seqno.get(),
            offset: header.mh_offset.get(),
            payload,
        })
    }

    /// Writes the datagram to the start of `datagram`, and returns its length; what does not fit is
    /// left out, and the header says so.
    pub fn encode_to(&self, datagram: &mut [u8]) -> usize {
        let Ok((header, rest)) = Header::mut_from_prefix(datagram) else {
            return 0;
        };
        let mut len = 0u32;
        for (to, from) in rest.iter_mut().zip(self.payload) {
            *to = *from;
            len = len.saturating_add(1);
        }
        header.mh_type = U32::new(self.kind.number());
        header.mh_seqno = U32::new(self.seqno);
        header.mh_offset = U64::new(self.offset);
        header.mh_len = U32::new(len);
        header.mh_aux2 = U32::new(0);
        HEADER_LEN.saturating_add(len as usize)
    }

    /// The path that a herald asks for: its payload up to the NUL, which must be its last byte.
    /// `None` if there is none, or the payload is not a path.
    #[must_use]
    pub fn path(&self) -> Option<&'a [u8]> {
        let (last, path) = self.payload.split_last()?;
        let is_path = self.kind == MessageType::Herald
            && *last == 0
            && !path.is_empty()
            && self.payload.len() <= PATH_MAX
            && !path.contains(&0);
        is_path.then_some(path)
    }
}

/// An ack: the sequence number of the message that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack(pub u32);

impl Ack {
    /// Decodes an ack: exactly four bytes.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        datagram.try_into().ok().map(u32::from_be_bytes).map(Self)
    }

    /// The datagram.
    #[must_use]
    pub const fn encode(self) -> [u8; ACK_LEN] {
        self.0.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// A datagram at the offsets of the specification.
    fn raw(kind: u32, seqno: u32, offset: u64, len: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_be_bytes());
        bytes.extend(seqno.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn messages_are_those_of_the_specification() {
        // Appendix A.4 of the specification: a herald, and the second and the last fragment.
        let cases = [
            (MessageType::Herald, 1, 1, 0, b"foo\0".to_vec()),
            (MessageType::Vmcore, 3, 3, 0x5a8, vec![7; 1448]),
            (MessageType::Vmcore, 3, 0x2f, 0xfe88, vec![8; 376]),
            (MessageType::Finished, 2, 9, 0, Vec::new()),
            (MessageType::DumpHeader, 4, 9, 0, vec![1; 512]),
            (MessageType::Key, 5, 2, 0, vec![2; 4096]),
        ];
        for (kind, number, seqno, offset, payload) in cases {
            let message = Message {
                kind,
                seqno,
                offset,
                payload: &payload,
            };
            let len = u32::try_from(payload.len()).unwrap();
            let expected = raw(number, seqno, offset, len, &payload);
            assert_eq!(Message::parse(&expected), Ok(message));
            let mut written = vec![0xff; expected.len()];
            assert_eq!(message.encode_to(&mut written), expected.len());
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn what_is_no_message_says_why() {
        let good = raw(3, 5, 0, 4, b"data");
        for len in 0..HEADER_LEN {
            let short = Message::parse(&good[..len]);
            assert_eq!(short, Err(MessageError::Truncated(len)));
        }
        for (announced, have) in [(3, 4), (5, 4), (u32::MAX, 4), (0, 4), (4, 0)] {
            let bytes = raw(3, 5, 0, announced, &b"data"[..have]);
            let error = MessageError::Length { announced, have };
            assert_eq!(Message::parse(&bytes), Err(error));
        }
        for kind in [0, 6, u32::MAX] {
            let bytes = raw(kind, 5, 0, 0, &[]);
            assert_eq!(Message::parse(&bytes), Err(MessageError::UnknownType(kind)));
        }
    }

    #[test]
    fn a_buffer_that_is_too_small_is_never_overrun() {
        let message = Message {
            kind: MessageType::Vmcore,
            seqno: 1,
            offset: 0,
            payload: b"data",
        };
        assert_eq!(message.encode_to(&mut [0; HEADER_LEN - 1]), 0);
        let mut cut = [0; HEADER_LEN + 2];
        assert_eq!(message.encode_to(&mut cut), cut.len());
        assert_eq!(Message::parse(&cut).unwrap().payload, b"da");
    }

    #[test]
    fn only_a_herald_with_a_string_has_a_path() {
        let path = |kind, payload| {
            let (seqno, offset) = (1, 0);
            let message = Message {
                kind,
                seqno,
                offset,
                payload,
            };
            message.path().map(<[u8]>::to_vec)
        };
        let herald = MessageType::Herald;
        assert_eq!(path(herald, b"foo\0"), Some(b"foo".to_vec()));
        for payload in [&b""[..], b"\0", b"foo", b"f\0o\0"] {
            assert_eq!(path(herald, payload), None);
        }
        assert_eq!(path(MessageType::Vmcore, b"foo\0"), None);
        let long = vec![b'a'; PATH_MAX];
        assert_eq!(path(herald, &[&long[..], &[0]].concat()), None);
    }

    #[test]
    fn an_ack_has_four_bytes() {
        assert_eq!(Ack::parse(&[0, 0, 1, 2]), Some(Ack(0x102)));
        assert_eq!(Ack(0x102).encode(), [0, 0, 1, 2]);
        for len in [0, 3, 5, 24] {
            assert_eq!(Ack::parse(&vec![0; len]), None);
        }
    }
}
