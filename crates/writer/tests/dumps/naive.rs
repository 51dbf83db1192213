//! A reader for the tests that takes the bytes apart as the specification has them, page by page,
//! without the library.

use crate::kinds::Model;
use crate::sim::ix;
use std::collections::BTreeMap;
use vmcore_format::arch::Arch;

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

fn u32_at(bytes: &[u8], at: usize) -> usize {
    ix(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()).into())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl<'f> Naive<'f> {
    pub(crate) fn read(model: Model, file: &'f [u8]) -> Self {
        let page = model.page_bytes();
        assert!(file.starts_with(b"minidump FreeBSD/"));
        let version = u32::try_from(u32_at(file, 24)).unwrap();
        let dump_avail_at = match model.arch {
            Arch::Amd64 => 64,
            Arch::I386 => 48,
            _ => 72,
        };
        let mut at = page;
        let mut section = |len: usize| {
            let bytes = &file[at..at + len];
            at += len.div_ceil(page) * page;
            bytes
        };
        let msgbuf = section(u32_at(file, 28));
        let ranges = model
            .has_dump_avail(version)
            .then(|| section(u32_at(file, dump_avail_at)));
        let bitmap = section(u32_at(file, 32));
        let tables = section(u32_at(file, 36));
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
        for bit in 0..bitmap.len() * 8 {
            if bitmap[bit / 8] >> (bit % 8) & 1 == 1 {
                pages.insert(numbers[bit], &file[at..at + page]);
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
        let index = va.checked_sub(model.kernbase).ok_or("below the kernel")? >> model.shift(level);
        let width = ix(model.entry_bytes);
        let raw = self.tables.get(ix(index) * width..).ok_or("outside")?;
        let raw = raw.get(..width).ok_or("outside")?;
        let raw = raw
            .iter()
            .rev()
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let inside = |shift: u32| va & ((1 << shift) - 1);
        if raw & 1 == 0 {
            return Err("not valid");
        }
        if level == 1 {
            if raw & 0x80 != 0 {
                return Ok((raw & 0x000f_ffff_ffe0_0000) + inside(21));
            }
            let table = self.pages.get(&((raw & 0x000f_ffff_ffff_f000) >> 12));
            let pte = u64_at(table.ok_or("table not in dump")?, ix((va >> 12 & 511) * 8));
            if pte & 1 == 0 {
                return Err("pte not valid");
            }
            return Ok((pte & 0x000f_ffff_ffff_f000) + inside(12));
        }
        Ok((model.frame)(raw) + inside(model.page_shift))
    }
}
