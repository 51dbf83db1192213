//! Damaged kernels: page tables that are wild, cyclic, aliased or unreadable.

use crate::naive::Naive;
use crate::round_trip::{check_extension, payload};
use proptest::prelude::*;
use vmcore_format::addr::PhysAddr;
use vmcore_format::extension::{Damage, DamageKind, RecordKind};
use vmcore_format::identity::Identity;
use vmcore_format::paging::{Amd64, Arm64Granule4K, ArmV6, I386, Powerpc64Radix, Riscv64};
use vmcore_testkit::writer::disk::Disk;
use vmcore_testkit::writer::models::{self, Model, small};
use vmcore_testkit::writer::run::{dump, onto_disk, recover, settings};
use vmcore_testkit::writer::sim::{Sim, ix, range};
use vmcore_writer::arch::{ArmV6Big, KernelPaging};
use vmcore_writer::settings::Settings;
use vmcore_writer::writer::DumpKind;

fn damage_of(file: &[u8]) -> Vec<Damage> {
    Damage::parse_all(payload(file, RecordKind::Damage))
        .unwrap()
        .1
        .collect()
}

/// The minidump whatever happens.
fn never_full() -> Settings {
    Settings {
        fall_back_to_full: false,
        ..settings(None)
    }
}

#[test]
fn a_table_that_is_not_ram_is_not_touched_and_recorded() {
    let mut sim = small::<Amd64>(models::AMD64);
    // the second GiB has a page directory far away; the simulated machine would refuse to read it
    let top = sim.table_of(sim.model.kernbase, 2);
    sim.set_entry(top, 2, 0xdead_0000_0063);
    let (summary, file) = dump(&sim, settings(None));
    assert_eq!(summary.kind, DumpKind::Mini { version: 3 });
    assert!(Identity::parse(&file[1024..]).unwrap().damaged);
    let damage = damage_of(&file);
    // once while pages were chosen, once while the tables were written
    assert_eq!(damage.len(), 2);
    for entry in damage {
        assert_eq!((entry.kind, entry.level), (DamageKind::TableNotRam, 1));
        assert_eq!(
            (entry.pa, entry.va.0),
            (PhysAddr(0xdead_0000_0000), sim.model.kernbase + (2 << 30))
        );
    }
    let naive = Naive::read(sim.model, &file);
    assert_eq!(naive.pages.len(), sim.predicted(3).len());
    assert_eq!(
        naive.translate(sim.model.kernbase + (2 << 30)),
        Err("not valid")
    );
}

#[test]
fn a_table_that_cannot_be_read_costs_its_mappings_and_nothing_else() {
    let mut sim = small::<Amd64>(models::AMD64);
    let table = sim.table_of(sim.model.kernbase, 0) >> 12;
    sim.unreadable.insert(table);
    let (summary, file) = dump(&sim, settings(None));
    assert_eq!(summary.kind, DumpKind::Mini { version: 3 });
    let kinds: Vec<_> = damage_of(&file)
        .iter()
        .map(|entry| (entry.kind, entry.pa.0 >> 12))
        .collect();
    assert_eq!(
        kinds,
        [
            (DamageKind::TableUnreadable, table),
            (DamageKind::PageUnreadable, table)
        ]
    );
    let naive = Naive::read(sim.model, &file);
    for pfn in &sim.added {
        assert_eq!(naive.pages.contains_key(pfn), !sim.forbidden.contains(pfn));
    }
}

/// A kernel whose tables are gone.
fn rootless(ranges_end: u64) -> Sim<Amd64> {
    let mut sim = Sim::<Amd64>::new(models::AMD64, &[range(0, ranges_end)], 5000);
    let pfn = sim.allocate();
    sim.map_page(sim.model.kernbase, pfn << 12, 0);
    for _ in 0..5 {
        sim.allocate_slab();
    }
    sim.unreadable.insert(sim.root.0 >> 12);
    sim
}

#[test]
fn without_any_page_table_a_full_dump_is_written_if_it_fits() {
    let sim = rootless(0x80_0000);
    let (summary, file) = dump(&sim, settings(None));
    assert_eq!(summary.kind, DumpKind::Full { fallback: true });
    assert!(file.starts_with(b"\x7fELF"));
    let identity = Identity::parse(&file[1024..]).unwrap();
    assert!(identity.damaged && identity.fallback);
}

#[test]
fn without_any_page_table_and_room_the_minidump_has_what_the_map_has() {
    let sim = rootless(0x80_0000); // 8 MiB
    for (settings, media) in [(settings(None), 4 << 20), (never_full(), 16 << 20)] {
        let (result, state) = onto_disk(&sim, settings, Disk::new(media, 512));
        assert_eq!(result.unwrap().kind, DumpKind::Mini { version: 3 });
        let file = recover(&state.media(), 512).unwrap();
        let naive = Naive::read(sim.model, &file);
        let added = sim.added.iter().filter(|pfn| !sim.forbidden.contains(pfn));
        assert_eq!(
            naive.pages.keys().collect::<Vec<_>>(),
            added.collect::<Vec<_>>()
        );
        assert!(Identity::parse(&file[1024..]).unwrap().damaged);
    }
}

#[test]
fn architectures_without_full_dumps_never_fall_back() {
    let mut sim = small::<Riscv64>(models::RISCV64);
    sim.unreadable.insert(sim.root.0 >> 12);
    assert_eq!(
        dump(&sim, settings(None)).0.kind,
        DumpKind::Mini { version: 2 }
    );
}

#[test]
fn cyclic_tables_end_and_are_recorded() {
    let mut sim = small::<Amd64>(models::AMD64);
    // A page directory all of whose entries name itself: as page directory, then as page table.
    let pd = sim.table_of(sim.model.kernbase + (2 << 30), 1);
    for index in 0..512 {
        sim.set_entry(pd, index, pd | 0x63);
    }
    // The page directory pointer table names it again and again.
    let pdp = sim.table_of(sim.model.kernbase, 2);
    for index in 0..4 {
        sim.set_entry(pdp, index, pd | 0x63);
    }
    let ram_pages: u64 = sim
        .ranges
        .iter()
        .map(|range| range.len_bytes().div_ceil(4096))
        .sum();
    let (summary, file) = dump(&sim, never_full());
    assert!(summary.damage > 0 || sim.copies.get() < 2 * ram_pages);
    assert!(sim.copies.get() < 4 * ram_pages, "{}", sim.copies.get());
    check_extension(&file, Naive::read(sim.model, &file).end);
}

#[test]
fn more_tables_than_the_machine_has_pages_are_too_many() {
    // A kernel map of 512 GiB, all of whose page directories are one, all of whose tables are one:
    // 262144 tables, on a machine of 2048 pages.
    let model = Model {
        kernend: models::AMD64.kernbase + (512 << 30),
        ..models::AMD64
    };
    let mut sim = Sim::<Amd64>::new(model, &[range(0, 0x80_0000)], 100);
    let pfn = sim.allocate();
    sim.map_page(model.kernbase, pfn << 12, 0);
    let (pdp, pd, pt) = (
        sim.table_of(model.kernbase, 2),
        sim.table_of(model.kernbase, 1),
        sim.table_of(model.kernbase, 0),
    );
    for index in 0..512 {
        sim.set_entry(pdp, index, pd | 0x63);
        sim.set_entry(pd, index, pt | 0x63);
    }
    let (summary, file) = dump(&sim, never_full());
    assert_eq!(summary.kind, DumpKind::Mini { version: 3 });
    assert!(
        damage_of(&file)
            .iter()
            .any(|entry| entry.kind == DamageKind::TooManyTables)
    );
    assert!(sim.copies.get() < 2048 * 4, "{}", sim.copies.get());
    let (summary, _) = dump(&sim, settings(None));
    assert_eq!(summary.kind, DumpKind::Full { fallback: true });
}

/// One thing that is wrong with a table.
#[derive(Clone, Copy, Debug)]
struct Wound {
    table: usize,
    index: u64,
    raw: u64,
    /// The entry names another table.
    table_named: Option<usize>,
}

fn wounds() -> impl Strategy<Value = Vec<Wound>> {
    let raw = prop_oneof![
        any::<u64>(),
        (0u64..0x2000, 0u64..0x1000).prop_map(|(pfn, bits)| pfn << 12 | bits),
        (0u64..64).prop_map(|bit| 1 << bit | 1),
        Just(u64::MAX),
    ];
    let wound = (0usize..100, 0u64..512, raw, prop::option::of(0usize..100)).prop_map(
        |(table, index, raw, table_named)| Wound {
            table,
            index,
            raw,
            table_named,
        },
    );
    prop::collection::vec(wound, 0..40)
}

/// Wounds a machine, dumps it, and checks what must hold for any dump.
fn survives<P: KernelPaging>(mut sim: Sim<P>, wounds: &[Wound], poisoned: &[usize]) {
    let model = sim.model;
    let root = sim.root.0 >> model.page_shift;
    let tables: Vec<u64> = sim
        .tables
        .iter()
        .map(|(pfn, _)| *pfn)
        .chain([root])
        .collect();
    for wound in wounds {
        let table = tables[wound.table % tables.len()] << model.page_shift;
        let named = wound
            .table_named
            .map(|index| tables[index % tables.len()] << model.page_shift);
        let raw = named.map_or(wound.raw, |pa| (model.table)(pa));
        sim.set_entry(table, wound.index, raw);
    }
    for index in poisoned {
        sim.unreadable.insert(tables[index % tables.len()]);
    }
    let (summary, file) = dump(&sim, never_full());
    let naive = Naive::read(model, &file);
    check_extension(&file, naive.end);
    assert_eq!(naive.pages.len() as u64, summary.pages);
    for (pfn, bytes) in &naive.pages {
        assert!(sim.is_ram(*pfn) && !sim.forbidden.contains(pfn));
        if sim.unreadable.contains(pfn) {
            assert!(bytes.iter().all(|byte| *byte == 0));
        } else {
            assert!(**bytes == sim.page(*pfn)[..], "page {pfn:#x}");
        }
    }
    for pfn in &sim.added {
        assert_eq!(naive.pages.contains_key(pfn), !sim.forbidden.contains(pfn));
    }
    let ram_pages: u64 = sim
        .ranges
        .iter()
        .map(|range| range.len_bytes() >> model.page_shift)
        .sum();
    let slots = (model.kernend - model.kernbase) >> model.shift(1);
    assert!(
        sim.copies.get() < 4 * ram_pages + 6 * slots,
        "{} copies",
        sim.copies.get()
    );
    assert!(ix(summary.len_bytes) == file.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_wound_in_the_tables_is_survived(
        wounds in wounds(),
        poisoned in prop::collection::vec(0usize..100, 0..3),
    ) {
        survives(small::<Amd64>(models::AMD64), &wounds, &poisoned);
        survives(small::<Arm64Granule4K>(models::ARM64), &wounds, &poisoned);
        survives(small::<Riscv64>(models::RISCV64), &wounds, &poisoned);
        survives(small::<I386>(models::I386), &wounds, &poisoned);
        survives(small::<ArmV6>(models::ARM), &wounds, &poisoned);
        survives(small::<ArmV6Big>(models::ARMEB), &wounds, &poisoned);
        survives(small::<Powerpc64Radix>(models::POWERPC64), &wounds, &poisoned);
    }
}
