//! The page bitmap: which pages are in the dump, and how many come before a given one.
//!
//! Bit *n* set means that page *n* of the numbering ([`crate::dump_avail`]) is in the dump; pages
//! are stored in the order of their bits, so the count of earlier bits (the *rank*) is the only
//! index there is. The bitmap is the memory image of an array of machine words; little-endian
//! layouts of any width coincide, big-endian ones need the width.
//!
//! The rank index costs 1/16 of the bitmap: a 32-bit count for each 512 bits (a cache line),
//! relative to a 64-bit count for each 2^25 bits, so that it holds for any size.
//!
//! ```
//! use vmcore_format::bitmap::{Bitmap, RankIndex, WordOrder};
//! let bitmap = Bitmap::new(&[0b1010_0001, 0x80], WordOrder::Little);
//! let (supers, blocks) = RankIndex::lengths(&bitmap);
//! let (mut supers, mut blocks) = (vec![0; supers], vec![0; blocks]);
//! let total = RankIndex::fill(&bitmap, &mut supers, &mut blocks);
//! let index = RankIndex::new(&supers[..], &blocks[..]);
//! assert_eq!(total, 4);
//! assert_eq!(index.rank(&bitmap, 7), 2);
//! assert!(bitmap.contains(15));
//! assert_eq!(bitmap.ones(0..16).collect::<Vec<_>>(), [0, 5, 7, 15]);
//! ```

use core::ops::Range;

/// How the kernel's words lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordOrder {
    /// Any word size, little-endian.
    Little,
    /// 32-bit words, big-endian.
    Big32,
    /// 64-bit words, big-endian.
    Big64,
}

/// Bits of a rank block: one 32-bit count each.
const BLOCK_BITS: u64 = 512;
/// 64-bit words of a block.
const BLOCK_WORDS: usize = 8;
/// Blocks that share a 64-bit base count; 2^16 blocks hold at most 2^25 ones, so a `u32` suffices.
const SUPER_BLOCKS: usize = 1 << 16;

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

    /// Bits there are, padding included. A big-endian word of which bytes are missing counts as a
    /// whole: its first bytes hold its highest bits.
    #[must_use]
    pub const fn len_bits(&self) -> u64 {
        let word_bytes = match self.order {
            WordOrder::Little => 1,
            WordOrder::Big32 => 4,
            WordOrder::Big64 => 8,
        };
        self.bytes.len().next_multiple_of(word_bytes) as u64 * 8
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
            Some(word) => self.decode(*word),
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
        self.decode(padded)
    }

    #[inline]
    const fn decode(&self, word: [u8; 8]) -> u64 {
        match self.order {
            WordOrder::Little => u64::from_le_bytes(word),
            WordOrder::Big64 => u64::from_be_bytes(word),
            WordOrder::Big32 => u64::from_be_bytes(word).rotate_left(32),
        }
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
    pub fn ones(&self, range: Range<u64>) -> impl Iterator<Item = u64> + use<'a> {
        let bitmap = *self;
        let end = range.end.min(self.len_bits());
        let start = range.start.min(end);
        let mut index = start / 64;
        let mut word = bitmap.word(to_index(index)) & (u64::MAX << (start % 64));
        core::iter::from_fn(move || {
            while word == 0 {
                index += 1;
                if index * 64 >= end {
                    return None;
                }
                word = bitmap.word(to_index(index));
            }
            let bit = index * 64 + u64::from(word.trailing_zeros());
            word &= word - 1;
            (bit < end).then_some(bit)
        })
    }
}

/// A word number as an index; one that does not fit lies beyond any slice.
fn to_index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Counts of earlier ones, for constant-time rank. `S` and `B` are the storage: slices, boxes.
#[derive(Clone, Copy, Debug)]
pub struct RankIndex<S, B> {
    supers: S,
    blocks: B,
}

impl RankIndex<(), ()> {
    /// How many super blocks and blocks the index of `bitmap` needs.
    #[must_use]
    pub fn lengths(bitmap: &Bitmap<'_>) -> (usize, usize) {
        let blocks = bitmap.bytes.len().div_ceil(8 * BLOCK_WORDS);
        (blocks.div_ceil(SUPER_BLOCKS), blocks)
    }

    /// Counts `bitmap` into storage of [`RankIndex::lengths`], and returns the number of ones.
    pub fn fill(bitmap: &Bitmap<'_>, supers: &mut [u64], blocks: &mut [u32]) -> u64 {
        let mut total = 0u64;
        let (lines, rest) = bitmap.bytes.as_chunks::<{ 8 * BLOCK_WORDS }>();
        let mut lines = lines.iter();
        for (base, blocks) in supers.iter_mut().zip(blocks.chunks_mut(SUPER_BLOCKS)) {
            *base = total;
            let mut ones = 0u32;
            for block in blocks {
                *block = ones;
                ones += match lines.next() {
                    Some(line) => count_line(line),
                    None => rest.iter().map(|byte| byte.count_ones()).sum(),
                };
            }
            total += u64::from(ones);
        }
        total
    }
}

/// Ones in 512 bits.
#[inline]
fn count_line(line: &[u8; 8 * BLOCK_WORDS]) -> u32 {
    let (words, _) = line.as_chunks::<8>();
    words
        .iter()
        .map(|word| u64::from_ne_bytes(*word).count_ones())
        .sum()
}

impl<S: AsRef<[u64]>, B: AsRef<[u32]>> RankIndex<S, B> {
    /// An index over storage that [`RankIndex::fill`] filled for the same bitmap.
    #[must_use]
    pub const fn new(supers: S, blocks: B) -> Self {
        Self { supers, blocks }
    }

    /// Set bits of `bitmap` before bit `bit`.
    #[inline]
    #[must_use]
    pub fn rank(&self, bitmap: &Bitmap<'_>, bit: u64) -> u64 {
        let block = to_index(bit / BLOCK_BITS);
        let (Some(base), Some(before)) = (
            self.supers.as_ref().get(block / SUPER_BLOCKS),
            self.blocks.as_ref().get(block),
        ) else {
            return self.rank_beyond(bitmap);
        };
        let first = block * BLOCK_WORDS;
        let last = to_index(bit / 64);
        let mut ones = bitmap.word(last) & !(u64::MAX << (bit % 64));
        let mut count = u64::from(*before) + base;
        for index in first..last {
            count += u64::from(ones.count_ones());
            ones = bitmap.word(index);
        }
        count + u64::from(ones.count_ones())
    }

    /// The position of the one with `rank` ones before it, or `None` if there are not so many.
    #[must_use]
    pub fn select(&self, bitmap: &Bitmap<'_>, rank: u64) -> Option<u64> {
        let supers = self.supers.as_ref();
        let super_block = supers
            .partition_point(|base| *base <= rank)
            .checked_sub(1)?;
        let inside = u32::try_from(rank - supers.get(super_block)?).ok()?;
        let first = super_block * SUPER_BLOCKS;
        let blocks = self.blocks.as_ref().get(first..)?;
        let blocks = blocks.get(..SUPER_BLOCKS).unwrap_or(blocks);
        let block = blocks
            .partition_point(|before| *before <= inside)
            .checked_sub(1)?;
        let left = usize::try_from(inside - blocks.get(block)?).ok()?;
        let start = (first + block) as u64 * BLOCK_BITS;
        bitmap.ones(start..start + BLOCK_BITS).nth(left)
    }

    /// The rank of a bit beyond the bitmap: all ones.
    #[cold]
    fn rank_beyond(&self, bitmap: &Bitmap<'_>) -> u64 {
        bitmap.count_ones()
    }
}

#[cfg(test)]
mod tests;
