//! A dump whose writer left out a page: what is behind it is found all the same.

use std::io::Write as _;
use vmcore::dump::Warning;
use vmcore::{Dump, OpenOptions, pages};
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
        for (pfn, _) in &all {
            let pa = sound.memory().page_size().base(pfn.unwrap());
            if pa > from && pa < to {
                continue;
            }
            let of = |dump: &Dump| dump.memory().page(pfn.unwrap()).unwrap().to_vec();
            assert!(of(&dump) == of(&sound) || pa == missing, "{pa}");
        }
    }
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
