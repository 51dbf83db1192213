//! powerpc64's hashed page table, as the kernel dumps it: groups of eight entries, chosen by a hash.
//!
//! ```
//! use vmcore_synth::{Arch, hashed, tables::Mapping};
//! let page = Mapping::page(0xe000_0000_0012_3000, 0x23_4000, 4096);
//! let section = hashed::section(Arch::Powerpc64, 256, &[page]);
//! assert_eq!(section[131 * 128..][..8], 0x0001_0001_143a_0001_u64.to_be_bytes());
//! ```

use crate::Arch;
use crate::bytes::{index, put};
use crate::tables::Mapping;

/// With fewer groups, entries would not tell their pages apart: the group's number is a part of the
/// address, and an entry has only the five bits above it.
pub const FEWEST_GROUPS: u64 = 2048;
/// Bytes of a group and of an entry.
const GROUP_LEN: u64 = 128;
const ENTRY_LEN: u64 = 16;
/// First word: valid, in the second group that the hash leads to.
const VALID: u64 = 1;
const SECONDARY: u64 = 2;
/// Second word: no execution; may be written, may not.
const NO_EXECUTION: u64 = 4;
const READ_WRITE: u64 = 2;
const READ_ONLY: u64 = 3;

/// The table of `groups` groups that maps these small pages, in the kernel's byte order.
///
/// # Panics
/// Panics if both groups of a page are full: give it more groups, [`FEWEST_GROUPS`] at least.
#[must_use]
pub fn section(arch: Arch, groups: u64, mappings: &[Mapping]) -> Vec<u8> {
    let mut table = vec![0; index(GROUP_LEN * groups)];
    for mapping in mappings {
        let vsid = vsid(mapping.va >> 28);
        let page = mapping.va >> 12 & 0xffff;
        // Of 39 bits, of which the lowest choose the group.
        let hash = (vsid & 0x7f_ffff_ffff) ^ page;
        let slots = [(hash, 0), (!hash, SECONDARY)]
            .into_iter()
            .flat_map(|(hash, which)| (0..8).map(move |slot| (hash % groups, slot, which)));
        let is_free = |(group, slot, _): &(u64, u64, u64)| {
            let at = index(GROUP_LEN * group + ENTRY_LEN * slot);
            table[at..at + 8] == [0; 8]
        };
        let free = slots.into_iter().find(is_free);
        assert!(free.is_some(), "both groups of {:#x} are full", mapping.va);
        let (group, slot, which) = free.unwrap_or_default();
        let right = if mapping.write { READ_WRITE } else { READ_ONLY };
        let execution = if mapping.execute { 0 } else { NO_EXECUTION };
        let words = [
            vsid << 12 | (page >> 11) << 7 | which | VALID,
            mapping.pa | execution | right,
        ];
        for (word, at) in words.into_iter().zip([0, 8]) {
            let at = GROUP_LEN * group + ENTRY_LEN * slot + at;
            put(&mut table, at, &arch.u64(word));
        }
    }
    table
}

/// The number of the kernel's segment `esid` that is in entries.
fn vsid(esid: u64) -> u64 {
    let spread = (esid << 8 | esid >> 28) * 0x13bb;
    (spread % (1 << 36)) | 1 << 36
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(table: &[u8], at: u64) -> u64 {
        let at = index(at);
        table[at..at + 8]
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte))
    }

    #[test]
    fn segments_have_the_numbers_of_the_description() {
        assert_eq!(vsid(0xe_0000_0000), 0x10_0011_43a0);
        assert_eq!(vsid(0xe_0000_0001), 0x10_0024_fea0);
        assert_eq!(vsid(0xc_0000_0000), 0x10_000e_cc40);
    }

    #[test]
    fn the_ninth_page_of_a_group_goes_into_the_second_one() {
        // Pages that differ by the number of groups have the same first one.
        let pages: Vec<Mapping> = (0..9)
            .map(|n| Mapping::code(0xe000_0000_0000_3000 + (n << 20), n << 12, 4096))
            .collect();
        let table = section(Arch::Powerpc64, 256, &pages);
        let group = (0x11_43a0 ^ 3) % 256;
        for slot in 0..8 {
            assert_eq!(word(&table, 128 * group + 16 * slot) & 3, VALID);
        }
        let second = 128 * (!group % 256);
        assert_eq!(word(&table, second) & 3, VALID | SECONDARY);
        assert_eq!(word(&table, second + 8), 8 << 12 | READ_ONLY);
    }
}
