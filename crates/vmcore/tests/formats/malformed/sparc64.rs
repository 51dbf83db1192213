//! The rows once more of sparc64's dumps, which have a header of their own: regions of memory, and
//! where the kernel's translation storage buffer is.

use super::{error_of, says};
use crate::common::{Virtual, locate, open, session};
use std::collections::BTreeMap;
use vmcore::container::ContainerError;
use vmcore::dump::{OpenError, Warning};
use vmcore::format::addr::PhysAddr;
use vmcore::memory::PageReadError;
use vmcore::translation::TranslationError;
use vmcore::verify::verify;
use vmcore_synth::sparc64::{RegionDump, buffer};
use vmcore_synth::tables::Mapping;

const FIRST: u64 = 0x40_0000;
const SECOND: u64 = 0x80_0000;
const TSB: u64 = FIRST + 0x2000;
const MAPPED: (u64, u64) = (0xc000_2000, SECOND + 0x2000);

/// Two regions; the first has the buffer, which maps a page of the second.
fn sound() -> RegionDump {
    let mapping = Mapping::page(MAPPED.0, MAPPED.1, 8192);
    let pages = BTreeMap::from([(TSB, buffer(256, &[mapping])), (MAPPED.1, b"page".to_vec())]);
    RegionDump {
        tsb_pa: TSB,
        tsb_entries: 256,
        ..RegionDump::of_memory(
            &[(FIRST, FIRST + 0x4000), (SECOND, SECOND + 0x4000)],
            &pages,
        )
    }
}

/// A field of the header, or of a region, that is wrong.
fn with(at: u64, value: u64) -> RegionDump {
    let mut dump = sound();
    dump.patches.push((at, value.to_be_bytes().to_vec()));
    dump
}

/// Where a region's address, size and offset stand.
const fn region(number: u64) -> [u64; 3] {
    let at = 40 + 24 * number;
    [at, at + 8, at + 16]
}

#[test]
fn the_sound_one_translates() {
    let dump = open(&sound().build());
    assert_eq!(dump.warnings(), []);
    assert_eq!(Virtual::of(&dump).pa(MAPPED.0 + 5), Ok(MAPPED.1 + 5));
}

#[test]
fn m1_m2_a_cut_header_is_told_by_where_it_is_cut() {
    for len in 0..=512 {
        let mut dump = sound();
        dump.truncate_to = Some(len);
        let file = dump.build();
        match len {
            0 => assert!(matches!(
                error_of(&file),
                OpenError::Container(ContainerError::Empty { .. })
            )),
            1..40 => assert!(matches!(error_of(&file), OpenError::UnknownFormat { .. })),
            40..512 => says(&error_of(&file), "beyond the end of the file"),
            _ => assert!(open(&file).memory().locate(PhysAddr(FIRST)).is_err()),
        }
    }
}

#[test]
fn m3_a_length_that_the_regions_do_not_have_is_no_header() {
    for hdr_size in [0, 1, 511, 513, 1024, u64::MAX - 511, u64::MAX] {
        let mut dump = sound();
        dump.hdr_size = Some(hdr_size);
        let error = error_of(&dump.build());
        assert!(matches!(error, OpenError::UnknownFormat { .. }), "{error}");
    }
    // None, more than the header has room for, and less than none.
    for nregions in [0, 20, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let mut dump = sound();
        dump.nregions = Some(nregions);
        let error = error_of(&dump.build());
        assert!(matches!(error, OpenError::UnknownFormat { .. }), "{error}");
    }
}

#[test]
fn m8_more_regions_than_the_file_has_room_for_are_refused_at_once() {
    for nregions in [2000, 0x7fff_ffff] {
        let mut dump = sound();
        dump.nregions = Some(nregions);
        dump.hdr_size = Some((40 + 24 * u64::from(nregions)).next_multiple_of(512));
        says(&error_of(&dump.build()), "beyond the end of the file");
    }
}

#[test]
fn m29_pages_that_are_cut_off_and_bytes_that_are_too_many() {
    let mut dump = sound();
    let cut = dump.offset_of(MAPPED.1 + 0x100).unwrap();
    dump.truncate_to = Some(cut);
    let opened = open(&dump.build());
    assert_eq!(locate(&opened, MAPPED.1 + 0xff), Ok(cut - 1));
    let beyond = locate(&opened, MAPPED.1 + 0x100);
    assert!(
        matches!(beyond, Err(PageReadError::Truncated { .. })),
        "{beyond:?}"
    );
    assert_eq!(Virtual::of(&opened).pa(MAPPED.0), Ok(MAPPED.1));
    let mut dump = sound();
    dump.trailing = vec![0xff; 1000];
    assert_eq!(Virtual::of(&open(&dump.build())).pa(MAPPED.0), Ok(MAPPED.1));
}

#[test]
fn regions_that_overflow_overlap_or_are_empty() {
    let [pa, size, offset] = region(1);
    let gone = Err(PageReadError::NotRam {
        pa: PhysAddr(SECOND),
    });
    // Its last address, or its last byte in the file, is behind the last there is.
    for dump in [
        with(pa, u64::MAX - 0x1fff),
        with(size, u64::MAX),
        with(offset, u64::MAX - 0x1fff),
    ] {
        let opened = open(&dump.build());
        assert_eq!(opened.warnings(), [Warning::SegmentsRefused { count: 1 }]);
        assert_eq!(locate(&opened, SECOND), gone);
        assert_eq!(locate(&opened, FIRST), Ok(512));
    }
    // Its bytes are behind the file.
    let opened = open(&with(offset, 1 << 40).build());
    let found = locate(&opened, SECOND);
    assert!(
        matches!(found, Err(PageReadError::Truncated { .. })),
        "{found:?}"
    );
    // The first that has an address wins.
    let opened = open(&with(pa, FIRST + 0x2000).build());
    assert_eq!(locate(&opened, FIRST + 0x3fff), Ok(512 + 0x3fff));
    assert_eq!(locate(&opened, FIRST + 0x4000), Ok(512 + 0x6000));
    // An empty one is none, and without any there is no memory.
    let mut dump = with(size, 0);
    assert_eq!(locate(&open(&dump.build()), SECOND), gone);
    let [_, first_size, _] = region(0);
    dump.patches.push((first_size, vec![0; 8]));
    says(&error_of(&dump.build()), "no memory");
}

#[test]
fn a_buffer_that_is_not_there_or_damaged_maps_nothing_and_ends() {
    let opened = open(&with(8, SECOND - 0x2000).build());
    let found = Virtual::of(&opened).pa(MAPPED.0);
    assert!(
        matches!(found, Err(TranslationError::TableAbsent { .. })),
        "{found:?}"
    );
    // Addresses behind the last, masks that are none, and entries of ones.
    let mut damaged: Vec<RegionDump> = [
        (8, u64::MAX),
        (8, u64::MAX - 31),
        (24, u64::MAX),
        (24, 0x35),
    ]
    .into_iter()
    .map(|(at, value)| with(at, value))
    .collect();
    let mut ones = sound();
    let at = ones.offset_of(TSB).unwrap();
    ones.patches.push((at, vec![0xff; 8192]));
    damaged.push(ones);
    for dump in damaged {
        let file = dump.build();
        let opened = open(&file);
        let space = Virtual::of(&opened);
        for va in [0, MAPPED.0 + 0x2000, 0xffff_f7ff_ffff_ffff] {
            assert!(space.pa(va).is_err(), "{va:#x}");
        }
        // The direct map needs none.
        assert_eq!(space.pa(0xffff_f800_0000_0000 + FIRST), Ok(FIRST));
        verify(&session(&file, None), |_| {}).unwrap();
    }
}
