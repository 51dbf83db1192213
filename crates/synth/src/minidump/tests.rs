//! The examples of the format's description, and the model against itself.

use super::*;
use crate::bytes::put_u64;

/// The two ranges of the example: one starts and both end inside a page.
const RANGES: [(u64, u64); 2] = [(0x1000, 0x9f800), (0x10_0800, 0x80_0000)];

fn page(text: &str) -> Vec<u8> {
    text.repeat(4096 / text.len() + 1).into_bytes()[..4096].to_vec()
}

fn count_bits(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
}

#[test]
fn pages_of_unaligned_ranges_are_numbered_as_in_the_example() {
    let mut dump = Minidump::new(Arch::Amd64, 3);
    dump.dump_avail = RANGES.to_vec();
    let examples = [
        (0x1000, Some(0)),
        (0x9e000, Some(157)),
        (0x9f000, Some(158)),
        (0xa0000, None),
        (0x10_0000, Some(159)),
        (0x23_4000, Some(467)),
        (0x7f_f000, Some(1950)),
        (0x80_0000, None),
    ];
    for (pa, bit) in examples {
        assert_eq!(dump.bit_of(pa), bit, "{pa:#x}");
    }
}

#[test]
fn without_ranges_the_bit_is_the_page_number() {
    let mut dump = Minidump::new(Arch::Amd64, 2);
    dump.dump_avail = RANGES.to_vec();
    assert_eq!(dump.bit_of(0xa0000), Some(0xa0));
    assert_eq!(dump.bit_of(0x7f_f000), Some(0x7ff));
    assert_eq!(dump.bit_of(0x80_0000), None);
}

/// Amd64 version 1 as the description's example has it: three pages, 1024 entries.
fn example_v1() -> Minidump {
    let mut dump = Minidump::new(Arch::Amd64, 1);
    dump.msgbuf = vec![b'm'; 120];
    dump.page_tables = vec![0; 8192];
    for (entry, value) in [
        (3, 0x8000_0000_0023_4103),
        (512, 0x10_0063),
        (513, 0x99_9003),
    ] {
        put_u64(&mut dump.page_tables, 8 * entry, value);
    }
    for pa in [0x10_0000, 0x23_4000, 0x7f_f000] {
        dump.pages.insert(pa, page(&format!("page {pa:#x}; ")));
    }
    dump
}

#[test]
fn version_1_has_the_example_s_offsets() {
    let dump = example_v1();
    let file = dump.build();
    assert_eq!(file.len(), 0x8000);
    for (pa, offset) in [
        (0x10_0000, 0x5000),
        (0x23_4000, 0x6000),
        (0x7f_f000, 0x7000),
    ] {
        assert_eq!(dump.offset_of(pa), Some(offset));
        assert!(file[index(offset)..].starts_with(format!("page {pa:#x}; ").as_bytes()));
    }
    assert_eq!(file[..25], *b"minidump FreeBSD/amd64\0\0\x01");
    assert_eq!(file[28..40], [120, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 0]);
    assert_eq!(file[40..48], 0xffff_ffff_8000_0000_u64.to_le_bytes());
    assert_eq!(file[48..56], 0xffff_ff00_0000_0000_u64.to_le_bytes());
    assert_eq!(file[56..64], 0xffff_ff80_0000_0000_u64.to_le_bytes());
    assert_eq!(file[64..72], [0; 8]);
    assert_eq!(file[0x1000..0x1078], [b'm'; 120]);
    // Entries 3, 512 and 513 of the page-table section.
    assert_eq!(
        file[0x3018..0x3020],
        0x8000_0000_0023_4103_u64.to_le_bytes()
    );
    assert_eq!(file[0x4000..0x4008], 0x10_0063_u64.to_le_bytes());
}

#[test]
fn version_3_sets_the_example_s_bits() {
    let mut dump = Minidump::new(Arch::Amd64, 3);
    dump.msgbuf = vec![b'm'; 120];
    dump.dump_avail = RANGES.to_vec();
    for pa in [0x10_0000, 0x23_4000, 0x30_0000, 0x7f_f000] {
        dump.pages.insert(pa, page("x"));
    }
    let bitmap = dump.bitmap_bytes();
    let set: Vec<u64> = (0..bitmap.len() as u64 * 8)
        .filter(|bit| bitmap[index(bit / 8)] >> (bit % 8) & 1 == 1)
        .collect();
    assert_eq!(set, [159, 467, 671, 1950]);
    assert_eq!(
        dump.sections(),
        Sections {
            dump_avail: 0x2000,
            bitmap: 0x3000,
            page_tables: 0x4000,
            pages: 0x4000
        }
    );
    let file = dump.build();
    assert_eq!(file[64..68], 4096_u32.to_le_bytes());
    assert_eq!(file[0x2000..0x2008], 0x1000_u64.to_le_bytes());
    assert_eq!(file[0x2018..0x2020], 0x80_0000_u64.to_le_bytes());
    assert_eq!(file[0x2020..0x2030], [0; 16]);
    assert_eq!(file.len(), 0x8000);
    // Clear bit, hole, beyond.
    for pa in [0x9f000, 0xa0000, 0x90_0000] {
        assert_eq!(dump.offset_of(pa), None);
    }
}

#[test]
fn a_real_message_buffer_puts_the_ranges_at_0x19000() {
    for (size, dump_avail) in [
        (0, 0x1000),
        (1, 0x2000),
        (4095, 0x2000),
        (4096, 0x2000),
        (4097, 0x3000),
        (98232, 0x19000),
    ] {
        let mut dump = Minidump::new(Arch::Amd64, 3);
        dump.msgbuf = vec![b'm'; size];
        assert_eq!(dump.sections().dump_avail, dump_avail, "{size}");
    }
}

#[test]
fn every_file_is_as_long_as_its_bits_say() {
    for arch in Arch::ALL {
        for version in 1..=arch.newest_version() {
            for page_size in [4096, 16384] {
                let mut dump = Minidump::new(arch, version);
                dump.page_size = page_size;
                dump.dump_avail = vec![(0x3_0000, 0x5_4000), (0x8_8000, 0x20_0000)];
                dump.msgbuf = vec![1; 5000];
                dump.page_tables = vec![0; index(page_size)];
                for pa in [0, 0x3_0000, 0x4_c000, 0x6_0000, 0x8_8000, 0x1f_c000] {
                    dump.pages.insert(pa, vec![7; 10]);
                }
                dump.extra_bits.insert(60);
                let file = dump.build();
                let expected = dump.sections().pages + page_size * count_bits(&dump.bitmap_bytes());
                assert_eq!(
                    file.len() as u64,
                    expected,
                    "{arch:?} {version} {page_size}"
                );
                for (pa, offset) in dump.offsets() {
                    assert_eq!(dump.offset_of(pa), Some(offset));
                    assert_eq!(
                        file[index(offset)..index(offset) + 11],
                        [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0]
                    );
                }
                assert_eq!(
                    dump.offsets().len(),
                    if dump.has_dump_avail() { 4 } else { 6 }
                );
            }
        }
    }
}

#[test]
fn a_page_that_two_ranges_share_has_the_first_one_s_bit() {
    let mut dump = Minidump::new(Arch::Amd64, 3);
    dump.dump_avail = vec![(0x1000, 0x2800), (0x2800, 0x4000)];
    dump.pages.insert(0x2000, page("x"));
    dump.pages.insert(0x3000, page("y"));
    assert_eq!(dump.bit_of(0x2000), Some(1));
    assert_eq!(dump.bit_of(0x3000), Some(3));
    assert_eq!(dump.bitmap_bytes()[0], 0b1010);
    let start = dump.sections().pages;
    assert_eq!(dump.offsets(), [(0x2000, start), (0x3000, start + 4096)]);
}

#[test]
fn headers_of_other_architectures_have_their_own_layout() {
    let mut dump = Minidump::new(Arch::Arm64, 3);
    dump.flags = 1;
    let file = dump.build();
    assert_eq!(file[..24], *b"minidump FreeBSD/arm64\0\0");
    assert_eq!(file[48..56], 0x4000_0000_u64.to_le_bytes());
    assert_eq!(file[64..72], 0xffff_ff00_0000_0000_u64.to_le_bytes());
    assert_eq!(file[72..80], [0, 0x10, 0, 0, 1, 0, 0, 0]);
    let mut dump = Minidump::new(Arch::I386, 2);
    dump.paemode = 1;
    let file = dump.build();
    assert_eq!(file[..24], *b"minidump FreeBSD/i386\0\0\0");
    assert_eq!(file[40..52], [0, 0, 0x80, 0, 1, 0, 0, 0, 0, 0x10, 0, 0]);
    let file = Minidump::new(Arch::Riscv64, 2).build();
    assert_eq!(file[..24], *b"minidump FreeBSD/riscv\0\0");
    assert_eq!(file[72..76], [0, 0x10, 0, 0]);
    let file = Minidump::new(Arch::Riscv64, 1).build();
    assert_eq!(file[72..76], [0; 4]);
}

#[test]
fn what_shall_be_wrong_is_stored_as_given() {
    let mut dump = example_v1();
    dump.version_field = Some(9);
    dump.bitmapsize = Some(0xffff_ffff);
    dump.bitmap = Some(vec![0xff; 100]);
    dump.patches.push((0x1000, b"patched".to_vec()));
    dump.trailing = b"more".to_vec();
    let file = dump.build();
    assert_eq!(file[24], 9);
    assert_eq!(file[32..36], [0xff; 4]);
    assert_eq!(file[0x2000..0x2064], [0xff; 100]);
    assert_eq!(file[0x2064], 0);
    assert_eq!(file[0x1000..0x1007], *b"patched");
    assert!(file.ends_with(b"more"));
    dump.truncate_to = Some(0x1800);
    assert_eq!(dump.build().len(), 0x1804);
    dump.version = 3;
    dump.dump_avail = vec![(0, 0x1000)];
    dump.dump_avail_terminated = false;
    let raw = dump.front();
    assert_eq!(raw[64..68], [16, 0, 0, 0]);
    assert_eq!(raw[0x2010..0x2020], [0xff; 16]);
}

#[test]
fn the_structure_of_the_message_buffer_follows_it() {
    let mut dump = Minidump::new(Arch::Amd64, 3);
    let (ring, control) = crate::msgbuf::written(98232, b"hello", 0);
    dump.msgbuf = ring;
    dump.msgbuf_control = Some(control);
    let file = dump.build();
    assert_eq!(file[0x1000..0x1005], *b"hello");
    assert_eq!(
        file[0x1000 + 98232..0x19000],
        control.bytes(Arch::Amd64)[..]
    );
}
