//! The plain loops that the library is measured against: the whole file mapped, one 64-bit count
//! of earlier pages for each 512 bits, the page walk of an amd64 version 3 minidump, no checks.

use vmcore::format::layout::Section;
use vmcore::{Dump, source::Source};

const PAGE: u64 = 4096;

/// A minidump as an array of bytes, and what is needed to find a page in it.
pub(crate) struct Reference<'a> {
    file: &'a [u8],
    bitmap: &'a [u8],
    /// First page, one after the last, first bit.
    ranges: Vec<(u64, u64, u64)>,
    /// Pages before each 512 bits.
    prefix: Vec<u64>,
    tables_at: u64,
    tables_len: u64,
    pages_at: u64,
    kernbase: u64,
    dmapbase: u64,
}

impl<'a> Reference<'a> {
    /// Takes the numbers from the library: finding them is not measured.
    pub(crate) fn new(dump: &Dump, mapped: &'a Source) -> Self {
        let file = mapped
            .mapped(0..mapped.len())
            .expect("the file can be mapped");
        let sparse = dump.memory().sparse().expect("a minidump");
        let header = dump.minidump().expect("a minidump");
        let layout = sparse.layout();
        let extent = layout.section(Section::Bitmap);
        let start = usize::try_from(extent.offset.0).expect("64-bit machine");
        let len = usize::try_from(extent.len_bytes).expect("64-bit machine");
        let bitmap = &file[start..start + len];
        let ranges = sparse.numbering().ranges().iter();
        Self {
            file,
            bitmap,
            ranges: ranges
                .map(|range| (range.first.0, range.end.0, range.first_bit))
                .collect(),
            prefix: Self::count(bitmap),
            tables_at: layout.section(Section::PageTables).offset.0,
            tables_len: layout.section(Section::PageTables).len_bytes,
            pages_at: layout.section(Section::Pages).offset.0,
            kernbase: header.kernbase.0,
            dmapbase: header.direct_map.expect("amd64").base.0,
        }
    }

    /// The bitmap.
    pub(crate) const fn bitmap(&self) -> &'a [u8] {
        self.bitmap
    }

    /// The index: pages before each 512 bits.
    pub(crate) fn count(bitmap: &[u8]) -> Vec<u64> {
        let mut prefix = Vec::with_capacity(bitmap.len() / 64 + 1);
        let mut ones = 0;
        for line in bitmap.chunks(64) {
            prefix.push(ones);
            ones += popcount(line);
        }
        prefix
    }

    /// The number of the page at `pa`, if it is in the dump.
    #[inline]
    fn number(&self, pa: u64) -> Option<u64> {
        let page = pa / PAGE;
        let range = self.ranges.iter().find(|range| page < range.1)?;
        if page < range.0 {
            return None;
        }
        let bit = range.2 + page - range.0;
        let word = self.word(bit / 64);
        if word >> (bit % 64) & 1 == 0 {
            return None;
        }
        let mut number = self.prefix[usize(bit / 512)];
        for index in bit / 512 * 8..bit / 64 {
            number += u64::from(self.word(index).count_ones());
        }
        Some(number + u64::from((word & !(u64::MAX << (bit % 64))).count_ones()))
    }

    #[inline]
    fn offset(&self, pa: u64) -> Option<u64> {
        Some(self.pages_at + self.number(pa)? * PAGE + pa % PAGE)
    }

    #[inline]
    fn word(&self, index: u64) -> u64 {
        let at = usize(index * 8);
        u64::from_le_bytes(self.bitmap[at..at + 8].try_into().expect("8 bytes"))
    }

    /// 8 bytes of the file.
    #[inline]
    pub(crate) fn u64_at(&self, offset: u64) -> u64 {
        let at = usize(offset);
        u64::from_le_bytes(self.file[at..at + 8].try_into().expect("8 bytes"))
    }

    /// Where an address of the kernel map leads.
    #[inline]
    pub(crate) fn kernel_map(&self, va: u64) -> Option<u64> {
        let index = (va - self.kernbase) >> 21;
        let pde = self.u64_at(self.tables_at + index * 8);
        if pde & 1 == 0 {
            return None;
        }
        if pde & 0x80 != 0 {
            return self.offset((pde & 0x000f_ffff_ffe0_0000) + (va & 0x1f_ffff));
        }
        let table = self.offset(pde & 0x000f_ffff_ffff_f000)?;
        let pte = self.u64_at(table + (va >> 12 & 511) * 8);
        if pte & 1 == 0 {
            return None;
        }
        self.offset((pte & 0x000f_ffff_ffff_f000) + (va & 0xfff))
    }

    /// Where an address of the direct map leads.
    #[inline]
    pub(crate) fn direct_map(&self, va: u64) -> Option<u64> {
        self.offset(va - self.dmapbase)
    }

    /// Copies `buf.len()` bytes from `va`, page by page.
    #[inline]
    pub(crate) fn copy(
        &self,
        va: u64,
        buf: &mut [u8],
        translate: impl Fn(&Self, u64) -> Option<u64>,
    ) -> bool {
        let mut va = va;
        for part in buf.chunks_mut(4096) {
            let Some(offset) = translate(self, va) else {
                return false;
            };
            let at = usize(offset);
            part.copy_from_slice(&self.file[at..at + part.len()]);
            va += PAGE;
        }
        true
    }

    /// Every page with all its addresses: the kernel map's by a pass over the page tables, then
    /// each page in the order of the file. Returns the pages, and a sum so that nothing is left
    /// out.
    pub(crate) fn enumerate(&self) -> (u64, u64) {
        let pages = self.prefix.last().copied().unwrap_or(0)
            + popcount(&self.bitmap[(self.prefix.len().max(1) - 1) * 64..]);
        let mut heads = vec![u32::MAX; usize(pages)];
        let mut nodes: Vec<(u64, u32)> = Vec::new();
        let mut add = |pa: u64, va: u64| {
            if let Some(number) = self.number(pa) {
                let head = &mut heads[usize(number)];
                nodes.push((va, *head));
                *head = u32::try_from(nodes.len() - 1).expect("fewer than 2^32");
            }
        };
        for index in 0..self.tables_len / 8 {
            let pde = self.u64_at(self.tables_at + index * 8);
            let va = self.kernbase + (index << 21);
            if pde & 1 == 0 {
                continue;
            }
            if pde & 0x80 != 0 {
                let frame = pde & 0x000f_ffff_ffe0_0000;
                (0..512).for_each(|page| add(frame + page * PAGE, va + page * PAGE));
            } else if let Some(table) = self.offset(pde & 0x000f_ffff_ffff_f000) {
                for page in 0..512 {
                    let pte = self.u64_at(table + page * 8);
                    if pte & 1 != 0 {
                        add(pte & 0x000f_ffff_ffff_f000, va + page * PAGE);
                    }
                }
            }
        }
        let (mut number, mut sum) = (0, 0u64);
        for range in &self.ranges {
            for page in range.0..range.1 {
                let bit = range.2 + page - range.0;
                if self.word(bit / 64) >> (bit % 64) & 1 == 0 {
                    continue;
                }
                sum = sum.wrapping_add(self.dmapbase + page * PAGE);
                let mut node = heads[usize(number)];
                while let Some((va, next)) = nodes.get(node as usize) {
                    sum = sum.wrapping_add(*va);
                    node = *next;
                }
                number += 1;
            }
        }
        (number, sum)
    }
}

/// Ones in some bytes.
pub(crate) fn popcount(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words
        .iter()
        .map(|word| u64::from_ne_bytes(*word).count_ones());
    let rest = rest.iter().map(|byte| byte.count_ones());
    words.chain(rest).map(u64::from).sum()
}

#[inline]
fn usize(value: u64) -> usize {
    value as usize
}
