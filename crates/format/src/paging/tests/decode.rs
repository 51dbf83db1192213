//! Entries of every architecture and level, by the specification's tables of bits.

use super::*;
use std::string::ToString as _;

const RWX: Prot = Prot {
    write: true,
    execute: true,
};
const RW: Prot = Prot {
    write: true,
    execute: false,
};
const RX: Prot = Prot {
    write: false,
    execute: true,
};
const R: Prot = Prot {
    write: false,
    execute: false,
};

const fn table(pa: u64) -> Entry {
    Entry::Table(PhysAddr(pa))
}

const fn leaf(pa: u64, size_shift: u32, prot: Prot) -> Entry {
    Entry::Leaf(Leaf {
        pa: PhysAddr(pa),
        size_shift,
        prot,
    })
}

fn check<P: Paging>(rows: &[(u32, u64, Entry)]) {
    for (level, raw, expected) in rows {
        assert_eq!(
            P::decode(*level, *raw),
            *expected,
            "level {level}, {raw:#x}"
        );
    }
}

#[test]
fn amd64() {
    check::<Amd64>(&[
        // A 4 KiB page: V, RW, NX; bits 52 to 62 are software's.
        (0, 0x8000_0000_0023_4103, leaf(0x23_4000, 12, RW)),
        (0, 0x23_4001, leaf(0x23_4000, 12, RX)),
        (0, 0x7ff0_0000_0023_4003, leaf(0x23_4000, 12, RWX)),
        (
            0,
            0x000f_ffff_ffff_f003,
            leaf(0x000f_ffff_ffff_f000, 12, RWX),
        ),
        // Bit 7 is PAT in a PTE.
        (0, 0x23_4083, leaf(0x23_4000, 12, RWX)),
        (0, 0x8000_0000_0023_4102, Entry::Absent),
        // A PDE: with PS a 2 MiB page whose bit 12 is PAT, else a table.
        (1, 0x8000_0000_0000_0083, leaf(0, 21, RW)),
        (1, 0x4000_1083, leaf(0x4000_0000, 21, RWX)),
        (1, 0x401f_f083, leaf(0x4000_0000, 21, RWX)),
        (1, 0x30_0003, table(0x30_0000)),
        (1, 0x8000_0000_0030_0003, table(0x30_0000)),
        (1, 0x30_0082, Entry::Absent),
        // A PDPE: with PS a 1 GiB page.
        (2, 0x8000_0001_4000_1081, leaf(0x1_4000_0000, 30, R)),
        (2, 0x30_0003, table(0x30_0000)),
        // Higher up there are no pages, whatever bit 7 says.
        (3, 0x30_0083, table(0x30_0000)),
        (4, 0x30_0083, table(0x30_0000)),
        (3, 0x30_0002, Entry::Absent),
        (4, 0, Entry::Absent),
    ]);
}

#[test]
fn arm64_with_4_kib_pages() {
    check::<Arm64Granule4K>(&[
        // An entry of a real dump, made by the writer from a 2 MiB block.
        (0, 0x44a2_6703, leaf(0x44a2_6000, 12, RWX)),
        (0, 0x0060_0000_44a2_6783, leaf(0x44a2_6000, 12, R)),
        (0, 0x0020_0000_44a2_6703, leaf(0x44a2_6000, 12, RW)),
        (0, 0x0040_0000_44a2_6703, leaf(0x44a2_6000, 12, RW)),
        // Bits 50 and up are attributes and software's.
        (0, 0x079c_0000_44a2_6783, leaf(0x44a2_6000, 12, RX)),
        (
            0,
            0x0003_ffff_ffff_f003,
            leaf(0x0003_ffff_ffff_f000, 12, RWX),
        ),
        // The lowest level knows pages only.
        (0, 0x44a2_6701, Entry::Absent),
        (0, 0x44a2_6702, Entry::Absent),
        (0, 0x44a2_6700, Entry::Absent),
        (1, 0x4020_0701, leaf(0x4020_0000, 21, RWX)),
        (1, 0x403f_f701, leaf(0x4020_0000, 21, RWX)),
        (1, 0x4030_0003, table(0x4030_0000)),
        (1, 0x4030_0002, Entry::Absent),
        (2, 0x8000_0701, leaf(0x8000_0000, 30, RWX)),
        (2, 0x4030_0003, table(0x4030_0000)),
        // No blocks of 512 GiB.
        (3, 0x8000_0701, Entry::Absent),
        (3, 0x4030_0003, table(0x4030_0000)),
    ]);
}

#[test]
fn arm64_with_16_kib_pages() {
    check::<Arm64Granule16K>(&[
        // Bits 12 and 13 are not address bits.
        (0, 0x44a2_7703, leaf(0x44a2_4000, 14, RWX)),
        (0, 0x44a2_4701, Entry::Absent),
        (1, 0x4200_0701, leaf(0x4200_0000, 25, RWX)),
        (1, 0x43ff_f701, leaf(0x4200_0000, 25, RWX)),
        (1, 0x4200_3003, table(0x4200_0000)),
        // Blocks are of 32 MiB alone.
        (2, 0x8000_0701, Entry::Absent),
        (2, 0x8000_0003, table(0x8000_0000)),
    ]);
}

#[test]
fn i386_without_pae() {
    check::<I386>(&[
        (0, 0x1d4_0063, leaf(0x1d4_0000, 12, RWX)),
        (0, 0x1d4_0061, leaf(0x1d4_0000, 12, RX)),
        (0, 0x1d4_00e3, leaf(0x1d4_0000, 12, RWX)),
        (0, 0xffff_f003, leaf(0xffff_f000, 12, RWX)),
        (0, 0x1d4_0062, Entry::Absent),
        (1, 0x40_01e3, leaf(0x40_0000, 22, RWX)),
        // PSE-36's address bits are ignored.
        (1, 0x41f_e1e3, leaf(0x400_0000, 22, RWX)),
        (1, 0x123_4003, table(0x123_4000)),
        (1, 0x123_4002, Entry::Absent),
    ]);
}

#[test]
fn i386_with_pae() {
    check::<I386Pae>(&[
        (0, 0x1d4_0063, leaf(0x1d4_0000, 12, RWX)),
        (0, 0x8000_0001_01d4_0063, leaf(0x1_01d4_0000, 12, RW)),
        (1, 0x8000_0000_0060_1081, leaf(0x60_0000, 21, R)),
        (1, 0x123_4003, table(0x123_4000)),
        // A directory pointer has no pages and no W bit.
        (2, 0x123_4001, table(0x123_4000)),
        (2, 0x123_4081, table(0x123_4000)),
        (2, 0, Entry::Absent),
    ]);
}

#[test]
fn riscv64() {
    let ppn = |pa: u64| pa >> 12 << 10;
    check::<Riscv64>(&[
        (0, ppn(0x8020_0000) | 0xcf, leaf(0x8020_0000, 12, RWX)),
        (0, ppn(0x8020_1000) | 0x03, leaf(0x8020_1000, 12, R)),
        (0, ppn(0x8020_1000) | 0x07, leaf(0x8020_1000, 12, RW)),
        (0, ppn(0x8020_1000) | 0x0b, leaf(0x8020_1000, 12, RX)),
        (0, ppn(0x8020_1000) | 0x09, leaf(0x8020_1000, 12, RX)),
        // Bits 61 and up are memory attributes.
        (
            0,
            0xe000_0000_0000_0000 | ppn(0x8020_1000) | 0x03,
            leaf(0x8020_1000, 12, R),
        ),
        (0, 0x003f_ffff_ffff_fc03, leaf(0x00ff_ffff_ffff_f000, 12, R)),
        // At the lowest level a pointer to a table is not valid.
        (0, ppn(0x8020_1000) | 0x01, Entry::Absent),
        (0, ppn(0x8020_1000) | 0xce, Entry::Absent),
        (1, ppn(0x8040_0000) | 0xcf, leaf(0x8040_0000, 21, RWX)),
        (1, ppn(0x8040_1000) | 0xcf, leaf(0x8040_0000, 21, RWX)),
        (1, ppn(0x8040_1000) | 0x01, table(0x8040_1000)),
        (2, ppn(0xc000_0000) | 0xcf, leaf(0xc000_0000, 30, RWX)),
        (3, ppn(0xc000_1000) | 0x01, table(0xc000_1000)),
        (4, ppn(0xc000_1000) | 0x01, table(0xc000_1000)),
    ]);
}

#[test]
fn entries_cover_what_their_level_says() {
    let shifts = |shift: fn(u32) -> u32| [0, 1, 2, 3].map(shift);
    assert_eq!(shifts(Amd64::shift), [12, 21, 30, 39]);
    assert_eq!(Amd64::shift(4), 48);
    assert_eq!(shifts(Arm64Granule4K::shift), [12, 21, 30, 39]);
    assert_eq!(shifts(Arm64Granule16K::shift), [14, 25, 36, 47]);
    assert_eq!([0, 1].map(I386::shift), [12, 22]);
    assert_eq!([0, 1, 2].map(I386Pae::shift), [12, 21, 30]);
    assert_eq!(shifts(Riscv64::shift), [12, 21, 30, 39]);
}

#[test]
fn protection_prints_as_people_write_it() {
    assert_eq!(
        [R, RW, RX, RWX].map(|prot| prot.to_string()),
        ["r--", "rw-", "r-x", "rwx"]
    );
    assert_eq!(TableRef::Section.to_string(), "the page-table section");
    assert_eq!(
        TableRef::At(PhysAddr(0x30_0000)).to_string(),
        "the table at 0x300000"
    );
}
