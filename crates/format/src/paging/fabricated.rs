//! Tests: fabricated entries, and the parts of a tree that a bounded visit and [`table_for`] find.

use super::*;
use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

#[test]
fn fabricated_entries_are_the_ones_in_the_specification() {
    // version 1 of amd64: frame | 0x63, PAT bit 12 and NX lost
    assert_eq!(
        Amd64::fabricate(1, 0x8000_0000_0120_1183, 0, 3),
        0x0120_3063
    );
    // versions 2 and 3: the PDPE plus k times 2 MiB, flags kept
    assert_eq!(
        Amd64::fabricate(2, 0x8000_0000_4000_0083, 1, 5),
        0x8000_0000_40a0_0083
    );
    // a 1 GiB page in version 1: entry 512 is the first page of its second 2 MiB
    assert_eq!(Amd64::fabricate(2, 0x4000_0083, 0, 513), 0x4020_1063);
    assert_eq!(
        Arm64Granule4K::fabricate(1, 0x0060_0000_44a0_0701, 0, 0x26),
        0x44a2_6703
    );
    assert_eq!(
        Arm64Granule16K::fabricate(1, 0x0060_0000_4600_0701, 0, 1),
        0x4600_4703
    );
    assert_eq!(I386::fabricate(1, 0x0040_0183, 0, 1023), 0x007f_f063);
    assert_eq!(
        I386Pae::fabricate(1, 0x8000_0001_0020_0183, 0, 511),
        0x1_003f_f063
    );
    assert_eq!(Riscv64::fabricate(1, 0x2008_00cf, 0, 7), 0x2008_1ccf);
}

#[test]
fn fabricated_entries_map_what_the_large_page_maps() {
    fn check<P: Paging>(from: u32, raw: u64, level: u32) {
        let Entry::Leaf(large) = P::decode(from, raw) else {
            panic!("{raw:#x} is not a leaf")
        };
        let count = 1u64 << (P::shift(from) - P::shift(level));
        for k in [0, 1, count / 2, count - 1] {
            let Entry::Leaf(small) = P::decode(level, P::fabricate(from, raw, level, k)) else {
                panic!("entry {k} of level {level} is not a leaf");
            };
            assert_eq!(small.pa.0, large.pa.0 + (k << P::shift(level)));
            assert_eq!(small.size_shift, P::shift(level));
        }
    }
    check::<Amd64>(1, 0x8000_0000_0120_1183, 0);
    check::<Amd64>(2, 0x4000_0083, 0);
    check::<Amd64>(2, 0x4000_0083, 1);
    check::<Arm64Granule4K>(2, 0x0060_0000_4000_0701, 0);
    check::<Arm64Granule16K>(1, 0x0060_0000_4600_0701, 0);
    check::<I386>(1, 0x0040_0183, 0);
    check::<I386Pae>(1, 0x8000_0001_0020_0183, 0);
    check::<Riscv64>(2, 0x3000_00cf, 0);
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

/// Tables by their physical address; what is not there cannot be read.
struct Ram(BTreeMap<u64, [u64; 512]>);

impl Tables for Ram {
    type Error = ();
    fn entry(&self, table: TableRef, index: u64, _: Width) -> Result<u64, ()> {
        let TableRef::At(pa) = table else {
            return Err(());
        };
        self.0.get(&pa.0).map(|table| table[size(index)]).ok_or(())
    }
    fn load<'b>(
        &'b self,
        table: TableRef,
        first: u64,
        count: u64,
        width: Width,
        buf: &'b mut [u8],
    ) -> Result<&'b [u8], ()> {
        let bytes = &mut buf[..size(count) * 8];
        for (index, raw) in (first..).zip(bytes.chunks_exact_mut(8)) {
            raw.copy_from_slice(&self.entry(table, index, width)?.to_le_bytes());
        }
        Ok(bytes)
    }
}

#[derive(Default)]
struct Seen(Vec<u64>, Vec<(u64, u32)>);

impl Visitor<()> for Seen {
    fn leaf(&mut self, va: VirtAddr, _: Leaf) -> ControlFlow<()> {
        self.0.push(va.0);
        ControlFlow::Continue(())
    }
    fn table(&mut self, pa: PhysAddr, level: u32) -> ControlFlow<()> {
        self.1.push((pa.0, level));
        ControlFlow::Continue(())
    }
}

/// A kernel map of 1 GiB from 0xffff_ff80_0000_0000: 4 KiB pages at 0 and 5, 2 MiB at 1; and a page
/// of the user half.
fn machine() -> (Ram, Radix) {
    let mut ram = BTreeMap::new();
    let table = |entries: &[(usize, u64)]| {
        let mut table = [0; 512];
        for (index, raw) in entries {
            table[*index] = *raw;
        }
        table
    };
    ram.insert(0x1000, table(&[(0, 0x2003), (511, 0x3003)]));
    ram.insert(0x2000, table(&[(0, 0x4000_0083)]));
    ram.insert(0x3000, table(&[(0, 0x4003), (1, 0x8000_0083)]));
    ram.insert(0x4000, table(&[(0, 0x5003), (1, 0x20_0083), (2, 0x6003)]));
    ram.insert(0x5000, table(&[(0, 0x10_0003), (5, 0x10_5003)]));
    (Ram(ram), Radix::root::<Amd64>(PhysAddr(0x1000), 3))
}

const KERNEL: u64 = 0xffff_ff80_0000_0000;

fn visited(first: u64, last: u64) -> Seen {
    let (ram, radix) = machine();
    let (mut seen, mut buf) = (Seen::default(), vec![0; 4 * 4096]);
    let range = (VirtAddr(first), VirtAddr(last));
    let flow = visit_range::<Amd64, _>(
        &radix,
        &ram,
        range,
        &mut buf,
        &mut Budget { table_loads: 9 },
        &mut seen,
    );
    assert!(flow.is_continue());
    seen
}

#[test]
fn a_bounded_visit_finds_what_lies_in_its_bounds_and_no_more() {
    let all = visited(KERNEL, u64::MAX);
    assert_eq!(
        all.0,
        [
            KERNEL,
            KERNEL + 0x5000,
            KERNEL + 0x20_0000,
            KERNEL + (1 << 30)
        ]
    );
    assert_eq!(all.1, [(0x3000, 2), (0x4000, 1), (0x5000, 0), (0x6000, 0)]);
    let first_gib = visited(KERNEL, KERNEL + (1 << 30) - 1);
    assert_eq!(first_gib.0, [KERNEL, KERNEL + 0x5000, KERNEL + 0x20_0000]);
    assert_eq!(
        visited(KERNEL + 0x1000, KERNEL + 0x5fff).0,
        [KERNEL + 0x5000]
    );
    assert_eq!(
        visited(KERNEL + 0x20_1000, KERNEL + 0x20_1fff).0,
        [KERNEL + 0x20_0000]
    );
    assert_eq!(visited(0, 0x1000).0, [0]);
    assert_eq!(visited(1 << 47, KERNEL).0, [0; 0]);
}

#[test]
fn the_table_for_a_slot_is_found_or_what_is_there_instead() {
    let (ram, radix) = machine();
    let find = |va, level| table_for::<Amd64, _>(&radix, &ram, VirtAddr(va), level);
    assert_eq!(find(KERNEL, 1), Ok(Covering::Table(PhysAddr(0x4000))));
    assert_eq!(find(KERNEL, 0), Ok(Covering::Table(PhysAddr(0x5000))));
    assert_eq!(
        find(KERNEL + 0x20_0000, 0),
        Ok(Covering::Leaf {
            level: 1,
            raw: 0x20_0083
        })
    );
    assert_eq!(
        find(KERNEL + (1 << 30), 0),
        Ok(Covering::Leaf {
            level: 2,
            raw: 0x8000_0083
        })
    );
    assert_eq!(find(KERNEL + (2 << 30), 1), Ok(Covering::Absent));
    assert_eq!(find(KERNEL, 3), Err(WalkError::Outside));
    let missing = find(KERNEL + 0x40_0000, 0);
    assert_eq!(missing, Ok(Covering::Table(PhysAddr(0x6000))));
}
