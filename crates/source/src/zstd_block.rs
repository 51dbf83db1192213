//! The tables of a zstd block: where they are, and how they are written into a dictionary.
//!
//! A block may use the tables of the one before. To start after it, a decoder needs them; the only
//! way to hand them over is a dictionary, which has all four in the form in which blocks have them.
//! Source: RFC 8878, sections 3.1.1.3, 4.1 and 5.

/// The most symbols of a table: literal lengths, offsets, match lengths.
const SYMBOLS: [usize; 3] = [36, 32, 53];
/// log2 of the most states of each.
const MAX_LOG: [u32; 3] = [9, 8, 9];
/// A Huffman table of two symbols, for a dictionary whose readers use none.
const NO_LITERALS: [u8; 2] = [0x80, 0x10];

const LITERALS_DEFAULT: [i16; 36] = [
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
    -1, -1, -1, -1,
];
const OFFSETS_DEFAULT: [i16; 29] = [
    1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
];
const MATCHES_DEFAULT: [i16; 53] = [
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
];

/// How often each symbol is in a table of 2^`log` states; -1 is less than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Distribution {
    pub(crate) log: u32,
    pub(crate) counts: Vec<i16>,
}

impl Distribution {
    fn default_of(kind: usize) -> Self {
        let (log, counts) = match kind {
            0 => (6, LITERALS_DEFAULT.as_slice()),
            1 => (5, OFFSETS_DEFAULT.as_slice()),
            _ => (6, MATCHES_DEFAULT.as_slice()),
        };
        Self {
            log,
            counts: counts.to_vec(),
        }
    }

    /// Decodes a table's description; gives it and its bytes.
    fn parse(bytes: &[u8], kind: usize) -> Option<(Self, usize)> {
        let mut at = 0u32;
        let mut take = |count: u32| -> Option<u32> {
            let value = bits_at(bytes, at, count)?;
            at += count;
            Some(value)
        };
        let log = take(4)? + 5;
        if log > *MAX_LOG.get(kind)? {
            return None;
        }
        let most = *SYMBOLS.get(kind)?;
        let mut counts = Vec::new();
        let mut remaining = 1i32 << log;
        while remaining > 0 && counts.len() < most {
            let left = u32::try_from(remaining).ok()? + 1;
            let width = left.ilog2() + 1;
            let small = (1 << width) - 1 - left;
            let low = take(width - 1)?;
            let value = if low < small {
                low
            } else {
                let value = low | take(1)? << (width - 1);
                match value >> (width - 1) {
                    0 => value,
                    _ => value - small,
                }
            };
            let count = i16::try_from(value).ok()? - 1;
            remaining -= i32::from(count.abs());
            counts.push(count);
            let mut zeros = if count == 0 { 3 } else { 0 };
            while zeros == 3 && counts.len() <= most {
                zeros = take(2)?;
                counts.extend((0..zeros).map(|_| 0));
            }
        }
        let len = usize::try_from(at.div_ceil(8)).ok()?;
        (remaining == 0 && counts.len() <= most && len <= bytes.len())
            .then_some((Self { log, counts }, len))
    }

    /// Writes the description; what [`Distribution::parse`] decodes.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = 0u32;
        let mut put = |value: u32, count: u32| {
            for bit in 0..count {
                if at.is_multiple_of(8) {
                    bytes.push(0);
                }
                if let Some(last) = bytes.last_mut() {
                    let is_set = u8::from(value >> bit & 1 != 0);
                    *last |= is_set << (at % 8);
                }
                at += 1;
            }
        };
        put(self.log.saturating_sub(5), 4);
        let mut remaining = 1u32 << self.log;
        let mut counts = self.counts.iter();
        while let Some(count) = counts.next().filter(|_| remaining > 0) {
            let left = remaining + 1;
            let width = left.ilog2() + 1;
            let small = (1 << width) - 1 - left;
            let value = u32::try_from(count + 1).unwrap_or(0);
            if value < small {
                put(value, width - 1);
            } else if value < 1 << (width - 1) {
                put(value, width);
            } else {
                put(value + small, width);
            }
            remaining -= u32::from(count.unsigned_abs());
            if *count == 0 {
                let after = counts.as_slice();
                let mut zeros = after.iter().take_while(|count| **count == 0).count();
                counts = after.get(zeros..).unwrap_or_default().iter();
                while zeros >= 3 {
                    put(3, 2);
                    zeros -= 3;
                }
                put(u32::try_from(zeros).unwrap_or(0), 2);
            }
        }
        bytes
    }
}

/// `count` bits from bit `at` on, the lowest first; at most 25.
fn bits_at(bytes: &[u8], at: u32, count: u32) -> Option<u32> {
    let first = usize::try_from(at / 8).ok()?;
    let bytes = bytes.get(first..)?;
    if at % 8 + count > u32::try_from(bytes.len().min(8)).ok()? * 8 {
        return None;
    }
    let word = bytes.iter().take(4).rev();
    let word = word.fold(0u32, |word, byte| word << 8 | u32::from(*byte));
    Some(word >> (at % 8) & ((1 << count) - 1))
}

/// A table of sequences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Table {
    /// None so far.
    #[default]
    Unset,
    /// One symbol only.
    One(u8),
    /// A distribution, the format's own or a block's.
    Many(Distribution),
}

/// The tables that the next block may use again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    /// Of the literals, as it stood in its block.
    huffman: Vec<u8>,
    /// Of literal lengths, offsets, match lengths.
    pub(crate) sequences: [Table; 3],
}

/// The sequences of a block.
#[derive(Debug)]
pub(crate) struct Sequences<'a> {
    pub(crate) count: u32,
    /// Which of the three tables were used again.
    pub(crate) is_repeated: [bool; 3],
    /// Their bits.
    pub(crate) bits: &'a [u8],
}

impl Tables {
    /// Follows a compressed block; `None` if it is not one.
    pub(crate) fn follow<'b>(&mut self, block: &'b [u8]) -> Option<Sequences<'b>> {
        let rest = self.literals(block)?;
        let (first, rest) = rest.split_first()?;
        let (count, rest) = match first {
            0 => {
                return Some(Sequences {
                    count: 0,
                    is_repeated: [false; 3],
                    bits: &[],
                });
            }
            1..128 => (u32::from(*first), rest),
            128..255 => {
                let (second, rest) = rest.split_first()?;
                (u32::from(first - 128) << 8 | u32::from(*second), rest)
            }
            255 => {
                let (more, rest) = rest.split_first_chunk()?;
                (u32::from(u16::from_le_bytes(*more)) + 0x7f00, rest)
            }
        };
        let (modes, mut rest) = rest.split_first()?;
        let mut is_repeated = [false; 3];
        let tables = self.sequences.iter_mut().zip(&mut is_repeated);
        for (kind, (table, is_repeated)) in tables.enumerate() {
            match modes >> (6 - 2 * kind) & 3 {
                0 => *table = Table::Many(Distribution::default_of(kind)),
                1 => {
                    let (symbol, after) = rest.split_first()?;
                    *table = Table::One(*symbol);
                    rest = after;
                }
                2 => {
                    let (distribution, len) = Distribution::parse(rest, kind)?;
                    *table = Table::Many(distribution);
                    rest = rest.get(len..)?;
                }
                _ => *is_repeated = true,
            }
        }
        Some(Sequences {
            count,
            is_repeated,
            bits: rest,
        })
    }

    /// Skips the literals, and keeps their table.
    fn literals<'b>(&mut self, block: &'b [u8]) -> Option<&'b [u8]> {
        let first = *block.first()?;
        let kind = first & 3;
        let size_format = first >> 2 & 3;
        let word = block.iter().take(5).rev();
        let word = word.fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        let (header_len, stored) = if kind < 2 {
            let (len, size) = match size_format {
                0 | 2 => (1, word >> 3 & 0x1f),
                1 => (2, word >> 4 & 0xfff),
                _ => (3, word >> 4 & 0xf_ffff),
            };
            (len, if kind == 0 { size } else { 1 })
        } else {
            match size_format {
                0 | 1 => (3, word >> 14 & 0x3ff),
                2 => (4, word >> 18 & 0x3fff),
                _ => (5, word >> 22 & 0x3_ffff),
            }
        };
        let rest = block.get(header_len..)?;
        let (literals, rest) = rest.split_at_checked(usize::try_from(stored).ok()?)?;
        if kind == 2 {
            let first = usize::from(*literals.first()?);
            let len = match first {
                0..128 => first,
                _ => (first - 127).div_ceil(2),
            };
            self.huffman = literals.get(..=len)?.to_vec();
        }
        Some(rest)
    }

    /// The start of a dictionary for a decoder that starts after the last block: with these tables
    /// and the last three offsets; the bytes before belong after it. A table of one symbol cannot be
    /// said; another stands in.
    pub(crate) fn dictionary_header(&self, offsets: [u32; 3]) -> Vec<u8> {
        let mut bytes = 0xec30_a437_u32.to_le_bytes().to_vec();
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(match self.huffman.as_slice() {
            [] => NO_LITERALS.as_slice(),
            huffman => huffman,
        });
        let [literals, distances, matches] = &self.sequences;
        for (kind, table) in [(1, distances), (2, matches), (0, literals)] {
            bytes.extend(match table {
                Table::Many(distribution) => distribution.encode(),
                Table::Unset | Table::One(_) => Distribution::default_of(kind).encode(),
            });
        }
        bytes.extend(offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_read_as_they_are_written() {
        let mut all: Vec<(usize, Distribution)> = (0..3)
            .map(|kind| (kind, Distribution::default_of(kind)))
            .collect();
        // Runs of zeros of every length up to seven, and a lonely symbol.
        for zeros in 0..8usize {
            let mut counts = vec![10];
            counts.extend(vec![0; zeros]);
            counts.extend([21, -1]);
            all.push((0, Distribution { log: 5, counts }));
        }
        let one = vec![0, 0, 0, 0, 32];
        all.push((
            1,
            Distribution {
                log: 5,
                counts: one,
            },
        ));
        for (kind, distribution) in all {
            let bytes = distribution.encode();
            let parsed = Distribution::parse(&bytes, kind);
            assert_eq!(parsed, Some((distribution, bytes.len())));
            for len in 0..bytes.len() {
                assert_eq!(Distribution::parse(&bytes[..len], kind), None);
            }
        }
    }
}
