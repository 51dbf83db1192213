//! The plain loops that the library is measured against: the whole file mapped, one 64-bit count
//! of earlier pages for each 512 bits, the page walk of an amd64 version 3 minidump, no checks.

use vmcore::format::layout::Section;
use vmcore::{Dump, source::Source};

const PAGE: u64 = 4096;

/// A minidump as an array of bytes, and what is needed to find a page in it.
pub(crate) struct Reference<'a> {
    bitmap: &'a [u8],
    /// The bitmap by lines of the cache.
    lines: &'a [[u8; 64]],
    /// Pages before each line.
    prefix: Vec<u64>,
    /// First page, one past the last, first bit.
    ranges: Vec<(u64, u64, u64)>,
    tables: &'a [[u8; 8]],
    pages: &'a [Page],
    kernbase: u64,
    dmapbase: u64,
}

/// A page of the dump.
pub(crate) type Page = [u8; PAGE as usize];

impl<'a> Reference<'a> {
    /// Takes the numbers from the library: finding them is not measured.
    pub(crate) fn new(dump: &Dump, mapped: &'a Source) -> Self {
        let file = mapped
            .mapped(0..mapped.len())
            .expect("the file can be mapped");
        let sparse = dump.memory().sparse().expect("a minidump");
        let header = dump.minidump().expect("a minidump");
        let section = |section| {
            let extent = sparse.layout().section(section);
            let start = usize(extent.offset.0);
            &file[start..start + usize(extent.len_bytes)]
        };
        let bitmap = section(Section::Bitmap);
        let pages_at = usize(sparse.layout().section(Section::Pages).offset.0);
        let ranges = sparse.numbering().ranges().iter();
        Self {
            bitmap,
            lines: bitmap.as_chunks().0,
            prefix: Self::count(bitmap),
            ranges: ranges
                .map(|range| (range.first.0, range.end.0, range.first_bit))
                .collect(),
            tables: section(Section::PageTables).as_chunks().0,
            pages: file[pages_at..].as_chunks().0,
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
        let bit = range.2 + page.checked_sub(range.0)?;
        let line = self.lines.get(usize(bit / 512))?.as_chunks::<8>().0;
        let inside = usize(bit / 64 % 8);
        let word = u64::from_le_bytes(line[inside]);
        if word >> (bit % 64) & 1 == 0 {
            return None;
        }
        let mut number = self.prefix[usize(bit / 512)];
        for before in &line[..inside] {
            number += u64::from(u64::from_le_bytes(*before).count_ones());
        }
        Some(number + u64::from((word & !(u64::MAX << (bit % 64))).count_ones()))
    }

    /// The page at `pa`.
    #[inline]
    fn page(&self, pa: u64) -> Option<&'a Page> {
        self.pages.get(usize(self.number(pa)?))
    }

    /// The page that an address of the kernel map leads to.
    #[inline]
    pub(crate) fn kernel_map(&self, va: u64) -> Option<&'a Page> {
        let pde = u64::from_le_bytes(*self.tables.get(usize((va - self.kernbase) >> 21))?);
        if pde & 1 == 0 {
            return None;
        }
        if pde & 0x80 != 0 {
            return self.page((pde & 0x000f_ffff_ffe0_0000) + (va & 0x1f_ffff));
        }
        let pte = word(self.page(pde & 0x000f_ffff_ffff_f000)?, va >> 12 << 3);
        if pte & 1 == 0 {
            return None;
        }
        self.page(pte & 0x000f_ffff_ffff_f000)
    }

    /// The page that an address of the direct map leads to.
    #[inline]
    pub(crate) fn direct_map(&self, va: u64) -> Option<&'a Page> {
        self.page(va - self.dmapbase)
    }

    /// Copies `buf.len()` bytes from `va`, the start of a page, page by page.
    #[inline]
    pub(crate) fn copy(&self, va: u64, buf: &mut [u8]) -> bool {
        let mut va = va;
        for part in buf.as_chunks_mut().0 {
            let Some(page) = self.kernel_map(va) else {
                return false;
            };
            *part = *page;
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
        for (index, pde) in (0..).zip(self.tables) {
            let pde = u64::from_le_bytes(*pde);
            let va = self.kernbase + (index << 21);
            if pde & 1 == 0 {
                continue;
            }
            if pde & 0x80 != 0 {
                let frame = pde & 0x000f_ffff_ffe0_0000;
                (0..512).for_each(|page| add(frame + page * PAGE, va + page * PAGE));
            } else if let Some(table) = self.page(pde & 0x000f_ffff_ffff_f000) {
                for page in 0..512 {
                    let pte = word(table, page * 8);
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
                if self.bitmap[usize(bit / 8)] >> (bit % 8) & 1 == 0 {
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

/// The 8 bytes at `offset` of a page, whose higher bits do not count.
#[inline]
pub(crate) fn word(page: &Page, offset: u64) -> u64 {
    u64::from_le_bytes(page.as_chunks().0[usize(offset % PAGE / 8)])
}

#[inline]
fn usize(value: u64) -> usize {
    value as usize
}
