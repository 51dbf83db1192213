//! The private copy of the dump map: bits in 64-bit words, one a page.

use vmcore_format::addr::Pfn;
use vmcore_format::dump_avail::Numbering;

/// A bit number's word, or one beyond any slice.
fn word_index(bit: u64) -> usize {
    usize::try_from(bit / 64).unwrap_or(usize::MAX)
}

/// Sets `count` bits from `first` on; those beyond the end are not there.
pub(crate) fn set(bits: &mut [u64], first: u64, count: u64) {
    let mut bit = first;
    let end = first.saturating_add(count);
    while bit < end {
        let len = (64 - bit % 64).min(end - bit);
        let Some(word) = bits.get_mut(word_index(bit)) else {
            return;
        };
        *word |= (u64::MAX >> (64 - len)) << (bit % 64);
        bit += len;
    }
}

/// Sets the bits of `count` pages from `first` on, those of them that are RAM.
pub(crate) fn set_pages(bits: &mut [u64], numbering: &Numbering<'_>, first: Pfn, count: u64) {
    if count == 1 {
        if let Some(bit) = numbering.bit_of(first) {
            set(bits, bit, 1);
        }
        return;
    }
    let end = first.0.saturating_add(count);
    for range in numbering.ranges() {
        let (from, to) = (first.0.max(range.first.0), end.min(range.end.0));
        if from < to {
            set(bits, range.first_bit + (from - range.first.0), to - from);
        }
    }
}

/// The first run of set bits at or after `from`, up to `end`: its first bit and its length.
pub(crate) fn next_run(bits: &[u64], from: u64, end: u64) -> Option<(u64, u64)> {
    let first = find(bits, from, end, 0)?;
    let end_of_run = find(bits, first, end, u64::MAX).unwrap_or(end);
    Some((first, end_of_run - first))
}

/// The first bit at or after `from`, and before `end`, that is set after XOR with `flip`.
fn find(bits: &[u64], from: u64, end: u64, flip: u64) -> Option<u64> {
    let mut skip = from % 64;
    let mut base = from - skip;
    for word in bits.get(word_index(from)..)? {
        let wanted = (word ^ flip) & (u64::MAX << skip);
        if wanted != 0 {
            let bit = base + u64::from(wanted.trailing_zeros());
            return (bit < end).then_some(bit);
        }
        skip = 0;
        base += 64;
        if base >= end {
            return None;
        }
    }
    None
}

/// `len` bits from `first` on as the low bits of a word; `len` is at most 64.
fn extract(bits: &[u64], first: u64, len: u64) -> u64 {
    let word = |index: usize| bits.get(index).copied().unwrap_or(0);
    let index = word_index(first);
    let shift = first % 64;
    let low = word(index) >> shift;
    let high = if shift == 0 {
        0
    } else {
        word(index.saturating_add(1)) << (64 - shift)
    };
    (low | high)
        & u64::MAX
            .checked_shr(u32::try_from(64 - len.min(64)).unwrap_or(64))
            .unwrap_or(0)
}

/// Word `index` of the bitmap that numbers its bits from physical page 0.
pub(crate) fn linear_word(bits: &[u64], numbering: &Numbering<'_>, index: u64) -> u64 {
    let (start, end) = (index * 64, index * 64 + 64);
    let ranges = numbering.ranges();
    let from = ranges.partition_point(|range| range.end.0 <= start);
    let mut word = 0;
    for range in ranges.get(from..).unwrap_or_default() {
        if range.first.0 >= end {
            break;
        }
        let (low, high) = (start.max(range.first.0), end.min(range.end.0));
        let part = extract(
            bits,
            range.first_bit + (low - range.first.0),
            high.saturating_sub(low),
        );
        word |= part << (low - start);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;
    use vmcore_format::dump_avail::NumberedRange;

    fn ones(bits: &[u64]) -> Vec<u64> {
        let is_one = |bit: &u64| bits[word_index(*bit)] >> (bit % 64) & 1 == 1;
        (0..bits.len() as u64 * 64).filter(is_one).collect()
    }

    proptest! {
        #[test]
        fn set_bits_are_those_of_the_run(first in 0u64..300, count in 0u64..300) {
            let mut bits = vec![0u64; 5];
            set(&mut bits, first, count);
            prop_assert_eq!(ones(&bits), (first..(first + count).min(320)).filter(|bit| *bit < 320).collect::<Vec<_>>());
        }

        #[test]
        fn runs_cover_all_ones_and_nothing_else(words in prop::collection::vec(any::<u64>(), 1..5), end in 0u64..300) {
            let end = end.min(words.len() as u64 * 64);
            let (mut found, mut from) = (Vec::new(), 0);
            while let Some((first, count)) = next_run(&words, from, end) {
                prop_assert!(count > 0);
                found.extend(first..first + count);
                from = first + count + 1; // a clear bit ends a run
            }
            prop_assert_eq!(found, ones(&words).into_iter().filter(|bit| *bit < end).collect::<Vec<_>>());
        }

        #[test]
        fn linear_words_have_the_pages_at_their_page_numbers(
            words in prop::collection::vec(any::<u64>(), 4),
            gaps in prop::collection::vec((1u64..80, 1u64..80), 1..4),
        ) {
            let (mut ranges, mut pfn, mut bit) = (Vec::new(), 0, 0);
            for (gap, len) in gaps {
                let first = Pfn(pfn + gap);
                ranges.push(NumberedRange { first, end: Pfn(first.0 + len), first_bit: bit });
                (pfn, bit) = (first.0 + len, bit + len);
            }
            let numbering = Numbering::new(&ranges);
            let linear: Vec<u64> = (0..8).map(|index| linear_word(&words, &numbering, index)).collect();
            let expected: Vec<u64> = ones(&words).into_iter().filter_map(|bit| numbering.pfn_of(bit)).map(|pfn| pfn.0).collect();
            prop_assert_eq!(ones(&linear), expected);
        }
    }

    #[test]
    fn pages_of_a_large_mapping_are_set_where_there_is_ram() {
        let range = |first, end, first_bit| NumberedRange {
            first: Pfn(first),
            end: Pfn(end),
            first_bit,
        };
        let ranges = [range(2, 10, 0), range(20, 30, 8)];
        let numbering = Numbering::new(&ranges);
        let mut bits = [0u64; 1];
        set_pages(&mut bits, &numbering, Pfn(0), 512);
        assert_eq!(bits[0], (1 << 18) - 1);
        bits[0] = 0;
        set_pages(&mut bits, &numbering, Pfn(15), 1);
        set_pages(&mut bits, &numbering, Pfn(9), 12);
        assert_eq!(bits[0], 1 << 7 | 1 << 8);
    }
}
