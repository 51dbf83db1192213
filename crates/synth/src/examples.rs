//! The example dumps of amd64 that the description of the formats gives, with what must be found
//! at certain addresses.
//!
//! ```
//! use vmcore_synth::examples::{self, Expected};
//! let example = examples::amd64(1);
//! assert_eq!(example.expected[0], (0xffff_ffff_8000_3000, Expected::Page(0x23_4000)));
//! ```

use crate::Arch;
use crate::bytes::{index, put_u64};
use crate::minidump::Minidump;

/// A dump and what is in it.
#[derive(Clone, Debug)]
pub struct Example {
    /// The dump.
    pub dump: Minidump,
    /// Virtual addresses and what is there.
    pub expected: Vec<(u64, Expected)>,
}

/// What a virtual address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The byte at this physical address, which is in the dump.
    Page(u64),
    /// A physical address that is not in the dump.
    PageAbsent(u64),
    /// A page-table page that is not in the dump.
    TableAbsent(u64),
    /// An entry that is not valid.
    NotMapped,
    /// Past the end of the page tables.
    Outside,
    /// Neither in the kernel map nor in the direct map.
    Nowhere,
}

/// The example of this version: 1, 2 or 3. Every page is filled with its address as text.
#[must_use]
pub fn amd64(version: u32) -> Example {
    let mut dump = Minidump::new(Arch::Amd64, version);
    dump.msgbuf = vec![b'm'; 120];
    dump.page_tables = vec![0; 8192];
    let fill = |pa: u64| {
        format!("{pa:#x}: page; ")
            .into_bytes()
            .into_iter()
            .cycle()
            .take(4096)
            .collect()
    };
    for pa in [0x10_0000, 0x23_4000, 0x7f_f000] {
        dump.pages.insert(pa, fill(pa));
    }
    let entries: &[(u64, u64)] = match version {
        1 => &[
            (3, 0x8000_0000_0023_4103),
            (512, 0x10_0063),
            (513, 0x99_9003),
        ],
        _ => &[
            (0, 0x30_0003),
            (1, 0x8000_0000_0000_0083),
            (2, 0x55_5003),
            (3, 0x4000_0083),
        ],
    };
    for (number, entry) in entries {
        put_u64(&mut dump.page_tables, 8 * number, *entry);
    }
    let (kernel, direct) = (dump.kernbase, dump.dmapbase);
    let mut expected = if version == 1 {
        vec![
            (kernel + 0x3000, Expected::Page(0x23_4000)),
            (kernel + 0x20_0000, Expected::Page(0x10_0000)),
            (kernel + 0x20_1000, Expected::PageAbsent(0x99_9000)),
            (kernel + 0x1000, Expected::NotMapped),
            (kernel + 0x40_0000, Expected::Outside),
            (0xffff_ff80_0000_0000, Expected::Nowhere),
        ]
    } else {
        let mut table = vec![0; 4096];
        put_u64(&mut table, 8 * 5, 0x8000_0000_0023_4003);
        put_u64(&mut table, 8 * 6, 0x7f_f001);
        dump.pages.insert(0x30_0000, table);
        vec![
            (kernel + 0x5000, Expected::Page(0x23_4000)),
            (kernel + 0x6000, Expected::Page(0x7f_f000)),
            (kernel + 0x30_0000, Expected::Page(0x10_0000)),
            (kernel + 0x40_0000, Expected::TableAbsent(0x55_5000)),
            (kernel + 0x60_0000, Expected::PageAbsent(0x4000_0000)),
            (kernel + 0x80_0000, Expected::NotMapped),
            (kernel + 0x1_0000_0000, Expected::Outside),
        ]
    };
    expected.extend([
        (direct + 0x7f_f000, Expected::Page(0x7f_f000)),
        (direct + 0x88_8000, Expected::PageAbsent(0x88_8000)),
        (0x1000, Expected::Nowhere),
    ]);
    if version >= 3 {
        dump.dump_avail = vec![(0x1000, 0x9f800), (0x10_0800, 0x80_0000)];
        expected.extend(
            [0x9_f000, 0xa_0000, 0x90_0000].map(|pa| (direct + pa, Expected::PageAbsent(pa))),
        );
    }
    Example { dump, expected }
}

impl Example {
    /// Finds an address by the description's own steps, counting everything.
    #[must_use]
    pub fn find(&self, va: u64) -> Expected {
        let dump = &self.dump;
        let frame = 0x000f_ffff_ffff_f000;
        let entry = |shift: u32| {
            let at = index(8 * ((va - dump.kernbase) >> shift));
            let raw = dump.page_tables.get(at..at + 8)?;
            raw.try_into().ok().map(u64::from_le_bytes)
        };
        let pa = if va < dump.kernbase {
            if !(dump.dmapbase..dump.dmapend).contains(&va) {
                return Expected::Nowhere;
            }
            va - dump.dmapbase
        } else if dump.version == 1 {
            match entry(12) {
                None => return Expected::Outside,
                Some(pte) if pte & 1 == 0 => return Expected::NotMapped,
                Some(pte) => (pte & frame) + va % 4096,
            }
        } else {
            match entry(21) {
                None => return Expected::Outside,
                Some(pde) if pde & 1 == 0 => return Expected::NotMapped,
                Some(pde) if pde & 0x80 != 0 => (pde & 0x000f_ffff_ffe0_0000) + va % (2 << 20),
                Some(pde) => {
                    let Some(table) = dump.pages.get(&(pde & frame)) else {
                        return Expected::TableAbsent(pde & frame);
                    };
                    let at = index(8 * (va >> 12 & 511));
                    let raw = table.get(at..at + 8).and_then(|raw| raw.try_into().ok());
                    match raw.map_or(0, u64::from_le_bytes) {
                        pte if pte & 1 == 0 => return Expected::NotMapped,
                        pte => (pte & frame) + va % 4096,
                    }
                }
            }
        };
        if dump.offset_of(pa).is_some() {
            Expected::Page(pa)
        } else {
            Expected::PageAbsent(pa)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_leads_where_the_description_says() {
        for version in 1..=3 {
            let example = amd64(version);
            for (va, expected) in &example.expected {
                assert_eq!(example.find(*va), *expected, "version {version}: {va:#x}");
            }
        }
    }

    #[test]
    fn pages_tell_their_address() {
        for version in 1..=3 {
            let example = amd64(version);
            let file = example.dump.build();
            for pa in [0x10_0000, 0x23_4000, 0x7f_f000] {
                let at = index(example.dump.offset_of(pa).unwrap());
                assert!(file[at..].starts_with(format!("{pa:#x}: page; ").as_bytes()));
            }
        }
    }
}
