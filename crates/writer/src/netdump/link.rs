//! One conversation with a server: frames out and in, acks, and what is sent again.

use super::{NetConfig, NetDevice, NetError, NetPatience, PAUSE_US, WINDOW};
use crate::device::DeviceError;
use core::net::Ipv4Addr;
use vmcore_format::inet::{Endpoint, Frame, Neighbour, UDP_HEADERS_LEN, encode_arp, encode_udp};
use vmcore_format::netdump::{Ack, Message, MessageType};

/// How long a frame may take to be sent.
const TRANSMIT_MS: u32 = 100;

/// A link to a server.
#[derive(Debug)]
pub(super) struct Link<'a, N> {
    pub(super) device: N,
    config: NetConfig<'a>,
    patience: NetPatience,
    /// The frame that is sent, and the one that has come in.
    out: &'a mut [u8],
    back: &'a mut [u8],
    /// Who gets our frames: the server or the gateway.
    next_hop: [u8; 6],
    /// Where the server listens: what it answered the herald from.
    server_port: u16,
    /// Number of the first datagram of the message that is under way.
    base: u32,
    /// Which of its datagrams were acked, and which are to be.
    acked: u64,
    wanted: u64,
    payload: usize,
}

/// What the client waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The address on the link of this host.
    Mac(Ipv4Addr),
    /// Every ack of the message; with the port, when a herald is answered.
    Acks { learn_port: bool },
}

impl<'a, N: NetDevice> Link<'a, N> {
    pub(super) fn new(
        device: N,
        config: NetConfig<'a>,
        patience: NetPatience,
        out: &'a mut [u8],
        back: &'a mut [u8],
    ) -> Self {
        Self {
            device,
            config,
            patience,
            out,
            back,
            next_hop: [0; 6],
            server_port: config.server_port,
            base: 1,
            acked: 0,
            wanted: 0,
            payload: 0,
        }
    }

    /// Takes the device over.
    pub(super) fn prepare(&mut self) -> Result<(), DeviceError> {
        self.device.prepare(self.patience.wait_ms)
    }

    /// Opens a conversation, whatever became of an earlier one: `payload` bytes a datagram.
    pub(super) fn open(&mut self, payload: usize) -> Result<(), NetError> {
        self.payload = payload;
        self.server_port = self.config.server_port;
        (self.base, self.acked, self.wanted) = (1, 0, 0);
        let found = self.find(self.config.server)
            || self
                .config
                .gateway
                .is_some_and(|gateway| self.find(gateway));
        if !found {
            return Err(NetError::NoNeighbour);
        }
        let mut path = [0; 256];
        // With its NUL after it, if there is one at all and it fits.
        let len = match self.config.path.len() {
            0 => 0,
            len => len.saturating_add(1),
        };
        for (to, from) in path.iter_mut().zip(self.config.path) {
            *to = *from;
        }
        let path = match path.get(..len) {
            Some(path) if len <= payload => path,
            _ => &[],
        };
        self.message(MessageType::Herald, 0, path, false)
            .ok_or(NetError::NoServer)
    }

    /// Asks for a host's address on the link.
    fn find(&mut self, ip: Ipv4Addr) -> bool {
        let sender = Neighbour {
            mac: self.device.mac(),
            ip: self.config.client,
        };
        let question = encode_arp(&sender, &Neighbour { mac: [0; 6], ip }, false);
        for _ in 0..self.patience.arp_attempts {
            self.put(&question);
            if self.wait(Wanted::Mac(ip)) {
                return true;
            }
        }
        false
    }

    /// Sends all of a message once, which begins now.
    pub(super) fn send(&mut self, kind: MessageType, offset: u64, bytes: &[u8]) {
        let count = bytes.len().div_ceil(self.payload.max(1)).clamp(1, WINDOW);
        self.acked = 0;
        self.wanted = !(u64::MAX << (count & 63));
        self.transmit(kind, offset, bytes);
    }

    /// Sends those datagrams of the message that were not acked.
    fn transmit(&mut self, kind: MessageType, offset: u64, bytes: &[u8]) {
        let mut seqno = self.base;
        let mut at = offset;
        let mut left = bytes;
        let mut bit = 1u64;
        while self.wanted & bit != 0 {
            let len = self.payload.min(left.len());
            let (payload, rest) = left.split_at_checked(len).unwrap_or((left, &[]));
            if self.acked & bit == 0 {
                let message = Message {
                    kind,
                    seqno,
                    offset: at,
                    payload,
                };
                self.datagram(&message);
            }
            left = rest;
            at = at.saturating_add(len as u64);
            seqno = seqno.wrapping_add(1);
            bit <<= 1;
        }
    }

    /// Gets a message to the server, as often as it takes; `sent` says whether [`Link::send`] has sent it
    /// once already. `None` if the server is silent.
    pub(super) fn message(
        &mut self,
        kind: MessageType,
        offset: u64,
        bytes: &[u8],
        sent: bool,
    ) -> Option<()> {
        if !sent {
            self.send(kind, offset, bytes);
        }
        let learn_port = kind == MessageType::Herald;
        for attempt in 0..self.patience.attempts.max(1) {
            if attempt > 0 {
                self.transmit(kind, offset, bytes);
            }
            if self.wait(Wanted::Acks { learn_port }) {
                self.base = self.base.wrapping_add(self.wanted.count_ones());
                return Some(());
            }
        }
        None
    }

    /// Sends one datagram. If the device does not take it, that is a loss like any other.
    fn datagram(&mut self, message: &Message<'_>) {
        let Some(room) = self.out.get_mut(UDP_HEADERS_LEN..) else {
            return;
        };
        let len = UDP_HEADERS_LEN.saturating_add(message.encode_to(room));
        let from = Endpoint {
            mac: self.device.mac(),
            ip: self.config.client,
            port: self.config.client_port,
        };
        let to = Endpoint {
            mac: self.next_hop,
            ip: self.config.server,
            port: self.server_port,
        };
        if let Some(frame) = self.out.get_mut(..len)
            && encode_udp(frame, &from, &to).is_some()
        {
            let _ = self.device.transmit(frame, TRANSMIT_MS);
        }
    }

    fn put(&mut self, frame: &[u8]) {
        if let Some(to) = self.out.get_mut(..frame.len()) {
            to.copy_from_slice(frame);
            let _ = self.device.transmit(to, TRANSMIT_MS);
        }
    }

    /// Takes in frames until what is wanted has come, or for as long as patience allows. Every frame
    /// and every pause counts, so that no flood makes this endless.
    fn wait(&mut self, wanted: Wanted) -> bool {
        let polls = self.patience.wait_ms.saturating_mul(1000) / PAUSE_US;
        for _ in 0..=polls {
            match self.device.receive(self.back) {
                Some(len) => {
                    if self.take(len, wanted) {
                        return true;
                    }
                }
                None => self.device.pause(PAUSE_US),
            }
        }
        false
    }

    /// Looks at the frame that has come in; returns whether nothing more is wanted.
    fn take(&mut self, len: usize, wanted: Wanted) -> bool {
        let Some(frame) = self.back.get(..len).and_then(Frame::parse) else {
            return false;
        };
        match (frame, wanted) {
            (Frame::ArpReply { sender, .. }, Wanted::Mac(ip)) if sender.ip == ip => {
                self.next_hop = sender.mac;
                true
            }
            (Frame::ArpRequest { sender, target }, _) if target.ip == self.config.client => {
                let own = Neighbour {
                    mac: self.device.mac(),
                    ip: self.config.client,
                };
                let answer = encode_arp(&own, &sender, true);
                self.put(&answer);
                false
            }
            (Frame::Udp { from, to, payload }, Wanted::Acks { learn_port }) => {
                let is_ours = from.ip == self.config.server
                    && to.ip == self.config.client
                    && to.port == self.config.client_port
                    && to.mac == self.device.mac();
                let Some(Ack(seqno)) = Ack::parse(payload).filter(|_| is_ours) else {
                    return false;
                };
                let index = seqno.wrapping_sub(self.base);
                let bit = 1u64.checked_shl(index).unwrap_or(0);
                if self.wanted & bit != 0 && learn_port {
                    self.server_port = from.port;
                }
                self.acked |= self.wanted & bit;
                self.acked == self.wanted
            }
            _ => false,
        }
    }
}
