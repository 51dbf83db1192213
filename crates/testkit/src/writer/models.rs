//! The machines of the tests: one model for each architecture and paging mode, written down from the
//! manuals and the specification, without the library.

use super::sim::{Sim, ix, range};
use vmcore_format::addr::{PhysAddr, PhysRange, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::header::DirectMap;
use vmcore_writer::arch::KernelPaging;

/// An architecture as the tests know it.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub arch: Arch,
    pub pae: bool,
    /// The kernel's integers are big-endian; the entries of its tables are.
    pub big_endian: bool,
    pub big_endian_entries: bool,
    pub page_shift: u32,
    pub index_bits: u32,
    pub entry_bytes: u64,
    pub root_level: u32,
    pub root_entries: u64,
    pub first_va: u64,
    pub va_bits: u32,
    pub kernbase: u64,
    pub kernend: u64,
    pub direct_map: Option<DirectMap>,
    /// The highest level with large pages.
    pub large_level: u32,
    pub table: fn(u64) -> u64,
    pub leaf: fn(u64, u32) -> u64,
    pub frame: fn(u64) -> u64,
    /// The entry that a dump makes up for page `k` of the large page that `raw` of a level maps.
    pub made_up: fn(raw: u64, pa: u64, k: u64, section_level: u32) -> u64,
}

impl Model {
    pub const fn page_bytes(&self) -> usize {
        1 << self.page_shift
    }

    /// Bytes of a table below the root.
    pub const fn table_bytes(&self) -> usize {
        (self.entry_bytes as usize) << self.index_bits
    }

    /// Pages of the root.
    pub const fn root_pages(&self) -> u64 {
        (self.root_entries * self.entry_bytes).div_ceil(1 << self.page_shift)
    }

    /// The bytes of an integer of the kernel's.
    pub fn put(&self, value: u64, len: usize) -> Vec<u8> {
        bytes(value, len, self.big_endian)
    }

    /// The bytes of a table's entry.
    pub fn put_entry(&self, raw: u64) -> Vec<u8> {
        bytes(raw, self.entry_bytes as usize, self.big_endian_entries)
    }

    /// The number that the bytes of a table's entry are.
    pub fn entry(&self, bytes: &[u8]) -> u64 {
        number(bytes, self.big_endian_entries)
    }

    /// The number that bytes of the kernel's are.
    pub fn number(&self, bytes: &[u8]) -> u64 {
        number(bytes, self.big_endian)
    }

    /// The byte of the bitmap that holds a bit: its words are the kernel's, as wide as its entries.
    pub const fn bitmap_byte(&self, bit: usize) -> usize {
        let word = self.entry_bytes as usize;
        match self.big_endian {
            true => bit / 8 / word * word + word - 1 - bit / 8 % word,
            false => bit / 8,
        }
    }

    pub const fn shift(&self, level: u32) -> u32 {
        self.page_shift + level * self.index_bits
    }

    pub const fn index(&self, va: u64, level: u32) -> u64 {
        let index = (va.wrapping_sub(self.first_va)) >> self.shift(level);
        if level == self.root_level {
            index & (self.root_entries - 1)
        } else {
            index & ((1 << self.index_bits) - 1)
        }
    }

    /// Level of the entries in the page-table section.
    pub fn section_level(&self, version: u32) -> u32 {
        match self.arch {
            Arch::Powerpc64 => self.root_level,
            arch => u32::from(arch == Arch::Amd64 && version >= 2),
        }
    }

    /// Whether page-table pages are pages of the dump.
    pub fn tables_are_pages(&self, version: u32) -> bool {
        self.section_level(version) > 0
    }

    /// Whether the bitmap numbers the pages of the ranges, not those from physical page 0 on.
    pub fn has_dump_avail(&self, version: u32) -> bool {
        match self.arch {
            Arch::Amd64 => version >= 3,
            _ => version >= 2,
        }
    }
}

fn bytes(value: u64, len: usize, big_endian: bool) -> Vec<u8> {
    let mut bytes = value.to_le_bytes()[..len].to_vec();
    if big_endian {
        bytes.reverse();
    }
    bytes
}

fn number(bytes: &[u8], big_endian: bool) -> u64 {
    let sum = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    match big_endian {
        true => bytes.iter().fold(0, sum),
        false => bytes.iter().rev().fold(0, sum),
    }
}

const fn direct(base: u64, end: u64, phys: u64) -> Option<DirectMap> {
    Some(DirectMap {
        base: VirtAddr(base),
        end: VirtAddr(end),
        phys: PhysAddr(phys),
    })
}

/// amd64 with four levels; the kernel map of version 3.
pub const AMD64: Model = Model {
    arch: Arch::Amd64,
    pae: false,
    big_endian: false,
    big_endian_entries: false,
    page_shift: 12,
    index_bits: 9,
    entry_bytes: 8,
    root_level: 3,
    root_entries: 512,
    first_va: 0,
    va_bits: 48,
    kernbase: 0xffff_fe00_0000_0000,
    kernend: 0xffff_fe01_0000_0000, // 4 GiB
    direct_map: direct(0xffff_f800_0000_0000, 0xffff_fc00_0000_0000, 0),
    large_level: 2,
    table: |pa| pa | 0x63,
    leaf: |pa, level| pa | 1 << 63 | if level == 0 { 0x123 } else { 0x1a3 },
    frame: |raw| raw & 0x000f_ffff_ffff_f000,
    made_up: |raw, pa, k, section_level| match section_level {
        0 => (pa + k * 4096) | 0x63,
        _ => raw + k * 0x20_0000,
    },
};

/// amd64 with five levels.
pub const AMD64_LA57: Model = Model {
    root_level: 4,
    va_bits: 57,
    ..AMD64
};

/// amd64 with the kernel map of 2006: 2 GiB less its last 2 MiB.
pub const AMD64_V1: Model = Model {
    kernbase: 0xffff_ffff_8000_0000,
    kernend: 0xffff_ffff_ffe0_0000,
    direct_map: direct(0xffff_ff00_0000_0000, 0xffff_ff80_0000_0000, 0),
    ..AMD64
};

/// arm64 with 4 KiB pages.
pub const ARM64: Model = Model {
    arch: Arch::Arm64,
    pae: false,
    big_endian: false,
    big_endian_entries: false,
    page_shift: 12,
    index_bits: 9,
    entry_bytes: 8,
    root_level: 3,
    root_entries: 512,
    first_va: 0xffff_0000_0000_0000,
    va_bits: 64,
    kernbase: 0xffff_0000_0000_0000,
    kernend: 0xffff_0000_8000_0000, // 2 GiB
    direct_map: direct(0xffff_a000_0000_0000, 0xffff_ff00_0000_0000, 0x4000_0000),
    large_level: 2,
    table: |pa| pa | 3,
    leaf: |pa, level| pa | 0x0060_0000_0000_0700 | if level == 0 { 3 } else { 1 },
    frame: |raw| raw & 0x0003_ffff_ffff_f000,
    made_up: |_, pa, k, _| (pa + k * 4096) | 0x703,
};

/// arm64 with 16 KiB pages.
pub const ARM64_16K: Model = Model {
    page_shift: 14,
    index_bits: 11,
    root_level: 2,
    root_entries: 2048,
    kernend: 0xffff_0001_0000_0000,
    large_level: 1,
    frame: |raw| raw & 0x0003_ffff_ffff_c000,
    made_up: |_, pa, k, _| (pa + k * 16384) | 0x703,
    ..ARM64
};

/// riscv64, Sv39.
pub const RISCV64: Model = Model {
    arch: Arch::Riscv64,
    pae: false,
    big_endian: false,
    big_endian_entries: false,
    page_shift: 12,
    index_bits: 9,
    entry_bytes: 8,
    root_level: 2,
    root_entries: 512,
    first_va: 0,
    va_bits: 39,
    kernbase: 0xffff_ffc0_0000_0000,
    kernend: 0xffff_ffc0_8000_0000,
    direct_map: direct(0xffff_ffd0_0000_0000, 0xffff_fff0_0000_0000, 0x8000_0000),
    large_level: 2,
    table: |pa| pa >> 12 << 10 | 1,
    leaf: |pa, _| pa >> 12 << 10 | 0xcf,
    frame: |raw| raw >> 10 << 12,
    made_up: |raw, _, k, _| raw | k << 10,
};

/// i386 without PAE.
pub const I386: Model = Model {
    arch: Arch::I386,
    pae: false,
    big_endian: false,
    big_endian_entries: false,
    page_shift: 12,
    index_bits: 10,
    entry_bytes: 4,
    root_level: 1,
    root_entries: 1024,
    first_va: 0,
    va_bits: 64,
    kernbase: 0x80_0000,
    kernend: 0x800_0000,
    direct_map: None,
    large_level: 1,
    table: |pa| pa | 0x63,
    leaf: |pa, level| pa | if level == 0 { 0x103 } else { 0x183 },
    frame: |raw| raw & 0xffff_f000,
    made_up: |_, pa, k, _| (pa + k * 4096) | 0x63,
};

/// i386 with PAE.
pub const I386_PAE: Model = Model {
    pae: true,
    index_bits: 9,
    entry_bytes: 8,
    root_level: 2,
    root_entries: 4,
    table: |pa| pa | 1,
    leaf: |pa, level| pa | 1 << 63 | if level == 0 { 0x103 } else { 0x183 },
    frame: |raw| raw & 0x000f_ffff_ffff_f000,
    ..I386
};

/// arm: two levels of descriptors, whose second-level tables are a quarter of a page.
pub const ARM: Model = Model {
    arch: Arch::Arm,
    pae: false,
    big_endian: false,
    big_endian_entries: false,
    page_shift: 12,
    index_bits: 8,
    entry_bytes: 4,
    root_level: 1,
    root_entries: 4096,
    first_va: 0,
    va_bits: 64,
    kernbase: 0xc000_0000,
    kernend: 0xc800_0000,
    direct_map: None,
    large_level: 1,
    table: |pa| pa | 1,
    // Neither is executable: small page with XN; section with XN.
    leaf: |pa, level| pa | if level == 0 { 0x13 } else { 0x412 },
    frame: |raw| raw & 0xffff_fc00,
    made_up: |_, pa, k, _| (pa + k * 4096) | 0x13,
};

/// The same, big-endian.
pub const ARMEB: Model = Model {
    big_endian: true,
    big_endian_entries: true,
    ..ARM
};

/// powerpc64 with radix tables, big-endian: the section is the root.
pub const POWERPC64: Model = Model {
    arch: Arch::Powerpc64,
    pae: false,
    big_endian: true,
    big_endian_entries: true,
    page_shift: 12,
    index_bits: 9,
    entry_bytes: 8,
    root_level: 3,
    root_entries: 8192,
    first_va: 3 << 62,
    va_bits: 64,
    kernbase: 0xc008_0000_0000_0000,
    kernend: 0xc008_0008_0000_0000,
    direct_map: direct(0xc000_0000_0000_0000, 0xc008_0000_0000_0000, 0),
    large_level: 2,
    table: |pa| 1 << 63 | pa | 9,
    leaf: |pa, _| 3 << 62 | pa | 6,
    frame: |raw| raw & 0x00ff_ffff_ffff_f000,
    made_up: |raw, _, _, _| raw,
};

/// powerpc64le: its tables are big-endian all the same.
pub const POWERPC64LE: Model = Model {
    big_endian: false,
    ..POWERPC64
};

/// RAM of the usual small machine: ranges with holes, boundaries inside pages, one of them far up.
pub fn small_ram(model: &Model) -> Vec<PhysRange> {
    let base = model.direct_map.map_or(0, |map| map.phys.0);
    vec![
        range(base, base + 0x9_f800),
        range(base + 0x10_0000, base + 0x28_0000),
        range(base + 0x30_0800, base + 0x60_0000),
        range(base + 0x4000_0000, base + 0x4004_0000),
    ]
}

/// A kernel with every page size, slabs, device memory and forbidden pages.
pub fn small<P: KernelPaging>(model: Model) -> Sim<P> {
    let mut sim = Sim::<P>::new(model, &small_ram(&model), 98232);
    fill(&mut sim);
    sim
}

/// Puts a kernel into a machine.
pub fn fill<P: KernelPaging>(sim: &mut Sim<P>) {
    let model = sim.model;
    let page = 1u64 << model.page_shift;
    let ram = sim.ranges[0].start.0;
    // small pages here and there: kernel stacks, a module
    for index in [0, 1, 5, 300, 511] {
        let pfn = sim.allocate();
        sim.map_page(model.kernbase + index * page, pfn << model.page_shift, 0);
    }
    // a large page that spans a hole in RAM: the kernel image
    let large = 1u64 << model.shift(1);
    let va = model.kernbase + 3 * large;
    sim.map_page(va, ram & !(large - 1), 1);
    // and one that is far from any RAM: a frame buffer
    sim.map_page(model.kernbase + 4 * large, 0xc000_0000, 1);
    // a small page of device memory
    sim.map_page(model.kernbase + 7 * page, 0xfee0_0000, 0);
    if model.large_level >= 2 {
        let huge = 1u64 << model.shift(2);
        sim.map_page(model.kernbase + huge, sim.ranges[3].start.0, 2);
    }
    // the direct map, which is not walked
    if let Some(direct) = model.direct_map {
        let level = model.large_level.min(2);
        sim.map_page(
            direct.base.0,
            direct.phys.0 & !((1 << model.shift(level)) - 1),
            level,
        );
    }
    // slabs, one of which is free again, and one that must not be dumped
    let slabs: Vec<u64> = (0..20).map(|_| sim.allocate_slab()).collect();
    sim.free_slab(slabs[3]);
    sim.forbidden.insert(slabs[4]);
    // a mapped page that must not be dumped
    let secret = sim.allocate();
    sim.map_page(model.kernbase + 8 * page, secret << model.page_shift, 0);
    sim.forbidden.insert(secret);
    // the last page of RAM
    let last = sim.ranges[sim.ranges.len() - 1].end.0.div_ceil(page) - 1;
    sim.add(last);
    assert!(ix(last) > 0);
}
