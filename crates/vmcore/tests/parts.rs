//! Dumps that are not files, and sessions made of parts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use vmcore::container::{self, ContainerOptions};
use vmcore::format::addr::VirtAddr;
use vmcore::format::paging::TableRef;
use vmcore::pages::{self, Mapping};
use vmcore::source::ReadAt;
use vmcore::{Dump, OpenOptions, Session};
use vmcore_synth::Arch;
use vmcore_synth::machine::{Machine, Options};
use vmcore_testkit::written;

fn minidump() -> Vec<u8> {
    Machine::new(&Options::new(Arch::Amd64, 3)).dump.build()
}

fn mappings(session: &Session) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    let mut keep = |mapping| {
        mappings.push(mapping);
        ControlFlow::Continue(())
    };
    pages::visit_mappings(session.space().unwrap(), &mut keep).unwrap();
    mappings
}

/// What is read at every mapping, twice: as it is found, and as it is remembered.
fn contents(session: &Session) -> Vec<Option<u64>> {
    let space = session.space().unwrap();
    let mappings = mappings(session);
    let word = |mapping: &Mapping| space.read_u64(mapping.va).ok();
    let found: Vec<_> = mappings.iter().map(word).collect();
    assert_eq!(mappings.iter().map(word).collect::<Vec<_>>(), found);
    found
}

#[test]
fn bytes_and_pipes_are_read_as_files_are() {
    let plain = minidump();
    let (_dir, path) = written(&plain);
    let options = OpenOptions::default();
    let file = Session::from_parts(Dump::open(&path, &options).unwrap(), None).unwrap();
    let expected = contents(&file);
    assert!(expected.iter().flatten().count() > 10);
    for bytes in [plain.clone(), zstd::encode_all(&plain[..], 1).unwrap()] {
        let dumps = [
            Dump::from_reader(&bytes[..], &options).unwrap(),
            Dump::from_bytes(bytes, &options).unwrap(),
        ];
        for dump in dumps {
            assert_eq!(dump.memory().source().len(), plain.len() as u64);
            let session = Session::from_parts(dump, None).unwrap();
            assert_eq!(contents(&session), expected);
        }
    }
}

/// Memory that somebody writes to.
#[derive(Clone, Debug)]
struct Live(Arc<Mutex<Vec<u8>>>);

impl ReadAt for Live {
    fn len_bytes(&self) -> u64 {
        self.0.lock().unwrap().len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap().read_at(offset, buf)
    }

    fn may_change(&self) -> bool {
        true
    }
}

#[test]
fn what_may_change_is_not_remembered() {
    let live = Live(Arc::new(Mutex::new(minidump())));
    let options = ContainerOptions::default();
    let opened = container::open_given(Path::new("guest"), live.clone(), &options).unwrap();
    let dump = Dump::of(Path::new("guest"), opened, &OpenOptions::default()).unwrap();
    let session = Session::from_parts(dump, None).unwrap();
    let space = session.space().unwrap();
    let (memory, translation) = (space.memory(), space.translation());
    // Where the lowest entry is that maps an address, and its value.
    let entry = |va: VirtAddr| {
        let mut last = None;
        let on_step = |_, step| last = Some(step);
        translation.trace(memory, va, on_step).ok()?;
        let step = last?;
        match step.table {
            TableRef::At(table) if step.level == 0 => {
                Some((memory.locate(table).ok()?.0 + 8 * step.index, step.raw))
            }
            _ => None,
        }
    };
    let readable = mappings(&session).into_iter().filter_map(|mapping| {
        let word = space.read_u64(mapping.va).ok()?;
        Some((mapping.va, word, entry(mapping.va)?))
    });
    let readable: Vec<_> = readable.collect();
    let (va, word, (at, _)) = readable[0];
    let (_, other, (_, raw)) = *readable
        .iter()
        .find(|(_, other, _)| *other != word)
        .unwrap();
    let at = usize::try_from(at).unwrap();
    live.0.lock().unwrap()[at..at + 8].copy_from_slice(&raw.to_le_bytes());
    assert_eq!(space.read_u64(va), Ok(other));
}
