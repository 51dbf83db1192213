//! Rows 17 to 21: RAM ranges that cannot number the bitmap's bits, or only some.

use super::common::{each_access, locate, not_ram, open, session};
use super::{error_of, says, sound};
use vmcore::dump::{OpenError, Warning};
use vmcore::format::addr::{Pfn, PhysAddr};
use vmcore::info;
use vmcore_synth::minidump::Minidump;

/// The same bitmap whatever the ranges say.
fn with_ranges(ranges: &[(u64, u64)]) -> Minidump {
    let mut dump = sound();
    dump.bitmap = Some(dump.bitmap_bytes());
    dump.dump_avail = ranges.to_vec();
    dump
}

#[test]
fn m17_a_version_with_ranges_needs_at_least_one() {
    let mut dump = sound();
    dump.dumpavailsize = Some(0);
    // The section behind it is where the bitmap would be: any bytes will do for that.
    let error = error_of(&dump.build());
    assert!(matches!(error, OpenError::BadRanges { .. }), "{error}");
    says(&error, "there are none");
    // So does an array that begins with its end.
    let error = error_of(&with_ranges(&[]).build());
    assert!(matches!(error, OpenError::BadRanges { .. }), "{error}");
}

#[test]
fn m18_half_a_pair_is_ignored() {
    for size in [8, 15] {
        let mut dump = sound();
        dump.dumpavailsize = Some(size);
        let error = error_of(&dump.build());
        assert!(
            matches!(error, OpenError::BadRanges { .. }),
            "{size}: {error}"
        );
    }
    let mut dump = with_ranges(&[(0x1000, 0x10_0000), (0x20_0000, 0x30_0000)]);
    for size in [16, 17, 24, 31] {
        dump.dumpavailsize = Some(size);
        each_access(&dump.build(), |opened| {
            assert!(opened.warnings().contains(&Warning::NoTerminator), "{size}");
            assert!(locate(opened, 0x5000).is_ok());
            assert_eq!(locate(opened, 0x20_0000), Err(not_ram(PhysAddr(0x20_0000))));
        });
    }
}

#[test]
fn m19_the_end_of_the_array_ends_it() {
    let mut dump = sound();
    dump.dump_avail_terminated = false;
    each_access(&dump.build(), |opened| {
        assert_eq!(opened.warnings(), [Warning::NoTerminator]);
        let numbering = opened.memory().sparse().unwrap().numbering();
        assert_eq!(
            (numbering.ranges().len(), numbering.total_pages()),
            (1, 255)
        );
        assert_eq!(
            locate(opened, 0xf_f000),
            Ok(dump.offset_of(0xf_f000).unwrap())
        );
    });
}

#[test]
fn m20_ranges_out_of_order_are_left_out_with_a_warning() {
    let good = (0x1000, 0x10_0000);
    for (odd, what) in [
        ((0x30_0000, 0x20_0000), "reversed"),
        ((0x20_0000, 0x20_0000), "empty"),
        ((0x8000, 0x20_0000), "overlapping"),
        ((0, 0x1000), "descending"),
        ((u64::MAX, 1), "reversed over all memory"),
    ] {
        let dump = with_ranges(&[good, odd, (0x40_0000, 0x40_1000)]);
        each_access(&dump.build(), |opened| {
            assert_eq!(
                opened.warnings(),
                [Warning::RangesRefused { count: 1 }],
                "{what}"
            );
            let numbering = opened.memory().sparse().unwrap().numbering();
            assert_eq!(numbering.total_pages(), 256, "{what}");
            assert_eq!(numbering.bit_of(Pfn(0x400)), Some(255), "{what}");
            assert_eq!(
                locate(opened, 0x5000),
                Ok(sound().offset_of(0x5000).unwrap())
            );
        });
    }
    // If nothing is left, there is no RAM.
    let opened = open(&with_ranges(&[(0x2000, 0x1000)]).build());
    assert_eq!(opened.warnings(), [Warning::RangesRefused { count: 1 }]);
    assert_eq!(locate(&opened, 0x1000), Err(not_ram(PhysAddr(0x1000))));
}

#[test]
fn m21_a_range_up_to_the_last_byte_does_not_overflow() {
    let end = u64::MAX;
    let dump = with_ranges(&[(0x1000, 0x10_0000), (0x20_0000, end)]);
    let session = session(&dump.build(), None);
    let opened = session.dump();
    let pages = 255 + (1 << 52) - 0x200;
    assert_eq!(
        opened.warnings(),
        [Warning::BitmapShort { bits: 32768, pages }]
    );
    assert_eq!(
        locate(opened, 0x5000),
        Ok(sound().offset_of(0x5000).unwrap())
    );
    assert!(locate(opened, u64::MAX).is_err());
    let info = info::info(&session).unwrap();
    assert_eq!(info.pages.ram, pages);
    let last = info.ram.last().unwrap();
    assert!(last.start < last.end, "{last}");
}
