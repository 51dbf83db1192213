//! Malformed tables of powerpc64, in both byte orders: radix tables in pages of the
//! dump, and the hashed table, which is the section.

use super::error_of;
use crate::common::{Virtual, each_access, not_dumped, not_ram, page_absent};
use vmcore::dump::OpenError;
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::format::header::HeaderError;
use vmcore::format::paging::TableRef;
use vmcore::translation::TranslationError;
use vmcore_synth::Arch;
use vmcore_synth::hashed;
use vmcore_synth::minidump::Minidump;
use vmcore_synth::tables::Mapping;

const BOTH: [Arch; 2] = [Arch::Powerpc64le, Arch::Powerpc64];
const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;

fn sound(arch: Arch) -> Minidump {
    let mut dump = Minidump::new(arch, 2);
    dump.dump_avail = vec![(0x1000, 0x10_0000)];
    dump.pages.insert(0x5000, b"page 0x5000".to_vec());
    dump
}

/// A sound dump whose root and tables lead down to these entries of the last level.
fn radix(arch: Arch, levels: [u64; 3], entries: &[(usize, u64)]) -> Minidump {
    let mut dump = sound(arch);
    let table = |entries: &[(usize, u64)], len: usize| {
        let mut table = vec![0; len];
        for (number, entry) in entries {
            table[8 * number..8 * number + 8].copy_from_slice(&entry.to_be_bytes());
        }
        table
    };
    // 0xc008000000000000 has number 4096 in the root.
    dump.page_tables = table(&[(4096, VALID | levels[0] | 9)], 65536);
    dump.pages
        .insert(0x2000, table(&[(0, VALID | levels[1] | 9)], 4096));
    dump.pages
        .insert(0x3000, table(&[(0, VALID | levels[2] | 9)], 4096));
    dump.pages.insert(0x4000, table(entries, 4096));
    dump
}

#[test]
fn radix_and_hashed_entries_that_name_no_page_of_the_dump_say_so() {
    for arch in BOTH {
        let leaf = |pa: u64| VALID | LEAF | pa | 6;
        let entries = [(1, leaf(0x5000)), (2, leaf(0x6000)), (3, leaf(0x99_9000))];
        let by_radix = radix(arch, [0x2000, 0x3000, 0x4000], &entries);
        let base = by_radix.kernbase;
        let mut by_hash = sound(arch);
        (by_hash.mmu_name, by_hash.hw_direct_map) = ("mmu_phyp".to_owned(), false);
        let mapped = [(1, 0x5000), (2, 0x6000), (3, 0x99_9000)]
            .map(|(number, pa)| Mapping::page(base + 0x1000 * number, pa, 4096));
        by_hash.page_tables = hashed::section(arch, hashed::FEWEST_GROUPS, &mapped);
        for dump in [by_radix, by_hash] {
            each_access(&dump.build(), |opened| {
                let memory = Virtual::of(opened);
                assert_eq!(memory.text(base + 0x1000, 11).unwrap(), b"page 0x5000");
                let clear = page_absent(base + 0x2000, 0x6000, not_dumped);
                assert_eq!(memory.place(base + 0x2000), Err(clear));
                let hole = page_absent(base + 0x3000, 0x99_9000, not_ram);
                assert_eq!(memory.place(base + 0x3000), Err(hole));
            });
        }
    }
}

#[test]
fn a_radix_table_of_each_level_that_is_not_in_the_dump_says_so() {
    for arch in BOTH {
        for level in 0..3 {
            let mut levels = [0x2000, 0x3000, 0x4000];
            levels[level] = 0x8000;
            let dump = radix(arch, levels, &[(1, VALID | LEAF | 0x5000 | 6)]);
            each_access(&dump.build(), |opened| {
                let error = Virtual::of(opened)
                    .place(dump.kernbase + 0x1000)
                    .unwrap_err();
                let TranslationError::TableAbsent {
                    va, table, reason, ..
                } = error
                else {
                    panic!("{error}")
                };
                assert_eq!(va, VirtAddr(dump.kernbase + 0x1000));
                assert_eq!(table, TableRef::At(PhysAddr(0x8000)));
                assert_eq!(reason, not_dumped(PhysAddr(0x8000)));
            });
        }
    }
}

#[test]
fn a_radix_table_may_be_its_own_next_one() {
    for arch in BOTH {
        let dump = radix(arch, [0x2000, 0x2000, 0x2000], &[]);
        each_access(&dump.build(), |opened| {
            // The depth is fixed: what leads to a table is no page.
            let error = Virtual::of(opened).place(dump.kernbase).unwrap_err();
            assert!(
                matches!(error, TranslationError::NotMapped { .. }),
                "{error}"
            );
        });
    }
}

#[test]
fn a_hashed_table_of_no_power_of_two_is_refused() {
    for arch in BOTH {
        for name in ["mmu_g5", "mmu_phyp"] {
            for size in [0, 7, 64, 128 * 3, 4096 + 128, u32::MAX] {
                let mut dump = sound(arch);
                dump.mmu_name = name.to_owned();
                dump.page_tables = vec![0; 4096];
                dump.pmapsize = Some(size);
                let error = error_of(&dump.build());
                let OpenError::Header { source, .. } = &error else {
                    panic!("{size}: {error}")
                };
                assert_eq!(*source, HeaderError::HashedTable(size));
            }
        }
    }
}
