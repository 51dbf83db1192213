//! A dump whose writer left out a page: what is behind it is found all the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

use std::io::Write as _;
use vmcore::dump::Warning;
use vmcore::format::layout::Section;
use vmcore::memory::PageReadError;
use vmcore::session::KernelChoice;
use vmcore::verify::{self, Verdict};
use vmcore::{Dump, OpenOptions, Session, pages};
use vmcore_synth::Arch;
use vmcore_synth::machine::{Machine, Options};

fn open(bytes: &[u8]) -> (tempfile::TempDir, Dump) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vmcore.0");
    std::fs::write(&path, bytes).unwrap();
    let dump = Dump::open(&path, &OpenOptions::default()).unwrap();
    (dir, dump)
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn pages_behind_the_lost_one_are_where_they_belong() {
    let whole = Machine::new(&Options::new(Arch::Amd64, 3)).dump.build();
    let (_dir, sound) = open(&whole);
    let all: Vec<_> = pages::all(sound.memory()).collect();
    for share in [4, 2] {
        let lost = all.len() / share;
        let at = all[lost].1.0 as usize;
        let mut short = whole.clone();
        short.drain(at..at + 4096);
        let (_dir, dump) = open(&zstd(&short));
        let warning = dump.warnings().iter().find_map(|warning| match warning {
            Warning::PagesLost { pages: 1, places } => Some(*places),
            _ => None,
        });
        let (from, to) = warning.unwrap().unwrap();
        let missing = sound.memory().page_size().base(all[lost].0.unwrap());
        assert!(from <= missing && missing <= to, "{from} {missing} {to}");
        assert!(dump.completeness().unwrap() == sound.completeness().unwrap());
        let mut absent = 0;
        for (pfn, _) in &all {
            let pa = sound.memory().page_size().base(pfn.unwrap());
            let page = match dump.memory().page(pfn.unwrap()) {
                Ok(page) => page,
                Err(reason) => {
                    // An error, never zeros: it says which page, and between which it is.
                    assert_eq!(reason, PageReadError::Lost { pa, from, to });
                    absent += 1;
                    continue;
                }
            };
            if pa <= from || pa >= to {
                assert!(page.to_vec() == sound.memory().page(pfn.unwrap()).unwrap().to_vec());
            }
        }
        assert_eq!(absent, 1);
        assert_eq!(pages::all(dump.memory()).count(), all.len() - 1);
    }
}

#[test]
fn verify_names_the_pages_that_are_lost() {
    let whole = Machine::new(&Options::new(Arch::Amd64, 3)).dump.build();
    let (_dir, sound) = open(&whole);
    let all: Vec<_> = pages::all(sound.memory()).collect();
    let mut short = whole.clone();
    // Two that follow each other.
    let at = all[all.len() / 2].1.0 as usize;
    short.drain(at..at + 2 * 4096);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vmcore.0");
    std::fs::write(&path, zstd(&short)).unwrap();
    let session = Session::open(&path, KernelChoice::None, &OpenOptions::default()).unwrap();
    let lost = session.dump().memory().sparse().unwrap().lost().to_vec();
    assert_eq!(lost.len(), 2);
    assert!(lost[0].bit < lost[1].bit);
    let found = verify::verify(&session, |_| {}).unwrap();
    let bad: Vec<_> = found
        .checks
        .iter()
        .filter(|check| check.verdict == Verdict::Bad)
        .collect();
    let told = bad.iter().find(|check| check.name == "container").unwrap();
    assert!(told.detail.contains("left out 2 pages"), "{}", told.detail);
    assert_eq!(found.pages_read, all.len() as u64 - 2);
}

/// One frame of many is damaged: its pages cannot be read, all others can.
#[test]
fn a_damaged_frame_costs_its_pages_and_is_named() {
    let whole = Machine::new(&Options::new(Arch::Amd64, 3)).dump.build();
    let (_dir, sound) = open(&whole);
    let all: Vec<_> = pages::all(sound.memory()).collect();
    let at = all[all.len() / 2].1.0 as usize / 32768 * 32768;
    let tables = sound.memory().sparse().unwrap().layout();
    assert!(at as u64 > tables.section(Section::Pages).offset.0);
    let (mut file, mut damaged_at) = (Vec::new(), 0);
    for (number, piece) in whole.chunks(32768).enumerate() {
        let mut frame = Vec::new();
        let mut encoder = zstd::stream::Encoder::new(&mut frame, 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder
            .set_pledged_src_size(Some(piece.len() as u64))
            .unwrap();
        encoder.include_contentsize(true).unwrap();
        encoder.write_all(piece).unwrap();
        encoder.finish().unwrap();
        if number == at / 32768 {
            damaged_at = file.len() as u64;
            *frame.last_mut().unwrap() ^= 1;
        }
        file.extend(frame);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vmcore.0.zst");
    std::fs::write(&path, file).unwrap();
    let session = Session::open(&path, KernelChoice::None, &OpenOptions::default()).unwrap();
    let mut lost = 0;
    for (pfn, offset) in &all {
        let inside = (at as u64..at as u64 + 32768).contains(&offset.0);
        match session.dump().memory().page(pfn.unwrap()) {
            Ok(page) => {
                assert!(!inside);
                assert!(page.to_vec() == sound.memory().page(pfn.unwrap()).unwrap().to_vec());
            }
            Err(reason) => {
                let PageReadError::Damaged { stored, .. } = reason else {
                    panic!("{reason:?}")
                };
                assert!(inside && stored.0 == damaged_at, "{reason}");
                lost += 1;
            }
        }
    }
    assert!(lost > 0);
    let found = verify::verify(&session, |_| {}).unwrap();
    assert_eq!(found.pages_read, all.len() as u64 - lost);
    let pages = found.checks.iter().find(|check| check.name == "pages");
    let pages = pages.unwrap();
    assert_eq!(pages.verdict, Verdict::Bad);
    let told = format!("{lost} pages cannot be read");
    assert!(pages.detail.contains(&told), "{}", pages.detail);
}

#[test]
fn a_dump_that_is_cut_is_not_realigned() {
    let mut whole = Machine::new(&Options::new(Arch::Amd64, 3)).dump.build();
    let page = 4096;
    whole.truncate(whole.len() - 2 * page);
    for bytes in [whole.clone(), zstd(&whole)] {
        let (_dir, dump) = open(&bytes);
        let is_lost = |warning: &Warning| matches!(warning, Warning::PagesLost { .. });
        assert!(
            !dump.warnings().iter().any(is_lost),
            "{:?}",
            dump.warnings()
        );
    }
}
