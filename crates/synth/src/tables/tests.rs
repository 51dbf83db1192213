//! Trees and the sections made of them, entry by entry.

use super::*;

fn tree(paging: Paging) -> Tree {
    Tree::new(
        paging,
        Frames::new(&[(0x10_0000, 0x20_0000)], paging.span(0)),
    )
}

fn entry(section: &[u8], number: u64, width: u64) -> u64 {
    word(section, number * width, width)
}

#[test]
fn every_kind_translates_what_it_maps() {
    let cases = [
        (Paging::Amd64, 0xffff_fe00_0000_0000, 1 << 30),
        (Paging::Amd64La57, 0xff01_0000_4000_0000, 1 << 30),
        (Paging::Arm64Page4K, 0xffff_0000_4000_0000, 1 << 30),
        (Paging::Arm64Page16K, 0xffff_0000_4000_0000, 32 << 20),
        (Paging::I386, 0xc040_0000, 4 << 20),
        (Paging::I386Pae, 0xc020_0000, 2 << 20),
        (Paging::Riscv64, 0xffff_ffc0_0020_0000, 2 << 20),
        (Paging::Radix, 0xc008_0000_0000_0000, 1 << 30),
    ];
    for (paging, va, large) in cases {
        let mut tree = tree(paging);
        let small = paging.span(0);
        tree.map(&Mapping::page(va, 0x4000_0000, large));
        tree.map(&Mapping::code(va + large, 0x8_8000, small));
        assert_eq!(
            tree.translate(va + large - 1),
            Some(0x4000_0000 + large - 1),
            "{paging:?}"
        );
        assert_eq!(tree.translate(va + large + 5), Some(0x8_8005), "{paging:?}");
        assert_eq!(tree.translate(va + large + small), None, "{paging:?}");
    }
}

#[test]
fn amd64_version_1_has_an_entry_for_each_small_page() {
    let kernbase = 0xffff_ffff_8000_0000;
    let mut tree = tree(Paging::Amd64);
    tree.map(&Mapping::page(kernbase + 0x3000, 0x23_4000, 4096));
    tree.map(&Mapping::code(kernbase + 0x20_0000, 0x40_0000, 2 << 20));
    let section = tree.section(1, kernbase, kernbase + 0x60_0000);
    assert_eq!(section.len(), 3 * 4096);
    assert_eq!(entry(&section, 3, 8), 0x8000_0000_0023_4063);
    assert_eq!(entry(&section, 512, 8), 0x40_0063);
    assert_eq!(entry(&section, 1023, 8), 0x5f_f063);
    assert_eq!(entry(&section, 1024, 8), 0);
}

#[test]
fn amd64_version_2_has_an_entry_for_each_2_mib() {
    let kernbase = 0xffff_ffff_8000_0000;
    let mut tree = tree(Paging::Amd64);
    tree.map(&Mapping::page(kernbase + 0x3000, 0x23_4000, 4096));
    tree.map(&Mapping::page(kernbase + 0x20_0000, 0x40_0000, 2 << 20));
    tree.map(&Mapping::page(kernbase + (1 << 30), 0x4000_0000, 1 << 30));
    let section = tree.section(2, kernbase, u64::MAX);
    assert_eq!(section.len(), 2 * 4096);
    let table = tree.table_of(kernbase, 0).unwrap();
    assert_eq!(entry(&section, 0, 8), table | 0x63);
    assert_eq!(entry(&section, 1, 8), 0x8000_0000_0040_00e3);
    assert_eq!(entry(&section, 2, 8), 0);
    // The 1 GiB page: entry k is the first one + k * 2 MiB.
    assert_eq!(entry(&section, 512, 8), 0x8000_0000_4000_00e3);
    assert_eq!(entry(&section, 515, 8), 0x8000_0000_4060_00e3);
    assert_eq!(entry(&section, 1023, 8), 0x8000_0000_7fe0_00e3);
}

#[test]
fn i386_expands_4_mib_and_with_pae_2_mib() {
    let kernbase = 0x0080_0000;
    let mut plain = tree(Paging::I386);
    plain.map(&Mapping::code(kernbase, 0x0080_0000, 4 << 20));
    plain.map(&Mapping::page(kernbase + 0x40_5000, 0x12_3000, 4096));
    let section = plain.section(2, kernbase, kernbase + 0x80_0000);
    assert_eq!(section.len(), 2 * 4096);
    assert_eq!(entry(&section, 1, 4), 0x0080_1063);
    assert_eq!(entry(&section, 1024 + 5, 4), 0x0012_3063);
    let mut pae = tree(Paging::I386Pae);
    pae.map(&Mapping::code(kernbase, 0x0080_0000, 2 << 20));
    let section = pae.section(2, kernbase, kernbase + 0x40_0000);
    assert_eq!(section.len(), 2 * 4096);
    assert_eq!(entry(&section, 511, 8), 0x009f_f063);
    // The first of the four pointers has no bit but "valid".
    assert_eq!(entry(&pae.tables[&pae.root].bytes, 0, 8) & 0xfff, 1);
}

#[test]
fn arm64_fabricates_from_blocks_of_both_sizes() {
    let kernbase = 0xffff_0000_0000_0000;
    let mut tree = tree(Paging::Arm64Page4K);
    tree.map(&Mapping::code(kernbase, 0x4420_0000, 2 << 20));
    tree.map(&Mapping::page(kernbase + (1 << 30), 0x8000_0000, 1 << 30));
    let section = tree.section(3, kernbase, kernbase + (2 << 30));
    assert_eq!(section.len(), 1024 * 4096);
    assert_eq!(entry(&section, 6, 8), 0x4420_6703);
    assert_eq!(entry(&section, 512, 8), 0);
    assert_eq!(entry(&section, 512 * 512, 8), 0x8000_0703);
    assert_eq!(entry(&section, 513 * 512 + 1, 8), 0x8020_1703);
}

#[test]
fn arm64_with_16_kib_pages_has_2048_entries_to_a_table() {
    let kernbase = 0xffff_0000_0000_0000;
    let mut tree = tree(Paging::Arm64Page16K);
    tree.map(&Mapping::code(kernbase, 0x4200_0000, 32 << 20));
    tree.map(&Mapping::page(
        kernbase + (32 << 20) + 0x4000,
        0x4010_8000,
        16384,
    ));
    let section = tree.section(3, kernbase, kernbase + (64 << 20));
    assert_eq!(section.len(), 2 * 16384);
    assert_eq!(entry(&section, 2047, 8), 0x43ff_c703);
    assert_eq!(entry(&section, 2049, 8), 0x0060_0000_4010_8703);
}

#[test]
fn riscv_keeps_the_flags_of_a_superpage() {
    let kernbase = 0xffff_ffc0_0000_0000;
    let mut tree = tree(Paging::Riscv64);
    tree.map(&Mapping::code(kernbase, 0x8020_0000, 2 << 20));
    let section = tree.section(2, kernbase, kernbase + 0x20_0000);
    assert_eq!(entry(&section, 5, 8), 0x8020_5000 >> 2 | 0xeb);
}

#[test]
fn the_recursive_slot_leads_to_the_root() {
    let mut tree = tree(Paging::Amd64La57);
    tree.add_recursive_slot();
    assert_eq!(
        entry(&tree.tables[&tree.root].bytes, 256, 8),
        tree.root | 0x63
    );
}

#[test]
fn mips_has_small_pages_only_and_marks_those_that_are_read_only() {
    for (paging, kernbase, read_only) in [
        (Paging::Mips32, 0xc000_0000, 0x2000_0000),
        (Paging::Mips64, 0xc000_0000_0000_0000, 0x0080_0000_0000_0000),
    ] {
        let mut tree = tree(paging);
        tree.map(&Mapping::page(kernbase + 0x3000, 0x23_4000, 4096));
        tree.map(&Mapping::code(kernbase + 0x4000, 0x7f_f000, 4096));
        assert_eq!(tree.translate(kernbase + 0x3010), Some(0x23_4010));
        assert!(!paging.has_page(paging.span(1)));
        let width = paging.entry_bytes();
        let section = tree.section(2, kernbase, kernbase + paging.span(1));
        assert_eq!(section.len(), 4096);
        assert_eq!(entry(&section, 3, width), 0x8d1f);
        assert_eq!(entry(&section, 4, width), 0x1_ffdb | read_only);
    }
}

#[test]
fn the_root_of_radix_tables_is_their_section() {
    let kernbase = 0xc008_0000_0000_0000;
    let mut tree = tree(Paging::Radix);
    tree.map(&Mapping::page(kernbase + 0x5000, 0x23_4000, 4096));
    let section = tree.section(2, kernbase, kernbase);
    assert_eq!(section.len(), 65536);
    let high = tree.table_of(kernbase, 2).unwrap();
    assert_eq!(entry(&section, 4096, 8), 1 << 63 | high | 9);
    let low = tree.table_of(kernbase, 0).unwrap();
    assert_eq!(
        entry(&tree.tables[&low].bytes, 5, 8),
        3 << 62 | 0x23_4000 | 6
    );
}
