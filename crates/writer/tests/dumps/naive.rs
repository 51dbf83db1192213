//! A reader for the tests that takes the bytes apart as the specification has them, page by page,
//! without the library.

use std::collections::BTreeMap;
use vmcore_format::arch::Arch;
use vmcore_testkit::writer::models::Model;
use vmcore_testkit::writer::sim::ix;

/// A minidump, taken apart.
pub(crate) struct Naive<'f> {
    model: Model,
    version: u32,
    pub(crate) msgbuf: &'f [u8],
    tables: &'f [u8],
    /// Pages by their number.
    pub(crate) pages: BTreeMap<u64, &'f [u8]>,
    /// Where the last page ends.
    pub(crate) end: usize,
}

impl<'f> Naive<'f> {
    pub(crate) fn read(model: Model, file: &'f [u8]) -> Self {
        let page = model.page_bytes();
        assert!(file.starts_with(b"minidump FreeBSD/"));
        let u32_at = |bytes: &[u8], at: usize| ix(model.number(&bytes[at..at + 4]));
        let u64_at = |bytes: &[u8], at: usize| model.number(&bytes[at..at + 8]);
        // Of the version and the sizes; of the size of the ranges.
        let (sizes_at, dump_avail_at) = match model.arch {
            Arch::Amd64 => (24, 64),
            Arch::Arm => (24, 52),
            Arch::I386 => (24, 48),
            Arch::Powerpc64 => (64, 136),
            _ => (24, 72),
        };
        let version = u32::try_from(u32_at(file, sizes_at)).unwrap();
        let mut at = page;
        let mut section = |len: usize| {
            let bytes = &file[at..at + len];
            at += len.div_ceil(page) * page;
            bytes
        };
        let msgbuf = section(u32_at(file, sizes_at + 4));
        let ranges = model
            .has_dump_avail(version)
            .then(|| section(u32_at(file, dump_avail_at)));
        let bitmap = section(u32_at(file, sizes_at + 8));
        let tables = section(u32_at(file, sizes_at + 12));
        let mut numbers = Vec::new();
        match ranges {
            None => numbers.extend(0..bitmap.len() as u64 * 8),
            Some(ranges) => {
                for pair in ranges.chunks(16) {
                    let (start, end) = (u64_at(pair, 0), u64_at(pair, 8));
                    if end == 0 {
                        break;
                    }
                    numbers.extend(start / page as u64..end.div_ceil(page as u64));
                }
            }
        }
        let mut pages = BTreeMap::new();
        for (bit, pfn) in numbers.iter().enumerate() {
            let byte = model.bitmap_byte(bit);
            if bitmap[byte] >> (bit % 8) & 1 == 1 {
                pages.insert(*pfn, &file[at..at + page]);
                at += page;
            }
        }
        Self {
            model,
            version,
            msgbuf,
            tables,
            pages,
            end: at,
        }
    }

    /// The physical address of `va`, or why there is none.
    pub(crate) fn translate(&self, va: u64) -> Result<u64, &'static str> {
        let model = &self.model;
        if let Some(direct) = model.direct_map
            && (direct.base.0..direct.end.0).contains(&va)
        {
            return Ok(va - direct.base.0 + direct.phys.0);
        }
        let level = model.section_level(self.version);
        if model.arch == Arch::Powerpc64 {
            return self.walk_down(va);
        }
        let index = va.checked_sub(model.kernbase).ok_or("below the kernel")? >> model.shift(level);
        let width = ix(model.entry_bytes);
        let raw = self.tables.get(ix(index) * width..).ok_or("outside")?;
        let raw = raw.get(..width).ok_or("outside")?;
        let raw = model.entry(raw);
        let inside = |shift: u32| va & ((1 << shift) - 1);
        if raw & 1 == 0 {
            return Err("not valid");
        }
        if level == 1 {
            if raw & 0x80 != 0 {
                return Ok((raw & 0x000f_ffff_ffe0_0000) + inside(21));
            }
            let table = self.pages.get(&((raw & 0x000f_ffff_ffff_f000) >> 12));
            let at = ix((va >> 12 & 511) * 8);
            let pte = model.entry(&table.ok_or("table not in dump")?[at..at + 8]);
            if pte & 1 == 0 {
                return Err("pte not valid");
            }
            return Ok((pte & 0x000f_ffff_ffff_f000) + inside(12));
        }
        Ok((model.frame)(raw) + inside(model.page_shift))
    }

    /// Down from the root of a powerpc64, which is the section.
    fn walk_down(&self, va: u64) -> Result<u64, &'static str> {
        let model = &self.model;
        let mut table = self.tables;
        for level in (0..=model.root_level).rev() {
            let at = ix(model.index(va, level)) * 8;
            let raw = model.entry(&table[at..at + 8]);
            if raw >> 63 == 0 {
                return Err("not valid");
            }
            let frame = raw & 0x00ff_ffff_ffff_f000;
            if raw >> 62 & 1 == 1 {
                return Ok(frame | va & ((1 << model.shift(level)) - 1));
            }
            let next = self.pages.get(&(frame >> 12));
            table = next.ok_or("table not in dump")?;
        }
        Err("a table below the last")
    }
}
