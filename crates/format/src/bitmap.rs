//! The page bitmap: which pages are in the dump, and how many come before a given one.
//!
//! Bit *n* set means that page *n* of the numbering ([`crate::dump_avail`]) is in the dump; pages
//! are stored in the order of their bits, so the count of earlier bits (the *rank*) is the only
//! index there is. The bitmap is the memory image of an array of machine words; little-endian
//! layouts of any width coincide, big-endian ones need the width.
//!
//! The rank index costs 1/8 of the bitmap: for each 512 bits one word with the count of all earlier
//! bits and the counts at each quarter, so that a rank takes one word of the index, and 128 bits of
//! the bitmap.
//!
//! ```
//! use vmcore_format::bitmap::{Bitmap, RankIndex, WordOrder};
//! let bitmap = Bitmap::new(&[0b1010_0001, 0x80], WordOrder::Little);
//! let mut entries = vec![0; RankIndex::len_words(&bitmap)];
//! let total = RankIndex::fill(&bitmap, &mut entries);
//! let index = RankIndex::new(&entries[..]);
//! assert_eq!(total, 4);
//! assert_eq!(index.rank(&bitmap, 7), 2);
//! assert!(bitmap.contains(15));
//! assert_eq!(bitmap.ones(0..16).collect::<Vec<_>>(), [0, 5, 7, 15]);
//! ```

use crate::endian::{Endian, Width};
use core::ops::Range;

/// How the kernel's words are ordered in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordOrder {
    /// Any word size, little-endian.
    Little,
    /// 32-bit words, big-endian.
    Big32,
    /// 64-bit words, big-endian.
    Big64,
}

impl WordOrder {
    /// Bits `64 * n ..` as one word, bit 0 lowest, from their bytes.
    #[inline]
    const fn decode(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big64 => u64::from_be_bytes(bytes),
            Self::Big32 => u64::from_be_bytes(bytes).rotate_left(32),
        }
    }

    /// The bytes of bits `64 * n ..`, given as one word.
    #[inline]
    #[must_use]
    pub const fn encode(self, word: u64) -> [u8; 8] {
        match self {
            Self::Little => word.to_le_bytes(),
            Self::Big64 => word.to_be_bytes(),
            Self::Big32 => word.rotate_left(32).to_be_bytes(),
        }
    }

    /// The order of a kernel whose words have this byte order and width.
    #[must_use]
    pub const fn of(endian: Endian, word: Width) -> Self {
        match (endian, word) {
            (Endian::Little, _) => Self::Little,
            (Endian::Big, Width::W32) => Self::Big32,
            (Endian::Big, Width::W64) => Self::Big64,
        }
    }

    /// Bits of a bitmap of so many bytes. A big-endian word of which bytes are missing counts as a
    /// whole: its first bytes hold its highest bits.
    #[must_use]
    pub const fn len_bits(self, len_bytes: u64) -> u64 {
        let word_bytes = match self {
            Self::Little => 1,
            Self::Big32 => 4,
            Self::Big64 => 8,
        };
        len_bytes
            .div_ceil(word_bytes)
            .saturating_mul(8 * word_bytes)
    }

    /// The byte of the file that holds bit `bit`, there bit `bit % 8`.
    #[must_use]
    pub const fn byte_of(self, bit: u64) -> u64 {
        match self {
            Self::Little => bit / 8,
            Self::Big32 => bit / 32 * 4 + (3 - bit % 32 / 8),
            Self::Big64 => bit / 64 * 8 + (7 - bit % 64 / 8),
        }
    }
}

/// Bits of a block: one word of the index.
const BLOCK_BITS: u64 = 512;
/// Bytes of a block.
const BLOCK_BYTES: usize = 64;
/// Bits of a quarter of a block.
const QUARTER_BITS: u64 = 128;
/// Bytes of a quarter of a block.
const QUARTER_BYTES: u64 = 16;
/// Bits of a count inside a block: at most 384.
const COUNT_BITS: u32 = 9;
/// Bits of an index word that hold the counts at the second, third and fourth quarter; the others
/// hold the count of earlier bits, which is below 2^37.
const COUNTS_BITS: u32 = 3 * COUNT_BITS;

/// A borrowed bitmap. Any length will do: missing bytes of the last word count as zero.
#[derive(Clone, Copy, Debug)]
pub struct Bitmap<'a> {
    bytes: &'a [u8],
    order: WordOrder,
}

impl<'a> Bitmap<'a> {
    /// The bitmap in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8], order: WordOrder) -> Self {
        Self { bytes, order }
    }

    /// Bits there are, padding included.
    #[must_use]
    pub const fn len_bits(&self) -> u64 {
        self.order.len_bits(self.bytes.len() as u64)
    }

    /// Bits `64 * index ..` as one word, bit 0 lowest; zero beyond the end.
    #[inline]
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        match self
            .bytes
            .get(index.saturating_mul(8)..)
            .and_then(|rest| rest.first_chunk())
        {
            Some(word) => self.order.decode(*word),
            None => self.last_word(index),
        }
    }

    /// A word of which only some bytes are there.
    #[cold]
    fn last_word(&self, index: usize) -> u64 {
        let mut padded = [0; 8];
        if let Some(rest) = self.bytes.get(index.saturating_mul(8)..) {
            for (to, from) in padded.iter_mut().zip(rest) {
                *to = *from;
            }
        }
        self.order.decode(padded)
    }

    /// Whether bit `bit` is set; bits beyond the end are clear.
    #[inline]
    #[must_use]
    pub fn contains(&self, bit: u64) -> bool {
        let Ok(word) = usize::try_from(bit / 64) else {
            return false;
        };
        self.word(word) >> (bit % 64) & 1 == 1
    }

    /// The 128 bits around `bit`, the lowest first; zero beyond the end.
    #[inline]
    fn quarter(&self, bit: u64) -> u128 {
        let first = to_index(bit / QUARTER_BITS * QUARTER_BYTES);
        let bytes = self.bytes.get(first..).and_then(|rest| rest.first_chunk());
        match (bytes, self.order) {
            (Some(bytes), WordOrder::Little) => u128::from_le_bytes(*bytes),
            _ => self.quarter_of_words(first / 8),
        }
    }

    #[cold]
    fn quarter_of_words(&self, first: usize) -> u128 {
        let high = self.word(first.saturating_add(1));
        u128::from(high) << 64 | u128::from(self.word(first))
    }

    /// Set bits in all: does not depend on the order of bytes.
    #[must_use]
    pub fn count_ones(&self) -> u64 {
        let (words, rest) = self.bytes.as_chunks::<8>();
        let whole: u64 = words
            .iter()
            .map(|word| u64::from(u64::from_ne_bytes(*word).count_ones()))
            .sum();
        whole
            + rest
                .iter()
                .map(|byte| u64::from(byte.count_ones()))
                .sum::<u64>()
    }

    /// The set bits in `range`, ascending.
    #[must_use]
    pub fn ones(&self, range: Range<u64>) -> Ones<'a> {
        let end = range.end.min(self.len_bits());
        let start = range.start.min(end);
        let index = to_index(start / 64);
        let words = self.bytes.as_chunks().0;
        let wanted = to_index(end.div_ceil(64)).min(words.len());
        Ones {
            bitmap: *self,
            words: words.get(..wanted).unwrap_or_default(),
            index,
            word: self.word(index) & (u64::MAX << (start % 64)),
            end,
        }
    }
}

/// The set bits in a part of a bitmap, ascending.
#[derive(Clone, Debug)]
pub struct Ones<'a> {
    bitmap: Bitmap<'a>,
    /// The bitmap's whole words up to the end.
    words: &'a [[u8; 8]],
    /// Number of the word that is looked at, and its bits that are left.
    index: usize,
    word: u64,
    end: u64,
}

impl Iterator for Ones<'_> {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        while self.word == 0 {
            let next = self.index + 1;
            let rest = self.words.get(next..).unwrap_or_default();
            let zeros = rest.iter().take_while(|word| **word == [0; 8]).count();
            self.index = next + zeros;
            if self.index as u64 * 64 >= self.end {
                return None;
            }
            self.word = self.bitmap.word(self.index);
        }
        let bit = self.index as u64 * 64 + u64::from(self.word.trailing_zeros());
        self.word &= self.word - 1;
        (bit < self.end).then_some(bit)
    }
}

/// A word number as an index; one that does not fit is beyond any slice.
fn to_index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// How many ones come before each block and its quarters. The words are the caller's, or owned.
#[derive(Clone, Copy, Debug)]
pub struct RankIndex<E> {
    entries: E,
}

impl RankIndex<()> {
    /// How many words the index of `bitmap` needs.
    #[must_use]
    pub fn len_words(bitmap: &Bitmap<'_>) -> usize {
        bitmap.bytes.len().div_ceil(BLOCK_BYTES)
    }

    /// Counts `bitmap` into [`RankIndex::len_words`] words, and returns the number of ones.
    pub fn fill(bitmap: &Bitmap<'_>, entries: &mut [u64]) -> u64 {
        let mut total = 0u64;
        let (blocks, rest) = bitmap.bytes.as_chunks::<BLOCK_BYTES>();
        let mut entries = entries.iter_mut();
        // The blocks first: a zip takes from its second part only if the first has one.
        for (block, entry) in blocks.iter().zip(entries.by_ref()) {
            total += count_block(entry, total, block);
        }
        if let (Some(entry), false) = (entries.next(), rest.is_empty()) {
            let mut block = [0; BLOCK_BYTES];
            for (to, from) in block.iter_mut().zip(rest) {
                *to = *from;
            }
            total += count_block(entry, total, &block);
        }
        total
    }
}

/// Writes a block's word of the index, and returns its ones.
#[inline]
fn count_block(entry: &mut u64, before: u64, block: &[u8; BLOCK_BYTES]) -> u64 {
    let (quarters, _) = block.as_chunks::<16>();
    let mut ones = 0;
    let mut word = before << COUNTS_BITS;
    let mut shift = 0;
    for quarter in quarters {
        if shift > 0 {
            word |= ones << (shift - COUNT_BITS);
        }
        shift += COUNT_BITS;
        ones += u64::from(u128::from_ne_bytes(*quarter).count_ones());
    }
    *entry = word;
    ones
}

impl<E: AsRef<[u64]>> RankIndex<E> {
    /// An index over words that [`RankIndex::fill`] filled for the same bitmap.
    #[must_use]
    pub const fn new(entries: E) -> Self {
        Self { entries }
    }

    /// Set bits of `bitmap` before bit `bit`.
    #[inline]
    #[must_use]
    pub fn rank(&self, bitmap: &Bitmap<'_>, bit: u64) -> u64 {
        match self.before_quarter(bit) {
            Some(before) => before + ones_before(bitmap.quarter(bit), bit),
            None => bitmap.count_ones(),
        }
    }

    /// Set bits of `bitmap` before bit `bit`, if that is set itself.
    #[inline]
    #[must_use]
    pub fn rank_of_set(&self, bitmap: &Bitmap<'_>, bit: u64) -> Option<u64> {
        // The bit on top and those before it below: one shift serves both questions.
        let up_to = bitmap.quarter(bit) << (QUARTER_BITS - 1 - bit % QUARTER_BITS);
        if up_to >> (QUARTER_BITS - 1) == 0 {
            return None;
        }
        Some(self.before_quarter(bit)? + u64::from(up_to.count_ones()) - 1)
    }

    /// Set bits before the quarter of `bit`; `None` beyond the bitmap.
    #[inline]
    fn before_quarter(&self, bit: u64) -> Option<u64> {
        let entry = *self.entries.as_ref().get(to_index(bit / BLOCK_BITS))?;
        // A zero before the three counts, so that the first quarter needs no branch.
        let counts = (entry << COUNT_BITS) & ((1 << (COUNTS_BITS + COUNT_BITS)) - 1);
        let quarter = u32::try_from(bit / QUARTER_BITS % 4).unwrap_or(0);
        let inside = counts >> (quarter * COUNT_BITS) & ((1 << COUNT_BITS) - 1);
        Some((entry >> COUNTS_BITS) + inside)
    }

    /// The position of the one with `rank` ones before it, or `None` if there are not so many.
    #[must_use]
    pub fn select(&self, bitmap: &Bitmap<'_>, rank: u64) -> Option<u64> {
        let entries = self.entries.as_ref();
        let block = entries
            .partition_point(|entry| entry >> COUNTS_BITS <= rank)
            .checked_sub(1)?;
        let left = usize::try_from(rank - (entries.get(block)? >> COUNTS_BITS)).ok()?;
        let start = block as u64 * BLOCK_BITS;
        bitmap.ones(start..start + BLOCK_BITS).nth(left)
    }
}

/// Set bits of a quarter before `bit`.
#[inline]
fn ones_before(quarter: u128, bit: u64) -> u64 {
    let below = (1u128 << (bit % QUARTER_BITS)) - 1;
    u64::from((quarter & below).count_ones())
}

#[cfg(test)]
mod tests;
