//! arm, mips and powerpc64, in both byte orders: hand-made dumps with known answers.

use crate::common::{Virtual, each_access, not_dumped, not_ram, open, page_absent};
use vmcore::dump::Warning;
use vmcore::format::addr::VirtAddr;
use vmcore::format::paging::{PageKind, Probe, Prot};
use vmcore::pages::{Mapping, PageMap, visit_mappings};
use vmcore::session::KernelChoice;
use vmcore::translation::TranslationError;
use vmcore::{OpenOptions, Session};
use vmcore_synth::Arch;
use vmcore_synth::elf::Kernel;
use vmcore_synth::minidump::Minidump;

/// What stands in a page.
fn text(pa: u64) -> Vec<u8> {
    let mut page = format!("page at {pa:#x}").into_bytes();
    page.resize(4096, b'.');
    page
}

fn dump(arch: Arch, version: u32, pages: &[u64]) -> Minidump {
    let mut dump = Minidump::new(arch, version);
    dump.msgbuf = vec![b'm'; 120];
    dump.dump_avail = vec![(0x1000, 0x9_f800), (0x10_0800, 0x80_0000)];
    for pa in pages {
        dump.pages.insert(*pa, text(*pa));
    }
    dump
}

/// Entries of a page-table section, by their numbers.
fn table(dump: &mut Minidump, width: u64, len: u64, entries: &[(u64, u64)]) {
    dump.page_tables = vec![0; usize::try_from(len).unwrap()];
    for (number, entry) in entries {
        let at = usize::try_from(number * width).unwrap();
        let raw = dump.arch.number(width, *entry);
        dump.page_tables[at..at + raw.len()].copy_from_slice(&raw);
    }
}

/// Every access reads `pa` at each of the addresses, and the page's own text there.
fn leads_to(built: &Minidump, expected: &[(u64, u64)]) {
    each_access(&built.build(), |dump| {
        let space = Virtual::of(dump);
        for (va, pa) in expected {
            let offset = built.offset_of(*pa).unwrap();
            assert_eq!(space.place(*va), Ok((*pa, offset)), "{va:#x}");
            let (inside, page) = (usize::try_from(pa % 4096).unwrap(), text(pa / 4096 * 4096));
            let found = space.text(*va, 16).unwrap();
            assert_eq!(found, page[inside..inside + 16], "{va:#x}");
        }
    });
}

const ARM: [Arch; 2] = [Arch::Armv7, Arch::Armeb];

#[test]
fn arm_has_small_and_large_pages() {
    for (arch, version) in ARM.into_iter().flat_map(|arch| [(arch, 1), (arch, 2)]) {
        let mut built = dump(arch, version, &[0x10_1000, 0x23_4000, 0x34_1000, 0x34_2000]);
        built.flags = 2;
        let mut entries = vec![
            (3, 0x23_4012),
            (4, 0x10_1093),
            (5, 0x99_9012),
            (0x1ff, 0x5012),
        ];
        // A large page has the same descriptor sixteen times.
        entries.extend((0x20..0x30).map(|number| (number, 0x34_0011)));
        table(&mut built, 4, 0x800, &entries);
        let at = |offset: u64| 0xc000_0000 + offset;
        let known = [
            (at(0x3010), 0x23_4010),
            (at(0x4000), 0x10_1000),
            (at(0x2_1008), 0x34_1008),
            (at(0x2_2000), 0x34_2000),
        ];
        leads_to(&built, &known);
        let opened = open(&built.build());
        let space = Virtual::of(&opened);
        // Without ranges every page that the bitmap can have counts as RAM.
        let beyond = if version == 1 { not_dumped } else { not_ram };
        assert_eq!(
            space.place(at(0x5000)),
            Err(page_absent(at(0x5000), 0x99_9000, beyond))
        );
        let absent = page_absent(at(0x2_0000), 0x34_0000, not_dumped);
        assert_eq!(space.place(at(0x2_0000)), Err(absent));
        assert!(matches!(
            space.place(at(0x1000)),
            Err(TranslationError::NotMapped { .. })
        ));
        assert!(matches!(
            space.place(at(0x20_0000)),
            Err(TranslationError::Outside { .. })
        ));
        assert!(matches!(
            space.place(0x1000),
            Err(TranslationError::NoWindow { .. })
        ));
        let prot = |va| space.space().locate(VirtAddr(va)).unwrap().0.leaf.prot;
        assert_eq!(
            prot(at(0x3000)),
            Prot {
                write: true,
                execute: true
            }
        );
        assert_eq!(
            prot(at(0x4000)),
            Prot {
                write: false,
                execute: false
            }
        );
        // Sixteen descriptors are sixteen small pages, not sixteen large ones.
        let mut mappings = Vec::new();
        visit_mappings(space.space(), &mut |mapping: Mapping| {
            mappings.push(mapping);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        let second = mappings
            .iter()
            .find(|found| found.va.0 == at(0x2_1000))
            .unwrap();
        assert_eq!((second.pa.0, second.len_bytes), (0x34_1000, 0x1000));
        assert_eq!(mappings.len(), 20);
        // V4's type 3 is a page that kernels never used.
        built.flags = 1;
        let opened = open(&built.build());
        let space = Virtual::of(&opened);
        assert!(matches!(
            space.place(at(0x4000)),
            Err(TranslationError::NotMapped { .. })
        ));
        assert_eq!(space.pa(at(0x3010)), Ok(0x23_4010));
    }
}

#[test]
fn mips_reaches_the_lowest_memory_without_tables() {
    for (arch, wide) in [
        (Arch::Mipsel, false),
        (Arch::Mips, false),
        (Arch::Mips64el, true),
        (Arch::Mips64, true),
    ] {
        for version in [1, 2] {
            let mut built = dump(arch, version, &[0x10_1000, 0x23_4000, 0x7f_f000]);
            let width = if wide { 8 } else { 4 };
            let entry = |pa: u64, flags: u64| pa >> 12 << 6 | flags;
            let read_only = if wide { 1 << 55 } else { 1 << 29 };
            let entries = [
                (3, entry(0x23_4000, 0x1f)),
                (4, entry(0x7f_f000, 0x1b | read_only)),
                (5, entry(0x99_9000, 0x1b)),
                (6, entry(0x10_1000, 0x1d)),
            ];
            table(&mut built, width, 0x2000, &entries);
            let base = built.kernbase;
            let kseg0 = if wide {
                0xffff_ffff_8000_0000
            } else {
                0x8000_0000_u64
            };
            let mut known = vec![
                (kseg0 + 0x10_1010, 0x10_1010),
                (kseg0 + 0x2000_0000 + 0x23_4000, 0x23_4000),
                (base + 0x3010, 0x23_4010),
                (base + 0x4000, 0x7f_f000),
            ];
            if wide {
                known.push((0x8000_0000_0010_1000, 0x10_1000));
                known.push((0x9800_0000_007f_f008, 0x7f_f008));
                known.push((0xb800_0000_0023_4000, 0x23_4000));
            }
            leads_to(&built, &known);
            let opened = open(&built.build());
            let space = Virtual::of(&opened);
            let absent = page_absent(kseg0 + 0x5000, 0x5000, not_dumped);
            assert_eq!(space.place(kseg0 + 0x5000), Err(absent));
            assert!(matches!(
                space.place(base + 0x6000),
                Err(TranslationError::NotMapped { .. })
            ));
            assert!(matches!(
                space.place(0x1000),
                Err(TranslationError::NoWindow { .. })
            ));
            let leaf = space
                .space()
                .locate(VirtAddr(base + 0x4000))
                .unwrap()
                .0
                .leaf;
            assert_eq!(
                leaf.prot,
                Prot {
                    write: false,
                    execute: true
                }
            );
        }
    }
}

const POWERPC64: [Arch; 2] = [Arch::Powerpc64le, Arch::Powerpc64];

/// A dump with a hashed table of so many groups.
fn hashed(arch: Arch, version: u32, groups: u64, pages: &[u64]) -> Minidump {
    let mut built = dump(arch, version, pages);
    built.mmu_name = "mmu_phyp".to_owned();
    built.hw_direct_map = false;
    built.kernbase = 0xe000_0000_0000_0000;
    built.kernend = 0xe000_0007_ffff_ffff;
    built.page_tables = vec![0; usize::try_from(128 * groups).unwrap()];
    built
}

/// Puts an entry for `va` into a slot of its group; `swap` writes it in the other byte order.
fn put(built: &mut Minidump, va: u64, pa: u64, (secondary, slot): (bool, u64), swap: bool) {
    let groups = built.page_tables.len() as u64 / 128;
    let probe = Probe::of(VirtAddr(va), PageKind::Small);
    let hi = probe.vsid << 12 | (probe.page >> 11) << 7 | u64::from(secondary) << 1 | 1;
    let at = usize::try_from(probe.group(groups, secondary) * 128 + slot * 16).unwrap();
    for (number, word) in [hi, pa | 2].into_iter().enumerate() {
        let word = if swap { word.swap_bytes() } else { word };
        let start = at + 8 * number;
        built.page_tables[start..start + 8].copy_from_slice(&built.arch.u64(word));
    }
}

#[test]
fn the_hashed_table_is_searched_in_both_groups() {
    for (arch, version) in POWERPC64
        .into_iter()
        .flat_map(|arch| [(arch, 1), (arch, 2)])
    {
        for swap in [false, true] {
            let (first, second) = (0xe000_0000_0012_3000, 0xe000_0000_1045_6000);
            let mut built = hashed(arch, version, 256, &[0x10_1000, 0x23_4000]);
            put(&mut built, first, 0x23_4000, (false, 5), swap);
            put(&mut built, second, 0x10_1000, (true, 7), swap);
            let known = [
                (first + 0x10, 0x23_4010),
                (second, 0x10_1000),
                (0xc000_0000_0023_4008, 0x23_4008),
            ];
            leads_to(&built, &known);
            let opened = open(&built.build());
            let space = Virtual::of(&opened);
            let missing = VirtAddr(0xe000_0000_0012_4000);
            let what = "hashed page table";
            assert_eq!(
                space.place(missing.0),
                Err(TranslationError::NoEntry { va: missing, what })
            );
            assert!(matches!(
                space.place(0xf000_0000_0000_0000),
                Err(TranslationError::Outside { .. })
            ));
            // The direct map's last address belongs to it.
            assert_eq!(space.pa(built.dmapend), Ok(built.dmapend - built.dmapbase));
        }
    }
}

#[test]
fn a_large_hashed_table_tells_all_its_addresses() {
    for (arch, hw_direct_map) in POWERPC64
        .into_iter()
        .flat_map(|arch| [(arch, true), (arch, false)])
    {
        let mut built = hashed(arch, 2, 2048, &[0x10_1000, 0x23_4000, 0x34_5000]);
        built.hw_direct_map = hw_direct_map;
        let (first, second) = (0xe000_0000_0fff_3000, 0xe000_0003_1045_6000);
        put(&mut built, first, 0x23_4000, (false, 0), false);
        put(&mut built, second, 0x10_1000, (true, 1), false);
        let opened = open(&built.build());
        let space = Virtual::of(&opened);
        let map = PageMap::build(space.space()).unwrap();
        let mut found: Vec<(u64, Vec<u64>)> = map
            .pages()
            .map(|page| {
                let addresses = page.mappings().map(|(va, _)| va.0).collect();
                (page.pa().unwrap().0, addresses)
            })
            .collect();
        found.sort();
        // Without a direct map of large pages, a page without an entry is mapped one to one.
        let unnamed = match hw_direct_map {
            true => vec![],
            false => vec![0x34_5000],
        };
        let expected = [
            (0x10_1000, vec![second]),
            (0x23_4000, vec![first]),
            (0x34_5000, unnamed),
        ];
        assert_eq!(found, expected);
    }
}

/// `hw_direct_map` is 0: the allocator maps a page at its physical address, and the table has an entry
/// for it or has lost it.
#[test]
fn addresses_below_the_direct_map_are_those_of_the_allocator_without_large_pages() {
    const LINKED: u64 = 0x10_0100;
    for arch in POWERPC64 {
        for swap in [false, true] {
            let pages = [0x10_3000, 0x10_4000, 0x23_4000, 0x50_0000, 0x50_5000];
            let mut built = hashed(arch, 2, 2048, &pages);
            built.hw_direct_map = false;
            // One page has moved: the table is right, not the address.
            put(&mut built, 0x10_3000, 0x10_3000, (false, 0), swap);
            put(&mut built, 0x60_1000, 0x23_4000, (true, 3), swap);
            let known = [
                (0x10_3010, 0x10_3010),
                (0x60_1010, 0x23_4010),
                // No entry any more.
                (0x10_4020, 0x10_4020),
                (0x23_4008, 0x23_4008),
                // No page of the dump is there: an address in the kernel file.
                (LINKED, 0x50_0100),
                (LINKED + 0x5000, 0x50_5100),
                (0xc000_0000_0050_0100, 0x50_0100),
            ];
            leads_to(&built, &known);
            let opened = open(&built.build());
            let space = Virtual::of(&opened);
            let (va, what) = (VirtAddr(0x7000_0000), "hashed page table");
            assert_eq!(
                space.place(va.0),
                Err(TranslationError::NoEntry { va, what })
            );
            // With large pages the same addresses are those of the kernel file, or of processes.
            built.hw_direct_map = true;
            let opened = open(&built.build());
            let space = Virtual::of(&opened);
            assert_eq!(space.pa(0x10_3010), Ok(0x50_3010));
            let user = space.place(0x23_4008 + 0x1000_0000);
            assert!(matches!(user, Err(TranslationError::NoWindow { .. })));
        }
    }
}

/// Kernels keep `vm_page_array` past the kernel map, in pages of 16 MiB where the hardware has them.
#[test]
fn large_pages_of_a_hashed_table_are_found_by_their_own_hash() {
    for arch in POWERPC64 {
        let mut built = hashed(arch, 2, 2048, &[0x23_4000]);
        built.hw_direct_map = true;
        built.kernbase = 0xc008_0000_0000_0000;
        let va = 0xd000_0000_0200_0000_u64;
        let esid = va >> 28;
        let vsid = (((esid << 8 | esid >> 28) * 0x13bb) % (1 << 36)) | (1 << 36);
        let page = va >> 24 & 0xf;
        let group = ((vsid & 0x7f_ffff_ffff) ^ page) % 2048;
        let at = usize::try_from(group * 128 + 32).unwrap();
        let words = [vsid << 12 | page << 8 | 4 | 1, 2];
        for (number, word) in words.into_iter().enumerate() {
            built.page_tables[at + 8 * number..][..8].copy_from_slice(&arch.u64(word));
        }
        leads_to(&built, &[(va + 0x23_4010, 0x23_4010)]);
    }
}

#[test]
fn radix_tables_are_big_endian_in_every_dump() {
    const VALID: u64 = 1 << 63;
    const LEAF: u64 = 1 << 62;
    for arch in POWERPC64 {
        let mut built = dump(arch, 2, &[0x10_1000, 0x23_4000]);
        let base = built.kernbase;
        let (high, middle, low) = (0x30_0000, 0x30_1000, 0x30_2000);
        let tables = [
            (
                high,
                vec![(0, VALID | middle | 9), (1, VALID | LEAF | 0x4000_0000 | 6)],
            ),
            (
                middle,
                vec![(0, VALID | low | 9), (1, VALID | LEAF | 0x20_0000 | 6)],
            ),
            (
                low,
                vec![
                    (5, VALID | LEAF | 0x10_1000 | 5),
                    (6, VALID),
                    (7, LEAF | 0x10_1000),
                ],
            ),
        ];
        for (pa, entries) in tables {
            let mut page = vec![0; 4096];
            for (number, entry) in entries {
                let at: usize = 8 * number;
                page[at..at + 8].copy_from_slice(&u64::to_be_bytes(entry));
            }
            built.pages.insert(pa, page);
        }
        built.page_tables = vec![0; 65536];
        let root = VALID | high | 9;
        built.page_tables[4096 * 8..4097 * 8].copy_from_slice(&root.to_be_bytes());
        let known = [(base + 0x5010, 0x10_1010), (base + 0x23_4000, 0x23_4000)];
        leads_to(&built, &known);
        let opened = open(&built.build());
        let space = Virtual::of(&opened);
        let leaf = space
            .space()
            .locate(VirtAddr(base + 0x5000))
            .unwrap()
            .0
            .leaf;
        assert_eq!(
            leaf.prot,
            Prot {
                write: false,
                execute: true
            }
        );
        assert_eq!(space.pa(base + 0x4000_1234), Ok(0x4000_1234));
        assert!(matches!(
            space.place(base + 0x6000),
            Err(TranslationError::NotMapped { .. })
        ));
        assert!(matches!(
            space.place(base + 0x7000),
            Err(TranslationError::NotMapped { .. })
        ));
        assert!(matches!(
            space.place(base + (1 << 40)),
            Err(TranslationError::NotMapped { .. })
        ));
        let missing = |warning: &Warning| matches!(warning, Warning::NoPageTables);
        assert!(!opened.warnings().iter().any(missing));
        // Kernels up to 15.1 write no tables: the direct map is left.
        built.page_tables.clear();
        let opened = open(&built.build());
        let space = Virtual::of(&opened);
        assert!(opened.warnings().iter().any(missing));
        assert_eq!(space.pa(0xc000_0000_0010_1000), Ok(0x10_1000));
        assert!(matches!(
            space.place(base),
            Err(TranslationError::Outside { .. })
        ));
    }
}

#[test]
fn a_relocated_kernel_is_read_at_both_of_its_addresses() {
    for arch in POWERPC64 {
        let mut built = dump(arch, 2, &[0x50_0000, 0x50_1000]);
        built.dump_avail = vec![(0x1000, 0x100_0000)];
        built.kernel_range = (0xc000_0000_0050_0100, 0xc000_0000_0060_0000);
        let opened = open(&built.build());
        let space = Virtual::of(&opened);
        let header = opened.minidump().unwrap();
        assert_eq!(header.displacement(), 0xc000_0000_0040_0000);
        // As linked, and as run.
        assert_eq!(space.pa(0x10_1008), Ok(0x50_1008));
        assert_eq!(space.pa(0xc000_0000_0050_1008), Ok(0x50_1008));
        assert_eq!(space.text(0x10_1000, 7).unwrap(), b"page at");
        assert!(matches!(
            space.place(0x10_00ff),
            Err(TranslationError::NoWindow { .. })
        ));
        assert!(matches!(
            space.place(0x20_0000),
            Err(TranslationError::NoWindow { .. })
        ));
        // Where the kernel itself is no RAM by the dump's ranges, that is said.
        let is_said = |dump: &vmcore::Dump| {
            let warnings = dump.warnings();
            warnings
                .iter()
                .any(|warning| matches!(warning, Warning::NoKernelImage { .. }))
        };
        assert!(!is_said(&opened));
        built.dump_avail = vec![(0x1000, 0x50_0000), (0x60_0000, 0x100_0000)];
        assert!(is_said(&open(&built.build())));
    }
}

#[test]
fn ranges_of_32_bits_are_told_by_their_numbers() {
    for arch in [Arch::Armv7, Arch::Armeb, Arch::Mipsel, Arch::Mips] {
        let mut built = dump(arch, 2, &[0x10_1000, 0x23_4000]);
        let width = 4;
        let entry = |pa: u64| match arch {
            Arch::Armv7 | Arch::Armeb => pa | 2,
            _ => pa >> 12 << 6 | 0x1f,
        };
        table(
            &mut built,
            width,
            0x1000,
            &[(3, entry(0x23_4000)), (4, entry(0x10_1000))],
        );
        let base = built.kernbase;
        let known = [(base + 0x3010, 0x23_4010), (base + 0x4000, 0x10_1000)];
        for narrow in [false, true] {
            built.dump_avail_narrow = narrow;
            leads_to(&built, &known);
            let opened = open(&built.build());
            assert_eq!(opened.warnings(), []);
        }
        // One range, and RAM from address 0 on.
        built.dump_avail = vec![(0, 0x80_0000)];
        leads_to(&built, &known);
    }
}

/// A session of a dump and a kernel file.
fn session(built: &Minidump, kernel: &Kernel) -> (tempfile::TempDir, Session) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("vmcore"), built.build()).unwrap();
    std::fs::write(path("kernel"), kernel.build()).unwrap();
    let choice = path("kernel");
    let session = Session::open(
        &path("vmcore"),
        KernelChoice::Given(&choice),
        &OpenOptions::default(),
    );
    (folder, session.unwrap())
}

/// `EF_MIPS_ABI2`.
const N32: u32 = 0x20;

#[test]
fn a_kernel_of_n32_has_wide_entries_and_short_addresses() {
    for arch in [Arch::Mipsel, Arch::Mips] {
        let mut built = dump(arch, 2, &[0x10_1000, 0x23_4000]);
        let entries = [
            (3, 0x23_4000 >> 12 << 6 | 0x1f),
            (4, 0x10_1000 >> 12 << 6 | 0x1f),
        ];
        table(&mut built, 8, 0x1000, &entries);
        let base = built.kernbase;
        let mut kernel = Kernel::new(arch, 0x8010_0000);
        for (e_flags, expected) in [(N32, [0x23_4008, 0x10_1008]), (0, [0; 2])] {
            kernel.e_flags = e_flags;
            let (_folder, session) = session(&built, &kernel);
            let space = session.space().unwrap();
            for (va, pa) in [base + 0x3008, base + 0x4008].into_iter().zip(expected) {
                let found = space.locate(VirtAddr(va));
                let found = found.map_or(0, |(found, _)| found.leaf.pa.0);
                // Read as narrow entries, each is two, which map other pages.
                assert_eq!(found, pa, "{e_flags:#x} {va:#x}");
            }
            // KSEG0 is where it is in all 32-bit kernels.
            let (found, _) = space.locate(VirtAddr(0x8010_1000)).unwrap();
            assert_eq!(found.leaf.pa.0, 0x10_1000);
        }
    }
}

#[test]
fn symbols_of_a_relocated_kernel_are_where_it_ran() {
    for arch in POWERPC64 {
        let mut built = dump(arch, 2, &[0x50_0000, 0x50_1000]);
        built.dump_avail = vec![(0x1000, 0x100_0000)];
        built.kernel_range = (0xc000_0000_0050_0100, 0xc000_0000_0060_0000);
        let mut kernel = Kernel::new(arch, 0x10_0100);
        kernel.add_function("doadump", 0x10_0800, 0x40);
        kernel.add_object("hz", 0x10_1010, 4);
        let (_folder, session) = session(&built, &kernel);
        let hz = session.symbol("hz").unwrap().address;
        assert_eq!(hz, VirtAddr(0xc000_0000_0050_1010));
        let mut found = [0; 4];
        session.space().unwrap().read_exact(hz, &mut found).unwrap();
        assert_eq!(found, text(0x50_1000)[0x10..0x14]);
        // Back from an address of the running kernel to its name.
        let near = session.kernel().unwrap().symbols();
        let near = near.nearest(VirtAddr(0xc000_0000_0050_0810)).unwrap();
        assert_eq!((near.symbol.name, near.offset), (&b"doadump"[..], 0x10));
        assert_eq!(near.symbol.address, VirtAddr(0xc000_0000_0050_0800));
    }
}
