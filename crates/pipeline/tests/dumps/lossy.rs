//! The writer's client over a link with trouble: the dump arrives complete and identical, or the
//! failure is clear on both sides.

use crate::link::{CLIENT, Link, SERVER, Trouble, contents, header};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::path::Path;
use vmcore_format::kerneldumpkey::{Cipher, KeyBlock};
use vmcore_pipeline::serve::Outcome;
use vmcore_writer::Sink;
use vmcore_writer::encrypt::{DumpKey, ENCRYPTION_MEMORY_BYTES, Encrypted};
use vmcore_writer::netdump::{NET_MEMORY_BYTES, NetConfig, NetError, NetPatience, NetSink};
use vmcore_writer::sink::{Durability, SinkError};
use vmcore_writer::zstd::{ZSTD_MEMORY_BYTES, Zstd};

fn send<S: Sink>(sink: &mut S, bytes: &[u8]) -> Result<Durability, SinkError> {
    sink.begin(&header(bytes.len() as u64), &[])?;
    let chunk = sink.chunk_bytes().min(256 << 10);
    for piece in bytes.chunks(chunk) {
        sink.submit(piece)?;
        sink.complete(piece)?;
    }
    sink.finish(bytes.len() as u64)
}

fn patience() -> NetPatience {
    NetPatience {
        attempts: 30,
        arp_attempts: 30,
        wait_ms: 500,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn dumps_arrive_identical_over_any_link(
        pages in 1..200usize, loss in 0..=20u64, twice in 0..=20u64, late in 0..=20u64,
        seed in any::<u64>(), mtu in prop_oneof![Just(1500u32), Just(576), Just(9000), 564..4200u32],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let trouble = Trouble { loss, twice, late };
        let mut link = Link::new(dir.path().to_owned(), trouble, seed);
        link.mtu = mtu;
        let bytes = contents(pages * 4096, seed);
        let mut memory = vec![0; NET_MEMORY_BYTES];
        let config = NetConfig::new(CLIENT, SERVER);
        let mut sink = NetSink::new(&mut link, config, patience(), &mut memory).unwrap();
        let sent = send(&mut sink, &bytes);
        prop_assert!(sent.is_ok(), "{:?}", sent);
        let ended = link.ended.pop().expect("it has ended");
        prop_assert_eq!(ended.record.outcome, Outcome::Complete);
        prop_assert_eq!(ended.record.parity_ok, Some(true));
        let received = std::fs::read(dir.path().join(&ended.record.core_file)).unwrap();
        prop_assert!(received == bytes);
    }

    #[test]
    fn a_link_that_breaks_is_a_failure_on_both_sides(cut_after in 0..300u64, seed in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        let mut link = Link::new(dir.path().to_owned(), Trouble::default(), seed);
        link.cut_after = cut_after;
        let bytes = contents(400 << 10, seed);
        let mut memory = vec![0; NET_MEMORY_BYTES];
        let config = NetConfig::new(CLIENT, SERVER);
        let patience = NetPatience { attempts: 2, arp_attempts: 2, wait_ms: 50 };
        let mut sink = NetSink::new(&mut link, config, patience, &mut memory).unwrap();
        let sent = send(&mut sink, &bytes);
        link.give_up();
        let whole = format!("vmcore.{CLIENT}.0");
        match sent {
            Ok(Durability::Flushed) => prop_assert!(dir.path().join(&whole).exists()),
            // Only the answer to the last message is missing.
            Ok(Durability::Unknown(_)) => {}
            Err(error) => {
                let clear = matches!(error, SinkError::Network(_));
                prop_assert!(clear, "{}", error);
                prop_assert!(!dir.path().join(&whole).exists());
                if let Some(ended) = link.ended.pop() {
                    prop_assert_eq!(ended.record.outcome, Outcome::TimedOut);
                    prop_assert!(ended.record.core_file.ends_with(".incomplete"));
                }
            }
        }
    }
}

#[test]
fn layers_work_over_the_network_and_the_key_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let trouble = Trouble {
        loss: 5,
        twice: 5,
        late: 5,
    };
    let bytes = contents(3 << 20, 7);
    let mut link = Link::new(dir.path().to_owned(), trouble, 99);
    let mut memory = vec![0; NET_MEMORY_BYTES];
    let config = NetConfig::new(CLIENT, SERVER);
    let sink = NetSink::new(&mut link, config, patience(), &mut memory).unwrap();
    let clear = [0x11; 64];
    let mut key = DumpKey::new(Cipher::ChaCha20, &clear, &[0xee; 256], [3; 32]).unwrap();
    let mut room = vec![0; ENCRYPTION_MEMORY_BYTES];
    let sink = Encrypted::new(sink, &mut key, &mut room).unwrap();
    let mut words = vec![0u64; ZSTD_MEMORY_BYTES.div_ceil(8)];
    let mut sink = Zstd::new(sink, zerocopy::IntoBytes::as_mut_bytes(&mut words[..])).unwrap();
    assert_eq!(send(&mut sink, &bytes), Ok(Durability::Flushed));
    let record = link.ended.pop().unwrap().record;
    assert_eq!(record.outcome, Outcome::Complete);
    assert_eq!(record.core_file, format!("vmcore_encrypted.{CLIENT}.0"));
    let header = record.header.unwrap();
    assert_eq!(
        (header.dumpkeysize, header.compression_name()),
        (4096, "zstd")
    );
    let block = std::fs::read(dir.path().join(record.key_file.unwrap())).unwrap();
    // With its padding.
    assert_eq!(block.len(), 4096);
    let block = KeyBlock::parse(&block).unwrap();
    assert_eq!(block.encrypted_key, [0xee; 256]);
    let core = std::fs::read(dir.path().join(&record.core_file)).unwrap();
    assert_eq!(core.len() as u64, header.dumplength);
    assert!(core.len() < bytes.len());
}

#[test]
fn a_server_behind_a_gateway_is_found_and_none_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut link = Link::new(dir.path().to_owned(), Trouble::default(), 1);
    link.server_is_on_link = false;
    let mut memory = vec![0; NET_MEMORY_BYTES];
    let mut config = NetConfig::new(CLIENT, SERVER);
    let bytes = contents(64 << 10, 3);
    let mut sink = NetSink::new(&mut link, config, patience(), &mut memory).unwrap();
    let error = send(&mut sink, &bytes).unwrap_err();
    assert_eq!(error, SinkError::Network(NetError::NoNeighbour));
    config.gateway = Some(Ipv4Addr::new(192, 168, 7, 254));
    let mut sink = NetSink::new(&mut link, config, patience(), &mut memory).unwrap();
    assert_eq!(send(&mut sink, &bytes), Ok(Durability::Flushed));
    // And once more in the same session: FreeBSD's client cannot.
    assert_eq!(send(&mut sink, &bytes), Ok(Durability::Flushed));
    let files: Vec<String> = link
        .ended
        .iter()
        .map(|ended| ended.record.core_file.clone())
        .collect();
    assert_eq!(
        files,
        [format!("vmcore.{CLIENT}.0"), format!("vmcore.{CLIENT}.1")]
    );
    assert_eq!(
        names(dir.path()),
        [
            format!("bounds.{CLIENT}"),
            format!("info.{CLIENT}.0"),
            format!("info.{CLIENT}.1"),
            format!("info.{CLIENT}.last"),
            format!("record.{CLIENT}.0.json"),
            format!("record.{CLIENT}.1.json"),
            format!("vmcore.{CLIENT}.0"),
            format!("vmcore.{CLIENT}.1"),
            format!("vmcore.{CLIENT}.last"),
        ]
    );
    let info = std::fs::read_to_string(dir.path().join(format!("info.{CLIENT}.1"))).unwrap();
    for line in [
        "Dump from 192.168.7.2 [192.168.7.2]",
        "  Architecture: amd64",
        "  Dump length: 65536B (0 MB)",
        "  Compression: none",
        "  Panicstring: page fault",
        "  Header parity check: Pass",
        "Dump complete",
    ] {
        assert!(info.lines().any(|found| found == line), "{line}:\n{info}");
    }
}
