//! Dumps of sparc64: regions of physical memory after a header that names the kernel's translation
//! storage buffer, in which each mapped page has the entry of its number.
//!
//! ```
//! use std::collections::BTreeMap;
//! use vmcore_synth::sparc64::RegionDump;
//! let pages = BTreeMap::from([(0x40_2000, b"a page".to_vec())]);
//! let dump = RegionDump::of_memory(&[(0x40_0000, 0x41_0000)], &pages);
//! let at = usize::try_from(dump.offset_of(0x40_2000).unwrap())?;
//! assert_eq!(&dump.build()[at..at + 6], b"a page");
//! # Ok::<(), std::num::TryFromIntError>(())
//! ```

use crate::bytes::{finish, index, low32, page_of, put, round_up};
use crate::tables::Mapping;
use std::collections::BTreeMap;

/// Bytes of the smallest page.
pub const PAGE: u64 = 8192;
/// log2 of it, and of how much larger each of the three larger sizes is than the one before.
const PAGE_SHIFT: u32 = 13;
const SIZE_STEP: u32 = 3;
/// Bytes of an entry of the buffer.
pub const ENTRY_LEN: u64 = 32;
/// Data of an entry: valid, may be written.
const VALID: u64 = 1 << 63;
const WRITE: u64 = 2;
/// Bytes of the header's fields and of a region's, and what the header is rounded up to.
const FIELDS_LEN: u64 = 40;
const REGION_LEN: u64 = 24;
const HEADER_UNIT: u64 = 512;

/// A dump to be built.
#[derive(Clone, Debug)]
pub struct RegionDump {
    /// Physical address of the buffer: `dh_tsb_pa`.
    pub tsb_pa: u64,
    /// Number of its entries, a power of two.
    pub tsb_entries: u64,
    /// The regions, in the order of the header and of the file: address and bytes.
    pub regions: Vec<(u64, Vec<u8>)>,
    /// `dh_hdr_size`, if it must be wrong.
    pub hdr_size: Option<u64>,
    /// `dh_nregions`, if it must be wrong.
    pub nregions: Option<u32>,
    /// Bytes to write over the finished file, by offset.
    pub patches: Vec<(u64, Vec<u8>)>,
    /// Length to cut the file to.
    pub truncate_to: Option<u64>,
    /// Bytes to append at the end.
    pub trailing: Vec<u8>,
}

impl RegionDump {
    /// A dump of the RAM in `ranges`, which start and end at pages, without a buffer. Pages that
    /// `pages` lacks are zero.
    #[must_use]
    pub fn of_memory(ranges: &[(u64, u64)], pages: &BTreeMap<u64, Vec<u8>>) -> Self {
        let region = |(start, end): &(u64, u64)| {
            let mut content = vec![0; index(end - start)];
            for (pa, page) in pages.range(*start..*end) {
                put(&mut content, pa - start, &page_of(page, PAGE));
            }
            (*start, content)
        };
        Self {
            tsb_pa: 0,
            tsb_entries: 1,
            regions: ranges.iter().map(region).collect(),
            hdr_size: None,
            nregions: None,
            patches: Vec::new(),
            truncate_to: None,
            trailing: Vec::new(),
        }
    }

    fn header_len(&self) -> u64 {
        round_up(
            FIELDS_LEN + REGION_LEN * self.regions.len() as u64,
            HEADER_UNIT,
        )
    }

    /// File offset of the byte at `pa`.
    #[must_use]
    pub fn offset_of(&self, pa: u64) -> Option<u64> {
        let mut offset = self.header_len();
        for (start, content) in &self.regions {
            let len = content.len() as u64;
            if (*start..start + len).contains(&pa) {
                return Some(offset + pa - start);
            }
            offset += len;
        }
        None
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let header_len = self.header_len();
        let mut file = vec![0; index(header_len)];
        let count = low32(self.regions.len() as u64);
        let words = [
            self.hdr_size.unwrap_or(header_len),
            self.tsb_pa,
            self.tsb_entries * ENTRY_LEN,
            self.tsb_entries - 1,
        ];
        for (at, word) in (0..).step_by(8).zip(words) {
            put(&mut file, at, &word.to_be_bytes());
        }
        put(&mut file, 32, &self.nregions.unwrap_or(count).to_be_bytes());
        for (number, (pa, content)) in (0..).zip(&self.regions) {
            let at = FIELDS_LEN + REGION_LEN * number;
            let words = [*pa, content.len() as u64, file.len() as u64];
            for (at, word) in (at..).step_by(8).zip(words) {
                put(&mut file, at, &word.to_be_bytes());
            }
            file.extend_from_slice(content);
        }
        finish(file, &self.patches, self.truncate_to, &self.trailing)
    }
}

/// The buffer of `entries` entries that maps these pages; a large one has an entry for each of its
/// small ones.
#[must_use]
pub fn buffer(entries: u64, mappings: &[Mapping]) -> Vec<u8> {
    let mut buffer = vec![0; index(entries * ENTRY_LEN)];
    for mapping in mappings {
        let shift = mapping.size.trailing_zeros();
        let size = u64::from((shift - PAGE_SHIFT) / SIZE_STEP);
        let tag = mapping.va >> shift << 2 | size;
        let write = if mapping.write { WRITE } else { 0 };
        let data = VALID | size << 61 | mapping.pa | write;
        for va in (mapping.va..mapping.va + mapping.size).step_by(index(PAGE)) {
            let at = (va >> PAGE_SHIFT) % entries * ENTRY_LEN;
            put(&mut buffer, at, &tag.to_be_bytes());
            put(&mut buffer, at + 8, &data.to_be_bytes());
        }
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_regions_stand_where_the_header_has_them() {
        let mut dump = RegionDump::of_memory(
            &[(0x40_0000, 0x40_4000), (0x80_0000, 0x80_2000)],
            &BTreeMap::new(),
        );
        (dump.tsb_pa, dump.tsb_entries) = (0x40_2000, 256);
        let file = dump.build();
        let word = |number: usize| {
            let raw = &file[8 * number..8 * number + 8];
            raw.iter()
                .fold(0_u64, |word, byte| word << 8 | u64::from(*byte))
        };
        let words: Vec<u64> = (0..11).map(word).collect();
        let expected = [
            512,
            0x40_2000,
            8192,
            255,
            2 << 32,
            0x40_0000,
            0x4000,
            512,
            0x80_0000,
            0x2000,
            0x4200,
        ];
        assert_eq!(words, expected);
        assert_eq!(file.len(), 512 + 0x6000);
        assert_eq!(dump.offset_of(0x80_0001), Some(0x4201));
    }

    #[test]
    fn a_large_page_has_an_entry_for_each_small_one() {
        let pages = [
            Mapping::page(0xc000_2000, 0x80_2000, 8192),
            Mapping::code(0xc010_0000, 0x81_0000, 65536),
        ];
        let buffer = buffer(512, &pages);
        let entry = |number: usize| &buffer[32 * number..32 * number + 16];
        let expected = |tag: u64, data: u64| [tag.to_be_bytes(), data.to_be_bytes()].concat();
        assert_eq!(entry(1), expected(0x6_0001 << 2, 1 << 63 | 0x80_2002));
        for number in 128..136 {
            assert_eq!(
                entry(number),
                expected(0xc010 << 2 | 1, 5 << 61 | 0x81_0000)
            );
        }
        assert_eq!(entry(136), [0; 16]);
    }
}
