//! Reads over page boundaries, of nothing, and up to the last byte.

use super::{dump, entries, page_text};
use crate::common::{Virtual, each_access, not_dumped, page_absent};
use vmcore::format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore::memory::PageReadError;
use vmcore::translation::TranslationError;
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

const KERNBASE: u64 = 0xffff_ffff_8000_0000;

/// Virtual pages 0 to 4 of the kernel map: two physical neighbours, a page from elsewhere, one that
/// is not dumped, and the last one of the file.
fn neighbours() -> Minidump {
    let mut built = dump(Arch::Amd64, 1, &[0x10_0000, 0x10_1000, 0x5000, 0x7f_f000]);
    built.dump_avail = vec![(0, 0x80_0000)];
    built.page_tables = entries(
        512,
        &[
            (0, 0x10_0003),
            (1, 0x10_1003),
            (2, 0x5003),
            (3, 0x6003),
            (4, 0x10_1003),
            (5, 0x7f_f003),
        ],
    );
    built
}

#[test]
fn reads_over_page_boundaries_bring_each_pages_bytes() {
    let built = neighbours();
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        // (a) The second page follows physically; (b) it lives elsewhere in the file.
        for (va, pages) in [(0, [0x10_0000, 0x10_1000]), (0x1000, [0x10_1000, 0x5000])] {
            let expected = [&page_text(pages[0])[0xff0..], &page_text(pages[1])[..0x20]].concat();
            assert_eq!(memory.text(KERNBASE + va + 0xff0, 0x30), Ok(expected));
        }
        // Three pages in one go.
        let all = [0x10_0000, 0x10_1000, 0x5000].map(page_text).concat();
        assert_eq!(memory.text(KERNBASE, 0x3000), Ok(all));
    });
}

#[test]
fn reads_into_an_absent_page_bring_what_is_before_it() {
    let built = neighbours();
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        let error = page_absent(KERNBASE + 0x3000, 0x6000, not_dumped);
        let mut buf = [0xaa; 0x40];
        let part = memory.space().read(VirtAddr(KERNBASE + 0x2ff0), &mut buf);
        assert_eq!((part.len, part.error), (0x10, Some(error)));
        assert_eq!(buf[..0x10], page_text(0x5000)[0xff0..]);
        assert_eq!(buf[0x10..], [0xaa; 0x30]);
        assert_eq!(memory.text(KERNBASE + 0x2ff0, 0x40), Err(error));

        // With holes, it goes on behind them: pages 2, 3 (absent), 4.
        let (mut buf, mut holes) = (vec![0xaa; 0x2010], Vec::new());
        let start = VirtAddr(KERNBASE + 0x2ff8);
        memory
            .space()
            .read_with_holes(start, &mut buf, |hole| holes.push((hole.va.0, hole.len)));
        assert_eq!(holes, [(KERNBASE + 0x3000, 0x1000)]);
        assert_eq!(buf[..8], page_text(0x5000)[0xff8..]);
        assert_eq!(buf[8..0x1008], [0; 0x1000]);
        assert_eq!(buf[0x1008..0x2008], page_text(0x10_1000));
        assert_eq!(buf[0x2008..], page_text(0x7f_f000)[..8]);
    });
}

#[test]
fn reads_over_the_end_of_the_file_say_truncated() {
    let mut built = neighbours();
    let (_, last) = built.offsets().pop().unwrap();
    // The last page's first 0x123 bytes are left.
    built.truncate_to = Some(last + 0x123);
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        let absent_at = |inside: u64| TranslationError::PageAbsent {
            va: VirtAddr(KERNBASE + 0x5000 + inside),
            pa: PhysAddr(0x7f_f000 + inside),
            reason: PageReadError::Truncated {
                pa: PhysAddr(0x7f_f000 + inside),
                offset: FileOffset(last + inside),
                file_len: FileOffset(last + 0x123),
            },
        };
        let mut buf = [0; 0x200];
        let part = memory.space().read(VirtAddr(KERNBASE + 0x4ff0), &mut buf);
        assert_eq!((part.len, part.error), (0x133, Some(absent_at(0x123))));
        assert_eq!(buf[..0x10], page_text(0x10_1000)[0xff0..]);
        assert_eq!(buf[0x10..0x133], page_text(0x7f_f000)[..0x123]);
        assert!(absent_at(0x123).is_loss());
        // Physical reads bring the same.
        let read = dump.memory().read(PhysAddr(0x7f_f100), &mut buf);
        assert_eq!(read.len, 0x23);
        assert!(
            matches!(read.error, Some(PageReadError::Truncated { .. })),
            "{read:?}"
        );
    });
}

#[test]
fn reads_of_nothing_always_succeed() {
    let built = neighbours();
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        for va in [
            KERNBASE,
            KERNBASE + 0x3000,
            KERNBASE + 0x8000,
            0,
            0x1234,
            u64::MAX,
        ] {
            assert_eq!(memory.text(va, 0), Ok(Vec::new()), "{va:#x}");
            let part = memory.space().read(VirtAddr(va), &mut []);
            assert_eq!((part.len, part.error), (0, None), "{va:#x}");
            memory
                .space()
                .read_with_holes(VirtAddr(va), &mut [], |hole| panic!("{hole:?}"));
        }
        let read = dump.memory().read(PhysAddr(0x6000), &mut []);
        assert_eq!((read.len, read.error), (0, None));
    });
}

#[test]
fn unaligned_reads_bring_the_bytes_at_their_address() {
    let built = neighbours();
    let pages = [0x10_0000, 0x10_1000, 0x5000].map(page_text).concat();
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        for at in [1, 7, 0x7ff, 0xff9, 0xffd, 0xfff, 0x1ffb] {
            let word = u64::from_le_bytes(pages[at..at + 8].try_into().unwrap());
            let va = VirtAddr(KERNBASE + at as u64);
            assert_eq!(memory.space().read_u64(va), Ok(word), "{at:#x}");
            assert_eq!(
                memory.space().read_u32(va),
                Ok(u32::from_le_bytes(pages[at..at + 4].try_into().unwrap()))
            );
        }
    });
}

#[test]
fn reads_end_at_the_last_byte_of_the_address_space() {
    let mut built = dump(Arch::Amd64, 1, &[0x10_0000, 0x5000]);
    built.dump_avail = vec![(0, 0x80_0000)];
    built.kernbase = u64::MAX - 0x1fff;
    built.page_tables = entries(512, &[(0, 0x10_0003), (1, 0x5003)]);
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        let expected = [page_text(0x10_0000), page_text(0x5000)].concat();
        assert_eq!(memory.text(u64::MAX - 0x1fff, 0x2000), Ok(expected));
        let last = &page_text(0x5000)[0xff8..];
        let word = u64::from_le_bytes(last.try_into().unwrap());
        assert_eq!(memory.space().read_u64(VirtAddr(u64::MAX - 7)), Ok(word));
        let mut buf = [0; 16];
        let part = memory.space().read(VirtAddr(u64::MAX - 7), &mut buf);
        assert_eq!(part.len, 8);
        assert!(
            matches!(part.error, Some(TranslationError::NoWindow { .. })),
            "{part:?}"
        );
        assert_eq!(&buf[..8], last);
        let mut holes = Vec::new();
        memory
            .space()
            .read_with_holes(VirtAddr(u64::MAX - 7), &mut buf, |hole| {
                holes.push(hole.len)
            });
        assert_eq!(holes.iter().sum::<usize>(), 8);
    });
}

#[test]
fn strings_end_at_their_nul_or_at_a_hole() {
    let mut built = neighbours();
    built.pages.insert(0x5000, b"panic\0rest".to_vec());
    each_access(&built.build(), |dump| {
        let space = Virtual::of(dump);
        let string = |va, max| space.space().read_string(VirtAddr(KERNBASE + va), max);
        assert_eq!(string(0x2000, 64), Ok(b"panic".to_vec()));
        assert_eq!(string(0x2000, 3), Ok(b"pan".to_vec()));
        assert_eq!(string(0x1ffe, 64).map(|text| text.len()), Ok(7));
        assert_eq!(string(0x2ff8, 64), Ok(Vec::new()));
        assert!(string(0x3000, 64).is_err());
    });
}
