//! The general tests on every kind of minidump, by one table.

use crate::common::{Virtual, each_access, locate, open, session};
use crate::kinds::{FormatCase, KINDS, Tables, direct_va, kernel_va, page, reason};
use std::collections::BTreeMap;
use vmcore::Dump;
use vmcore::dump::Completeness;
use vmcore::format::addr::{Pfn, PhysAddr, VirtAddr};
use vmcore::format::endian::Endian;
use vmcore::format::layout::Section;
use vmcore::memory::PageReadError;
use vmcore::pages::PageMap;
use vmcore::translation::TranslationError;
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

/// A page that says where it is.
fn full(dump: &Minidump, pa: u64) -> Vec<u8> {
    let text = format!("<page {pa:#012x}>");
    let size = usize::try_from(dump.page_size).unwrap();
    text.bytes().cycle().take(size).collect()
}

/// An empty dump with these pages of RAM.
fn with_pages(kind: &FormatCase, numbers: &[u64]) -> Minidump {
    let mut dump = kind.empty();
    for number in numbers {
        let pa = page(&dump, *number);
        dump.pages.insert(pa, full(&dump, pa));
    }
    dump
}

/// Maps page `number` of the kernel map to a page of RAM.
fn map(kind: &FormatCase, dump: &mut Minidump, number: u64, to: u64) {
    let pa = page(dump, to);
    kind.map(dump, number, pa);
}

/// Every page of a dump lies where a naive count of bits puts it.
fn check_offsets(kind: &FormatCase, built: &Minidump, dump: &Dump) {
    let last = built.page_size - 1;
    assert!(!built.pages.is_empty());
    for pa in built.pages.keys() {
        let offset = built.offset_of(*pa).unwrap();
        assert_eq!(locate(dump, *pa), Ok(offset), "{}, {pa:#x}", kind.name);
        assert_eq!(locate(dump, pa + last), Ok(offset + last), "{}", kind.name);
        let found = dump.memory().page(Pfn(pa / built.page_size)).unwrap();
        assert_eq!(*found, built.pages[pa], "{}, {pa:#x}", kind.name);
    }
}

#[test]
fn every_number_of_the_header_is_decoded() {
    for kind in KINDS {
        let mut built = with_pages(kind, &[5]);
        map(kind, &mut built, 5, 5);
        let opened = open(&built.build());
        let header = opened.minidump().unwrap();
        let endian = match kind.arch.is_big_endian() {
            true => Endian::Big,
            false => Endian::Little,
        };
        let machine_arch = header.arch.machine_arch(header.endian);
        assert_eq!((header.version, header.endian), (kind.version, endian));
        assert_eq!(machine_arch, kind.arch.machine_arch(), "{}", kind.name);
        assert_eq!(header.page_size.bytes(), built.page_size, "{}", kind.name);
        let sizes = [header.msgbufsize, header.bitmapsize, header.pmapsize];
        let lens = [&built.msgbuf, &built.bitmap_bytes(), &built.page_tables].map(Vec::len);
        assert_eq!(sizes.map(|size| size as usize), lens, "{}", kind.name);
        let ranges = built.has_dump_avail().then_some(built.page_size);
        assert_eq!(header.dumpavailsize.map(u64::from), ranges, "{}", kind.name);
        assert_eq!(header.kernbase.0, built.kernbase, "{}", kind.name);
        // Where there is a direct map, the first and the last page of RAM have their places in it.
        for number in [0, 255] {
            let pa = PhysAddr(page(&built, number));
            let found = header.direct_map.and_then(|map| map.virt_of(pa));
            let expected = direct_va(&built, number);
            assert_eq!(found.map(|va| va.0), expected, "{}", kind.name);
        }
    }
}

#[test]
fn sections_follow_the_message_buffer() {
    for kind in KINDS {
        let size = kind.empty().page_size;
        for len in [0, 1, size - 1, size, size + 1, 98232] {
            let mut built = with_pages(kind, &[5]);
            built.msgbuf = (0..len)
                .map(|n| b"0123456"[usize::try_from(n % 7).unwrap()])
                .collect();
            map(kind, &mut built, 5, 5);
            let dump_avail = size + len.next_multiple_of(size);
            let ranges = if built.has_dump_avail() { size } else { 0 };
            let bitmap = dump_avail + ranges;
            let tables = bitmap + built.bitmap_bytes().len() as u64;
            let pages = tables + built.page_tables.len() as u64;
            let expected = [size, dump_avail, bitmap, tables, pages];
            each_access(&built.build(), |dump| {
                let layout = dump.memory().sparse().unwrap().layout();
                let found = [
                    Section::MessageBuffer,
                    Section::DumpAvail,
                    Section::Bitmap,
                    Section::PageTables,
                    Section::Pages,
                ];
                let found = found.map(|section| layout.section(section).offset.0);
                assert_eq!(found, expected, "{}, {len}", kind.name);
                let buffer = dump.section(Section::MessageBuffer).unwrap().unwrap();
                assert_eq!(buffer[..built.msgbuf.len()], built.msgbuf);
                check_offsets(kind, &built, dump);
            });
        }
    }
}

#[test]
fn page_offsets_match_a_naive_count() {
    for kind in KINDS {
        for bits in [
            vec![0],
            vec![63],
            vec![64],
            vec![0, 1023, 1024, 1025],
            (0..130).collect(),
            vec![8191],
        ] {
            let mut built = with_pages(kind, &bits);
            // Bit n is page n, with ranges or without.
            built.dump_avail = vec![(page(&built, 0), page(&built, 8192))];
            each_access(&built.build(), |dump| check_offsets(kind, &built, dump));
        }
    }
}

#[test]
fn bits_and_pages_lead_to_each_other() {
    for kind in KINDS.iter().filter(|kind| kind.empty().has_dump_avail()) {
        let mut built = kind.empty();
        let address = |number: u64, inside: u64| page(&built, number) + inside;
        // Several ranges, with ends inside pages.
        let ranges = [
            (address(1, 0), address(0x9f, 0x800)),
            (address(0x100, 0x800), address(0x800, 0)),
            (address(0x900, 1), address(0x900, 2)),
        ];
        built.dump_avail = ranges.to_vec();
        let dump = open(&built.build());
        let numbering = dump.memory().sparse().unwrap().numbering();
        let mut bit = 0;
        for number in 0..0x910 {
            let pa = page(&built, number);
            let pfn = Pfn(pa / built.page_size);
            let expected = built.bit_of(pa);
            assert_eq!(numbering.bit_of(pfn), expected, "{}, {pa:#x}", kind.name);
            if expected.is_some() {
                assert_eq!((expected, numbering.pfn_of(bit)), (Some(bit), Some(pfn)));
                bit += 1;
            }
        }
        assert_eq!(bit, 0x9f + 0x700 + 1);
        assert_eq!(
            (numbering.total_pages(), numbering.pfn_of(bit)),
            (bit, None)
        );
    }
}

#[test]
fn pages_outside_all_ranges_are_not_ram() {
    for kind in KINDS {
        let mut built = with_pages(kind, &[1, 0x9f, 0x100, 0x7ff]);
        let address = |number: u64, inside: u64| page(&built, number) + inside;
        let ranges = [
            (address(1, 0), address(0x9f, 0x800)),
            (address(0x100, 0x800), address(0x800, 0)),
        ];
        built.dump_avail = ranges.to_vec();
        // The bit of page 0xa0 belongs to page 0x101: a hole must not lead to it.
        let odd = page(&built, 0x101);
        built.pages.insert(odd, full(&built, odd));
        each_access(&built.build(), |dump| {
            check_offsets(kind, &built, dump);
            for number in [0, 2, 0x9e, 0xa0, 0xa1, 0xff, 0x102, 0x800, 1 << 17] {
                let pa = page(&built, number);
                let first = built.page_size;
                let of_page = |pa| match built.has_dump_avail() {
                    // A range stands for every page that it touches.
                    true => match (
                        (1..=0x9f).contains(&number),
                        (0x100..0x800).contains(&number),
                    ) {
                        (false, false) => PageReadError::NotRam { pa },
                        _ => PageReadError::NotDumped { pa },
                    },
                    false => reason(&built, pa.0),
                };
                for inside in [0, first - 1] {
                    let found = locate(dump, pa + inside);
                    assert_eq!(found, Err(of_page(PhysAddr(pa))), "{}, {pa:#x}", kind.name);
                }
            }
        });
    }
}

#[test]
fn bytes_after_the_last_page_are_ignored() {
    for kind in KINDS {
        let mut built = with_pages(kind, &[2, 200]);
        for trailing in [1, 512, 4096, 20_000] {
            built.trailing = vec![0x5a; trailing];
            each_access(&built.build(), |dump| {
                check_offsets(kind, &built, dump);
                let trailing_bytes = trailing as u64;
                let complete = Completeness::Complete { trailing_bytes };
                assert_eq!(dump.completeness(), Ok(complete), "{}", kind.name);
            });
        }
    }
}

/// Pages 0 to 5 of the kernel map: two physical neighbours, a page from elsewhere, one that is not
/// dumped, a neighbour again, and the last one of the file.
fn neighbours(kind: &FormatCase) -> Minidump {
    let mut built = with_pages(kind, &[100, 101, 5, 0xf0]);
    for (number, to) in (0..).zip([100, 101, 5, 6, 101, 0xf0]) {
        map(kind, &mut built, number, to);
    }
    built
}

#[test]
fn reads_over_page_boundaries_bring_each_pages_bytes() {
    for kind in KINDS {
        let mut built = neighbours(kind);
        let size = usize::try_from(built.page_size).unwrap();
        let text = |number| full(&built, page(&built, number));
        let (first, second, elsewhere) = (text(100), text(101), text(5));
        let whole = [&first[..], &second[..], &elsewhere[..]].concat();
        each_access(&built.build(), |dump| {
            let memory = Virtual::of(dump);
            // It follows physically, it lives elsewhere; all in one go.
            for (start, len) in [(size - 16, 48), (2 * size - 16, 48), (0, 3 * size)] {
                let va = kernel_va(&built, 0) + start as u64;
                let found = memory.text(va, len);
                assert_eq!(
                    found,
                    Ok(whole[start..start + len].to_vec()),
                    "{}",
                    kind.name
                );
            }
            // It is absent: what is before it is there.
            let (va, pa) = (kernel_va(&built, 3), page(&built, 6));
            let error = TranslationError::PageAbsent {
                va: VirtAddr(va),
                pa: PhysAddr(pa),
                reason: reason(&built, pa),
            };
            let mut buf = [0xaa; 64];
            let part = memory.space().read(VirtAddr(va - 16), &mut buf);
            assert_eq!((part.len, part.error), (16, Some(error)), "{}", kind.name);
            assert_eq!(buf[..16], elsewhere[size - 16..]);
            assert_eq!(buf[16..], [0xaa; 48]);
            let (mut buf, mut holes) = (vec![0xaa; size + 32], Vec::new());
            let start = VirtAddr(va - 16);
            memory
                .space()
                .read_with_holes(start, &mut buf, |hole| holes.push((hole.va.0, hole.len)));
            assert_eq!(holes, [(va, size)], "{}", kind.name);
            assert_eq!(buf[size + 16..], second[..16], "{}", kind.name);
        });
        // Cut inside the last page.
        let (_, last) = built.offsets().pop().unwrap();
        built.truncate_to = Some(last + 0x123);
        each_access(&built.build(), |dump| {
            let mut buf = [0; 0x200];
            let va = VirtAddr(kernel_va(&built, 5) - 16);
            let part = Virtual::of(dump).space().read(va, &mut buf);
            assert_eq!(part.len, 16 + 0x123, "{}", kind.name);
            let is_loss = part.error.is_some_and(|error| error.is_loss());
            assert!(is_loss, "{}", kind.name);
        });
    }
}

#[test]
fn reads_of_nothing_unaligned_ones_and_those_up_to_the_end() {
    for kind in KINDS {
        let built = neighbours(kind);
        let size = usize::try_from(built.page_size).unwrap();
        let whole = [100, 101, 5]
            .map(|number| full(&built, page(&built, number)))
            .concat();
        each_access(&built.build(), |dump| {
            let memory = Virtual::of(dump);
            for va in [built.kernbase, kernel_va(&built, 3), 0, 0x1234, u64::MAX] {
                assert_eq!(memory.text(va, 0), Ok(Vec::new()), "{}", kind.name);
            }
            for at in [1, 7, size - 7, size - 1, 2 * size - 5] {
                let va = VirtAddr(built.kernbase + at as u64);
                let bytes = whole[at..at + 8].try_into().unwrap();
                let word = match kind.arch.is_big_endian() {
                    true => u64::from_be_bytes(bytes),
                    false => u64::from_le_bytes(bytes),
                };
                assert_eq!(memory.space().read_u64(va), Ok(word), "{}", kind.name);
            }
        });

        let (Tables::Flat(..), Some(last)) = (kind.tables, kind.last_va()) else {
            continue;
        };
        let mut built = with_pages(kind, &[5, 9]);
        built.kernbase = last - 2 * built.page_size + 1;
        map(kind, &mut built, 0, 9);
        map(kind, &mut built, 1, 5);
        each_access(&built.build(), |dump| {
            let memory = Virtual::of(dump);
            let expected = [9, 5]
                .map(|number| full(&built, page(&built, number)))
                .concat();
            assert_eq!(memory.text(built.kernbase, 2 * size), Ok(expected.clone()));
            let mut buf = [0; 16];
            let part = memory.space().read(VirtAddr(last - 7), &mut buf);
            assert_eq!((part.len, &buf[..8]), (8, &expected[2 * size - 8..]));
            let is_outside = matches!(part.error, Some(TranslationError::NoWindow { .. }));
            assert!(is_outside, "{}: {part:?}", kind.name);
        });
    }
}

/// The address of a page where no table maps it, if there is such a place: the direct map of the
/// header, or mips' cached one.
fn linear_va(dump: &Minidump, number: u64) -> Option<u64> {
    match dump.arch {
        Arch::Mips | Arch::Mipsel => Some(0x8000_0000 + page(dump, number)),
        Arch::Mips64 | Arch::Mips64el => Some(0x9800_0000_0000_0000 + page(dump, number)),
        _ => direct_va(dump, number),
    }
}

#[test]
fn every_page_is_enumerated_once_with_all_its_addresses() {
    for kind in KINDS {
        // Page 2 is mapped twice, page 3 once, page 7 only by the direct map, if there is one.
        let mut built = with_pages(kind, &[2, 3, 7]);
        for (number, to) in [(1, 3), (4, 2), (9, 2), (11, 5)] {
            map(kind, &mut built, number, to);
        }
        // A bit behind the last page of RAM has a place in the file, but no address.
        built
            .extra_bits
            .extend(built.has_dump_avail().then_some(400));
        let session = session(&built.build(), None);
        let map = PageMap::build(session.space().unwrap()).unwrap();
        let mut found = BTreeMap::new();
        for page in map.pages() {
            let kernel_map: Vec<u64> = page.mappings().map(|(va, _)| va.0).collect();
            let direct_map = page.direct_map.map(|va| va.0);
            let at = page.pa().map(|pa| pa.0);
            assert_eq!(
                found.insert(at, (page.offset.0, kernel_map, direct_map)),
                None
            );
        }
        for (number, kernel_map) in [(2, vec![4, 9]), (3, vec![1]), (7, vec![])] {
            let pa = page(&built, number);
            let kernel_map = kernel_map
                .into_iter()
                .map(|va| kernel_va(&built, va))
                .collect();
            let offset = built.offset_of(pa).unwrap();
            let expected = (offset, kernel_map, linear_va(&built, number));
            assert_eq!(
                found.remove(&Some(pa)),
                Some(expected),
                "{}, {pa:#x}",
                kind.name
            );
        }
        let padding = found.remove(&None).map(|(offset, ..)| offset);
        let last = built.build().len() as u64 - built.page_size;
        assert_eq!(
            padding,
            built.has_dump_avail().then_some(last),
            "{}",
            kind.name
        );
        // What is left are page tables.
        assert_eq!(found.len(), built.pages.len() - 3, "{}", kind.name);
        assert_eq!(map.absent_pages(), 1, "{}", kind.name);
    }
}
