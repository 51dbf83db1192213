//! Receiving that fails, or dies, at every single change: what is not whole never has the name of a
//! whole dump, and what was acked to the end is not lost.

use super::*;
use crate::changes::Changes;
use crate::changes::fate::{Accident, Fate};
use std::cell::Cell;
use std::fs;
use vmcore_synth::header::DumpHeader;

const CLIENT: &str = "192.0.2.1";
const KEY: [u8; 512] = [0x5a; 512];

fn message(kind: u32, seqno: u32, offset: u64, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    let mut bytes = [kind.to_be_bytes(), seqno.to_be_bytes()].concat();
    bytes.extend(offset.to_be_bytes());
    bytes.extend([len.to_be_bytes(), [0; 4]].concat());
    bytes.extend(payload);
    bytes
}

/// Pages with and without contents, the last one without.
fn dump() -> Vec<u8> {
    let mut dump = vec![0; 6 * 4096];
    dump[..4096].fill(0x11);
    dump[2 * 4096..3 * 4096].fill(0x33);
    dump[4 * 4096 + 5] = 1;
    dump
}

/// What a client sends.
fn datagrams(is_encrypted: bool) -> Vec<Vec<u8>> {
    let mut header = DumpHeader::new("amd64", dump().len() as u64);
    let mut all = Vec::new();
    if is_encrypted {
        header.dumpkeysize = 512;
        all.push((5, 0, KEY.to_vec()));
    }
    for (piece, number) in dump().chunks(4096).zip(0..) {
        all.push((3, number * 4096, piece.to_vec()));
    }
    all.push((4, 0, header.build().to_vec()));
    all.push((2, 0, Vec::new()));
    let all = all.into_iter().zip(2..);
    all.map(|((kind, offset, payload), seqno)| message(kind, seqno, offset, &payload))
        .collect()
}

/// Receives a dump into `directory`. Returns the record, and whether the client was told that all
/// of it is safe.
fn receive(
    directory: &Path,
    is_encrypted: bool,
    changes: Changes<'static>,
) -> (Option<Record>, bool) {
    let herald = message(1, 1, 0, &[]);
    let herald = Message::parse(&herald).unwrap();
    let limits = Limits {
        dump_bytes: 1 << 20,
        free_bytes: 0,
    };
    let client = SocketAddr::new(CLIENT.parse().unwrap(), 20024);
    let reception = Reception::new(directory.to_owned(), limits, client, &herald, 1);
    let mut reception = reception.with_changes(changes);
    for datagram in datagrams(is_encrypted) {
        if reception.datagram(&datagram).ended {
            break;
        }
    }
    let answered = Cell::new(false);
    let ended = reception.end(Outcome::TimedOut, 2, || answered.set(true));
    let record = ended.map(|ended| ended.record);
    let is_complete = record
        .as_ref()
        .is_some_and(|record| record.outcome == Outcome::Complete);
    (record, answered.get() && is_complete)
}

/// Numbers under which a dump has its final name; each is whole, with its key.
fn whole(directory: &Path, is_encrypted: bool, when: &str) -> Vec<u32> {
    let stem = match is_encrypted {
        true => "vmcore_encrypted",
        false => "vmcore",
    };
    let has_one = |number: &u32| directory.join(format!("{stem}.{CLIENT}.{number}")).exists();
    let numbers: Vec<u32> = (0..9).filter(has_one).collect();
    for number in &numbers {
        let core = fs::read(directory.join(format!("{stem}.{CLIENT}.{number}"))).unwrap();
        assert!(core == dump(), "{when}: number {number} is not whole");
        if is_encrypted {
            let key = fs::read(directory.join(format!("key.{CLIENT}.{number}"))).unwrap();
            assert!(key == KEY, "{when}: the key of number {number}");
        }
    }
    numbers
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn survive_everything(is_encrypted: bool) {
    for accident in Accident::ALL {
        for at in 0.. {
            let when = format!("{accident:?} at change {at}");
            let dir = tempfile::tempdir().unwrap();
            let (_, answered) = receive(dir.path(), is_encrypted, Changes::unwatched());
            assert!(answered, "the dump before");
            // They are kept by the reception, which has its own thread elsewhere.
            let fate: &'static Fate = Box::leak(Box::new(Fate::new(accident, at)));
            let watcher = Box::leak(Box::new(|change: &crate::changes::Change<'_>| {
                fate.meet(change)
            }));
            let (record, answered) = receive(dir.path(), is_encrypted, Changes::watched(watcher));
            if accident == Accident::PowerCut {
                fate.cut_power();
            }
            let found = whole(dir.path(), is_encrypted, &when);
            assert_eq!(found[0], 0, "{when}: the dump before");
            if answered {
                assert_eq!(found.len(), 2, "{when}: it was acked");
            }
            if !fate.has_happened() {
                assert!(answered && at > 10, "{when}: {record:?}");
                break;
            }
            // Another server comes up, and the client's kernel panics again.
            let left = files::recover(dir.path()).unwrap();
            assert!(
                left.len() <= 1 && !(left.len() == 1 && found.len() == 2),
                "{when}: {left:?}"
            );
            let (record, answered) = receive(dir.path(), is_encrypted, Changes::unwatched());
            assert!(answered, "{when}: {record:?}");
            assert_eq!(
                whole(dir.path(), is_encrypted, &when).len(),
                found.len() + 1,
                "{when}"
            );
            let names = names(dir.path());
            let is_left = |name: &&String| name.ends_with(".part") || name.ends_with(".new");
            assert_eq!(names.iter().find(is_left), None, "{when}: {names:?}");
        }
    }
}

#[test]
fn no_accident_leaves_half_a_dump_under_the_name_of_a_whole_one() {
    survive_everything(false);
}

#[test]
fn no_accident_separates_a_received_dump_from_its_key() {
    survive_everything(true);
}

#[test]
fn a_second_server_leaves_alone_what_the_first_receives() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = files::Files::create(Changes::unwatched(), dir.path(), CLIENT).unwrap();
    files.write(0, &dump()).unwrap();
    assert!(files::recover(dir.path()).unwrap().is_empty());
    let len = dump().len() as u64;
    files
        .finish(len, vmcore_format::kerneldump::Compression::None, false)
        .unwrap();
    assert_eq!(whole(dir.path(), false, "after the other started"), [0]);
}

#[test]
fn paths_of_clients_stay_below_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let found = |path: &str| below(dir.path(), Path::new(path));
    assert_eq!(found("a/b"), Some(dir.path().join("a/b")));
    assert_eq!(found("./a"), Some(dir.path().join("a")));
    for path in ["../a", "a/../..", "/etc", "file", "missing", "a/c"] {
        assert_eq!(found(path), None, "{path}");
    }
    std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
    assert_eq!(found("link"), None);
    assert_eq!(found("link/etc"), None);
}
