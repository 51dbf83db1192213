//! What the writer's layers and its network cost, beside the stock encoders and a bare sender, on the
//! same pages.

use crate::clock::{both_of, once};
use crate::table::{Row, Table};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vmcore::format::inet::{Endpoint, Frame, Neighbour, UDP_HEADERS_LEN, encode_arp, encode_udp};
use vmcore::format::kerneldump::{Compression, DumpHeader, HeaderKind};
use vmcore::format::kerneldumpkey::Cipher;
use vmcore::format::netdump::{HEADER_LEN, Message, MessageType};
use vmcore_pipeline::serve::{Event, Outcome, ServeConfig, Server};
use vmcore_writer::Sink;
use vmcore_writer::device::DeviceError;
use vmcore_writer::encrypt::{DumpKey, ENCRYPTION_MEMORY_BYTES, Encrypted};
use vmcore_writer::gzip::{GZIP_MEMORY_BYTES, Gzip};
use vmcore_writer::netdump::{NET_MEMORY_BYTES, NetConfig, NetDevice, NetPatience, NetSink};
use vmcore_writer::sink::{Durability, SinkError};
use vmcore_writer::zstd::{ZSTD_MEMORY_BYTES, Zstd};
use zerocopy::IntoBytes as _;

/// Bytes of the dump that go through a layer, and to a server.
const PACKED_BYTES: u64 = 128 << 20;
const SENT_BYTES: usize = 64 << 20;
const ROUNDS: usize = 5;
/// The kernel's address on the link of its own that the bench gives it, and the server's.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const MTU: u32 = 1500;
/// Bytes of a datagram's payload at this MTU.
const PAYLOAD: usize = MTU as usize - 28 - HEADER_LEN;

/// Measures on the start of `dump`; a server's files are in `folder`.
pub(crate) fn measure(name: &str, dump: &Path, folder: &Path, table: &mut Table) {
    let mut pages = Vec::new();
    let start = File::open(dump).expect("the dump").take(PACKED_BYTES);
    { start }.read_to_end(&mut pages).expect("it is read");
    // Whole pages, as a dump has them.
    pages.truncate(pages.len() / 4096 * 4096);
    let mut row = |what, reference, (ours, theirs): (f64, f64), limit_ratio, size_ratio| {
        table.add(Row {
            machine: name.to_owned(),
            what,
            reference,
            ours_seconds: ours,
            reference_seconds: theirs,
            ratio: ours / theirs,
            limit_ratio,
            limit_seconds: None,
            peak_memory_bytes: None,
            size_ratio,
        });
    };
    let (times, sizes) = zstd(&pages);
    row(
        "zstd layer",
        "libzstd level 1",
        times,
        Some(2.0),
        Some(sizes),
    );
    let (times, sizes) = gzip(&pages);
    row("gzip layer", "zlib-rs level 1", times, None, Some(sizes));
    for (what, cipher) in [
        ("ChaCha20 layer", Cipher::ChaCha20),
        ("AES-256-CBC layer", Cipher::Aes256Cbc),
    ] {
        row(what, "copying", encryption(&pages, cipher), None, None);
    }
    let times = network(pages.get(..SENT_BYTES).unwrap_or(&pages), folder);
    row("netdump to serve", "bare UDP, no acks", times, None, None);
}

/// A place that only counts.
#[derive(Default)]
struct Counted(u64);

impl Sink for Counted {
    fn begin(&mut self, _: &DumpHeader<'_>, _: &[u8]) -> Result<(), SinkError> {
        self.0 = 0;
        Ok(())
    }

    fn chunk_bytes(&self) -> usize {
        64 << 10
    }

    fn submit(&mut self, _: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }

    fn complete(&mut self, _: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        self.0 = len_bytes;
        Ok(Durability::Flushed)
    }

    fn cancel(&mut self) {}
}

/// Sends pages as the writer does.
fn send<S: Sink>(sink: &mut S, pages: &[u8]) {
    let len = pages.len() as u64;
    let header = DumpHeader {
        kind: HeaderKind::Kernel,
        architecture: b"amd64",
        version: 4,
        architectureversion: 2,
        dumplength: len,
        dumptime: 0,
        dumpkeysize: 0,
        blocksize: 0,
        hostname: b"",
        versionstring: b"",
        panicstring: b"",
        compression: Compression::None,
        dumpextent: len,
    };
    sink.begin(&header, &[]).expect("it begins");
    for piece in pages.chunks(sink.chunk_bytes().min(64 << 10)) {
        sink.submit(piece).expect("it takes them");
        sink.complete(piece).expect("it takes them");
    }
    sink.finish(len).expect("it ends");
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn zstd(pages: &[u8]) -> ((f64, f64), f64) {
    let mut words = vec![0u64; ZSTD_MEMORY_BYTES.div_ceil(8)];
    let (mut ours, mut theirs) = (Counted::default(), Vec::with_capacity(pages.len()));
    let times = both_of(
        ROUNDS,
        || {
            once(|| {
                let layer = Zstd::new(&mut ours, words.as_mut_bytes());
                send(&mut layer.expect("enough memory"), pages);
            })
        },
        || {
            theirs.clear();
            once(|| {
                // As FreeBSD sets it up: one frame with a checksum.
                let encoder = zstd::stream::Encoder::new(&mut theirs, 1);
                let mut encoder = encoder.expect("memory");
                encoder.include_checksum(true).expect("a parameter");
                encoder.write_all(pages).expect("memory");
                encoder.finish().expect("memory");
            })
        },
    );
    (times, theirs.len() as f64 / ours.0 as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn gzip(pages: &[u8]) -> ((f64, f64), f64) {
    let mut memory = vec![0; GZIP_MEMORY_BYTES];
    let (mut ours, mut theirs) = (Counted::default(), Vec::with_capacity(pages.len()));
    let times = both_of(
        ROUNDS,
        || {
            once(|| {
                let layer = Gzip::new(&mut ours, 1, &mut memory);
                send(&mut layer.expect("enough memory"), pages);
            })
        },
        || {
            theirs.clear();
            once(|| {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(&mut theirs, level);
                encoder.write_all(pages).expect("memory");
                encoder.finish().expect("memory");
            })
        },
    );
    (times, theirs.len() as f64 / ours.0 as f64)
}

fn encryption(pages: &[u8], cipher: Cipher) -> (f64, f64) {
    let key = DumpKey::new(cipher, &[1; 64], &[2; 256], [3; 32]);
    let mut key = key.expect("a sound key");
    let mut memory = vec![0; ENCRYPTION_MEMORY_BYTES];
    let mut copy = vec![0; pages.len()];
    both_of(
        ROUNDS,
        || {
            once(|| {
                let layer = Encrypted::new(Counted::default(), &mut key, &mut memory);
                send(&mut layer.expect("enough memory"), pages);
            })
        },
        || once(|| copy.copy_from_slice(pages)),
    )
}

/// A dump from the writer's client to the server, and the same datagrams from one socket to another.
fn network(pages: &[u8], folder: &Path) -> (f64, f64) {
    // The disk is not what is measured.
    let in_memory = Path::new("/dev/shm");
    let folder = if in_memory.is_dir() {
        in_memory
    } else {
        folder
    };
    let directory = tempfile::tempdir_in(folder).expect("a folder");
    let mut config = ServeConfig::new(directory.path());
    config.addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    config.limits.free_bytes = 0;
    let server = Server::bind(config).expect("it listens");
    let address = *server.addresses().first().expect("an address");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server
                .run(&stop, &|event| {
                    if let Event::Ended(record) = event {
                        assert_eq!(record.outcome, Outcome::Complete);
                        let file = directory.path().join(&record.core_file);
                        std::fs::remove_file(file).expect("it is there");
                    }
                })
                .expect("a thread");
        });
        let times = both_of(ROUNDS, || netdump(pages, address), || bare(pages));
        stop.store(true, Ordering::Relaxed);
        times
    })
}

fn netdump(pages: &[u8], server: SocketAddr) -> Duration {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_nonblocking(true).expect("an option");
    let wire = Wire { socket, arp: false };
    let mut config = NetConfig::new(CLIENT, SERVER);
    config.server_port = server.port();
    let mut memory = vec![0; NET_MEMORY_BYTES];
    let sink = NetSink::new(wire, config, NetPatience::default(), &mut memory);
    let mut sink = sink.expect("enough memory");
    once(|| send(&mut sink, pages))
}

/// Sends without waiting; a receiver drops the datagrams.
fn bare(pages: &[u8]) -> Duration {
    let from = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    from.connect(to.local_addr().expect("an address"))
        .expect("a route");
    let timeout = Some(Duration::from_millis(100));
    to.set_read_timeout(timeout).expect("an option");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; HEADER_LEN + PAYLOAD];
            while to.recv(&mut buffer).is_ok() || !done.load(Ordering::Relaxed) {}
        });
        let mut datagram = [0; HEADER_LEN + PAYLOAD];
        let took = once(|| {
            for (piece, seqno) in pages.chunks(PAYLOAD).zip(0..) {
                let message = Message {
                    kind: MessageType::Vmcore,
                    seqno,
                    offset: u64::from(seqno) * PAYLOAD as u64,
                    payload: piece,
                };
                let len = message.encode_to(&mut datagram);
                let sent = datagram.get(..len).expect("it fits");
                from.send(sent).expect("it is sent");
            }
        });
        done.store(true, Ordering::Relaxed);
        took
    })
}

/// A network interface over a socket: ARP is answered here, datagrams go to loopback.
struct Wire {
    socket: UdpSocket,
    /// A question that was asked.
    arp: bool,
}

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

impl NetDevice for Wire {
    fn mac(&self) -> [u8; 6] {
        CLIENT_MAC
    }

    fn mtu(&self) -> u32 {
        MTU
    }

    fn prepare(&mut self, _: u32) -> Result<(), DeviceError> {
        Ok(())
    }

    fn transmit(&mut self, frame: &[u8], _: u32) -> Result<(), DeviceError> {
        match Frame::parse(frame) {
            Some(Frame::ArpRequest { .. }) => self.arp = true,
            Some(Frame::Udp { to, payload, .. }) => {
                let to = SocketAddr::from((Ipv4Addr::LOCALHOST, to.port));
                self.socket.send_to(payload, to).expect("it is sent");
            }
            _ => {}
        }
        Ok(())
    }

    fn receive(&mut self, frame: &mut [u8]) -> Option<usize> {
        let neighbour = |mac, ip| Neighbour { mac, ip };
        let (server, client) = (neighbour(SERVER_MAC, SERVER), neighbour(CLIENT_MAC, CLIENT));
        if std::mem::take(&mut self.arp) {
            let answer = encode_arp(&server, &client, true);
            frame.get_mut(..answer.len())?.copy_from_slice(&answer);
            return Some(answer.len());
        }
        let room = frame.get_mut(UDP_HEADERS_LEN..)?;
        let (len, from) = self.socket.recv_from(room).ok()?;
        let end = |neighbour: Neighbour, port| Endpoint {
            mac: neighbour.mac,
            ip: neighbour.ip,
            port,
        };
        let frame = frame.get_mut(..UDP_HEADERS_LEN + len)?;
        encode_udp(frame, &end(server, from.port()), &end(client, 20_024))?;
        Some(frame.len())
    }

    fn pause(&mut self, us: u32) {
        std::thread::sleep(Duration::from_micros(us.into()));
    }
}
