//! The dump that the specification demands of a simulated machine, byte by byte, built from the
//! machine's own books. Identity block and extension are not in it.

use vmcore_format::arch::Arch;
use vmcore_testkit::writer::models::Model;
use vmcore_testkit::writer::sim::{END_KERNEL, START_KERNEL, Sim, ix};
use vmcore_writer::arch::KernelPaging;

/// Bytes of the header page that belong to the identity block.
pub(crate) const IDENTITY: std::ops::Range<usize> = 1024..1024 + 192;

fn round(len: usize, page: usize) -> usize {
    len.div_ceil(page) * page
}

fn header(model: &Model, version: u32, sizes: [usize; 4]) -> Vec<u8> {
    let [msgbuf, bitmap, tables, dump_avail] = sizes.map(|size| u32::try_from(size).unwrap());
    let name = match model.arch {
        Arch::Amd64 => "amd64",
        Arch::Arm => "arm",
        Arch::Arm64 => "arm64",
        Arch::I386 => "i386",
        Arch::Powerpc64 => "powerpc64",
        _ => "riscv",
    };
    let mut page = vec![0u8; model.page_bytes()];
    let magic = format!("minidump FreeBSD/{name}");
    page[..magic.len()].copy_from_slice(magic.as_bytes());
    if model.arch == Arch::Powerpc64 {
        page[32..41].copy_from_slice(b"mmu_radix");
        let mut at = 64;
        let mut put = |value: u64, len: usize| {
            page[at..at + len].copy_from_slice(&model.put(value, len));
            at += len;
        };
        for value in [version, msgbuf, bitmap, tables] {
            put(value.into(), 4);
        }
        let direct = model.direct_map.unwrap();
        put(model.kernbase, 8);
        put(model.kernend - 1, 8);
        put(direct.base.0, 8);
        put(direct.end.0 - 1, 8);
        put(1, 4);
        put(0, 4);
        put(START_KERNEL, 8);
        put(END_KERNEL, 8);
        put(dump_avail.into(), 4);
        return page;
    }
    let mut at = 24;
    let mut put = |value: u64, len: usize| {
        page[at..at + len].copy_from_slice(&model.put(value, len));
        at += len;
    };
    for value in [version, msgbuf, bitmap, tables] {
        put(value.into(), 4);
    }
    if model.arch == Arch::I386 {
        put(model.kernbase, 4);
        put(model.pae.into(), 4);
    } else if model.arch == Arch::Arm {
        // `__ARM_ARCH`, and the format of version 6 and later.
        for value in [model.kernbase, 7, 2] {
            put(value, 4);
        }
    } else {
        let direct = model.direct_map.unwrap();
        put(model.kernbase, 8);
        if model.arch != Arch::Amd64 {
            put(direct.phys.0, 8);
        }
        put(direct.base.0, 8);
        put(direct.end.0, 8);
    }
    if model.has_dump_avail(version) {
        put(dump_avail.into(), 4);
    }
    if model.arch == Arch::Arm64 {
        put((model.page_shift == 14).into(), 4);
    }
    page
}

/// The page-table section.
fn page_tables<P: KernelPaging>(sim: &Sim<P>, version: u32) -> Vec<u8> {
    let model = &sim.model;
    let level = model.section_level(version);
    if level == model.root_level {
        let first = sim.root.0 >> model.page_shift;
        let pages = first..first + model.root_pages();
        return pages.flat_map(|pfn| sim.page(pfn)).collect();
    }
    let slot_bytes = 1u64 << model.shift(level + 1);
    let table_bytes = model.table_bytes();
    let per_table = 1 << model.index_bits;
    let mut section: Vec<u8> = Vec::new();
    let mut slot = model.kernbase;
    // Where tables are smaller than pages, those of the last page's end are there as well.
    while slot < model.kernend || !section.len().is_multiple_of(model.page_bytes()) {
        section.extend(match find(sim, slot, level) {
            Slot::Empty => vec![0; table_bytes],
            Slot::Table(pa) => {
                let at = ix(pa) % model.page_bytes();
                sim.page(pa >> model.page_shift)[at..at + table_bytes].to_vec()
            }
            Slot::Large { raw, level: large } => {
                let pa = (model.frame)(raw) & !((1 << model.shift(large)) - 1);
                let inside = slot & ((1 << model.shift(large)) - 1);
                let first = inside >> model.shift(level);
                let entry = |k: usize| (model.made_up)(raw, pa, first + k as u64, level);
                (0..per_table)
                    .flat_map(|k| model.put_entry(entry(k)))
                    .collect()
            }
        });
        slot += slot_bytes;
    }
    section
}

enum Slot {
    Empty,
    Table(u64),
    Large { raw: u64, level: u32 },
}

/// What covers a slot: found in the machine's books, not in its tables.
fn find<P: KernelPaging>(sim: &Sim<P>, va: u64, level: u32) -> Slot {
    let model = &sim.model;
    for large in level + 1..=model.large_level {
        let start = va & !((1 << model.shift(large)) - 1);
        if let Some((pa, shift)) = sim.mapped.get(&start)
            && *shift == model.shift(large)
        {
            return Slot::Large {
                raw: (model.leaf)(*pa, large),
                level: large,
            };
        }
    }
    let end = va + (1 << model.shift(level + 1));
    if sim.mapped.range(va..end).next().is_none() {
        return Slot::Empty;
    }
    let mut table = sim.root.0;
    for at in (level + 1..=model.root_level).rev() {
        table = (model.frame)(sim.entry(table, model.index(va, at)));
    }
    Slot::Table(table)
}

/// The whole dump.
pub(crate) fn minidump<P: KernelPaging>(sim: &Sim<P>, version: u32) -> Vec<u8> {
    let model = &sim.model;
    let page = model.page_bytes();
    let pages = sim.predicted(version);

    let msgbuf_len = ix(sim.msgbuf.1.into());
    let msgbuf: Vec<u8> = (0..msgbuf_len.div_ceil(page) as u64)
        .flat_map(|index| sim.page((sim.msgbuf.0 >> model.page_shift) + index))
        .collect();

    let mut dump_avail = Vec::new();
    if model.has_dump_avail(version) {
        for range in &sim.ranges {
            dump_avail.extend(model.put(range.start.0, 8));
            dump_avail.extend(model.put(range.end.0, 8));
        }
        dump_avail.resize(round(dump_avail.len() + 16, page), 0);
    }

    // Bit numbers, counted page by page.
    let all: Vec<u64> = if model.has_dump_avail(version) {
        let per_range = sim.ranges.iter().map(|range| {
            range.start.0 >> model.page_shift..range.end.0.div_ceil(1 << model.page_shift)
        });
        per_range.flatten().collect()
    } else {
        (0..sim
            .ranges
            .last()
            .unwrap()
            .end
            .0
            .div_ceil(1 << model.page_shift))
            .collect()
    };
    let mut bitmap = vec![0u8; round(all.len().div_ceil(64) * 8, page)];
    for (bit, pfn) in all.iter().enumerate() {
        if pages.contains(pfn) {
            let byte = model.bitmap_byte(bit);
            bitmap[byte] |= 1 << (bit % 8);
        }
    }

    let tables = page_tables(sim, version);
    let sizes = [msgbuf_len, bitmap.len(), tables.len(), dump_avail.len()];
    let mut dump = header(model, version, sizes);
    for section in [msgbuf, dump_avail, bitmap, tables] {
        dump.extend(section);
    }
    for pfn in pages {
        let unreadable = sim.unreadable.contains(&pfn);
        dump.extend(if unreadable {
            vec![0; page]
        } else {
            sim.page(pfn)
        });
    }
    dump
}

/// A full dump: headers up to the first page, and all RAM.
pub(crate) fn full_dump<P: KernelPaging>(sim: &Sim<P>) -> Vec<u8> {
    let model = &sim.model;
    let page = model.page_bytes();
    let (wide, machine) = match model.arch {
        Arch::I386 => (false, 3),
        Arch::Arm => (false, 40),
        _ => (true, 62),
    };
    let count = sim.ranges.len() + usize::from(sim.image.is_some());
    let (ehdr, phdr) = if wide { (64, 56) } else { (52, 32) };
    let mut out = vec![0x7f, b'E', b'L', b'F'];
    out.extend([1 + u8::from(wide), 1 + u8::from(model.big_endian), 1, 255]);
    out.resize(16, 0);
    let put = |out: &mut Vec<u8>, value: u64, wide: bool| {
        out.extend(model.put(value, if wide { 8 } else { 4 }));
    };
    out.extend(model.put(4, 2));
    out.extend(model.put(machine, 2));
    out.extend(model.put(0, 4));
    for value in [0, ehdr as u64, 0] {
        put(&mut out, value, wide);
    }
    out.extend(model.put(0, 4));
    for value in [ehdr, phdr, count, if wide { 64 } else { 40 }, 0, 0] {
        out.extend(model.put(value as u64, 2));
    }
    assert_eq!(out.len(), ehdr);
    let mut offset = round(ehdr + count * phdr, page);
    let mut segment =
        |kind: u32, flags: u32, at: usize, va: u64, pa: u64, len: usize, align: u64| {
            put(&mut out, kind.into(), false);
            if wide {
                put(&mut out, flags.into(), false);
            }
            for value in [at as u64, va, pa, len as u64, len as u64] {
                put(&mut out, value, wide);
            }
            if !wide {
                put(&mut out, flags.into(), false);
            }
            put(&mut out, align, wide);
        };
    let mut pages = Vec::new();
    for range in &sim.ranges {
        let first = range.start.0 >> model.page_shift;
        let end = range.end.0.div_ceil(page as u64);
        let len = ix(end - first) * page;
        segment(
            1,
            4,
            offset,
            first << model.page_shift,
            first << model.page_shift,
            len,
            page as u64,
        );
        offset += len;
        pages.extend(first..end);
    }
    if let Some(image) = sim.image {
        segment(
            0x6fb5_d000,
            4,
            0,
            image.vaddr.0,
            image.paddr.0,
            0,
            image.hole,
        );
    }
    out.resize(round(ehdr + count * phdr, page), 0);
    for pfn in pages {
        let unreadable = sim.unreadable.contains(&pfn);
        out.extend(if unreadable {
            vec![0; page]
        } else {
            sim.page(pfn)
        });
    }
    out
}
