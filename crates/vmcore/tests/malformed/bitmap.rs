//! Rows 11 to 14, 16, 28 and 29: bitmaps of odd lengths, and pages more or less than bits.

use super::common::{each_access, locate, not_dumped, open, session};
use super::sound;
use vmcore::dump::{Completeness, Warning};
use vmcore::format::addr::{FileOffset, PhysAddr};
use vmcore::info;
use vmcore::memory::Absence;
use vmcore::pages::PageMap;

#[test]
fn m11_a_file_that_ends_inside_its_pages_opens_and_says_what_is_missing() {
    let mut dump = sound();
    let offsets = dump.offsets();
    let end = dump.build().len() as u64;
    // Every cut from the first page on: so many whole pages are left, and perhaps a part.
    for cut in [0, 1, 0x800, 0xfff, 0x1000, 0x1001, 0x3fff] {
        let file_len = dump.sections().pages + cut;
        dump.truncate_to = Some(file_len);
        each_access(&dump.build(), |opened| {
            let missing_bytes = end - file_len;
            let missing_pages = missing_bytes.div_ceil(4096);
            let truncated = Completeness::Truncated {
                missing_bytes,
                missing_pages,
            };
            assert_eq!(opened.completeness(), Ok(truncated));
            for (pa, offset) in &offsets {
                let expected = match *offset < file_len {
                    true => Ok(*offset),
                    false => Err(Absence::Truncated {
                        pa: PhysAddr(*pa),
                        offset: FileOffset(*offset),
                        file_len: FileOffset(file_len),
                    }),
                };
                assert_eq!(locate(opened, *pa), expected, "{pa:#x}, cut {cut:#x}");
            }
            // What is not in the dump is so still.
            assert_eq!(locate(opened, 0x6000), Err(not_dumped(PhysAddr(0x6000))));
        });
    }
}

#[test]
fn m12_a_dump_without_bitmap_opens_without_pages() {
    let mut dump = sound();
    dump.pages.clear();
    dump.bitmap = Some(Vec::new());
    each_access(&dump.build(), |opened| {
        assert!(opened.warnings().contains(&Warning::NoBitmap));
        assert_eq!(vmcore::pages::page_count(opened.memory()), Ok(0));
        assert_eq!(locate(opened, 0x5000), Err(not_dumped(PhysAddr(0x5000))));
        assert_eq!(
            opened.completeness(),
            Ok(Completeness::Complete { trailing_bytes: 0 })
        );
    });
}

#[test]
fn m13_a_bitmap_of_any_length_is_padded_with_zeros() {
    for len in [1, 4, 100, 4095] {
        let mut dump = sound();
        let mut bitmap = vec![0u8; len];
        // Pages 1, 5 and, if the bitmap reaches it, 9; the last bit of its last byte.
        bitmap[0] = 0x11;
        if len > 1 {
            bitmap[1] = 0x01;
        }
        bitmap[len - 1] |= 0x80;
        let set_bits: u64 = bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
        dump.bitmap = Some(bitmap);
        each_access(&dump.build(), |opened| {
            assert_eq!(vmcore::pages::page_count(opened.memory()), Ok(set_bits));
            for pa in [0x1000, 0x5000, 0x9000] {
                let expected = dump.offset_of(pa).ok_or(not_dumped(PhysAddr(pa)));
                assert_eq!(locate(opened, pa), expected, "{len} bytes, {pa:#x}");
            }
        });
    }
}

#[test]
fn m14_a_bitmap_of_64_bytes_is_accepted() {
    let mut dump = sound();
    let mut bitmap = vec![0; 64];
    (bitmap[0], bitmap[63]) = (1, 0x80);
    dump.bitmap = Some(bitmap);
    each_access(&dump.build(), |opened| {
        assert_eq!(locate(opened, 0x1000), Ok(dump.sections().pages));
        assert_eq!(vmcore::pages::page_count(opened.memory()), Ok(2));
    });
}

#[test]
fn m16_pages_behind_a_short_bitmap_are_not_dumped() {
    let mut dump = sound();
    dump.bitmap = Some(vec![0xff; 8]);
    each_access(&dump.build(), |opened| {
        assert_eq!(
            opened.warnings(),
            [Warning::BitmapShort {
                bits: 64,
                pages: 255
            }]
        );
        assert!(locate(opened, 0x1000).is_ok());
        let pa = PhysAddr(0xf_f000);
        assert_eq!(locate(opened, pa.0), Err(not_dumped(pa)));
    });
    // As long as it must be, it is not short; one bit less, it is.
    dump.bitmap = Some(vec![0; 32]);
    assert_eq!(open(&dump.build()).warnings(), []);
    dump.dump_avail = vec![(0x1000, 0x10_2000)];
    let short = Warning::BitmapShort {
        bits: 256,
        pages: 257,
    };
    assert_eq!(open(&dump.build()).warnings(), [short]);
}

#[test]
fn m28_more_bits_than_pages_is_a_truncated_file() {
    let mut dump = sound();
    dump.bitmap = Some(vec![0xff; 4096]);
    let session = session(&dump.build(), None);
    let opened = session.dump();
    // 32768 bits, four pages.
    let missing_pages = 32768 - 4;
    let truncated = Completeness::Truncated {
        missing_bytes: missing_pages << 12,
        missing_pages,
    };
    assert_eq!(opened.completeness(), Ok(truncated));
    assert_eq!(locate(opened, 0x4000), Ok(dump.sections().pages + 0x3000));
    assert!(matches!(
        locate(opened, 0x5000),
        Err(Absence::Truncated { .. })
    ));
    // Every bit is enumerated; those behind the last page of RAM have no address.
    let map = PageMap::build(session.space().unwrap()).unwrap();
    assert_eq!(map.pages().count(), 32768);
    assert_eq!(map.pages().filter(|page| page.pa().is_some()).count(), 255);
    let info = info::info(&session).unwrap();
    assert_eq!((info.pages.in_dump, info.state), (Some(32768), truncated));
}

#[test]
fn m29_fewer_bits_than_pages_is_a_surplus() {
    let mut dump = sound();
    let mut bitmap = vec![0; 4096];
    bitmap[0] = 1;
    dump.bitmap = Some(bitmap);
    let opened = open(&dump.build());
    let complete = Completeness::Complete {
        trailing_bytes: 3 * 4096,
    };
    assert_eq!(opened.completeness(), Ok(complete));
    assert_eq!(locate(&opened, 0x1000), Ok(dump.sections().pages));
    assert_eq!(locate(&opened, 0x5000), Err(not_dumped(PhysAddr(0x5000))));
}
