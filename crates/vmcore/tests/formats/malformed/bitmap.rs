//! Bitmaps of odd lengths, and pages more or less than bits.

use crate::common::{each_access, locate, open, session};
use crate::kinds::{KINDS, page, reason};
use vmcore::dump::{Completeness, Warning};
use vmcore::format::addr::{FileOffset, PhysAddr};
use vmcore::info;
use vmcore::memory::PageReadError;
use vmcore::pages::PageMap;

#[test]
fn a_file_that_ends_inside_its_pages_opens_and_says_what_is_missing() {
    for kind in KINDS {
        let mut dump = kind.sound();
        let offsets = dump.offsets();
        let end = dump.build().len() as u64;
        let size = dump.page_size;
        // Cuts from the first page on: so many whole pages are left, and perhaps a part.
        for cut in [0, 1, size / 2, size - 1, size, size + 1, 4 * size - 1] {
            let file_len = dump.sections().pages + cut;
            dump.truncate_to = Some(file_len);
            each_access(&dump.build(), |opened| {
                let missing_bytes = end - file_len;
                let truncated = Completeness::Truncated {
                    missing_bytes,
                    missing_pages: missing_bytes.div_ceil(size),
                };
                assert_eq!(opened.completeness(), Ok(truncated), "{}", kind.name);
                for (pa, offset) in &offsets {
                    let expected = match *offset < file_len {
                        true => Ok(*offset),
                        false => Err(PageReadError::Truncated {
                            pa: PhysAddr(*pa),
                            offset: FileOffset(*offset),
                            file_len: FileOffset(file_len),
                        }),
                    };
                    let found = locate(opened, *pa);
                    assert_eq!(found, expected, "{}, {pa:#x}, cut {cut:#x}", kind.name);
                }
                // What is not in the dump is so still.
                let pa = page(&dump, 6);
                assert_eq!(locate(opened, pa), Err(reason(&dump, pa)), "{}", kind.name);
            });
        }
    }
}

#[test]
fn a_dump_without_bitmap_opens_without_pages() {
    for kind in KINDS {
        let mut dump = kind.sound();
        dump.pages.clear();
        dump.bitmap = Some(Vec::new());
        each_access(&dump.build(), |opened| {
            assert!(opened.warnings().contains(&Warning::NoBitmap));
            assert_eq!(vmcore::pages::page_count(opened.memory()), Ok(0));
            let pa = page(&dump, 5);
            assert_eq!(locate(opened, pa), Err(reason(&dump, pa)), "{}", kind.name);
            let complete = Completeness::Complete { trailing_bytes: 0 };
            assert_eq!(opened.completeness(), Ok(complete), "{}", kind.name);
        });
    }
}

#[test]
fn a_bitmap_of_any_length_is_padded_with_zeros() {
    for (kind, len) in KINDS
        .iter()
        .flat_map(|kind| [1, 4, 100, 4095].map(|len| (kind, len)))
    {
        let mut dump = kind.sound();
        let mut bitmap = vec![0u8; len];
        // A few bits; the last bit of its last byte.
        bitmap[0] = 0x11;
        if len > 1 {
            bitmap[1] = 0x01;
        }
        bitmap[len - 1] |= 0x80;
        let set_bits: u64 = bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
        dump.bitmap = Some(bitmap);
        each_access(&dump.build(), |opened| {
            assert_eq!(vmcore::pages::page_count(opened.memory()), Ok(set_bits));
            for number in 1..=40 {
                let pa = page(&dump, number);
                let expected = dump.offset_of(pa).ok_or(reason(&dump, pa));
                let found = locate(opened, pa);
                assert_eq!(found, expected, "{}, {len} bytes, {pa:#x}", kind.name);
            }
        });
    }
}

#[test]
fn a_bitmap_of_64_bytes_is_accepted() {
    for kind in KINDS {
        let mut dump = kind.sound();
        let mut bitmap = vec![0; 64];
        (bitmap[0], bitmap[63]) = (1, 0x80);
        dump.bitmap = Some(bitmap);
        each_access(&dump.build(), |opened| {
            assert_eq!(vmcore::pages::page_count(opened.memory()), Ok(2));
            for number in 0..=64 {
                let pa = page(&dump, number);
                let expected = dump.offset_of(pa).ok_or(reason(&dump, pa));
                assert_eq!(locate(opened, pa), expected, "{}, {pa:#x}", kind.name);
            }
        });
    }
}

#[test]
fn pages_behind_a_short_bitmap_are_not_dumped() {
    for kind in KINDS.iter().filter(|kind| kind.sound().has_dump_avail()) {
        let mut dump = kind.sound();
        dump.bitmap = Some(vec![0xff; 8]);
        each_access(&dump.build(), |opened| {
            let (bits, pages) = (64, 255);
            let short = Warning::BitmapShort { bits, pages };
            assert_eq!(opened.warnings(), [short], "{}", kind.name);
            assert!(locate(opened, page(&dump, 1)).is_ok());
            let pa = page(&dump, 255);
            assert_eq!(locate(opened, pa), Err(reason(&dump, pa)), "{}", kind.name);
        });
        // As long as it must be, it is not short; one bit less, it is.
        dump.bitmap = Some(vec![0; 32]);
        assert_eq!(open(&dump.build()).warnings(), [], "{}", kind.name);
        dump.dump_avail = vec![(page(&dump, 1), page(&dump, 258))];
        let (bits, pages) = (256, 257);
        let short = Warning::BitmapShort { bits, pages };
        assert_eq!(open(&dump.build()).warnings(), [short], "{}", kind.name);
    }
}

#[test]
fn more_bits_than_pages_is_a_truncated_file() {
    for kind in KINDS {
        let mut dump = kind.sound();
        let (pages, first) = (dump.pages.len() as u64, dump.page_size);
        dump.bitmap = Some(vec![0xff; 4096]);
        let session = session(&dump.build(), None);
        let opened = session.dump();
        let missing_pages = 32768 - pages;
        let truncated = Completeness::Truncated {
            missing_bytes: missing_pages * dump.page_size,
            missing_pages,
        };
        assert_eq!(opened.completeness(), Ok(truncated), "{}", kind.name);
        let bit = |bit: u64| match dump.has_dump_avail() {
            true => page(&dump, 1 + bit),
            false => page(&dump, bit),
        };
        let last = dump.sections().pages + (pages - 1) * first;
        assert_eq!(locate(opened, bit(pages - 1)), Ok(last), "{}", kind.name);
        let behind = locate(opened, bit(pages));
        assert!(
            matches!(behind, Err(PageReadError::Truncated { .. })),
            "{}: {behind:?}",
            kind.name
        );
        // Every bit is enumerated; those behind the last page of RAM have no address.
        let map = PageMap::build(session.space().unwrap()).unwrap();
        assert_eq!(map.pages().count(), 32768, "{}", kind.name);
        let with_address = map.pages().filter(|page| page.pa().is_some()).count();
        let ram = if dump.has_dump_avail() { 255 } else { 32768 };
        assert_eq!(with_address, ram, "{}", kind.name);
        let info = info::info(&session).unwrap();
        assert_eq!((info.pages.in_dump, info.state), (Some(32768), truncated));
    }
}

#[test]
fn fewer_bits_than_pages_is_a_surplus() {
    for kind in KINDS {
        let mut dump = kind.sound();
        let (first, surplus) = (page(&dump, 1), dump.pages.len() as u64 - 1);
        // The bitmap of the first page alone.
        let mut short = dump.clone();
        short.pages.retain(|pa, _| *pa == first);
        dump.bitmap = Some(short.bitmap_bytes());
        let opened = open(&dump.build());
        let complete = Completeness::Complete {
            trailing_bytes: surplus * dump.page_size,
        };
        assert_eq!(opened.completeness(), Ok(complete), "{}", kind.name);
        assert_eq!(locate(&opened, first), Ok(dump.sections().pages));
        let pa = page(&dump, 5);
        assert_eq!(locate(&opened, pa), Err(reason(&dump, pa)), "{}", kind.name);
    }
}
