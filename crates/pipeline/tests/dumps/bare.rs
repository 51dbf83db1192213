//! A client of a few lines on an ordinary socket, written from the specification alone.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Bytes of a datagram's payload at an MTU of 1500.
const PAYLOAD: usize = 1448;

pub(crate) fn message(kind: u32, seqno: u32, offset: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(seqno.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// A conversation with a server.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
    pub(crate) seqno: u32,
}

impl Client {
    /// Sends a herald and learns where the server listens.
    pub(crate) fn open(server: SocketAddr, path: &[u8]) -> Option<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let herald = message(1, 1, 0, path);
        for _ in 0..10 {
            socket.send_to(&herald, server).unwrap();
            let mut ack = [0; 8];
            if let Ok((4, from)) = socket.recv_from(&mut ack) {
                assert_eq!(ack[..4], [0, 0, 0, 1]);
                return Some(Self {
                    socket,
                    server: from,
                    seqno: 2,
                });
            }
        }
        None
    }

    /// Sends a message and waits for its acks; false if the server does not answer.
    pub(crate) fn send(&mut self, kind: u32, offset: u64, bytes: &[u8]) -> bool {
        let pieces: Vec<&[u8]> = match bytes {
            [] => vec![&[]],
            bytes => bytes.chunks(PAYLOAD).collect(),
        };
        let mut acked = vec![false; pieces.len()];
        for _ in 0..40 {
            for (index, piece) in pieces.iter().enumerate() {
                if !acked[index] {
                    let at = offset + (index * PAYLOAD) as u64;
                    let datagram = message(kind, self.seqno + index as u32, at, piece);
                    self.socket.send_to(&datagram, self.server).unwrap();
                }
            }
            let mut ack = [0; 8];
            while let Ok((4, _)) = self.socket.recv_from(&mut ack) {
                let number = u32::from_be_bytes(ack[..4].try_into().unwrap());
                if let Some(slot) = acked.get_mut(number.wrapping_sub(self.seqno) as usize) {
                    *slot = true;
                }
                if acked.iter().all(|acked| *acked) {
                    self.seqno += pieces.len() as u32;
                    return true;
                }
            }
        }
        false
    }

    /// Sends a whole dump.
    pub(crate) fn dump(&mut self, bytes: &[u8]) -> bool {
        let header = crate::link::header(bytes.len() as u64).encode();
        bytes
            .chunks(64 << 10)
            .zip(0..)
            .all(|(piece, index)| self.send(3, index * (64 << 10), piece))
            && self.send(4, 0, &header)
            && self.send(2, 0, &[])
    }
}
