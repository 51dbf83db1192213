//! Random tables, with cycles, aliases, holes and damage, against a naive walker.
//!
//! The walker knows each architecture by a few masks of its own and goes level by level; it shares
//! no code with the descent.

use super::*;
use proptest::prelude::*;

/// An architecture as the naive walker knows it.
struct Naive {
    page_shift: u32,
    index_bits: u32,
    width: Width,
    /// What an entry means: `None`, a table, or a page.
    meaning: fn(u32, u64) -> Option<Meaning>,
}

enum Meaning {
    Table(u64),
    /// Frame bits, before the low ones of a large page are cut.
    Page(u64),
}

const FRAME_52: u64 = 0x000f_ffff_ffff_f000;

const AMD64: Naive = Naive {
    page_shift: 12,
    index_bits: 9,
    width: Width::W64,
    meaning: |level, raw| match (raw & 1, level, raw >> 7 & 1) {
        (0, ..) => None,
        (_, 0, _) | (_, 1 | 2, 1) => Some(Meaning::Page(raw & FRAME_52)),
        _ => Some(Meaning::Table(raw & FRAME_52)),
    },
};

const ARM64_4K: Naive = Naive {
    page_shift: 12,
    index_bits: 9,
    width: Width::W64,
    meaning: |level, raw| match (raw & 3, level) {
        (3, 0) | (1, 1 | 2) => Some(Meaning::Page(raw & 0x3_ffff_ffff_f000)),
        (3, _) => Some(Meaning::Table(raw & 0x3_ffff_ffff_f000)),
        _ => None,
    },
};

const ARM64_16K: Naive = Naive {
    page_shift: 14,
    index_bits: 11,
    width: Width::W64,
    meaning: |level, raw| match (raw & 3, level) {
        (3, 0) | (1, 1) => Some(Meaning::Page(raw & 0x3_ffff_ffff_c000)),
        (3, _) => Some(Meaning::Table(raw & 0x3_ffff_ffff_c000)),
        _ => None,
    },
};

const I386_NOPAE: Naive = Naive {
    page_shift: 12,
    index_bits: 10,
    width: Width::W32,
    meaning: |level, raw| match (raw & 1, level, raw >> 7 & 1) {
        (0, ..) => None,
        (_, 0, _) | (_, _, 1) => Some(Meaning::Page(raw & 0xffff_f000)),
        _ => Some(Meaning::Table(raw & 0xffff_f000)),
    },
};

const I386_PAE: Naive = Naive {
    page_shift: 12,
    index_bits: 9,
    width: Width::W64,
    meaning: |level, raw| match (raw & 1, level, raw >> 7 & 1) {
        (0, ..) => None,
        (_, 0, _) | (_, 1, 1) => Some(Meaning::Page(raw & FRAME_52)),
        _ => Some(Meaning::Table(raw & FRAME_52)),
    },
};

const RISCV64: Naive = Naive {
    page_shift: 12,
    index_bits: 9,
    width: Width::W64,
    meaning: |level, raw| {
        let frame = raw << 10 >> 20 << 12;
        match (raw & 1, raw & 0xe, level) {
            (0, ..) | (_, 0, 0) => None,
            (_, 0, _) => Some(Meaning::Table(frame)),
            _ => Some(Meaning::Page(frame)),
        }
    },
};

impl Naive {
    fn raw(&self, bytes: &[u8], index: u64) -> Option<u64> {
        let width = usize::try_from(self.width.bytes()).unwrap();
        let at = usize::try_from(index).unwrap() * width;
        let raw = bytes.get(at..at + width)?;
        Some(
            raw.iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        )
    }

    /// The physical address at `offset` of the address space, and the size of its page.
    fn translate(&self, memory: &Memory, radix: &Radix, offset: u64) -> Option<(u64, u32)> {
        let mut bytes = match radix.top {
            TableRef::Section => &memory.section,
            TableRef::At(pa) => memory.pages.get(&pa.0)?,
        };
        for level in (0..=radix.level).rev() {
            let shift = self.page_shift + level * self.index_bits;
            let index = match level {
                level if level == radix.level => offset >> shift,
                _ => offset >> shift & ((1 << self.index_bits) - 1),
            };
            if level == radix.level && index >= radix.entries {
                return None;
            }
            match (self.meaning)(level, self.raw(bytes, index)?)? {
                Meaning::Page(frame) => {
                    return Some((frame >> shift << shift | offset & ((1 << shift) - 1), shift));
                }
                Meaning::Table(pa) => bytes = memory.pages.get(&pa)?,
            }
        }
        None
    }

    /// Every page below a table, in the order of addresses: offset, physical address, size.
    fn pages(
        &self,
        memory: &Memory,
        radix: &Radix,
        (bytes, entries, level, start): (&[u8], u64, u32, u64),
        found: &mut Vec<(u64, u64, u32)>,
        loads: &mut u64,
    ) {
        let shift = self.page_shift + level * self.index_bits;
        for index in 0..entries {
            let Some(raw) = self.raw(bytes, index) else {
                break;
            };
            let at = start + (index << shift);
            match (self.meaning)(level, raw) {
                Some(Meaning::Page(frame)) => found.push((at, frame >> shift << shift, shift)),
                Some(Meaning::Table(pa)) if radix.top != TableRef::At(PhysAddr(pa)) => {
                    *loads += 1;
                    if let Some(bytes) = memory.pages.get(&pa) {
                        let below = (&bytes[..], 1 << self.index_bits, level - 1, at);
                        self.pages(memory, radix, below, found, loads);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Where the tables of a test are: so few that they name each other.
const TABLES: u64 = 5;

/// One entry of a random table.
#[derive(Clone, Copy, Debug)]
enum Item {
    /// The number of a table; the last one does not exist.
    Table(u64),
    /// A page of the given bits, large or small.
    Page(u64, bool),
    /// Anything.
    Junk(u64),
}

#[derive(Clone, Debug)]
struct Plan {
    /// Table (the first is the top), index, item.
    items: Vec<(u64, u64, Item)>,
    is_section: bool,
    entries: u64,
    level: u32,
    probes: Vec<(usize, u64)>,
}

fn a_plan(levels: u32) -> impl Strategy<Value = Plan> {
    let item = prop_oneof![
        3 => (0..=TABLES).prop_map(Item::Table),
        3 => (any::<u64>(), any::<bool>()).prop_map(|(bits, large)| Item::Page(bits, large)),
        1 => any::<u64>().prop_map(Item::Junk),
    ];
    // Entries at both ends of a table, and a few between.
    let index = prop_oneof![0u64..4, 2040u64..2048, any::<u64>()];
    (
        prop::collection::vec((0..TABLES, index, item), 0..24),
        any::<bool>(),
        1u64..1500,
        0..levels,
        prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 8),
    )
        .prop_map(|(items, is_section, entries, level, probes)| {
            let probes = probes
                .into_iter()
                .map(|(index, offset)| (index.index(items.len().max(1)), offset))
                .collect();
            Plan {
                items,
                is_section,
                entries,
                level,
                probes,
            }
        })
}

impl Plan {
    fn table_pa(naive: &Naive, number: u64) -> u64 {
        (number + 1) << naive.page_shift
    }

    fn build(&self, naive: &Naive, raw_of: fn(u64, Item) -> u64) -> (Radix, Memory) {
        let per_table = 1u64 << naive.index_bits;
        let entries = if self.is_section {
            self.entries
        } else {
            per_table
        };
        let mut tables: Vec<Vec<u64>> = (0..TABLES)
            .map(|number| {
                let len = if number == 0 { entries } else { per_table };
                vec![0; usize::try_from(len).unwrap()]
            })
            .collect();
        for (table, index, item) in &self.items {
            let table = &mut tables[usize::try_from(*table).unwrap()];
            let index = usize::try_from(index % table.len() as u64).unwrap();
            let pa = match item {
                Item::Table(number) => Self::table_pa(naive, *number),
                _ => 0,
            };
            table[index] = raw_of(pa, *item);
        }
        let mut memory = Memory::default();
        for (number, entries) in (0..).zip(&tables) {
            let bytes = encode(entries, naive.width);
            if number == 0 && self.is_section {
                memory.section = bytes;
            } else {
                memory.pages.insert(Self::table_pa(naive, number), bytes);
            }
        }
        let top = match self.is_section {
            true => TableRef::Section,
            false => TableRef::At(PhysAddr(Self::table_pa(naive, 0))),
        };
        let first_va = VirtAddr(if self.is_section { 0x8000_0000 } else { 0 });
        let level = self.level;
        (
            Radix {
                top,
                level,
                first_va,
                entries,
                va_bits: 64,
            },
            memory,
        )
    }
}

/// Checks lookup and visit over one plan.
fn check<P: Paging>(
    naive: &Naive,
    plan: &Plan,
    raw_of: fn(u64, Item) -> u64,
) -> Result<(), TestCaseError> {
    let (radix, memory) = plan.build(naive, raw_of);
    let top = match radix.top {
        TableRef::Section => &memory.section,
        TableRef::At(pa) => &memory.pages[&pa.0],
    };
    let (mut expected, mut loads) = (Vec::new(), 0);
    naive.pages(
        &memory,
        &radix,
        (top, radix.entries, radix.level, 0),
        &mut expected,
        &mut loads,
    );

    let (events, flow, left) = visited::<P>(&radix, &memory, loads);
    prop_assert_eq!((flow, left), (ControlFlow::Continue(()), 0));
    let found: Vec<(u64, u64, u32)> = leaves(&radix, &events);
    prop_assert_eq!(&found, &expected);
    if let Some(less) = loads.checked_sub(1) {
        let (events, flow, left) = visited::<P>(&radix, &memory, less);
        prop_assert_eq!((flow, left), (ControlFlow::Break(()), 0));
        prop_assert!(expected.starts_with(&leaves(&radix, &events)));
    }

    // Every page that the visit found is found by its first and last address too.
    for (offset, pa, shift) in expected.iter().copied().take(200) {
        for inside in [0, (1 << shift) - 1] {
            let leaf = lookup::<P, _>(
                &radix,
                &memory,
                VirtAddr(radix.first_va.0 + offset + inside),
            );
            prop_assert_eq!(
                leaf.map(|leaf| (leaf.pa.0, leaf.size_shift)),
                Ok((pa + inside, shift))
            );
        }
    }
    // And any address at all leads where the naive walker goes.
    for (item, random) in &plan.probes {
        let index = plan
            .items
            .get(*item)
            .map_or(0, |(_, index, _)| index % radix.entries);
        let shift = P::shift(radix.level);
        let offset = (index << shift) | (random & ((1 << shift) - 1));
        let leaf = lookup::<P, _>(&radix, &memory, VirtAddr(radix.first_va.0 + offset));
        let naive = naive.translate(&memory, &radix, offset);
        prop_assert_eq!(leaf.ok().map(|leaf| (leaf.pa.0, leaf.size_shift)), naive);
    }
    Ok(())
}

fn leaves(radix: &Radix, events: &[Event]) -> Vec<(u64, u64, u32)> {
    let leaf = |event: &Event| match event {
        Event::Leaf(va, leaf) => Some((va.0 - radix.first_va.0, leaf.pa.0, leaf.size_shift)),
        _ => None,
    };
    events.iter().filter_map(leaf).collect()
}

/// x86: V and RW; the page bits with or without PS.
fn x86_raw(pa: u64, item: Item) -> u64 {
    match item {
        Item::Table(_) => pa | 3,
        Item::Page(bits, true) => bits | 0x81,
        Item::Page(bits, false) => bits & !0x80 | 1,
        Item::Junk(raw) => raw,
    }
}

fn arm64_raw(pa: u64, item: Item) -> u64 {
    match item {
        Item::Table(_) => pa | 3,
        Item::Page(bits, true) => bits & !3 | 1,
        Item::Page(bits, false) => bits | 3,
        Item::Junk(raw) => raw,
    }
}

fn riscv64_raw(pa: u64, item: Item) -> u64 {
    match item {
        Item::Table(_) => pa >> 12 << 10 | 1,
        Item::Page(bits, true) => bits | 3,
        Item::Page(bits, false) => bits | 0xcf,
        Item::Junk(raw) => raw,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn amd64_agrees_with_a_naive_walker(plan in a_plan(5)) {
        check::<Amd64>(&AMD64, &plan, x86_raw)?;
    }

    #[test]
    fn arm64_with_4_kib_pages_agrees_with_a_naive_walker(plan in a_plan(4)) {
        check::<Arm64Granule4K>(&ARM64_4K, &plan, arm64_raw)?;
    }

    #[test]
    fn arm64_with_16_kib_pages_agrees_with_a_naive_walker(plan in a_plan(3)) {
        check::<Arm64Granule16K>(&ARM64_16K, &plan, arm64_raw)?;
    }

    #[test]
    fn i386_without_pae_agrees_with_a_naive_walker(plan in a_plan(2)) {
        check::<I386>(&I386_NOPAE, &plan, x86_raw)?;
    }

    #[test]
    fn i386_with_pae_agrees_with_a_naive_walker(plan in a_plan(3)) {
        check::<I386Pae>(&I386_PAE, &plan, x86_raw)?;
    }

    #[test]
    fn riscv64_agrees_with_a_naive_walker(plan in a_plan(5)) {
        check::<Riscv64>(&RISCV64, &plan, riscv64_raw)?;
    }

    #[test]
    fn canonical_addresses_are_the_sign_extended_ones(va in any::<u64>(), level in 0u32..5) {
        let radix = Radix::root::<Amd64>(PhysAddr(0x1000), level);
        let bits = 12 + 9 * (level + 1);
        let is_canonical = (va << (64 - bits)).cast_signed() >> (64 - bits) == va.cast_signed();
        let mut memory = Memory::default();
        memory.table::<Amd64>(0x1000, &[]);
        let error = lookup::<Amd64, _>(&radix, &memory, VirtAddr(va)).unwrap_err();
        prop_assert_eq!(matches!(error, WalkError::Outside), !is_canonical);
    }
}
