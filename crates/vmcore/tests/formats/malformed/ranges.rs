//! RAM ranges that cannot number the bitmap's bits, or only some.

use super::{error_of, says};
use crate::common::{each_access, locate, open, session};
use crate::kinds::{FormatCase, KINDS, page, reason};
use vmcore::dump::{OpenError, Warning};
use vmcore::format::addr::Pfn;
use vmcore::info;
use vmcore_synth::minidump::Minidump;

/// The kinds that have ranges.
fn kinds() -> impl Iterator<Item = &'static FormatCase> {
    KINDS.iter().filter(|kind| kind.sound().has_dump_avail())
}

/// The same bitmap whatever the ranges, here counted in pages, say.
fn with_ranges(kind: &FormatCase, ranges: &[(u64, u64)]) -> Minidump {
    let mut dump = kind.sound();
    dump.bitmap = Some(dump.bitmap_bytes());
    let address = |number: u64| match number {
        u64::MAX => kind.last_address(),
        number => page(&dump, number),
    };
    let ranges = ranges.iter();
    dump.dump_avail = ranges
        .map(|(first, end)| (address(*first), address(*end)))
        .collect();
    dump
}

#[test]
fn a_version_with_ranges_needs_at_least_one() {
    for kind in kinds() {
        let mut dump = kind.sound();
        dump.dumpavailsize = Some(0);
        // The section behind it is where the bitmap would be: any bytes will do for that.
        let error = error_of(&dump.build());
        assert!(
            matches!(error, OpenError::BadRanges { .. }),
            "{}: {error}",
            kind.name
        );
        says(&error, "there are none");
        // So does an array that begins with its end.
        let error = error_of(&with_ranges(kind, &[]).build());
        assert!(
            matches!(error, OpenError::BadRanges { .. }),
            "{}: {error}",
            kind.name
        );
    }
}

#[test]
fn half_a_pair_is_ignored() {
    for kind in kinds() {
        let mut dump = kind.sound();
        let pair = if dump.dump_avail_narrow { 8 } else { 16 };
        for size in [pair / 2, pair - 1] {
            dump.dumpavailsize = Some(size);
            let error = error_of(&dump.build());
            assert!(
                matches!(error, OpenError::BadRanges { .. }),
                "{}, {size}: {error}",
                kind.name
            );
        }
        let mut dump = with_ranges(kind, &[(1, 256), (0x200, 0x300), (0x400, 0x500)]);
        for size in [0, 1, pair / 2, pair - 1].map(|part| 2 * pair + part) {
            dump.dumpavailsize = Some(size);
            each_access(&dump.build(), |opened| {
                assert!(
                    opened.warnings().contains(&Warning::NoTerminator),
                    "{}, {size}",
                    kind.name
                );
                for (number, is_known) in [(5, true), (0x200, true), (0x400, false)] {
                    let pfn = Pfn(page(&dump, number) / dump.page_size);
                    let bit = opened.memory().sparse().unwrap().numbering().bit_of(pfn);
                    assert_eq!(bit.is_some(), is_known, "{}, {size}", kind.name);
                }
            });
        }
    }
}

#[test]
fn the_end_of_the_array_ends_it() {
    for kind in kinds() {
        // Two ranges: of a single short pair nobody can tell its width.
        let mut dump = with_ranges(kind, &[(1, 256), (0x200, 0x201)]);
        dump.dump_avail_terminated = false;
        each_access(&dump.build(), |opened| {
            assert_eq!(opened.warnings(), [Warning::NoTerminator], "{}", kind.name);
            let numbering = opened.memory().sparse().unwrap().numbering();
            let found = (numbering.ranges().len(), numbering.total_pages());
            assert_eq!(found, (2, 256), "{}", kind.name);
            let last = page(&dump, 255);
            let offset = dump.offset_of(last).unwrap();
            assert_eq!(locate(opened, last), Ok(offset), "{}", kind.name);
        });
    }
}

#[test]
fn ranges_out_of_order_are_left_out_with_a_warning() {
    for kind in kinds() {
        for (odd, what) in [
            ((0x300, 0x200), "reversed"),
            ((0x200, 0x200), "empty"),
            ((8, 0x200), "overlapping"),
            ((0, 1), "descending"),
            ((u64::MAX, 1), "reversed over all memory"),
        ] {
            let dump = with_ranges(kind, &[(1, 256), odd, (0x400, 0x401)]);
            each_access(&dump.build(), |opened| {
                let name = kind.name;
                let refused = Warning::RangesRefused { count: 1 };
                assert_eq!(opened.warnings(), [refused], "{name}, {what}");
                let numbering = opened.memory().sparse().unwrap().numbering();
                assert_eq!(numbering.total_pages(), 256, "{name}, {what}");
                let pfn = Pfn(page(&dump, 0x400) / dump.page_size);
                assert_eq!(numbering.bit_of(pfn), Some(255), "{name}, {what}");
                let sound = kind.sound();
                let offset = sound.offset_of(page(&sound, 5)).unwrap();
                assert_eq!(locate(opened, page(&dump, 5)), Ok(offset), "{name}, {what}");
            });
        }
        // If nothing is left, there is no RAM. Narrow ranges are known by being in order.
        if kind.sound().dump_avail_narrow {
            continue;
        }
        let dump = with_ranges(kind, &[(2, 1)]);
        let opened = open(&dump.build());
        let refused = Warning::RangesRefused { count: 1 };
        let warnings = opened.warnings();
        assert_eq!(warnings[0], refused, "{}", kind.name);
        // powerpc64 tells where its image is: that is gone, too.
        let no_image = matches!(warnings[1..], [Warning::NoKernelImage { .. }]);
        assert_eq!(no_image, kind.has_last_address(), "{}", kind.name);
        let pa = page(&dump, 1);
        assert_eq!(locate(&opened, pa), Err(reason(&dump, pa)), "{}", kind.name);
    }
}

#[test]
fn a_range_up_to_the_last_byte_does_not_overflow() {
    for kind in kinds() {
        let dump = with_ranges(kind, &[(1, 256), (0x200, u64::MAX)]);
        let session = session(&dump.build(), None);
        let opened = session.dump();
        let first = page(&dump, 0x200) / dump.page_size;
        let pages = 255 + kind.last_address().div_ceil(dump.page_size) - first;
        let bits = 8 * dump.bitmap_bytes().len() as u64;
        let short = Warning::BitmapShort { bits, pages };
        assert_eq!(opened.warnings(), [short], "{}", kind.name);
        let sound = kind.sound();
        let offset = sound.offset_of(page(&sound, 5)).unwrap();
        assert_eq!(locate(opened, page(&dump, 5)), Ok(offset), "{}", kind.name);
        assert!(locate(opened, u64::MAX).is_err(), "{}", kind.name);
        let info = info::info(&session).unwrap();
        assert_eq!(info.pages.ram, pages, "{}", kind.name);
        let last = info.ram.last().unwrap();
        assert!(last.start < last.end, "{}: {last}", kind.name);
    }
}
