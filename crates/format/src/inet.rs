//! The frames that netdump needs of a network: ARP, and UDP over IPv4, on Ethernet.
//!
//! Sources: RFC 826, 791, 768, 894. All integers are big-endian. As FreeBSD's debugnet
//! (`sys/net/debugnet_inet.c`) this knows no options, no fragments and no VLAN tags, and writes
//! packets that must not be fragmented. What is not meant for such a simple host is no frame here.
//!
//! ```
//! use core::net::Ipv4Addr;
//! use vmcore_format::inet::{Endpoint, Frame, UDP_HEADERS_LEN, encode_udp};
//! let host = |last| Endpoint { mac: [2, 0, 0, 0, 0, last], ip: Ipv4Addr::new(10, 0, 0, last), port: 20023 };
//! let mut frame = [0; UDP_HEADERS_LEN + 4];
//! frame[UDP_HEADERS_LEN..].copy_from_slice(b"ping");
//! encode_udp(&mut frame, &host(1), &host(2)).ok_or("too long")?;
//! let decoded = Frame::parse(&frame).ok_or("no frame")?;
//! assert_eq!(decoded, Frame::Udp { from: host(1), to: host(2), payload: b"ping" });
//! # Ok::<(), &str>(())
//! ```

use core::net::Ipv4Addr;
use zerocopy::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of all headers before the payload of a UDP datagram.
pub const UDP_HEADERS_LEN: usize = 42;
/// Bytes of those that an interface's MTU counts.
pub const IP_UDP_LEN: usize = 28;
/// Bytes of an ARP frame, padded to Ethernet's least.
pub const ARP_FRAME_LEN: usize = 60;
/// To everybody.
pub const BROADCAST: [u8; 6] = [0xff; 6];

const ETHERTYPE_IP: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const PROTOCOL_UDP: u8 = 17;
const DONT_FRAGMENT: u16 = 0x4000;
/// More fragments, or not the first.
const FRAGMENT_MASK: u16 = 0x3fff;
const HOPS: u8 = 255;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Ethernet {
    to: [u8; 6],
    from: [u8; 6],
    ethertype: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Arp {
    hardware: U16,
    protocol: U16,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    sender_mac: [u8; 6],
    sender_ip: [u8; 4],
    target_mac: [u8; 6],
    target_ip: [u8; 4],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Ipv4 {
    version_and_len: u8,
    service: u8,
    total_len: U16,
    id: U16,
    fragment: U16,
    hops: u8,
    protocol: u8,
    checksum: U16,
    from: [u8; 4],
    to: [u8; 4],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Udp {
    from: U16,
    to: U16,
    len: U16,
    checksum: U16,
}

const _: () = {
    assert!(size_of::<Ethernet>() == 14);
    assert!(size_of::<Arp>() == 28);
    assert!(size_of::<Ipv4>() == 20);
    assert!(size_of::<Udp>() == 8);
    assert!(core::mem::offset_of!(Ipv4, fragment) == 6);
    assert!(core::mem::offset_of!(Ipv4, checksum) == 10);
    assert!(core::mem::offset_of!(Arp, sender_ip) == 14);
    assert!(core::mem::offset_of!(Arp, target_ip) == 24);
};

/// One end of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address on the link.
    pub mac: [u8; 6],
    /// Address on the network.
    pub ip: Ipv4Addr,
    /// UDP port.
    pub port: u16,
}

/// Who has an address, or asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Address on the link; zeros if it is asked for.
    pub mac: [u8; 6],
    /// Address on the network.
    pub ip: Ipv4Addr,
}

/// A frame, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A question who has `target`'s address.
    ArpRequest {
        /// Who asks.
        sender: Neighbour,
        /// Who is looked for.
        target: Neighbour,
    },
    /// The answer.
    ArpReply {
        /// Who was looked for.
        sender: Neighbour,
        /// Who asked.
        target: Neighbour,
    },
    /// A datagram whose checksums are right.
    Udp {
        /// Who sent it.
        from: Endpoint,
        /// To whom.
        to: Endpoint,
        /// What.
        payload: &'a [u8],
    },
}

impl<'a> Frame<'a> {
    /// Decodes a frame; `None` if it is of no interest, or damaged.
    #[must_use]
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let (ethernet, rest) = Ethernet::ref_from_prefix(frame).ok()?;
        match ethernet.ethertype.get() {
            ETHERTYPE_ARP => parse_arp(rest),
            ETHERTYPE_IP => parse_udp(ethernet, rest),
            _ => None,
        }
    }
}

fn parse_arp<'a>(bytes: &[u8]) -> Option<Frame<'a>> {
    let (arp, _) = Arp::ref_from_prefix(bytes).ok()?;
    let is_ours = arp.hardware.get() == 1
        && arp.protocol.get() == ETHERTYPE_IP
        && (arp.hardware_len, arp.protocol_len) == (6, 4);
    let sender = Neighbour {
        mac: arp.sender_mac,
        ip: arp.sender_ip.into(),
    };
    let target = Neighbour {
        mac: arp.target_mac,
        ip: arp.target_ip.into(),
    };
    match arp.operation.get() {
        1 if is_ours => Some(Frame::ArpRequest { sender, target }),
        2 if is_ours => Some(Frame::ArpReply { sender, target }),
        _ => None,
    }
}

fn parse_udp<'a>(ethernet: &Ethernet, bytes: &'a [u8]) -> Option<Frame<'a>> {
    let (ip, _) = Ipv4::ref_from_prefix(bytes).ok()?;
    let is_simple = ip.version_and_len == 0x45
        && ip.protocol == PROTOCOL_UDP
        && ip.fragment.get() & FRAGMENT_MASK == 0;
    if !is_simple || sum(0, ip.as_bytes()) != 0xffff {
        return None;
    }
    // What follows is Ethernet's padding.
    let bytes = bytes.get(20..usize::from(ip.total_len.get()))?;
    let (udp, _) = Udp::ref_from_prefix(bytes).ok()?;
    let bytes = bytes.get(..usize::from(udp.len.get()))?;
    if udp.checksum.get() != 0 && sum(pseudo_sum(ip, bytes.len()), bytes) != 0xffff {
        return None;
    }
    Some(Frame::Udp {
        from: Endpoint {
            mac: ethernet.from,
            ip: ip.from.into(),
            port: udp.from.get(),
        },
        to: Endpoint {
            mac: ethernet.to,
            ip: ip.to.into(),
            port: udp.to.get(),
        },
        payload: bytes.get(8..)?,
    })
}

/// Writes the headers before the payload that fills `frame` from [`UDP_HEADERS_LEN`] on; `None` if
/// it is too long or too short for that.
pub fn encode_udp(frame: &mut [u8], from: &Endpoint, to: &Endpoint) -> Option<()> {
    let udp_len = u16::try_from(frame.len().checked_sub(34)?).ok()?;
    let total_len = udp_len.checked_add(20)?;
    let (ethernet, rest) = Ethernet::mut_from_prefix(frame).ok()?;
    *ethernet = Ethernet {
        to: to.mac,
        from: from.mac,
        ethertype: U16::new(ETHERTYPE_IP),
    };
    let (ip, rest) = Ipv4::mut_from_prefix(rest).ok()?;
    *ip = Ipv4 {
        version_and_len: 0x45,
        service: 0,
        total_len: U16::new(total_len),
        id: U16::new(0),
        fragment: U16::new(DONT_FRAGMENT),
        hops: HOPS,
        protocol: PROTOCOL_UDP,
        checksum: U16::new(0),
        from: from.ip.octets(),
        to: to.ip.octets(),
    };
    ip.checksum = U16::new(!sum(0, ip.as_bytes()));
    let pseudo = pseudo_sum(ip, udp_len.into());
    let (udp, _) = Udp::mut_from_prefix(rest).ok()?;
    *udp = Udp {
        from: U16::new(from.port),
        to: U16::new(to.port),
        len: U16::new(udp_len),
        checksum: U16::new(0),
    };
    let checksum = match !sum(pseudo, rest) {
        // No checksum at all is written as 0.
        0 => 0xffff,
        checksum => checksum,
    };
    let (udp, _) = Udp::mut_from_prefix(rest).ok()?;
    udp.checksum = U16::new(checksum);
    Some(())
}

/// A question for the owner of `target`'s address, or with `is_reply` the answer to `target`'s.
#[must_use]
pub fn encode_arp(sender: &Neighbour, target: &Neighbour, is_reply: bool) -> [u8; ARP_FRAME_LEN] {
    let mut frame = [0; ARP_FRAME_LEN];
    if let Ok((ethernet, rest)) = Ethernet::mut_from_prefix(&mut frame)
        && let Ok((arp, _)) = Arp::mut_from_prefix(rest)
    {
        *ethernet = Ethernet {
            to: if is_reply { target.mac } else { BROADCAST },
            from: sender.mac,
            ethertype: U16::new(ETHERTYPE_ARP),
        };
        *arp = Arp {
            hardware: U16::new(1),
            protocol: U16::new(ETHERTYPE_IP),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(1 + u16::from(is_reply)),
            sender_mac: sender.mac,
            sender_ip: sender.ip.octets(),
            target_mac: target.mac,
            target_ip: target.ip.octets(),
        };
    }
    frame
}

/// The Internet checksum (RFC 1071) before it is inverted, continued from `start`.
fn sum(start: u64, bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total = start;
    for word in words {
        total = total.wrapping_add(u32::from_be_bytes(*word).into());
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    total = total.wrapping_add(u32::from_be_bytes(last).into());
    // Carries go round; four times are enough for 64 bits.
    for _ in 0..4 {
        total = (total & 0xffff) + (total >> 16);
    }
    let [.., high, low] = total.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// What UDP's checksum covers of the IP header.
fn pseudo_sum(ip: &Ipv4, udp_len: usize) -> u64 {
    let part = |address: [u8; 4]| u64::from(u32::from_be_bytes(address));
    part(ip.from) + part(ip.to) + u64::from(PROTOCOL_UDP) + udp_len as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    const HERE: Endpoint = Endpoint {
        mac: [2, 0, 0, 0, 0, 1],
        ip: Ipv4Addr::new(192, 168, 0, 1),
        port: 20024,
    };
    const THERE: Endpoint = Endpoint {
        mac: [2, 0, 0, 0, 0, 9],
        ip: Ipv4Addr::new(192, 168, 0, 199),
        port: 20023,
    };

    fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xaa; UDP_HEADERS_LEN];
        frame.extend(payload);
        encode_udp(&mut frame, &HERE, &THERE).unwrap();
        frame
    }

    #[test]
    fn a_datagram_has_the_bytes_that_the_standards_ask_for() {
        let frame = datagram(b"abc");
        let expected = [
            &[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0][..],
            &[0x45, 0, 0, 31, 0, 0, 0x40, 0, 255, 17],
            &frame[24..26],
            &[192, 168, 0, 1, 192, 168, 0, 199],
            &[0x4e, 0x38, 0x4e, 0x37, 0, 11],
            &frame[40..42],
            b"abc",
        ]
        .concat();
        assert_eq!(frame, expected);
        // Words of 16 bits, one by one: the whole header adds up to all ones.
        let ones = |bytes: &[u8], start: u32| {
            let words = bytes
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
            let total: u32 = start + words.sum::<u32>();
            (total & 0xffff) + (total >> 16)
        };
        assert_eq!(ones(&frame[14..34], 0), 0xffff);
        let pseudo = ones(&frame[26..34], 17 + 11);
        assert_eq!(ones(&frame[34..], pseudo), 0xffff);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let frame = datagram(b"some payload");
        let payload = &b"some payload"[..];
        let (from, to) = (HERE, THERE);
        let decoded = Frame::Udp { from, to, payload };
        assert_eq!(Frame::parse(&frame), Some(decoded));
        // Padding is not.
        let padded = [&frame[..], &[0; 9]].concat();
        assert_eq!(Frame::parse(&padded), Some(decoded));
        for bit in 12 * 8..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Frame::parse(&damaged), Some(decoded), "bit {bit}");
        }
        for len in 0..frame.len() {
            assert_eq!(Frame::parse(&frame[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn questions_and_answers_are_told_apart() {
        let here = Neighbour {
            mac: HERE.mac,
            ip: HERE.ip,
        };
        let nobody = Neighbour {
            mac: [0; 6],
            ip: THERE.ip,
        };
        let question = encode_arp(&here, &nobody, false);
        assert_eq!(question[..6], BROADCAST);
        let (sender, target) = (here, nobody);
        let decoded = Frame::parse(&question);
        assert_eq!(decoded, Some(Frame::ArpRequest { sender, target }));
        let answer = encode_arp(&nobody, &here, true);
        assert_eq!(answer[..6], HERE.mac);
        let (sender, target) = (nobody, here);
        let decoded = Frame::parse(&answer);
        assert_eq!(decoded, Some(Frame::ArpReply { sender, target }));
        let mut other = answer;
        other[15] = 6;
        assert_eq!(Frame::parse(&other), None);
    }

    #[test]
    fn what_has_no_room_is_refused() {
        for len in 0..UDP_HEADERS_LEN {
            assert_eq!(encode_udp(&mut vec![0; len], &HERE, &THERE), None);
        }
        assert_eq!(encode_udp(&mut vec![0; 70_000], &HERE, &THERE), None);
    }
}
