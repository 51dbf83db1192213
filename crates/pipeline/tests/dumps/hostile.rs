//! Clients that mean harm, and a server that is killed: nothing outside a client's own file, nobody
//! else's dump disturbed, no hole called complete.

use crate::bare::{Client, message};
use crate::link::{contents, header};
use crate::many::{config, outcomes, serve};
use proptest::prelude::*;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use vmcore_format::netdump::Message;
use vmcore_pipeline::serve::{Event, Limits, Outcome, Reception, Server};

const LIMITS: Limits = Limits {
    dump_bytes: 1 << 30,
    free_bytes: 0,
};

fn reception(directory: &Path) -> Reception {
    let herald = message(1, 1, 0, &[]);
    let client: SocketAddr = "192.0.2.1:20024".parse().unwrap();
    let herald = Message::parse(&herald).unwrap();
    Reception::new(directory.to_owned(), LIMITS, client, &herald, 1)
}

/// The datagrams of a dump, as a client sends them that loses nothing.
fn datagrams(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut seqno = 2;
    for (number, part) in bytes.chunks(64 << 10).enumerate() {
        for (index, piece) in part.chunks(1448).enumerate() {
            let offset = (number * (64 << 10) + index * 1448) as u64;
            all.push(message(3, seqno, offset, piece));
            seqno += 1;
        }
    }
    all.push(message(4, seqno, 0, &header(bytes.len() as u64).encode()));
    all.push(message(2, seqno + 1, 0, &[]));
    all
}

#[test]
fn a_server_that_is_killed_leaves_nothing_that_looks_whole() {
    let bytes = contents(40 << 12, 9);
    let all = datagrams(&bytes);
    for killed_after in 0..all.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut victim = reception(dir.path());
        for datagram in &all[..killed_after] {
            victim.datagram(datagram);
        }
        // It cleans up nothing; only the lock of its file goes, as that of a process does.
        drop(victim);
        let whole = dir.path().join("vmcore.192.0.2.1.0");
        assert!(!whole.exists());
        // The next server finds it, and the next dump gets another number.
        let events = serve(config(dir.path()), |_| {});
        let left: Vec<&Event> = events
            .iter()
            .filter(|event| matches!(event, Event::LeftOver(_)))
            .collect();
        assert_eq!(left.len(), usize::from(killed_after > 0), "{killed_after}");
        let mut next = reception(dir.path());
        let mut ended = false;
        for datagram in &all {
            ended |= next.datagram(datagram).ended;
        }
        assert!(ended);
        let record = next.end(Outcome::Stopped, 2, || {}).unwrap().record;
        assert_eq!(record.outcome, Outcome::Complete);
        assert_eq!(record.number, u32::from(killed_after > 0));
        let core = std::fs::read(dir.path().join(record.core_file)).unwrap();
        assert!(core == bytes);
    }
}

#[test]
fn a_missing_datagram_is_a_hole_and_no_complete_dump() {
    let bytes = contents(40 << 12, 9);
    let all = datagrams(&bytes);
    for missing in 0..all.len() - 2 {
        let dir = tempfile::tempdir().unwrap();
        let mut reception = reception(dir.path());
        for (index, datagram) in all.iter().enumerate() {
            if index != missing {
                reception.datagram(datagram);
            }
        }
        let record = reception.end(Outcome::Stopped, 2, || {}).unwrap().record;
        assert_eq!(record.outcome, Outcome::Holes, "without datagram {missing}");
        assert_eq!(record.gaps.len(), 1);
        assert!(record.core_file.ends_with(".incomplete"));
        let gap = record.gaps[0];
        let lost = Message::parse(&all[missing]).unwrap();
        assert_eq!(
            (gap.start, gap.len),
            (lost.offset, lost.payload.len() as u64)
        );
    }
}

/// What a stranger may send.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0..200u32, any::<u32>()];
    let offset = prop_oneof![0..100_000u64, any::<u64>()];
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(vec![7; 1448]),
        Just(vec![9; 60_000]),
        any::<u64>().prop_map(|len| header(len % 100_000).encode().to_vec()),
    ];
    prop_oneof![
        9 => (0..7u32, number, offset, payload)
            .prop_map(|(kind, seqno, offset, payload)| message(kind, seqno, offset, &payload)),
        1 => proptest::collection::vec(any::<u8>(), 0..100),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_comes_stays_in_its_own_files(datagrams in proptest::collection::vec(datagram(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        let mut reception = reception(dir.path());
        for datagram in &datagrams {
            if reception.datagram(datagram).ended {
                break;
            }
            reception.tick();
        }
        let ended = reception.end(Outcome::TimedOut, 2, || {});
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let own = name == "bounds.192.0.2.1" || name.contains(".192.0.2.1.0") || name.ends_with(".192.0.2.1.last");
            prop_assert!(own, "{}", name);
            prop_assert!(entry.metadata().unwrap().len() <= LIMITS.dump_bytes);
        }
        if let Some(ended) = ended
            && ended.record.outcome == Outcome::Complete
        {
            prop_assert!(ended.record.gaps.is_empty());
        }
    }
}

#[test]
fn strangers_do_not_disturb_a_dump() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = contents(200 << 12, 3);
    let events = serve(config(dir.path()), |servers| {
        let server = servers[0];
        let mut client = Client::open(server, &[]).unwrap();
        assert!(client.send(3, 0, &bytes[..64 << 10]));
        // Another socket: the server does not hear it.
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        for seqno in 0..100 {
            let _ = stranger.send_to(&message(3, seqno, 0, &[0xbd; 1448]), client.server);
            let _ = stranger.send_to(&message(2, seqno, 0, &[]), client.server);
            let _ = stranger.send_to(&message(5, seqno, 0, &[0xbd; 1448]), server);
            let _ = stranger.send_to(&[0xff; 3000], server);
        }
        // A second herald of the same host opens another conversation, and leaves the first alone.
        client
            .socket
            .send_to(&message(1, 1, 0, &[]), server)
            .unwrap();
        for (number, piece) in bytes.chunks(64 << 10).enumerate().skip(1) {
            assert!(client.send(3, (number * (64 << 10)) as u64, piece));
        }
        assert!(client.send(4, 0, &header(bytes.len() as u64).encode()));
        assert!(client.send(2, 0, &[]));
    });
    assert_eq!(outcomes(&events), [Outcome::Complete], "{events:?}");
    let core = std::fs::read(dir.path().join("vmcore.127.0.0.1.0")).unwrap();
    assert!(core == bytes);
}

#[test]
fn heralds_alone_leave_no_files() {
    let dir = tempfile::tempdir().unwrap();
    serve(config(dir.path()), |servers| {
        for _ in 0..50 {
            assert!(Client::open(servers[0], &[]).is_some());
        }
    });
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::bind(config(dir.path())).unwrap();
    let mut again = config(dir.path());
    again.addresses = server.addresses();
    assert!(Server::bind(again).is_err());
    let stop = AtomicBool::new(true);
    server.run(&stop, &|_| {}).unwrap();
    assert!(Server::bind(config(&dir.path().join("missing"))).is_err());
}
