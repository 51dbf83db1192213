//! A dump over the network: FreeBSD's netdump, spoken from a dying kernel.
//!
//! The server is found by ARP, or the gateway if the server does not answer; a herald opens the
//! conversation; every datagram of a message must be acked before the next message begins, and is
//! sent again until it is. Nothing waits without a bound, and nothing that comes in is believed
//! beyond what it costs to be wrong: only four bytes from the server's address are an ack. The
//! protocol has no authentication and no secrecy; encryption ([`crate::encrypt`]) gives the latter.
//! Source of the protocol: `sys/net/debugnet.c`, `sys/netinet/netdump/netdump_client.c`.
//!
//! ```
//! use core::net::Ipv4Addr;
//! use vmcore_writer::netdump::NetConfig;
//! let config = NetConfig::new(Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(192, 0, 2, 1));
//! assert_eq!((config.server_port, config.client_port), (20023, 20024));
//! ```

mod link;

use crate::device::DeviceError;
use crate::sink::{Durability, LayerError, Sink, SinkError};
use core::net::Ipv4Addr;
use link::Link;
use thiserror::Error;
use vmcore_format::inet::{IP_UDP_LEN, UDP_HEADERS_LEN};
use vmcore_format::kerneldump::{DumpHeader, HEADER_LEN as DUMP_HEADER_LEN, set_dumplength};
use vmcore_format::netdump::{CLIENT_PORT, HEADER_LEN, MessageType, PAYLOAD_MAX, SERVER_PORT};

/// Bytes of the largest frame that is sent or received.
pub const FRAME_MAX: usize = UDP_HEADERS_LEN + HEADER_LEN + PAYLOAD_MAX;
/// Bytes of memory for [`NetSink::new`]: a frame each way, and a key block.
pub const NET_MEMORY_BYTES: usize = 2 * FRAME_ROOM + KEY_ROOM;
const FRAME_ROOM: usize = FRAME_MAX.next_multiple_of(64);
/// What netdump has as its block size: the key is padded to it.
const BLOCK: usize = 4096;
const KEY_ROOM: usize = BLOCK;
/// The most bytes of a message, as FreeBSD has it.
const MESSAGE_MAX: usize = 64 << 10;
/// The most datagrams of a message: acks are kept in the bits of a word.
const WINDOW: usize = 63;
/// How long a pause between two looks at the device is.
pub const PAUSE_US: u32 = 50;

/// A network interface that is driven by polling, with interrupts off and every other CPU stopped.
///
/// The rules of [`crate::device::BlockDevice`] hold: no lock, no allocation, no panic, no wait without
/// an end.
pub trait NetDevice {
    /// Its address on the link.
    fn mac(&self) -> [u8; 6];

    /// The most bytes of an IP packet.
    fn mtu(&self) -> u32;

    /// Takes the device over from the rest of the kernel, and makes it ready for polling.
    ///
    /// # Errors
    /// Returns an error if the device cannot be used.
    fn prepare(&mut self, timeout_ms: u32) -> Result<(), DeviceError>;

    /// Sends a frame of at most [`FRAME_MAX`] bytes, without its checksum. When it returns the device
    /// does not read `frame` any more.
    ///
    /// # Errors
    /// Returns an error if the frame was not sent; it may be tried again.
    fn transmit(&mut self, frame: &[u8], timeout_ms: u32) -> Result<(), DeviceError>;

    /// Takes the next frame that has come in, if there is one, and returns its length. Never waits; a
    /// frame that is longer than `frame` is dropped.
    fn receive(&mut self, frame: &mut [u8]) -> Option<usize>;

    /// Passes about `us` microseconds.
    fn pause(&mut self, us: u32);
}

/// Why a dump does not get through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NetError {
    /// Neither the server nor the gateway answers on the link.
    #[error("neither server nor gateway answers to ARP")]
    NoNeighbour,
    /// No server takes the dump.
    #[error("the server does not answer the herald: is it running, and does it allow this host?")]
    NoServer,
    /// The server does not answer any more.
    #[error("the server stopped answering after {acked_bytes} bytes")]
    Silent {
        /// Bytes of the dump that it has.
        acked_bytes: u64,
    },
    /// The MTU leaves no room for a dump header in one piece.
    #[error("an MTU of {0} bytes is too small: 564 are needed")]
    Mtu(u32),
}

impl From<NetError> for SinkError {
    fn from(error: NetError) -> Self {
        Self::Network(error)
    }
}

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetConfig<'p> {
    /// Our address.
    pub client: Ipv4Addr,
    /// The server's.
    pub server: Ipv4Addr,
    /// Whom to ask if the server is not on the link.
    pub gateway: Option<Ipv4Addr>,
    /// Where the server listens.
    pub server_port: u16,
    /// Where the server answers to.
    pub client_port: u16,
    /// Directory on the server, below its own; without a NUL. Empty for none.
    pub path: &'p [u8],
}

impl NetConfig<'_> {
    /// The protocol's ports, no gateway and no path.
    #[must_use]
    pub const fn new(client: Ipv4Addr, server: Ipv4Addr) -> Self {
        Self {
            client,
            server,
            gateway: None,
            server_port: SERVER_PORT,
            client_port: CLIENT_PORT,
            path: &[],
        }
    }
}

/// How long the network is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetPatience {
    /// How often a message is sent in all (`net.debugnet.nretries` and two more).
    pub attempts: u32,
    /// How often ARP asks each of server and gateway (`net.debugnet.arp_nretries`).
    pub arp_attempts: u32,
    /// Milliseconds that an answer may take.
    pub wait_ms: u32,
}

impl Default for NetPatience {
    fn default() -> Self {
        Self {
            attempts: 12,
            arp_attempts: 3,
            wait_ms: 1000,
        }
    }
}

/// A server on the network as a place for dumps.
///
/// Make it at boot, in memory that the device can reach.
#[derive(Debug)]
pub struct NetSink<'a, N> {
    link: Link<'a, N>,
    header: [u8; DUMP_HEADER_LEN],
    /// A key block in whole blocks.
    key: &'a mut [u8],
    announced: u64,
    is_compressed: bool,
    acked: u64,
    /// Bytes that were submitted and not completed, the first message of which was sent.
    sent: bool,
}

impl<'a, N: NetDevice> NetSink<'a, N> {
    /// A sink at the other end of `device`, in [`NET_MEMORY_BYTES`] of memory.
    ///
    /// # Errors
    /// Returns an error if the memory is too small.
    pub fn new(
        device: N,
        config: NetConfig<'a>,
        patience: NetPatience,
        memory: &'a mut [u8],
    ) -> Result<Self, LayerError> {
        let (out, rest) = memory
            .split_at_mut_checked(FRAME_ROOM)
            .ok_or(LayerError::Memory)?;
        let (back, rest) = rest
            .split_at_mut_checked(FRAME_ROOM)
            .ok_or(LayerError::Memory)?;
        let key = rest.get_mut(..KEY_ROOM).ok_or(LayerError::Memory)?;
        Ok(Self {
            link: Link::new(device, config, patience, out, back),
            header: [0; DUMP_HEADER_LEN],
            key,
            announced: 0,
            is_compressed: false,
            acked: 0,
            sent: false,
        })
    }

    /// The device.
    pub const fn device(&self) -> &N {
        &self.link.device
    }

    /// Bytes of a datagram's payload.
    fn payload(&self) -> usize {
        let mtu = usize::try_from(self.link.device.mtu()).unwrap_or(0);
        mtu.saturating_sub(IP_UDP_LEN + HEADER_LEN).min(PAYLOAD_MAX)
    }

    /// Bytes of a message of the dump.
    fn message_bytes(&self) -> usize {
        self.payload().saturating_mul(WINDOW).clamp(1, MESSAGE_MAX)
    }

    /// Bytes that the server has; the error of one that has gone.
    const fn silent(&self) -> NetError {
        NetError::Silent {
            acked_bytes: self.acked,
        }
    }
}

impl<N: NetDevice> Sink for NetSink<'_, N> {
    fn begin(&mut self, header: &DumpHeader<'_>, key: &[u8]) -> Result<(), SinkError> {
        (self.acked, self.sent) = (0, false);
        self.announced = header.dumplength;
        self.is_compressed = header.compression != vmcore_format::kerneldump::Compression::None;
        if key.len() > self.key.len() {
            return Err(SinkError::Layer("has a key that is too long"));
        }
        self.link.prepare().map_err(SinkError::Prepare)?;
        // The dump header goes in one piece.
        if self.payload() < DUMP_HEADER_LEN {
            return Err(NetError::Mtu(self.link.device.mtu()).into());
        }
        self.link.open(self.payload())?;
        let key_bytes = if key.is_empty() { 0 } else { BLOCK };
        let header = DumpHeader {
            blocksize: 4096,
            dumpkeysize: u32::try_from(key_bytes).unwrap_or(0),
            ..*header
        };
        header.encode_to(&mut self.header);
        if !key.is_empty() {
            self.key.fill(0);
            for (to, from) in self.key.iter_mut().zip(key) {
                *to = *from;
            }
            // First, so that what arrives of a dump that breaks off can be decrypted.
            self.link
                .message(MessageType::Key, 0, self.key, self.sent)
                .ok_or(NetError::NoServer)?;
        }
        Ok(())
    }

    fn chunk_bytes(&self) -> usize {
        // Small datagrams make more than one message of it.
        (self.message_bytes() / BLOCK * BLOCK).max(BLOCK)
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let (most, written) = (
            self.announced,
            self.acked.saturating_add(bytes.len() as u64),
        );
        if written > most.next_multiple_of(BLOCK as u64) {
            return Err(match self.is_compressed {
                true => SinkError::Outgrown { have_bytes: most },
                false => SinkError::Length {
                    announced: most,
                    written,
                },
            });
        }
        let len = self.message_bytes().min(bytes.len());
        let first = bytes.get(..len).unwrap_or(bytes);
        self.link.send(MessageType::Vmcore, self.acked, first);
        self.sent = true;
        Ok(())
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        // Never 0, which the compiler is to see too.
        let message = self.message_bytes().max(1);
        for piece in bytes.chunks(message) {
            let sent = core::mem::take(&mut self.sent);
            self.link
                .message(MessageType::Vmcore, self.acked, piece, sent)
                .ok_or(self.silent())?;
            self.acked = self.acked.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        let (announced, written) = (self.announced, self.acked);
        let padding = written.checked_sub(len_bytes);
        let as_announced = len_bytes == announced || self.is_compressed;
        if !as_announced || padding.is_none_or(|bytes| bytes >= BLOCK as u64) {
            return Err(SinkError::Length { announced, written });
        }
        set_dumplength(&mut self.header, len_bytes);
        let silent = self.silent();
        self.link
            .message(MessageType::DumpHeader, 0, &self.header, false)
            .ok_or(silent)?;
        // The server has everything. If it does not say so, it may have gone, or have done it all.
        Ok(
            match self.link.message(MessageType::Finished, 0, &[], false) {
                Some(()) => Durability::Flushed,
                None => Durability::Unknown(DeviceError::Timeout),
            },
        )
    }

    fn cancel(&mut self) {
        // The protocol has no word for it: the server gives the dump up by the clock, or when the next
        // one begins. Nothing is under way.
        self.sent = false;
    }
}
