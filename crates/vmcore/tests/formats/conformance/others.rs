//! Minidumps of i386, arm64 and riscv64.

use super::{dump, entries, page_text};
use crate::common::{Virtual, each_access, not_dumped, page_absent, try_open};
use vmcore::OpenOptions;
use vmcore::dump::OpenError;
use vmcore::format::addr::VirtAddr;
use vmcore::format::header::HeaderError;
use vmcore::format::paging::{Prot, TableRef};
use vmcore::translation::{TranslationError, Via};
use vmcore_synth::Arch;

/// 32-bit entries.
fn narrow(len: usize, given: &[(usize, u32)]) -> Vec<u8> {
    let mut table = vec![0; 4 * len];
    for (index, raw) in given {
        table[4 * index..4 * index + 4].copy_from_slice(&raw.to_le_bytes());
    }
    table
}

#[test]
fn i386_has_narrow_or_wide_entries() {
    for (version, kernbase) in [
        (1, 0xc000_0000),
        (2, 0xc000_0000),
        (1, 0x80_0000),
        (2, 0x80_0000),
    ] {
        for paemode in [0, 1, 2] {
            let mut built = dump(Arch::I386, version, &[0x10_0000, 0x23_4000, 0x1d4_0000]);
            built.dump_avail = vec![(0, 0x200_0000)];
            (built.kernbase, built.paemode) = (kernbase, paemode);
            built.page_tables = match paemode {
                0 => narrow(
                    1024,
                    &[
                        (3, 0x23_4063),
                        (512, 0x10_0061),
                        (513, 0x99_9003),
                        (5, 0x1d4_0063),
                    ],
                ),
                _ => entries(
                    1024,
                    &[
                        (3, 0x8000_0000_0023_4063),
                        (512, 0x10_0061),
                        (513, 0x99_9003),
                        (5, 0x1d4_0063),
                    ],
                ),
            };
            each_access(&built.build(), |dump| {
                assert_eq!(dump.minidump().unwrap().is_pae(), paemode != 0);
                let memory = Virtual::of(dump);
                assert_eq!(
                    memory.text(kernbase + 0x3000, 4096),
                    Ok(page_text(0x23_4000))
                );
                assert_eq!(
                    memory.text(kernbase + 0x20_0ff0, 16),
                    Ok(page_text(0x10_0000)[0xff0..].to_vec())
                );
                assert_eq!(memory.pa(kernbase + 0x553c), Ok(0x1d4_053c));
                let prot = |va| {
                    memory
                        .space()
                        .locate(VirtAddr(kernbase + va))
                        .unwrap()
                        .0
                        .leaf
                        .prot
                };
                assert_eq!(
                    prot(0x3000),
                    Prot {
                        write: true,
                        execute: paemode == 0
                    }
                );
                assert_eq!(
                    prot(0x20_0000),
                    Prot {
                        write: false,
                        execute: true
                    }
                );
                let va = kernbase + 0x20_1000;
                assert_eq!(
                    memory.place(va),
                    Err(page_absent(va, 0x99_9000, not_dumped))
                );
                let va = VirtAddr(kernbase + 0x1000);
                let error = TranslationError::NotMapped {
                    va,
                    entry: "PTE",
                    level: 0,
                    table: TableRef::Section,
                    index: 1,
                    raw: 0,
                };
                assert_eq!(memory.place(va.0), Err(error));
                // 1024 entries, of either width.
                let va = VirtAddr(kernbase + 0x40_0000);
                assert_eq!(memory.place(va.0), Err(TranslationError::Outside { va }));
                // There is no direct map, and nothing above 4 GiB.
                for va in [kernbase - 1, 0x1_0000_0000 + kernbase, u64::MAX] {
                    assert_eq!(
                        memory.place(va),
                        Err(TranslationError::NoWindow { va: VirtAddr(va) })
                    );
                }
            });
        }
    }
}

const ARM64_KERNBASE: u64 = 0xffff_0000_0000_0000;
const ARM64_DMAP: u64 = 0xffff_a000_0000_0000;

#[test]
fn arm64_with_4_kib_pages_tries_the_direct_map_first() {
    for version in 1..=3 {
        let mut built = dump(Arch::Arm64, version, &[0x4010_0000, 0x4023_4000]);
        built.dump_avail = vec![(0x4000_0000, 0x4100_0000)];
        built.page_tables = entries(
            512,
            &[
                (1, 0x4023_4703),
                (2, 0x0060_0000_4010_0783),
                (3, 0x4010_0701),
                (4, 0x4020_0703),
            ],
        );
        // The direct map lies inside what the page tables claim to map.
        let file = built.build();
        each_access(&file, |dump| {
            let memory = Virtual::of(dump);
            assert_eq!(
                memory.text(ARM64_KERNBASE + 0x1000, 4096),
                Ok(page_text(0x4023_4000))
            );
            let leaf = memory
                .space()
                .locate(VirtAddr(ARM64_KERNBASE + 0x2000))
                .unwrap()
                .0
                .leaf;
            assert_eq!(
                leaf.prot,
                Prot {
                    write: false,
                    execute: false
                }
            );
            let va = VirtAddr(ARM64_KERNBASE + 0x3000);
            assert!(matches!(
                memory.place(va.0),
                Err(TranslationError::NotMapped {
                    entry: "L3 entry",
                    raw: 0x4010_0701,
                    ..
                })
            ));
            let va = ARM64_KERNBASE + 0x4000;
            assert_eq!(
                memory.place(va),
                Err(page_absent(va, 0x4020_0000, not_dumped))
            );
            // The direct map starts at the first byte of RAM, not at physical 0.
            assert_eq!(
                memory.text(ARM64_DMAP + 0x10_0000, 4096),
                Ok(page_text(0x4010_0000))
            );
            let found = memory
                .space()
                .locate(VirtAddr(ARM64_DMAP + 0x23_4000))
                .unwrap()
                .0;
            assert_eq!(found.via, Via::DirectMap);
            let va = VirtAddr(ARM64_KERNBASE + 0x20_0000);
            assert_eq!(memory.place(va.0), Err(TranslationError::Outside { va }));
            let va = VirtAddr(ARM64_KERNBASE - 1);
            assert_eq!(memory.place(va.0), Err(TranslationError::NoWindow { va }));
        });
    }
}

#[test]
fn the_direct_map_of_arm64_wins_over_the_page_tables() {
    let mut built = dump(Arch::Arm64, 3, &[0x4010_0000, 0x4023_4000]);
    built.dump_avail = vec![(0x4000_0000, 0x4100_0000)];
    // Page 1 of the kernel map, which the tables map too, is in the direct map.
    (built.dmapbase, built.dmapend) = (ARM64_KERNBASE + 0x1000, ARM64_KERNBASE + 0x3000);
    built.dmapphys = 0x4010_0000;
    built.page_tables = entries(512, &[(1, 0x4023_4703), (3, 0x4023_4703)]);
    each_access(&built.build(), |dump| {
        let memory = Virtual::of(dump);
        assert_eq!(memory.pa(ARM64_KERNBASE + 0x1000), Ok(0x4010_0000));
        assert_eq!(memory.pa(ARM64_KERNBASE + 0x3000), Ok(0x4023_4000));
    });
}

#[test]
fn arm64_with_16_kib_pages_has_them_in_every_section() {
    let big_page = |pa: u64| page_text(pa).repeat(4);
    let mut built = dump(Arch::Arm64, 3, &[]);
    (built.page_size, built.flags) = (16384, 1);
    built.dump_avail = vec![(0x4000_0000, 0x4400_0000)];
    for pa in [0x4010_0000, 0x4023_4000] {
        built.pages.insert(pa, big_page(pa));
    }
    // 2048 entries for 32 MiB; bits 12 and 13 of an address are none.
    built.page_tables = entries(4096, &[(3, 0x4023_7703), (2048, 0x4010_0703)]);
    let sections = built.sections();
    assert_eq!(
        (
            sections.dump_avail,
            sections.bitmap,
            sections.page_tables,
            sections.pages
        ),
        (0x8000, 0xc000, 0x1_0000, 0x1_8000)
    );
    each_access(&built.build(), |dump| {
        assert_eq!(dump.memory().page_size().bytes(), 16384);
        let memory = Virtual::of(dump);
        assert_eq!(
            memory.place(ARM64_KERNBASE + 0xc000),
            Ok((0x4023_4000, 0x1_c000))
        );
        assert_eq!(
            memory.text(ARM64_KERNBASE + 0xc000, 16384),
            Ok(big_page(0x4023_4000))
        );
        assert_eq!(
            memory.place(ARM64_KERNBASE + 0x200_3fff),
            Ok((0x4010_3fff, 0x1_bfff))
        );
        assert_eq!(
            memory.text(ARM64_DMAP + 0x10_0000, 16384),
            Ok(big_page(0x4010_0000))
        );
        let va = VirtAddr(ARM64_KERNBASE + 0x400_0000);
        assert_eq!(memory.place(va.0), Err(TranslationError::Outside { va }));
    });
}

#[test]
fn other_page_sizes_of_arm64_are_refused() {
    for flags in [2, 3] {
        let mut built = dump(Arch::Arm64, 3, &[]);
        built.flags = flags;
        let error = try_open(&built.build(), &OpenOptions::default()).unwrap_err();
        assert!(
            error.to_string().contains("unsupported page size"),
            "{error}"
        );
        let OpenError::Header { source, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(source, HeaderError::PageSize(flags));
    }
    // Earlier versions have no flags.
    for version in [1, 2] {
        let mut built = dump(Arch::Arm64, version, &[0x4000_0000]);
        built.dump_avail = vec![(0x4000_0000, 0x4001_0000)];
        built.patches.push((76, vec![2, 0, 0, 0]));
        each_access(&built.build(), |dump| {
            assert_eq!(dump.memory().page_size().bytes(), 4096)
        });
    }
}

#[test]
fn riscv64_wants_a_right_in_every_last_entry() {
    let (kernbase, dmap) = (0xffff_ffc0_0000_0000, 0xffff_ffd0_0000_0000);
    let pte = |pa: u64, bits: u64| pa >> 12 << 10 | bits;
    for version in 1..=2 {
        let mut built = dump(Arch::Riscv64, version, &[0x8020_0000, 0x8023_4000]);
        built.dump_avail = vec![(0x8020_0000, 0x8100_0000)];
        built.page_tables = entries(
            512,
            &[
                (1, pte(0x8023_4000, 0xc7)),
                (2, pte(0x8020_0000, 0x0b)),
                (3, pte(0x8020_0000, 0x01)),
                (4, pte(0x8020_0000, 0xce)),
                (5, pte(0x8020_0000, 0x03) | 0xe << 60),
                (6, pte(0x8030_0000, 0xcf)),
            ],
        );
        each_access(&built.build(), |dump| {
            let memory = Virtual::of(dump);
            assert_eq!(
                memory.text(kernbase + 0x1000, 4096),
                Ok(page_text(0x8023_4000))
            );
            let prot = |va| {
                memory
                    .space()
                    .locate(VirtAddr(kernbase + va))
                    .unwrap()
                    .0
                    .leaf
                    .prot
            };
            assert_eq!(
                prot(0x1000),
                Prot {
                    write: true,
                    execute: false
                }
            );
            assert_eq!(
                prot(0x2000),
                Prot {
                    write: false,
                    execute: true
                }
            );
            for page in [3, 4] {
                let place = memory.place(kernbase + page * 0x1000);
                assert!(
                    matches!(place, Err(TranslationError::NotMapped { level: 0, .. })),
                    "{place:?}"
                );
            }
            // Memory attributes above the page number are no address bits.
            assert_eq!(memory.pa(kernbase + 0x5123), Ok(0x8020_0123));
            let va = kernbase + 0x6000;
            assert_eq!(
                memory.place(va),
                Err(page_absent(va, 0x8030_0000, not_dumped))
            );
            assert_eq!(
                memory.text(dmap + 0x20_0000, 4096),
                Ok(page_text(0x8020_0000))
            );
            let va = VirtAddr(kernbase + 0x20_0000);
            assert_eq!(memory.place(va.0), Err(TranslationError::Outside { va }));
        });
    }
}
