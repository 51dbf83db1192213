//! Headers, sections, bits, pages.

use super::{dump, page_text};
use crate::common::{each_access, locate, open, session, try_open};
use std::collections::BTreeMap;
use vmcore::dump::{Completeness, OpenError};
use vmcore::format::addr::{PageSize, Pfn, PhysAddr};
use vmcore::format::endian::Endian;
use vmcore::format::header::HeaderError;
use vmcore::format::layout::Section;
use vmcore::log::{self, LogOrder};
use vmcore::memory::PageReadError;
use vmcore::pages::PageMap;
use vmcore::{Dump, OpenOptions};
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;
use vmcore_synth::msgbuf;

/// The RAM of the specification's example: unaligned, with a hole.
const EXAMPLE: [(u64, u64); 2] = [(0x1000, 0x9_f800), (0x10_0800, 0x80_0000)];

#[test]
fn each_magic_is_accepted_and_decoded() {
    for arch in Arch::ALL {
        for version in 1..=arch.newest_version() {
            let mut built = dump(arch, version, &[0x8020_0000]);
            built.dump_avail = vec![(0x8000_0000, 0x8040_0000)];
            built.page_tables = vec![0; 0x3000];
            built.paemode = 1;
            let opened = open(&built.build());
            let header = opened.minidump().unwrap();
            assert_eq!(header.arch.name(), arch.magic_name());
            assert_eq!(opened.arch().name(), arch.magic_name());
            assert_eq!(
                (header.version, header.msgbufsize, header.pmapsize),
                (version, 120, 0x3000)
            );
            let bitmap = built.bitmap_bytes().len();
            assert_eq!(usize::try_from(header.bitmapsize).unwrap(), bitmap);
            assert_eq!(header.dumpavailsize, built.has_dump_avail().then_some(4096));
            assert_eq!(header.kernbase.0, built.kernbase);
            let direct_map = header
                .direct_map
                .map(|map| (map.base.0, map.end.0, map.phys.0));
            let expected = (built.dmapbase, built.dmapend, built.dmapphys);
            assert_eq!(direct_map, (arch != Arch::I386).then_some(expected));
            assert_eq!(header.is_pae(), arch == Arch::I386);
        }
    }
    let mut built = dump(Arch::Amd64, 2, &[]);
    let magic = "minidump DFlyBSD/x86_64";
    built
        .patches
        .push((0, format!("{magic:\0<32}").into_bytes()));
    let error = try_open(&built.build(), &OpenOptions::default()).unwrap_err();
    let OpenError::Header { source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*source, HeaderError::UnsupportedArch(magic));
    assert!(error.to_string().contains(magic), "{error}");
    for arch in Arch::OTHERS {
        for version in 1..=arch.newest_version() {
            let mut built = dump(arch, version, &[0x5000]);
            built.dump_avail = vec![(0, 0x10_0000)];
            let opened = open(&built.build());
            let header = opened.minidump().unwrap();
            let order = if arch.is_big_endian() {
                Endian::Big
            } else {
                Endian::Little
            };
            assert_eq!((header.version, header.endian), (version, order));
            assert_eq!(header.arch.machine_arch(order), arch.machine_arch());
            assert_eq!(header.kernbase.0, built.kernbase);
        }
    }
}

#[test]
fn sections_follow_the_message_buffer() {
    for (size, pages) in [(0, 0), (1, 1), (4095, 1), (4096, 1), (4097, 2), (98232, 24)] {
        let mut built = dump(Arch::Amd64, 3, &[0x5000]);
        built.msgbuf = (0..size).map(|n| b"0123456"[n % 7]).collect();
        built.dump_avail = vec![(0, 0x10_0000)];
        built.page_tables = vec![0; 4096];
        let a = 0x1000 * (1 + pages);
        let expected = [0x1000, a, a + 0x1000, a + 0x2000, a + 0x3000];
        each_access(&built.build(), |dump| {
            let layout = dump.memory().sparse().unwrap().layout();
            let sections = [
                Section::MessageBuffer,
                Section::DumpAvail,
                Section::Bitmap,
                Section::PageTables,
                Section::Pages,
            ];
            assert_eq!(
                sections.map(|section| layout.section(section).offset.0),
                expected
            );
            let buffer = dump.section(Section::MessageBuffer).unwrap().unwrap();
            assert_eq!(buffer[..size], built.msgbuf);
            let mut page = vec![0; 4096];
            let read = dump.memory().read(PhysAddr(0x5000), &mut page);
            assert_eq!((read.len, read.error), (4096, None));
            assert_eq!(page, page_text(0x5000));
        });
    }
}

#[test]
fn the_slack_after_the_ring_says_where_it_starts() {
    for arch in Arch::ALL.into_iter().chain(Arch::OTHERS) {
        let size = if arch.is_32_bit() { 98248 } else { 98232 };
        let text: Vec<u8> = (0..12_000)
            .flat_map(|n| format!("line {n}\n").into_bytes())
            .collect();
        let (ring, control) = msgbuf::written(size, &text, 0xc012_3000);
        let newest = &text[text.len() - ring.len()..];
        let mut built = dump(arch, arch.newest_version(), &[0x5000]);
        built.dump_avail = vec![(0, 0x10_0000)];
        built.msgbuf = ring;
        built.msgbuf_control = Some(control);
        let log = log::read(&session(&built.build(), None)).unwrap();
        assert_eq!(log.capacity_bytes, u64::from(size));
        assert_eq!((log.order, log.wrapped), (LogOrder::Msgbuf, true));
        assert_eq!(log.text(), newest);

        // A structure with another magic or size is none: the ring is shown as it lies.
        let (mut other_magic, mut other_size) = (control, control);
        other_magic.msg_magic += 1;
        other_size.msg_size -= 1;
        for spoiled in [other_magic, other_size] {
            built.msgbuf_control = Some(spoiled);
            let log = log::read(&session(&built.build(), None)).unwrap();
            assert_eq!(
                (log.order, log.text()),
                (LogOrder::Unknown, &built.msgbuf[..])
            );
        }
    }
}

/// Every page of a dump lies where a naive count of bits puts it.
fn check_offsets(built: &Minidump, dump: &Dump) {
    let offsets: BTreeMap<u64, u64> = built.offsets().into_iter().collect();
    assert!(!offsets.is_empty());
    for (pa, offset) in &offsets {
        assert_eq!(locate(dump, *pa), Ok(*offset), "{pa:#x}");
        assert_eq!(locate(dump, pa + 0xfff), Ok(offset + 0xfff), "{pa:#x}");
        let page = dump.memory().page(Pfn(pa / 4096)).unwrap();
        assert_eq!(*page, page_text(*pa), "{pa:#x}");
    }
}

#[test]
fn page_offsets_match_a_naive_count() {
    let bits = |bits: &[u64]| bits.iter().map(|bit| bit * 4096).collect::<Vec<u64>>();
    for pages in [
        bits(&[0]),
        bits(&[63]),
        bits(&[64]),
        bits(&[0, 1023, 1024, 1025]),
        bits(&(0..600).collect::<Vec<u64>>()),
        bits(&[32767]),
    ] {
        // Without RAM ranges bit n is page n.
        let mut built = dump(Arch::Amd64, 2, &pages);
        built.dump_avail = vec![(0, 32768 * 4096)];
        each_access(&built.build(), |dump| check_offsets(&built, dump));
    }
    // All ones, in a bitmap that is not a page.
    let mut built = dump(Arch::Amd64, 2, &bits(&(0..512).collect::<Vec<u64>>()));
    built.bitmap = Some(vec![0xff; 64]);
    each_access(&built.build(), |dump| check_offsets(&built, dump));
}

#[test]
fn one_page_in_megabytes_of_zeros_is_found() {
    let (bit, mut bitmap) = (20_000_003, vec![0; 5 << 20]);
    bitmap[bit / 8] = 1 << (bit % 8);
    let pa = bit as u64 * 4096;
    let mut built = dump(Arch::Amd64, 2, &[pa]);
    built.bitmap = Some(bitmap);
    let first = built.sections().pages;
    each_access(&built.build(), |dump| {
        assert_eq!(locate(dump, pa), Ok(first));
        for other in [0, pa - 4096, pa + 4096, (5 << 23) * 4096 - 1] {
            let page = PhysAddr(other / 4096 * 4096);
            assert_eq!(
                locate(dump, other),
                Err(PageReadError::NotDumped { pa: page })
            );
        }
    });
}

#[test]
fn bits_and_pages_lead_to_each_other() {
    for ranges in [
        vec![(0x10_0000, 0x14_0000)],
        vec![
            (0, 0x9_f000),
            (0x10_4000, 0x20_0000),
            (0x40_0000, 0x40_1000),
        ],
        EXAMPLE.to_vec(),
        vec![(0, 0x1)],
    ] {
        let mut built = dump(Arch::Amd64, 3, &[]);
        built.dump_avail = ranges;
        let dump = open(&built.build());
        let numbering = dump.memory().sparse().unwrap().numbering();
        let mut bit = 0;
        for pfn in 0..0x900 {
            let expected = built.bit_of(pfn * 4096);
            assert_eq!(numbering.bit_of(Pfn(pfn)), expected, "page {pfn:#x}");
            if expected.is_some() {
                assert_eq!(
                    (expected, numbering.pfn_of(bit)),
                    (Some(bit), Some(Pfn(pfn)))
                );
                bit += 1;
            }
        }
        assert_eq!(
            (numbering.total_pages(), numbering.pfn_of(bit)),
            (bit, None)
        );
    }
}

#[test]
fn pages_outside_all_ranges_are_not_ram() {
    let mut built = dump(Arch::Amd64, 3, &[0x1000, 0x9_f000, 0x10_0000, 0x7f_f000]);
    built.dump_avail = EXAMPLE.to_vec();
    each_access(&built.build(), |dump| {
        check_offsets(&built, dump);
        for pa in [0, 0xfff, 0xa_0000, 0xf_ffff, 0x80_0000, 1 << 40, u64::MAX] {
            let page = PageSize::SIZE_4K.base(Pfn(pa >> 12));
            assert_eq!(
                locate(dump, pa),
                Err(PageReadError::NotRam { pa: page }),
                "{pa:#x}"
            );
        }
        assert_eq!(
            locate(dump, 0x2000),
            Err(PageReadError::NotDumped {
                pa: PhysAddr(0x2000)
            })
        );
    });
}

#[test]
fn bytes_after_the_last_page_are_ignored() {
    let mut built = dump(Arch::Riscv64, 2, &[0x8020_1000, 0x8020_5000]);
    built.dump_avail = vec![(0x8020_0000, 0x8040_0000)];
    for trailing in [0, 1, 512, 4096, 5000] {
        built.trailing = vec![0x5a; trailing];
        each_access(&built.build(), |dump| {
            check_offsets(&built, dump);
            let complete = Completeness::Complete {
                trailing_bytes: trailing as u64,
            };
            assert_eq!(dump.completeness(), Ok(complete));
        });
    }
}

#[test]
fn every_page_is_enumerated_once_with_all_its_addresses() {
    // Page 0x2000 is mapped twice, 0x3000 once, 0x7000 only by the direct map.
    let mut built = dump(Arch::Riscv64, 2, &[]);
    built.dump_avail = vec![(0x8020_0000, 0x8021_0000)];
    for number in [2, 3, 7] {
        built
            .pages
            .insert(0x8020_0000 + number * 0x1000, vec![1; 4096]);
    }
    let pte = |page: u64| (0x8020_0000 + page * 0x1000) >> 12 << 10 | 0xcf;
    built.page_tables = super::entries(512, &[(1, pte(3)), (4, pte(2)), (9, pte(2)), (11, pte(5))]);
    // A bit behind the last page of RAM has a place in the file, but no address.
    built.extra_bits.insert(40);
    let session = session(&built.build(), None);
    let map = PageMap::build(session.space().unwrap()).unwrap();
    let found: Vec<_> = map
        .pages()
        .map(|page| {
            let kernel_map: Vec<u64> = page
                .mappings()
                .map(|(va, _)| va.0 - built.kernbase)
                .collect();
            let direct_map = page.direct_map.map(|va| va.0 - built.dmapbase);
            (
                page.pa().map(|pa| pa.0),
                page.offset.0,
                kernel_map,
                direct_map,
            )
        })
        .collect();
    let first = built.sections().pages;
    assert_eq!(
        found,
        [
            (
                Some(0x8020_2000),
                first,
                vec![0x4000, 0x9000],
                Some(0x20_2000)
            ),
            (
                Some(0x8020_3000),
                first + 0x1000,
                vec![0x1000],
                Some(0x20_3000)
            ),
            (Some(0x8020_7000), first + 0x2000, vec![], Some(0x20_7000)),
            (None, first + 0x3000, vec![], None),
        ]
    );
    assert_eq!(map.absent_pages(), 1);
}
