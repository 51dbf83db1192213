//! A network inside the test: the writer's device on one side, receptions on the other, and between
//! them a link that loses, repeats and reorders frames either way.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use vmcore_format::inet::{Endpoint, Frame, Neighbour, UDP_HEADERS_LEN, encode_arp, encode_udp};
use vmcore_format::kerneldump::{Compression, DumpHeader, HeaderKind};
use vmcore_format::netdump::{Ack, Message, MessageType};
use vmcore_pipeline::serve::{Ended, Limits, Outcome, Reception, Reply};
use vmcore_writer::device::DeviceError;
use vmcore_writer::netdump::NetDevice;

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 2);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The server answers heralds from here, and the ports after it.
const DATA_PORT: u16 = 40_000;
/// The server's moment of quiet.
const TICK_US: u64 = 20_000;

/// What the link does to frames, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) loss: u64,
    pub(crate) twice: u64,
    pub(crate) late: u64,
}

/// A network interface, and the server behind it.
pub(crate) struct Link {
    directory: PathBuf,
    trouble: Trouble,
    seed: u64,
    pub(crate) mtu: u32,
    /// Frames on their way to the client.
    inbound: VecDeque<Vec<u8>>,
    /// Frames to the server that others overtake.
    delayed: Vec<Vec<u8>>,
    receptions: Vec<Option<Reception>>,
    pub(crate) ended: Vec<Ended>,
    quiet_us: u64,
    pub(crate) frames: u64,
    /// After so many frames nothing gets through any more.
    pub(crate) cut_after: u64,
    pub(crate) server_is_on_link: bool,
}

impl Link {
    pub(crate) fn new(directory: PathBuf, trouble: Trouble, seed: u64) -> Self {
        Self {
            directory,
            trouble,
            seed: seed | 1,
            mtu: 1500,
            inbound: VecDeque::new(),
            delayed: Vec::new(),
            receptions: Vec::new(),
            ended: Vec::new(),
            quiet_us: 0,
            frames: 0,
            cut_after: u64::MAX,
            server_is_on_link: true,
        }
    }

    fn dice(&mut self, percent: u64) -> bool {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 20) % 100 < percent
    }

    /// A frame has come through to the server.
    fn deliver(&mut self, frame: &[u8]) {
        match Frame::parse(frame).expect("the client sends sound frames") {
            Frame::ArpRequest { sender, target } => {
                let gateway = Ipv4Addr::new(192, 168, 7, 254);
                let answers = target.ip == SERVER && self.server_is_on_link || target.ip == gateway;
                if answers {
                    let mac = SERVER_MAC;
                    let own = Neighbour { mac, ip: target.ip };
                    let answer = encode_arp(&own, &sender, true).to_vec();
                    self.send_back(answer);
                    // And asks back, as hosts do.
                    let own = Neighbour { mac, ip: SERVER };
                    let question = encode_arp(
                        &own,
                        &Neighbour {
                            mac: [0; 6],
                            ip: CLIENT,
                        },
                        false,
                    );
                    self.send_back(question.to_vec());
                }
            }
            Frame::ArpReply { sender, .. } => assert_eq!(sender.mac, CLIENT_MAC),
            Frame::Udp { from, to, payload } => {
                assert_eq!((from.ip, from.port, to.ip), (CLIENT, 20024, SERVER));
                self.datagram(to.port, payload);
            }
        }
    }

    fn datagram(&mut self, port: u16, payload: &[u8]) {
        self.quiet_us = 0;
        if port == 20023 {
            let herald = Message::parse(payload).unwrap();
            assert_eq!(herald.kind, MessageType::Herald);
            let open = self.receptions.iter().position(|reception| {
                reception
                    .as_ref()
                    .is_some_and(|reception| !reception.has_data())
            });
            let index = open.unwrap_or_else(|| {
                let limits = Limits {
                    dump_bytes: 1 << 30,
                    free_bytes: 0,
                };
                let client = SocketAddr::from((CLIENT, 20024));
                let directory = self.directory.clone();
                let reception = Reception::new(directory, limits, client, &herald, 1);
                self.receptions.push(Some(reception));
                self.receptions.len() - 1
            });
            self.ack(index, herald.seqno);
            return;
        }
        let index = usize::from(port - DATA_PORT);
        let Some(reception) = &mut self.receptions[index] else {
            // The last message again.
            if let Ok(message) = Message::parse(payload) {
                self.ack(index, message.seqno);
            }
            return;
        };
        let Reply { acks, ended } = reception.datagram(payload);
        if ended {
            let reception = self.receptions[index].take().unwrap();
            self.ended
                .extend(reception.end(Outcome::WriteError, 2, || {}));
        }
        for ack in acks {
            self.ack(index, ack);
        }
    }

    fn ack(&mut self, index: usize, seqno: u32) {
        let mut frame = vec![0; UDP_HEADERS_LEN];
        frame.extend(Ack(seqno).encode());
        let from = Endpoint {
            mac: SERVER_MAC,
            ip: SERVER,
            port: DATA_PORT + index as u16,
        };
        let to = Endpoint {
            mac: CLIENT_MAC,
            ip: CLIENT,
            port: 20024,
        };
        encode_udp(&mut frame, &from, &to).unwrap();
        self.send_back(frame);
    }

    fn send_back(&mut self, frame: Vec<u8>) {
        if self.frames > self.cut_after || self.dice(self.trouble.loss) {
            return;
        }
        if self.dice(self.trouble.twice) {
            self.inbound.push_back(frame.clone());
        }
        if self.dice(self.trouble.late) {
            self.inbound.push_front(frame);
        } else {
            self.inbound.push_back(frame);
        }
    }

    /// Ends what is under way, as the server does after silence.
    pub(crate) fn give_up(&mut self) {
        for reception in self.receptions.drain(..).flatten() {
            self.ended
                .extend(reception.end(Outcome::TimedOut, 3, || {}));
        }
    }
}

impl NetDevice for &mut Link {
    fn mac(&self) -> [u8; 6] {
        CLIENT_MAC
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn prepare(&mut self, _: u32) -> Result<(), DeviceError> {
        Ok(())
    }

    fn transmit(&mut self, frame: &[u8], _: u32) -> Result<(), DeviceError> {
        assert!(frame.len() <= self.mtu as usize + 14, "longer than the MTU");
        self.frames += 1;
        if self.frames > self.cut_after || self.dice(self.trouble.loss) {
            return Ok(());
        }
        if self.dice(self.trouble.late) {
            self.delayed.push(frame.to_vec());
            return Ok(());
        }
        self.deliver(frame);
        if self.dice(self.trouble.twice) {
            self.deliver(frame);
        }
        if !self.delayed.is_empty() && self.dice(30) {
            for frame in std::mem::take(&mut self.delayed) {
                self.deliver(&frame);
            }
        }
        Ok(())
    }

    fn receive(&mut self, frame: &mut [u8]) -> Option<usize> {
        let next = self.inbound.pop_front()?;
        frame[..next.len()].copy_from_slice(&next);
        Some(next.len())
    }

    fn pause(&mut self, us: u32) {
        self.quiet_us += u64::from(us);
        if self.quiet_us >= TICK_US {
            self.quiet_us = 0;
            for frame in std::mem::take(&mut self.delayed) {
                self.deliver(&frame);
            }
            for index in 0..self.receptions.len() {
                let Some(reception) = &mut self.receptions[index] else {
                    continue;
                };
                for ack in reception.tick() {
                    self.ack(index, ack);
                }
            }
        }
    }
}

/// A dump header for `len` bytes.
pub(crate) fn header(len: u64) -> DumpHeader<'static> {
    DumpHeader {
        kind: HeaderKind::Kernel,
        architecture: b"amd64",
        version: 4,
        architectureversion: 2,
        dumplength: len,
        dumptime: 1_700_000_000,
        dumpkeysize: 0,
        blocksize: 4096,
        hostname: b"testhost",
        versionstring: b"FreeBSD 15.1-RELEASE GENERIC\n",
        panicstring: b"page fault",
        compression: Compression::None,
        dumpextent: len,
    }
}

/// Bytes that differ from place to place, some pages of zeros among them.
pub(crate) fn contents(len: usize, seed: u64) -> Vec<u8> {
    let word = |at: usize| match at >> 12 & 3 {
        2 => 0,
        _ => (at as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15),
    };
    (0..len / 8)
        .flat_map(|at| word(at * 8).to_le_bytes())
        .collect()
}
