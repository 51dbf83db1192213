//! The layers above a disk that forgets, and a network whose server acks everything at once.

use crate::kernel::Disk;
use core::hint::black_box;
use core::net::Ipv4Addr;
use vmcore_format::inet::{Endpoint, Frame, Neighbour, UDP_HEADERS_LEN, encode_arp, encode_udp};
use vmcore_format::kerneldumpkey::Cipher;
use vmcore_format::netdump::{Ack, Message};
use vmcore_writer::Sink;
use vmcore_writer::device::DeviceError;
use vmcore_writer::disk::DiskSink;
use vmcore_writer::encrypt::{DumpKey, ENCRYPTION_MEMORY_BYTES, Encrypted};
use vmcore_writer::netdump::{NET_MEMORY_BYTES, NetConfig, NetDevice, NetPatience, NetSink};
use vmcore_writer::settings::Patience;
use vmcore_writer::zstd::{ZSTD_MEMORY_BYTES, Zstd};
use zerocopy::IntoBytes as _;

/// Where a dump goes, and through what.
#[derive(Clone, Copy)]
pub enum Way {
    Zstd,
    Encrypted(Cipher),
    Network,
}

pub const WAYS: [(Way, &str); 4] = [
    (Way::Zstd, "zstd"),
    (Way::Encrypted(Cipher::ChaCha20), "ChaCha20 under zstd"),
    (Way::Encrypted(Cipher::Aes256Cbc), "AES under zstd"),
    (Way::Network, "netdump"),
];

/// What a kernel gives the layers.
pub struct Memory {
    zstd: [u64; ZSTD_MEMORY_BYTES.div_ceil(8)],
    encryption: [u8; ENCRYPTION_MEMORY_BYTES],
    network: [u8; NET_MEMORY_BYTES],
}

impl Memory {
    pub const EMPTY: Self = Self {
        zstd: [0; ZSTD_MEMORY_BYTES.div_ceil(8)],
        encryption: [0; ENCRYPTION_MEMORY_BYTES],
        network: [0; NET_MEMORY_BYTES],
    };
}

/// Lets `work` have the sink.
#[inline(never)]
pub fn with(
    memory: &mut Memory,
    way: Way,
    work: &mut dyn FnMut(&mut dyn Sink) -> usize,
) -> Option<usize> {
    let mut disk = DiskSink::new(Disk::new(), Patience::default());
    let zstd = memory.zstd.as_mut_bytes();
    match way {
        Way::Zstd => Some(work(&mut Zstd::new(&mut disk, zstd).ok()?)),
        Way::Encrypted(cipher) => {
            let (cipher, clear) = black_box((cipher, [7; 64]));
            let mut key = DumpKey::new(cipher, &clear, &[1; 256], black_box([2; 32])).ok()?;
            let layer = Encrypted::new(&mut disk, &mut key, &mut memory.encryption).ok()?;
            Some(work(&mut Zstd::new(layer, zstd).ok()?))
        }
        Way::Network => {
            let config = NetConfig::new(CLIENT, SERVER);
            let device = Wire::default();
            let patience = NetPatience::default();
            let sink = NetSink::new(device, config, patience, &mut memory.network);
            Some(work(&mut sink.ok()?))
        }
    }
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// What the server answers next.
#[derive(Default)]
struct Wire {
    arp: bool,
    /// The first ack that is due, and how many.
    acks: (u32, u32),
}

impl NetDevice for Wire {
    fn mac(&self) -> [u8; 6] {
        black_box(CLIENT_MAC)
    }

    fn mtu(&self) -> u32 {
        black_box(1500)
    }

    fn prepare(&mut self, _: u32) -> Result<(), DeviceError> {
        black_box(Ok(()))
    }

    fn transmit(&mut self, frame: &[u8], _: u32) -> Result<(), DeviceError> {
        match Frame::parse(black_box(frame)) {
            Some(Frame::ArpRequest { .. }) => self.arp = true,
            Some(Frame::Udp { payload, .. }) => {
                if let Ok(message) = Message::parse(payload) {
                    let (first, count) = self.acks;
                    self.acks = match count {
                        0 => (message.seqno, 1),
                        _ => (first, count.wrapping_add(1)),
                    };
                }
            }
            _ => {}
        }
        black_box(Ok(()))
    }

    fn receive(&mut self, frame: &mut [u8]) -> Option<usize> {
        let server = Neighbour {
            mac: SERVER_MAC,
            ip: SERVER,
        };
        let client = Neighbour {
            mac: CLIENT_MAC,
            ip: CLIENT,
        };
        if core::mem::take(&mut self.arp) {
            let answer = encode_arp(&server, &client, true);
            frame.get_mut(..answer.len())?.copy_from_slice(&answer);
            return black_box(Some(answer.len()));
        }
        let (first, count) = self.acks;
        if count == 0 {
            return None;
        }
        self.acks = (first.wrapping_add(1), count.wrapping_sub(1));
        let frame = frame.get_mut(..UDP_HEADERS_LEN + 4)?;
        let (_, payload) = frame.split_at_mut_checked(UDP_HEADERS_LEN)?;
        payload.copy_from_slice(&Ack(first).encode());
        let end = |neighbour: Neighbour, port| Endpoint {
            mac: neighbour.mac,
            ip: neighbour.ip,
            port,
        };
        encode_udp(frame, &end(server, 40_000), &end(client, 20_024))?;
        black_box(Some(UDP_HEADERS_LEN + 4))
    }

    fn pause(&mut self, us: u32) {
        black_box(us);
    }
}
