//! arm, mips and powerpc64: every number of their headers wrong, and every cut.

use crate::common::{Virtual, try_open};
use std::ops::ControlFlow;
use vmcore::OpenOptions;
use vmcore::dump::OpenError;
use vmcore::pages::{self, Mapping};
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

fn dumps() -> Vec<Minidump> {
    let mut dumps = Vec::new();
    for arch in Arch::OTHERS {
        for version in 1..=arch.newest_version() {
            let mut dump = Minidump::new(arch, version);
            dump.msgbuf = vec![b'm'; 120];
            dump.dump_avail = vec![(0x1000, 0x10_0000)];
            dump.page_tables = vec![0xff; 0x1000];
            dump.pages.insert(0x5000, vec![0xff; 4096]);
            dump.pages.insert(0x7000, vec![1; 4096]);
            let mut hashed = dump.clone();
            hashed.mmu_name = "mmu_g5".to_owned();
            dumps.push(dump);
            if matches!(arch, Arch::Powerpc64 | Arch::Powerpc64le) {
                dumps.push(hashed);
            }
        }
    }
    dumps
}

/// Opens a file and, if that succeeds, asks it everything.
fn ask(file: &[u8]) -> Option<OpenError> {
    let dump = match try_open(file, &OpenOptions::default()) {
        Ok(dump) => dump,
        Err(error) => return Some(error),
    };
    let _ = dump.warnings();
    let space = Virtual::of(&dump);
    for va in [
        0,
        0x10_0100,
        0x8000_5000,
        0xc000_0000,
        0xc000_7fff,
        u64::MAX,
    ] {
        let _ = space.text(va, 4);
    }
    for va in [
        1 << 63,
        3 << 62,
        0xc000_0000_0000_5000,
        0xe000_0000_0000_0000,
    ] {
        let _ = space.text(va, 4);
    }
    let mut left = 10_000;
    let _ = pages::visit_mappings(space.space(), &mut |_: Mapping| {
        left -= 1;
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    None
}

#[test]
fn to_m33_wrong_numbers_are_refused_or_harmless() {
    for dump in dumps() {
        let sound = dump.build();
        assert!(ask(&sound).is_none());
        let (first, end) = match dump.arch {
            Arch::Powerpc64 | Arch::Powerpc64le => (64, 140),
            _ => (24, 80),
        };
        for at in (first..end).step_by(4) {
            for value in [
                0,
                1,
                4,
                7,
                100,
                4095,
                0x0300_0000,
                0x7fff_ffff,
                0xffff_f000,
                u32::MAX,
            ] {
                let mut file = sound.clone();
                file[at..at + 4].copy_from_slice(&dump.arch.u32(value));
                let error = ask(&file);
                if at == first {
                    let is_known = (1..=2).contains(&value);
                    assert_eq!(error.is_none(), is_known, "{:?} version {value}", dump.arch);
                }
            }
        }
    }
}

#[test]
fn to_m11_cuts_are_errors_up_to_the_pages() {
    for dump in dumps() {
        let sound = dump.build();
        let pages = usize::try_from(dump.sections().pages).unwrap();
        for len in (0..sound.len())
            .step_by(509)
            .chain([24, 64, 140, pages - 1, pages])
        {
            let error = ask(&sound[..len.min(sound.len())]);
            assert_eq!(error.is_some(), len < pages, "{:?} cut at {len}", dump.arch);
        }
    }
}

#[test]
fn to_m21_odd_bitmaps_and_ranges_do_no_harm() {
    for sound in dumps() {
        for len in [0, 1, 3, 4, 7, 9, 100, 4095] {
            let mut dump = sound.clone();
            dump.bitmap = Some(vec![0xff; len]);
            let _ = ask(&dump.build());
        }
        for ranges in [
            vec![(0x5000, 0x1000)],
            vec![(0, u64::MAX)],
            vec![(0x1000, 0x9000), (0x2000, 0x3000)],
            vec![(u64::MAX - 1, u64::MAX)],
        ] {
            let mut dump = sound.clone();
            dump.bitmap = Some(dump.bitmap_bytes());
            dump.dump_avail = ranges;
            let _ = ask(&dump.build());
        }
        let mut open_ended = sound.clone();
        open_ended.dump_avail_terminated = false;
        assert!(ask(&open_ended.build()).is_none());
    }
}
