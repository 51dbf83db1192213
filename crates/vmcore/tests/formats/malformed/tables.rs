//! Page tables that point nowhere, into a hole, past the end of the file, or in cycles.

use super::{DMAP, KERNBASE, sound};
use crate::common::{Virtual, each_access, not_dumped, not_ram, open, page_absent, session};
use crate::kinds::{KINDS, PAGES, Tables, direct_va, kernel_va, page, reason, text};
use std::ops::ControlFlow;
use vmcore::dump::Warning;
use vmcore::format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore::format::paging::TableRef;
use vmcore::memory::PageReadError;
use vmcore::pages::{self, Mapping, PageMap, VisitSummary};
use vmcore::translation::TranslationError;
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

/// A table of 512 entries, of which these are not zero.
fn table(given: &[(usize, u64)]) -> Vec<u8> {
    let mut table = vec![0; 4096];
    for (index, raw) in given {
        table[8 * index..8 * index + 8].copy_from_slice(&raw.to_le_bytes());
    }
    table
}

/// A sound dump with directory entries.
fn with_directory(given: &[(usize, u64)]) -> Minidump {
    let mut dump = sound();
    dump.page_tables = table(given);
    dump
}

/// Everything that the page tables map, and what the visit met.
fn mapped(dump: &Minidump) -> (Vec<(u64, u64)>, VisitSummary) {
    let session = session(&dump.build(), None);
    let mut found = Vec::new();
    let summary = pages::visit_mappings(session.space().unwrap(), &mut |mapping: Mapping| {
        found.push((mapping.va.0, mapping.pa.0));
        ControlFlow::Continue(())
    });
    (found, summary.unwrap())
}

/// What a sound dump says, so that the rows below ask of entries that are wrong, not of a dump that is.
#[test]
fn sound_dumps_of_every_kind_are_read_through_their_tables() {
    for kind in KINDS {
        let dump = kind.sound();
        each_access(&dump.build(), |opened| {
            assert_eq!(opened.warnings(), [], "{}", kind.name);
            let memory = Virtual::of(opened);
            for number in PAGES {
                let pa = page(&dump, number);
                let (expected, offset) = (text(pa), dump.offset_of(pa).unwrap());
                let va = kernel_va(&dump, number);
                assert_eq!(memory.place(va), Ok((pa, offset)), "{}", kind.name);
                for va in [Some(va), direct_va(&dump, number)].into_iter().flatten() {
                    let found = memory.text(va, expected.len());
                    assert_eq!(found, Ok(expected.clone()), "{}, {va:#x}", kind.name);
                }
            }
        });
    }
}

#[test]
fn entries_of_every_kind_that_name_no_page_of_the_dump_say_so() {
    for kind in KINDS {
        let mut dump = kind.sound();
        // A page that is not dumped, one behind the ranges, and one behind all bitmaps.
        let far = 0x7fff_f000 / dump.page_size * dump.page_size;
        let named = [(20, page(&dump, 6)), (21, page(&dump, 256)), (22, far)];
        for (number, pa) in named {
            kind.map(&mut dump, number, pa);
        }
        each_access(&dump.build(), |opened| {
            let memory = Virtual::of(opened);
            for (number, pa) in named {
                let va = VirtAddr(kernel_va(&dump, number));
                let reason = reason(&dump, pa);
                let pa = PhysAddr(pa);
                let error = TranslationError::PageAbsent { va, pa, reason };
                assert_eq!(memory.place(va.0), Err(error), "{}", kind.name);
            }
        });
        // The last page's bit is there, and the page is not.
        dump.truncate_to = Some(dump.build().len() as u64 - dump.page_size);
        each_access(&dump.build(), |opened| {
            let memory = Virtual::of(opened);
            let found = memory.place(kernel_va(&dump, 255));
            let is_truncated = matches!(
                found,
                Err(TranslationError::PageAbsent {
                    reason: PageReadError::Truncated { .. },
                    ..
                })
            );
            assert!(is_truncated, "{}: {found:?}", kind.name);
        });
    }
}

#[test]
fn entries_that_name_no_page_of_the_dump_say_so() {
    let mut dump = with_directory(&[(0, 0x5003)]);
    let entries = [
        (0, 0x6003),
        (1, 0x10_0003),
        (2, 0x000f_ffff_ffff_f003),
        (3, 0x9003),
    ];
    dump.pages.insert(0x5000, table(&entries));
    each_access(&dump.build(), |opened| {
        let memory = Virtual::of(opened);
        for (page, pa, reason) in [
            (0, 0x6000, not_dumped as fn(PhysAddr) -> PageReadError),
            (1, 0x10_0000, not_ram),
            (2, 0x000f_ffff_ffff_f000, not_ram),
        ] {
            let va = KERNBASE + page * 4096;
            assert_eq!(memory.place(va), Err(page_absent(va, pa, reason)));
        }
        assert_eq!(
            memory.text(KERNBASE + 0x3000, 11),
            Ok(b"page 0x9000".to_vec())
        );
    });
    // A bit of the page, but not one of the file.
    dump.pages.clear();
    dump.pages.insert(0x5000, table(&entries));
    dump.extra_bits.insert(5);
    dump.truncate_to = Some(dump.build().len() as u64 - 4096);
    each_access(&dump.build(), |opened| {
        let error = Virtual::of(opened).place(KERNBASE).unwrap_err();
        assert!(matches!(
            error,
            TranslationError::PageAbsent {
                reason: PageReadError::Truncated { .. },
                ..
            }
        ));
    });
}

#[test]
fn a_page_table_that_is_not_in_the_dump_says_so() {
    let dump = with_directory(&[(0, 0x6003), (1, 0x10_0003), (2, 0x9003)]);
    each_access(&dump.build(), |opened| {
        let memory = Virtual::of(opened);
        for (number, pa, reason) in [
            (0, 0x6000, not_dumped as fn(PhysAddr) -> PageReadError),
            (1, 0x10_0000, not_ram),
        ] {
            let va = VirtAddr(KERNBASE + (number << 21));
            let (pa, table) = (PhysAddr(pa), TableRef::At(PhysAddr(pa)));
            let error = TranslationError::TableAbsent {
                va,
                entry: "PTE",
                table,
                reason: reason(pa),
            };
            assert_eq!(memory.place(va.0), Err(error));
            assert!(!error.is_loss());
        }
    });
    let (found, summary) = mapped(&dump);
    assert_eq!((summary.table_pages, summary.unreadable_tables), (3, 2));
    // The third one is a page of text; a visit takes what it finds.
    assert!(
        found
            .iter()
            .all(|(va, _)| (KERNBASE + (2 << 21)..KERNBASE + (3 << 21)).contains(va))
    );
}

#[test]
fn a_page_table_behind_the_end_of_the_file_is_truncated() {
    let mut dump = with_directory(&[(0, 0xf_f003)]);
    dump.pages
        .insert(0xf_f000, table(&[(0, 0x5003), (1, 0x9003), (511, 0x5003)]));
    let (_, offset) = dump.offsets().pop().unwrap();
    dump.truncate_to = Some(offset);
    each_access(&dump.build(), |opened| {
        let va = VirtAddr(KERNBASE);
        let pa = PhysAddr(0xf_f000);
        let (offset, file_len) = (FileOffset(offset), FileOffset(offset));
        let reason = PageReadError::Truncated {
            pa,
            offset,
            file_len,
        };
        let error = TranslationError::TableAbsent {
            va,
            entry: "PTE",
            table: TableRef::At(pa),
            reason,
        };
        assert_eq!(Virtual::of(opened).place(KERNBASE), Err(error));
        assert!(error.is_loss());
    });
    assert_eq!(mapped(&dump).1.unreadable_tables, 1);

    // Cut inside the table: its first entries hold.
    dump.truncate_to = Some(offset + 12);
    each_access(&dump.build(), |opened| {
        let memory = Virtual::of(opened);
        assert_eq!(memory.pa(KERNBASE), Ok(0x5000));
        for page in [1, 511] {
            let error = memory.pa(KERNBASE + page * 4096).unwrap_err();
            assert!(
                matches!(error, TranslationError::TableAbsent { .. }) && error.is_loss(),
                "{error}"
            );
        }
    });
    let (found, summary) = mapped(&dump);
    assert_eq!(found, [(KERNBASE, 0x5000)]);
    assert_eq!(summary.unreadable_tables, 1);
}

#[test]
fn a_page_table_may_be_any_page_even_its_own() {
    // Table 0x5000 maps itself, the message of a page, and is named by two directory entries.
    let mut dump = with_directory(&[(0, 0x5003), (7, 0x5003)]);
    dump.pages
        .insert(0x5000, table(&[(3, 0x5003), (4, 0x9003)]));
    each_access(&dump.build(), |opened| {
        let memory = Virtual::of(opened);
        for base in [KERNBASE, KERNBASE + (7 << 21)] {
            assert_eq!(memory.pa(base + 0x3018), Ok(0x5018));
            assert_eq!(memory.space().read_u64(VirtAddr(base + 0x3018)), Ok(0x5003));
            assert_eq!(memory.text(base + 0x4000, 11), Ok(b"page 0x9000".to_vec()));
        }
    });
    let (found, summary) = mapped(&dump);
    assert_eq!(
        (found.len(), summary.table_pages, summary.budget_exhausted),
        (4, 2, false)
    );
    let session = session(&dump.build(), None);
    let map = PageMap::build(session.space().unwrap()).unwrap();
    let page = map
        .pages()
        .find(|page| page.pa() == Some(PhysAddr(0x5000)))
        .unwrap();
    assert!(page.is_table);
    let addresses: Vec<u64> = page.mappings().map(|(va, _)| va.0).collect();
    assert_eq!(
        addresses,
        [KERNBASE + 0x3000, KERNBASE + (7 << 21) + 0x3000]
    );
}

#[test]
fn a_kernel_map_at_the_end_of_the_address_space_does_not_wrap() {
    let mut dump = with_directory(&[(0, 0x83), (1, 0x20_0083), (2, 0x40_0083)]);
    dump.kernbase = u64::MAX - (2 << 21) + 1;
    let memory_end = dump.kernbase;
    each_access(&dump.build(), |opened| {
        let memory = Virtual::of(opened);
        assert_eq!(memory.pa(memory_end + 0x5000), Ok(0x5000));
        assert_eq!(memory.pa(u64::MAX), Ok(0x3f_ffff));
        assert_eq!(
            memory.pa(0),
            Err(TranslationError::NoWindow { va: VirtAddr(0) })
        );
    });
    let (found, _) = mapped(&dump);
    assert_eq!(
        found,
        [(memory_end, 0), (memory_end + (1 << 21), 0x20_0000)]
    );
}

#[test]
fn a_kernel_map_of_every_kind_ends_with_the_address_space() {
    for kind in KINDS {
        let (Tables::Flat(bytes, entry), Some(last)) = (kind.tables, kind.last_va()) else {
            continue;
        };
        let mut dump = kind.sound();
        let size = dump.page_size;
        // A page of entries that all map page 5, of which two have an address.
        dump.kernbase = last - 2 * size + 1;
        let pa = page(&dump, 5);
        let count = usize::try_from(size / bytes).unwrap();
        dump.page_tables = dump.arch.number(bytes, entry(pa)).repeat(count);
        each_access(&dump.build(), |opened| {
            let memory = Virtual::of(opened);
            assert_eq!(memory.pa(dump.kernbase), Ok(pa), "{}", kind.name);
            assert_eq!(memory.pa(last), Ok(pa + size - 1), "{}", kind.name);
            let va = VirtAddr(last.wrapping_add(1));
            let outside = Err(TranslationError::NoWindow { va });
            assert_eq!(memory.pa(va.0), outside, "{}", kind.name);
        });
        let (found, _) = mapped(&dump);
        let expected = [(dump.kernbase, pa), (dump.kernbase + size, pa)];
        assert_eq!(found, expected, "{}", kind.name);
    }
}

#[test]
fn a_direct_map_of_every_kind_that_ends_before_it_starts_is_empty() {
    for kind in KINDS {
        let mut dump = kind.sound();
        let Some(va) = direct_va(&dump, 5) else {
            continue;
        };
        (dump.dmapbase, dump.dmapend) = (dump.dmapend, dump.dmapbase);
        let opened = open(&dump.build());
        let reversed = Warning::DirectMapReversed {
            base: VirtAddr(dump.dmapbase),
            end: VirtAddr(dump.dmapend + u64::from(kind.has_last_address())),
        };
        let warnings = opened.warnings();
        assert_eq!(warnings[0], reversed, "{}", kind.name);
        // powerpc64 reaches its image by the direct map.
        let no_image = matches!(warnings[1..], [Warning::NoKernelImage { .. }]);
        assert_eq!(no_image, kind.has_last_address(), "{}", kind.name);
        let memory = Virtual::of(&opened);
        // Where it was there is the kernel map, if anything.
        assert!(memory.place(va).is_err(), "{}", kind.name);
        let expected = text(page(&dump, 5));
        let found = memory.text(kernel_va(&dump, 5), expected.len());
        assert_eq!(found, Ok(expected), "{}", kind.name);
    }
}

#[test]
fn a_direct_map_that_ends_before_it_starts_is_empty() {
    for (base, end) in [(DMAP + 0x10_0000, DMAP), (u64::MAX, 0), (DMAP, DMAP)] {
        let mut dump = with_directory(&[(0, 0x83)]);
        (dump.dmapbase, dump.dmapend) = (base, end);
        let opened = open(&dump.build());
        let reversed = Warning::DirectMapReversed {
            base: VirtAddr(base),
            end: VirtAddr(end),
        };
        let expected = if base == end { vec![] } else { vec![reversed] };
        assert_eq!(opened.warnings(), expected);
        let memory = Virtual::of(&opened);
        for va in [base.min(KERNBASE - 1), end, DMAP + 0x5000] {
            assert_eq!(
                memory.place(va),
                Err(TranslationError::NoWindow { va: VirtAddr(va) })
            );
        }
        assert_eq!(
            memory.text(KERNBASE + 0x5000, 11),
            Ok(b"page 0x5000".to_vec())
        );
    }
}

/// Page tables that start inside a page: virtual pages lie over the ends of physical ones.
#[test]
fn reads_end_with_the_physical_page_where_the_tables_start_inside_one() {
    let mut dump = Minidump::new(Arch::Amd64, 1);
    let start = KERNBASE + 0xa00;
    dump.kernbase = start;
    dump.page_tables = table(&[(0, 0x5003)]);
    dump.pages.insert(0x5000, vec![0x11; 4096]);
    dump.pages.insert(0x9000, vec![0x22; 4096]);
    let session = session(&dump.build(), None);
    let space = session.space().unwrap();
    let mut read = [0; 4096];
    let part = space.read(VirtAddr(start + 0x600), &mut read);
    assert_eq!(part.len, 0xa00);
    assert!(read[..0xa00].iter().all(|byte| *byte == 0x11));
    let last = VirtAddr(start + 0xffc);
    for _ in 0..2 {
        assert_eq!(space.read_u32(last), Ok(0x1111_1111));
        assert!(space.read_u64(last).is_err());
    }
}
