//! Page tables of every architecture over arbitrary memory: the visit ends within its budget, its
//! leaves ascend and agree with lookups, and lookups find nothing that it did not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::{Endian, Width};
use vmcore_format::paging::{
    Amd64, Arm64Granule4K, Arm64Granule16K, ArmV4, ArmV6, Budget, Hashed, I386, I386Pae, Leaf,
    Mips32, Mips64, PageKind, Paging, Powerpc64Radix, Powerpc64RadixSwapped, Probe, Radix, Riscv64,
    TableRef, Tables, Visitor, WalkError, lookup, lookup_with, visit,
};
use vmcore_fuzz::input::Input;

/// Leaves that are compared; a small memory may hold millions.
const LEAVES: usize = 1000;
/// Entries of a hashed table.
const ENTRIES: usize = 64;
/// Addresses that are looked up besides.
const PROBES: usize = 8;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    match input.byte() % 13 {
        0 => check::<Amd64>(input, 4),
        1 => check::<Arm64Granule4K>(input, 4),
        2 => check::<Arm64Granule16K>(input, 3),
        3 => check::<I386>(input, 1),
        4 => check::<I386Pae>(input, 2),
        5 => check::<Riscv64>(input, 4),
        6 => check::<ArmV6>(input, 1),
        7 => check::<ArmV4>(input, 1),
        8 => check::<Mips32>(input, 0),
        9 => check::<Mips64>(input, 0),
        10 => check::<Powerpc64Radix>(input, 3),
        11 => check::<Powerpc64RadixSwapped>(input, 3),
        _ => check_hashed(input),
    }
});

/// Memory that holds tables: a few bytes, which stand for all memory or for its beginning.
struct Memory<'a> {
    bytes: &'a [u8],
    /// Every address leads somewhere: tables overlap, and may begin every 64 bytes.
    is_everywhere: bool,
    loads: Cell<u64>,
}

impl Memory<'_> {
    fn at(&self, table: TableRef, byte: u64) -> Option<u8> {
        let (table, len) = match table {
            TableRef::Section => (0, self.bytes.len() as u64),
            TableRef::At(pa) if self.is_everywhere => (pa.0 >> 6, self.bytes.len() as u64),
            TableRef::At(pa) => (pa.0, self.bytes.len() as u64),
        };
        let mut at = table.checked_add(byte)?;
        if self.is_everywhere {
            at = at.checked_rem(len)?;
        }
        self.bytes.get(usize::try_from(at).ok()?).copied()
    }
}

impl Tables for Memory<'_> {
    type Error = ();

    fn entry(&self, table: TableRef, index: u64, width: Width) -> Result<u64, ()> {
        let mut raw = [0; 8];
        for (byte, number) in raw.iter_mut().zip(0..width.bytes()) {
            *byte = self.at(table, index * width.bytes() + number).ok_or(())?;
        }
        Ok(Endian::Little.u64(raw))
    }

    fn load<'b>(
        &'b self,
        table: TableRef,
        first: u64,
        count: u64,
        width: Width,
        buf: &'b mut [u8],
    ) -> Result<&'b [u8], ()> {
        self.loads.set(self.loads.get() + 1);
        let bytes = first * width.bytes()..(first + count) * width.bytes();
        let mut len = 0;
        for (to, byte) in buf.iter_mut().zip(bytes) {
            let Some(from) = self.at(table, byte) else {
                break;
            };
            *to = from;
            len += 1;
        }
        // Not even one entry.
        if len < usize::try_from(width.bytes()).expect("4 or 8") {
            return Err(());
        }
        Ok(&buf[..len])
    }
}

/// What a visit found.
#[derive(Default)]
struct Mapping {
    leaves: Vec<(VirtAddr, Leaf)>,
    tables: u64,
    unreadable: Vec<(VirtAddr, WalkError<()>)>,
}

impl Visitor<()> for Mapping {
    fn leaf(&mut self, va: VirtAddr, leaf: Leaf) -> ControlFlow<()> {
        self.leaves.push((va, leaf));
        if self.leaves.len() == LEAVES {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn table(&mut self, _pa: PhysAddr, _level: u32) -> ControlFlow<()> {
        self.tables += 1;
        ControlFlow::Continue(())
    }

    fn unreadable(&mut self, va: VirtAddr, error: WalkError<()>) -> ControlFlow<()> {
        self.unreadable.push((va, error));
        ControlFlow::Continue(())
    }
}

/// Where the descent starts: a section of the dump, or a root page.
fn radix<P: Paging>(input: &mut Input<'_>, top_level: u32) -> Radix {
    let shape = input.byte();
    let level = u32::from(shape >> 1) % (top_level + 1);
    if shape & 1 == 0 {
        let first_va = VirtAddr(input.u64());
        let entries = u64::from(input.u32()) % 4096;
        Radix::section(level.min(1), first_va, entries)
    } else {
        Radix::root::<P>(PhysAddr(input.u64() % 0x10_0000), level)
    }
}

fn check<P: Paging>(mut input: Input<'_>, top_level: u32) {
    let radix = radix::<P>(&mut input, top_level);
    let allowed = u64::from(input.byte()) % 64;
    let is_everywhere = input.byte() & 1 == 0;
    let probes: [VirtAddr; PROBES] = std::array::from_fn(|_| VirtAddr(input.u64()));
    let memory = Memory {
        bytes: input.0,
        is_everywhere,
        loads: Cell::new(0),
    };

    let mut budget = Budget {
        table_loads: allowed,
    };
    let table_bytes = usize::try_from(P::ENTRY.bytes() << P::INDEX_BITS).expect("a page");
    let mut buf = vec![0; table_bytes * (radix.level as usize + 1)];
    let mut found = Mapping::default();
    let flow = visit::<P, _>(&radix, &memory, &mut buf, &mut budget, &mut found);

    assert_eq!(found.tables, allowed - budget.table_loads);
    let chunks = radix.entries.div_ceil(1 << P::INDEX_BITS);
    assert!(memory.loads.get() <= chunks + found.tables);
    let is_complete = flow.is_continue();
    assert!(is_complete || budget.table_loads == 0 || found.leaves.len() == LEAVES);

    for pair in found.leaves.windows(2) {
        let ((va, leaf), (next, _)) = (pair[0], pair[1]);
        let last = va.checked_add(leaf.len_bytes() - 1);
        assert!(last.is_some_and(|last| last < next));
    }
    for (va, leaf) in &found.leaves {
        assert!(leaf.pa.0.is_multiple_of(leaf.len_bytes()));
        let inside = leaf.len_bytes() - 1;
        let found = lookup::<P, _>(&radix, &memory, *va).expect("it is mapped");
        // arm's largest pages are visited in parts, one for each of their entries.
        let is_part = found.size_shift > leaf.size_shift;
        let size_shift = if is_part {
            found.size_shift
        } else {
            leaf.size_shift
        };
        let whole = Leaf {
            size_shift,
            ..*leaf
        };
        assert_eq!(found, whole);
        if let Some(last) = va.checked_add(inside) {
            let pa = PhysAddr(leaf.pa.0 + inside);
            assert_eq!(
                lookup::<P, _>(&radix, &memory, last),
                Ok(Leaf { pa, ..whole })
            );
        }
    }
    for (va, error) in found.unreadable.iter().take(LEAVES) {
        assert_eq!(lookup::<P, _>(&radix, &memory, *va), Err(*error));
    }
    if is_complete {
        for va in probes {
            is_visited::<P>(&radix, &memory, va, &found);
        }
    }
}

/// What a lookup finds, a whole visit has found, unless the way leads through the root once more:
/// the visit does not go there.
fn is_visited<P: Paging>(radix: &Radix, memory: &Memory<'_>, va: VirtAddr, found: &Mapping) {
    let mut tops = 0;
    let looked_up = lookup_with::<P, _>(radix, memory, va, |step| {
        tops += u32::from(step.table == radix.top);
    });
    if tops > 1 {
        return;
    }
    let after = found.leaves.partition_point(|(first, _)| *first <= va);
    let visited = after
        .checked_sub(1)
        .map(|index| found.leaves[index])
        .filter(|(first, leaf)| va.0 - first.0 < leaf.len_bytes());
    match (looked_up, visited) {
        (Ok(leaf), Some((first, whole))) => {
            assert_eq!(leaf.pa.0, whole.pa.0 + (va.0 - first.0));
            assert!(leaf.size_shift >= whole.size_shift);
            assert_eq!(leaf.prot, whole.prot);
        }
        (Err(_), None) => {}
        (looked_up, visited) => panic!("{va}: {looked_up:?}, but the visit found {visited:?}"),
    }
}

/// Words of a hashed table; all others are zeros.
struct Words(BTreeMap<u64, u64>);

impl Tables for Words {
    type Error = ();

    fn entry(&self, _: TableRef, index: u64, _: Width) -> Result<u64, ()> {
        Ok(self.0.get(&index).copied().unwrap_or(0))
    }

    fn load<'b>(
        &'b self,
        _: TableRef,
        _: u64,
        _: u64,
        _: Width,
        _: &'b mut [u8],
    ) -> Result<&'b [u8], ()> {
        Err(())
    }
}

/// powerpc64's hashed table, with entries at home and anywhere: what an entry says that it maps, a
/// lookup finds.
fn check_hashed(mut input: Input<'_>) {
    let shape = input.byte();
    let table = Hashed {
        groups: 1 << (shape % 20),
        swapped: shape & 0x40 != 0,
        last: VirtAddr(0xc008_0007_ffff_ffff),
    };
    let mut words = Words(BTreeMap::new());
    let mut places = Vec::new();
    for _ in 0..ENTRIES {
        if input.0.is_empty() {
            break;
        }
        let choice = input.byte();
        let (secondary, slot) = (choice & 1 != 0, u64::from(choice >> 1 & 7));
        let (va, lo) = (VirtAddr(input.u64()), input.u64());
        let (group, hi) = if choice & 0x80 == 0 {
            // At home: as the kernel would put it in.
            let kind = match choice & 0x40 != 0 {
                true => PageKind::Large,
                false => PageKind::Small,
            };
            let probe = Probe::of(va, kind);
            let (ava, large) = match kind {
                PageKind::Small => (probe.page >> 11, 0),
                PageKind::Large => (probe.page << 1, 4),
            };
            let hi = probe.vsid << 12 | ava << 7 | large | u64::from(secondary) << 1 | 1;
            (probe.group(table.groups, secondary), hi)
        } else {
            (u64::from(input.u32()) & (table.groups - 1), va.0)
        };
        let stored = |word: u64| {
            if table.swapped {
                word.swap_bytes()
            } else {
                word
            }
        };
        let index = (group * 8 + slot) * 2;
        words.0.insert(index, stored(hi));
        words.0.insert(index + 1, stored(lo));
        places.push((group, slot));
    }
    for (group, slot) in places {
        let Ok(Some(mapping)) = table.mapping(&words, group, slot) else {
            continue;
        };
        assert!(mapping.leaf.pa.0.is_multiple_of(mapping.leaf.len_bytes()));
        // Another entry may be for the same page, and precede it; small pages come first.
        let found = table.lookup(&words, mapping.va).expect("it is mapped");
        assert!(found.size_shift <= mapping.leaf.size_shift);
    }
}
