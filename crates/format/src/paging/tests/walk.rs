//! Descents through tables that are written down entry by entry.

use super::*;

const KERNBASE: u64 = 0xffff_fe00_0000_0000;

fn pa_of<P: Paging>(radix: &Radix, memory: &Memory, va: u64) -> Result<u64, WalkError<Missing>> {
    lookup::<P, _>(radix, memory, VirtAddr(va)).map(|leaf| leaf.pa.0)
}

/// The second amd64 dump of the conformance list: directory entries in the section, one table.
fn amd64_section() -> (Radix, Memory) {
    let mut entries = vec![0; 1024];
    entries[..4].copy_from_slice(&[0x30_0003, 0x8000_0000_0000_0083, 0x55_5003, 0x4000_0083]);
    let mut memory = Memory::with_section(&entries, Width::W64);
    memory.table::<Amd64>(0x30_0000, &[(5, 0x8000_0000_0023_4003), (6, 0x7f_f001)]);
    (Radix::section(1, VirtAddr(KERNBASE), 1024), memory)
}

#[test]
fn a_section_of_directory_entries_is_descended_to_its_pages() {
    let (radix, memory) = amd64_section();
    let leaf = |va| lookup::<Amd64, _>(&radix, &memory, VirtAddr(KERNBASE + va));
    let found = leaf(0x5123).unwrap();
    assert_eq!((found.pa, found.size_shift), (PhysAddr(0x23_4123), 12));
    assert_eq!(
        found.prot,
        Prot {
            write: true,
            execute: false
        }
    );
    let found = leaf(0x6000).unwrap();
    assert_eq!(
        (found.pa, found.prot),
        (
            PhysAddr(0x7f_f000),
            Prot {
                write: false,
                execute: true
            }
        )
    );
    let found = leaf(0x30_0008).unwrap();
    assert_eq!((found.pa, found.size_shift), (PhysAddr(0x10_0008), 21));
    assert_eq!(
        leaf(0x60_0000).map(|leaf| leaf.pa),
        Ok(PhysAddr(0x4000_0000))
    );
    let absent = TableRef::At(PhysAddr(0x55_5000));
    assert_eq!(
        leaf(0x40_0000),
        Err(WalkError::Table {
            level: 0,
            table: absent,
            source: Missing(absent)
        })
    );
    assert_eq!(
        leaf(0x80_0000),
        Err(WalkError::Absent {
            level: 1,
            table: TableRef::Section,
            index: 4,
            raw: 0
        })
    );
    let table = TableRef::At(PhysAddr(0x30_0000));
    assert_eq!(
        leaf(0x7000),
        Err(WalkError::Absent {
            level: 0,
            table,
            index: 7,
            raw: 0
        })
    );
    assert_eq!(leaf(0x8000_0000), Err(WalkError::Outside));
    assert_eq!(
        lookup::<Amd64, _>(&radix, &memory, VirtAddr(KERNBASE - 1)),
        Err(WalkError::Outside)
    );
}

#[test]
fn every_entry_on_the_way_is_shown() {
    let (radix, memory) = amd64_section();
    let mut steps = Vec::new();
    let found = lookup_with::<Amd64, _>(&radix, &memory, VirtAddr(KERNBASE + 0x5123), |step| {
        steps.push((step.level, step.table, step.index, step.raw));
    });
    assert_eq!(found.map(|leaf| leaf.pa), Ok(PhysAddr(0x23_4123)));
    let table = TableRef::At(PhysAddr(0x30_0000));
    assert_eq!(
        steps,
        [
            (1, TableRef::Section, 0, 0x30_0003),
            (0, table, 5, 0x8000_0000_0023_4003)
        ]
    );
}

#[test]
fn a_visit_reports_tables_before_their_pages_and_goes_on_after_missing_ones() {
    let (radix, memory) = amd64_section();
    let (events, flow, left) = visited::<Amd64>(&radix, &memory, 10);
    let leaf = |offset: u64, pa, size_shift, write, execute| {
        let leaf = Leaf {
            pa: PhysAddr(pa),
            size_shift,
            prot: Prot { write, execute },
        };
        Event::Leaf(VirtAddr(KERNBASE + offset), leaf)
    };
    let missing = PhysAddr(0x55_5000);
    assert_eq!(
        events,
        [
            Event::Table(PhysAddr(0x30_0000), 0),
            leaf(0x5000, 0x23_4000, 12, true, false),
            leaf(0x6000, 0x7f_f000, 12, false, true),
            leaf(0x20_0000, 0, 21, true, false),
            Event::Table(missing, 0),
            Event::Unreadable(VirtAddr(KERNBASE + 0x40_0000), TableRef::At(missing)),
            leaf(0x60_0000, 0x4000_0000, 21, true, true),
        ]
    );
    assert_eq!((flow, left), (ControlFlow::Continue(()), 8));
}

/// A whole amd64 tree, with a page of each size and the recursive slot that x86 kernels have.
fn amd64_tree() -> Memory {
    let mut memory = Memory::default();
    memory
        .table::<Amd64>(0x1000, &[(256, 0x1003), (508, 0x2003), (511, 0x3003)])
        .table::<Amd64>(0x2000, &[(0, 0x8000_0000_0000_0083)])
        .table::<Amd64>(0x3000, &[(510, 0x4003)])
        .table::<Amd64>(0x4000, &[(1, 0x20_0083), (2, 0x5003)])
        .table::<Amd64>(0x5000, &[(0, 0x9_f003), (511, 0x10_4103)]);
    memory
}

#[test]
fn a_four_level_tree_translates_pages_of_every_size() {
    let memory = amd64_tree();
    let radix = Radix::root::<Amd64>(PhysAddr(0x1000), 3);
    for (va, pa) in [
        (0xffff_fe00_1234_5678, 0x1234_5678),
        (0xffff_ffff_8020_1234, 0x20_1234),
        (0xffff_ffff_8040_0010, 0x9_f010),
        (0xffff_ffff_805f_ffff, 0x10_4fff),
    ] {
        assert_eq!(pa_of::<Amd64>(&radix, &memory, va), Ok(pa), "{va:#x}");
    }
    assert!(matches!(
        pa_of::<Amd64>(&radix, &memory, 0xffff_ffff_8000_0000),
        Err(WalkError::Absent {
            level: 1,
            index: 0,
            ..
        })
    ));
}

#[test]
fn addresses_that_are_not_canonical_are_outside() {
    let memory = amd64_tree();
    let radix = Radix::root::<Amd64>(PhysAddr(0x1000), 3);
    for va in [
        0x0000_fe00_0000_0000,
        0x7fff_fe00_0000_0000,
        0x0000_8000_0000_0000,
        0xff01 << 48,
    ] {
        assert_eq!(
            pa_of::<Amd64>(&radix, &memory, va),
            Err(WalkError::Outside),
            "{va:#x}"
        );
    }
    assert!(matches!(
        pa_of::<Amd64>(&radix, &memory, 0x0000_7fff_ffff_f000),
        Err(WalkError::Absent {
            level: 3,
            index: 255,
            ..
        })
    ));
}

#[test]
fn five_levels_reach_the_57_bit_direct_map() {
    let mut memory = amd64_tree();
    memory
        .table::<Amd64>(0x8000, &[(256, 0x8003), (257, 0x9003), (511, 0x1003)])
        .table::<Amd64>(0x9000, &[(0, 0x2003)]);
    let radix = Radix::root::<Amd64>(PhysAddr(0x8000), 4);
    let pa = |va| pa_of::<Amd64>(&radix, &memory, va);
    assert_eq!(pa(0xff01_0000_0000_1230), Ok(0x1230));
    assert_eq!(pa(0xffff_ffff_8020_1234), Ok(0x20_1234));
    assert_eq!(pa(0xfe01_0000_0000_1230), Err(WalkError::Outside));
}

#[test]
fn the_recursive_slot_is_not_visited() {
    let memory = amd64_tree();
    let radix = Radix::root::<Amd64>(PhysAddr(0x1000), 3);
    let (events, flow, left) = visited::<Amd64>(&radix, &memory, 4);
    let addresses: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Leaf(va, _) => Some(va.0),
            _ => None,
        })
        .collect();
    assert_eq!(
        addresses,
        [
            0xffff_fe00_0000_0000,
            0xffff_ffff_8020_0000,
            0xffff_ffff_8040_0000,
            0xffff_ffff_805f_f000
        ]
    );
    assert_eq!((flow, left), (ControlFlow::Continue(()), 0));
}

#[test]
fn the_trees_of_other_architectures_are_descended() {
    let mut memory = Memory::default();
    memory
        .table::<Arm64Granule4K>(0x1000, &[(0, 0x2003)])
        .table::<Arm64Granule4K>(0x2000, &[(1, 0x4000_0701), (2, 0x3003)])
        .table::<Arm64Granule4K>(0x3000, &[(3, 0x8060_0701), (4, 0x4003)])
        .table::<Arm64Granule4K>(0x4000, &[(5, 0x44a2_6703)]);
    let radix = Radix::root::<Arm64Granule4K>(PhysAddr(0x1000), 3);
    for (va, pa) in [
        (0x4000_1234, 0x4000_1234),
        (0x8060_0042, 0x8060_0042),
        (0x8080_5fff, 0x44a2_6fff),
    ] {
        assert_eq!(
            pa_of::<Arm64Granule4K>(&radix, &memory, va),
            Ok(pa),
            "{va:#x}"
        );
    }

    let mut memory = Memory::default();
    memory
        .table::<I386>(0x1000, &[(0x300, 0x2003), (0x301, 0x40_0083)])
        .table::<I386>(0x2000, &[(0x3ff, 0x1d4_0063)]);
    let radix = Radix {
        top: TableRef::At(PhysAddr(0x1000)),
        level: 1,
        first_va: VirtAddr(0),
        entries: 1024,
        va_bits: 64,
    };
    assert_eq!(pa_of::<I386>(&radix, &memory, 0xc03f_f53c), Ok(0x1d4_053c));
    assert_eq!(pa_of::<I386>(&radix, &memory, 0xc07f_fffc), Ok(0x7f_fffc));

    let mut memory = Memory::default();
    memory
        .table::<I386Pae>(0x1000, &[(0, 0x2001), (3, 0x3001), (4, 0x2001)])
        .table::<I386Pae>(0x2000, &[(14, 0x4003)])
        .table::<I386Pae>(0x3000, &[(511, 0x1_0020_0083)])
        .table::<I386Pae>(0x4000, &[(0x140, 0x1d4_0063)]);
    let radix = Radix {
        level: 2,
        entries: 4,
        ..radix
    };
    assert_eq!(
        pa_of::<I386Pae>(&radix, &memory, 0x1d4_053c),
        Ok(0x1d4_053c)
    );
    assert_eq!(
        pa_of::<I386Pae>(&radix, &memory, 0xffff_ffff),
        Ok(0x1_003f_ffff)
    );
    // After the four pointers there are none.
    assert_eq!(
        pa_of::<I386Pae>(&radix, &memory, 0x1_01d4_053c),
        Err(WalkError::Outside)
    );

    let ppn = |pa: u64| pa >> 12 << 10;
    let mut memory = Memory::default();
    memory
        .table::<Riscv64>(
            0x1000,
            &[(256, ppn(0x2000) | 1), (511, ppn(0x8000_0000) | 0xcf)],
        )
        .table::<Riscv64>(
            0x2000,
            &[(1, ppn(0x8040_0000) | 0xcf), (2, ppn(0x3000) | 1)],
        )
        .table::<Riscv64>(0x3000, &[(511, ppn(0x8020_0000) | 0xcf)]);
    let radix = Radix::root::<Riscv64>(PhysAddr(0x1000), 2);
    for (va, pa) in [
        (0xffff_ffc0_0020_1234, 0x8040_1234),
        (0xffff_ffc0_005f_f001, 0x8020_0001),
        (0xffff_ffff_ffff_ffff, 0xbfff_ffff),
    ] {
        assert_eq!(pa_of::<Riscv64>(&radix, &memory, va), Ok(pa), "{va:#x}");
    }
}

#[test]
fn a_section_is_longer_than_a_table_and_ends_where_it_says() {
    let entries: Vec<u64> = (0..1300)
        .map(|index| 0x10_0000 + index * 0x1000 + 0x63)
        .collect();
    let memory = Memory::with_section(&entries, Width::W32);
    let radix = Radix::section(0, VirtAddr(0xc000_0000), 1300);
    assert_eq!(
        pa_of::<I386>(&radix, &memory, 0xc000_0000 + 1299 * 4096),
        Ok(0x10_0000 + 1299 * 4096)
    );
    assert_eq!(
        pa_of::<I386>(&radix, &memory, 0xc000_0000 + 1300 * 4096),
        Err(WalkError::Outside)
    );
    let (events, flow, left) = visited::<I386>(&radix, &memory, 0);
    assert_eq!(
        (events.len(), flow, left),
        (1300, ControlFlow::Continue(()), 0)
    );
    assert!(matches!(
        events[1299],
        Event::Leaf(
            VirtAddr(0xc051_3000),
            Leaf {
                pa: PhysAddr(0x61_3000),
                ..
            }
        )
    ));
}

/// The entries of a section run past the end of the address space.
#[test]
fn entries_past_the_last_address_map_nothing() {
    let memory = Memory::with_section(&[0x10_0063; 8], Width::W64);
    let radix = Radix::section(0, VirtAddr(u64::MAX - 0x1fff), 8);
    assert_eq!(pa_of::<Amd64>(&radix, &memory, u64::MAX), Ok(0x10_0fff));
    let (events, flow, _) = visited::<Amd64>(&radix, &memory, 0);
    assert_eq!((events.len(), flow), (2, ControlFlow::Continue(())));
    // Nor are they missed where the file ends before them.
    let memory = Memory::with_section(&[0x10_0063; 3], Width::W64);
    let radix = Radix::section(0, VirtAddr(u64::MAX - 0x1fff), 1000);
    let (events, flow, _) = visited::<Amd64>(&radix, &memory, 0);
    assert_eq!((events.len(), flow), (2, ControlFlow::Continue(())));
}

/// A dump that ends inside a table: its first entries are there, the rest is reported.
#[test]
fn a_table_that_is_cut_gives_its_entries_and_is_reported() {
    let mut memory = Memory::with_section(&[0x1003, 0x20_0083], Width::W64);
    memory.table::<Amd64>(0x1000, &[(0, 0x5003), (1, 0x6003), (2, 0x7003)]);
    memory.pages.get_mut(&0x1000).unwrap().truncate(2 * 8 + 3);
    let radix = Radix::section(1, VirtAddr(KERNBASE), 4);
    let (events, flow, _) = visited::<Amd64>(&radix, &memory, 1);
    assert_eq!(flow, ControlFlow::Continue(()));
    let places: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::Leaf(va, _) => (va.0 - KERNBASE, "leaf"),
            Event::Table(pa, _) => (pa.0, "table"),
            Event::Unreadable(va, _) => (va.0 - KERNBASE, "unreadable"),
        })
        .collect();
    assert_eq!(
        places,
        [
            (0x1000, "table"),
            (0, "leaf"),
            (0x1000, "leaf"),
            (0x2000, "unreadable"),
            (0x20_0000, "leaf"),
            (0x40_0000, "unreadable"),
        ]
    );
}

/// Every entry of every table names the same table: 512 to the power of the levels.
#[test]
fn the_budget_bounds_the_work_on_aliased_tables() {
    let mut memory = Memory::with_section(&[0x1003; 512], Width::W64);
    memory.table::<Amd64>(
        0x1000,
        &(0..512).map(|index| (index, 0x1003)).collect::<Vec<_>>(),
    );
    let radix = Radix::section(3, VirtAddr(0), 512);
    for table_loads in [0, 1, 1000] {
        let (events, flow, left) = visited::<Amd64>(&radix, &memory, table_loads);
        let tables = events
            .iter()
            .filter(|event| matches!(event, Event::Table(..)))
            .count() as u64;
        assert_eq!(
            (tables, left, flow),
            (table_loads, 0, ControlFlow::Break(()))
        );
    }
}

#[test]
fn a_visitor_may_break_off() {
    let memory = Memory::with_section(&[0x10_0063; 600], Width::W64);
    let radix = Radix::section(0, VirtAddr(KERNBASE), 600);
    for leaves_left in [1, 512, 513] {
        let mut recorder = Recorder {
            events: Vec::new(),
            leaves_left,
        };
        let mut budget = Budget { table_loads: 5 };
        let mut buf = [0; 4096];
        let flow = visit::<Amd64, _>(&radix, &memory, &mut buf, &mut budget, &mut recorder);
        assert_eq!(
            (flow, recorder.events.len()),
            (ControlFlow::Break(()), leaves_left)
        );
        assert_eq!(budget.table_loads, 5);
    }
}
