//! amd64 minidumps of every version.

use super::{dump, entries, page_text};
use crate::common::{Virtual, each_access, not_dumped, not_ram, page_absent};
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::format::paging::{Prot, TableRef};
use vmcore::memory::PageReadError;
use vmcore::translation::{TranslationError, Via};
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

const KERNBASE: u64 = 0xffff_fe00_0000_0000;
const DMAP: u64 = 0xffff_f800_0000_0000;

fn not_mapped(
    va: u64,
    entry: &'static str,
    level: u32,
    table: TableRef,
    index: u64,
) -> TranslationError {
    TranslationError::NotMapped {
        va: VirtAddr(va),
        entry,
        level,
        table,
        index,
        raw: 0,
    }
}

fn prot(memory: &Virtual<'_>, va: u64) -> Prot {
    memory.space().locate(VirtAddr(va)).unwrap().0.leaf.prot
}

#[test]
fn version_1_has_an_entry_for_each_small_page() {
    let (kernbase, dmap) = (0xffff_ffff_8000_0000, 0xffff_ff00_0000_0000);
    let mut built = dump(Arch::Amd64, 1, &[0x10_0000, 0x23_4000, 0x7f_f000]);
    built.page_tables = entries(
        1024,
        &[
            (3, 0x8000_0000_0023_4103),
            (512, 0x10_0063),
            (513, 0x99_9003),
        ],
    );
    built.dump_avail = vec![(0, 32768 * 4096)];
    let file = built.build();
    assert_eq!(
        built.offsets(),
        [
            (0x10_0000, 0x5000),
            (0x23_4000, 0x6000),
            (0x7f_f000, 0x7000)
        ]
    );
    each_access(&file, |dump| {
        let memory = Virtual::of(dump);
        assert_eq!(memory.place(kernbase + 0x3000), Ok((0x23_4000, 0x6000)));
        assert_eq!(
            memory.text(kernbase + 0x3000, 16),
            Ok(page_text(0x23_4000)[..16].to_vec())
        );
        assert_eq!(memory.place(kernbase + 0x20_0123), Ok((0x10_0123, 0x5123)));
        let va = kernbase + 0x20_1000;
        assert_eq!(
            memory.place(va),
            Err(page_absent(va, 0x99_9000, not_dumped))
        );
        let va = kernbase + 0x1000;
        assert_eq!(
            memory.place(va),
            Err(not_mapped(va, "PTE", 0, TableRef::Section, 1))
        );
        let va = VirtAddr(kernbase + 0x40_0000);
        assert_eq!(memory.place(va.0), Err(TranslationError::Outside { va }));
        assert_eq!(memory.place(dmap + 0x7f_f000), Ok((0x7f_f000, 0x7000)));
        let va = dmap + 0x88_8000;
        assert_eq!(
            memory.place(va),
            Err(page_absent(va, 0x88_8000, not_dumped))
        );
        for va in [0xffff_ff80_0000_0000, 0x1000] {
            assert_eq!(
                memory.place(va),
                Err(TranslationError::NoWindow { va: VirtAddr(va) })
            );
        }
        let write = Prot {
            write: true,
            execute: false,
        };
        assert_eq!(prot(&memory, kernbase + 0x3000), write);
    });
}

/// The pages and tables of the tests of versions 2 and 3.
fn with_table(version: u32) -> Minidump {
    let mut built = dump(Arch::Amd64, version, &[0x10_0000, 0x23_4000, 0x7f_f000]);
    let table = entries(512, &[(5, 0x8000_0000_0023_4003), (6, 0x7f_f001)]);
    built.pages.insert(0x30_0000, table);
    built.page_tables = entries(
        1024,
        &[
            (0, 0x30_0003),
            (1, 0x8000_0000_0000_0083),
            (2, 0x55_5003),
            (3, 0x4000_0083),
        ],
    );
    built
}

/// What these tests expect of the kernel map; `beyond` says why memory at 1 GiB is absent.
fn check_kernel_map(memory: &Virtual<'_>, beyond: fn(PhysAddr) -> PageReadError) {
    assert_eq!(memory.pa(KERNBASE + 0x5000), Ok(0x23_4000));
    assert_eq!(
        memory.text(KERNBASE + 0x5000, 16),
        Ok(page_text(0x23_4000)[..16].to_vec())
    );
    assert_eq!(
        prot(memory, KERNBASE + 0x5000),
        Prot {
            write: true,
            execute: false
        }
    );
    assert_eq!(
        memory.text(KERNBASE + 0x6ff0, 16),
        Ok(page_text(0x7f_f000)[0xff0..].to_vec())
    );
    assert_eq!(
        prot(memory, KERNBASE + 0x6000),
        Prot {
            write: false,
            execute: true
        }
    );
    assert_eq!(
        memory.text(KERNBASE + 0x30_0000, 16),
        Ok(page_text(0x10_0000)[..16].to_vec())
    );
    let va = VirtAddr(KERNBASE + 0x40_0000);
    let (table, reason) = (PhysAddr(0x55_5000), not_dumped(PhysAddr(0x55_5000)));
    let error = TranslationError::TableAbsent {
        va,
        entry: "PTE",
        table: TableRef::At(table),
        reason,
    };
    assert_eq!(memory.place(va.0), Err(error));
    let va = KERNBASE + 0x60_0000;
    assert_eq!(memory.place(va), Err(page_absent(va, 0x4000_0000, beyond)));
    let va = KERNBASE + 0x80_0000;
    assert_eq!(
        memory.place(va),
        Err(not_mapped(va, "PDE", 1, TableRef::Section, 4))
    );
    let va = VirtAddr(KERNBASE + 0x1_0000_0000);
    assert_eq!(memory.place(va.0), Err(TranslationError::Outside { va }));
}

#[test]
fn version_2_has_an_entry_for_each_2_mib() {
    let mut built = with_table(2);
    built.dump_avail = vec![(0, 32768 * 4096)];
    each_access(&built.build(), |dump| {
        check_kernel_map(&Virtual::of(dump), not_ram)
    });
}

#[test]
fn version_3_numbers_its_pages_by_ranges() {
    let mut built = with_table(3);
    built.dump_avail = vec![(0x1000, 0x9_f800), (0x10_0800, 0x80_0000)];
    let bits = [0x10_0000, 0x23_4000, 0x30_0000, 0x7f_f000].map(|pa| built.bit_of(pa).unwrap());
    assert_eq!(bits, [159, 467, 671, 1950]);
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        check_kernel_map(&memory, not_ram);
        assert_eq!(
            memory.text(DMAP + 0x23_4000, 16),
            Ok(page_text(0x23_4000)[..16].to_vec())
        );
        for (pa, reason) in [
            (0x9_f000, not_dumped as fn(PhysAddr) -> PageReadError),
            (0xa_0000, not_ram),
            (0x90_0000, not_ram),
        ] {
            assert_eq!(
                memory.place(DMAP + pa),
                Err(page_absent(DMAP + pa, pa, reason))
            );
        }
    });
}

#[test]
fn the_pat_bit_of_a_large_page_is_not_an_address_bit() {
    let mut built = dump(Arch::Amd64, 3, &[0x40_0000, 0x40_1000]);
    built.dump_avail = vec![(0x40_0000, 0x60_0000)];
    built.page_tables = entries(512, &[(0, 0x40_1083)]);
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        for inside in [0, 0x1000, 0x1fff] {
            assert_eq!(memory.pa(KERNBASE + inside), Ok(0x40_0000 + inside));
        }
        assert_eq!(
            memory.text(KERNBASE, 16),
            Ok(page_text(0x40_0000)[..16].to_vec())
        );
    });
}

#[test]
fn the_small_pages_of_a_large_one_are_there_or_not_each_by_itself() {
    let mut built = dump(Arch::Amd64, 3, &[0x40_0000, 0x40_2000, 0x5f_f000]);
    built.dump_avail = vec![(0x40_0000, 0x60_0000)];
    built.page_tables = entries(512, &[(0, 0x40_0083)]);
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        for inside in [0, 0x2000, 0x1f_f000] {
            let page = page_text(0x40_0000 + inside);
            assert_eq!(memory.text(KERNBASE + inside, 4096), Ok(page));
        }
        let va = KERNBASE + 0x1000;
        assert_eq!(
            memory.text(va, 1),
            Err(page_absent(va, 0x40_1000, not_dumped))
        );
        let mut buf = vec![0; 0x3000];
        let part = memory.space().read(VirtAddr(KERNBASE), &mut buf);
        assert_eq!(part.len, 4096);
        let mut holes = Vec::new();
        memory
            .space()
            .read_with_holes(VirtAddr(KERNBASE), &mut buf, |hole| holes.push(hole.va.0));
        assert_eq!(holes, [va]);
        assert_eq!(buf[0x2000..], page_text(0x40_2000));
    });
}

#[test]
fn a_page_of_1_gib_is_512_fabricated_entries() {
    let mut built = dump(Arch::Amd64, 3, &[0x8000_0000, 0x8060_3000, 0xbfff_f000]);
    built.dump_avail = vec![(0x8000_0000, 0xc000_0000)];
    let fabricated: Vec<(usize, u64)> = (0..512)
        .map(|k| (512 + k, 0x8000_1183 + ((k as u64) << 21)))
        .collect();
    built.page_tables = entries(1024, &fabricated);
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        for inside in [0, 0x60_3000, 0x3fff_f000] {
            let va = KERNBASE + (1 << 30) + inside;
            assert_eq!(memory.text(va, 4096), Ok(page_text(0x8000_0000 + inside)));
            let size_shift = memory
                .space()
                .locate(VirtAddr(va))
                .unwrap()
                .0
                .leaf
                .size_shift;
            assert_eq!(size_shift, 21);
        }
        let va = KERNBASE + (1 << 30) + 0x60_4000;
        assert_eq!(
            memory.place(va),
            Err(page_absent(va, 0x8060_4000, not_dumped))
        );
        assert!(matches!(
            memory.pa(KERNBASE),
            Err(TranslationError::NotMapped { .. })
        ));
    });
}

#[test]
fn bit_7_of_a_small_pages_entry_is_pat() {
    let mut built = dump(Arch::Amd64, 3, &[0x23_4000]);
    built
        .pages
        .insert(0x30_0000, entries(512, &[(1, 0x23_4083)]));
    built.dump_avail = vec![(0x20_0000, 0x40_0000)];
    built.page_tables = entries(512, &[(0, 0x30_0003)]);
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        assert_eq!(
            memory.text(KERNBASE + 0x1000, 4096),
            Ok(page_text(0x23_4000))
        );
        let found = memory
            .space()
            .locate(VirtAddr(KERNBASE + 0x1000))
            .unwrap()
            .0;
        assert_eq!((found.leaf.size_shift, found.via), (12, Via::PageTables));
    });
}

#[test]
fn a_direct_map_in_57_bit_space_is_taken_from_the_header() {
    for (base, end) in [
        (0xff10 << 48, 0xff20 << 48),
        (0xff01_0000_0000_0000, 0xff21_0000_0000_0000),
    ] {
        let mut built = with_table(3);
        built.dump_avail = vec![(0x1000, 0x9_f800), (0x10_0800, 0x80_0000)];
        (built.dmapbase, built.dmapend) = (base, end);
        each_access(&built.build(), |dump| {
            let memory = Virtual::of(dump);
            check_kernel_map(&memory, not_ram);
            assert_eq!(
                memory.text(base + 0x7f_f000, 4096),
                Ok(page_text(0x7f_f000))
            );
            let found = memory.space().locate(VirtAddr(base + 0x7f_f000)).unwrap().0;
            assert_eq!(found.via, Via::DirectMap);
            for va in [base - 1, end, DMAP] {
                assert_eq!(
                    memory.place(va),
                    Err(TranslationError::NoWindow { va: VirtAddr(va) })
                );
            }
        });
    }
}
