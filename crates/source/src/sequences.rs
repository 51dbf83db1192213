//! The last three offsets after a zstd block, which later blocks may use again.
//!
//! They are known only from the sequences, so these are decoded, but not carried out. What was
//! before the first block that is looked at is unknown; after three new offsets nothing of it is
//! left. Source: RFC 8878, sections 3.1.1.3.2, 3.1.1.5 and 4.1.

use crate::zstd_block::{Distribution, Sequences, Table};

/// Bits after the code of a literal length, from code 16 on.
const LITERAL_BITS: [u32; 20] = [
    1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
/// Bits after the code of a match length, from code 32 on.
const MATCH_BITS: [u32; 21] = [
    1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
/// The largest code of an offset that fits 32 bits.
const OFFSET_CODE_MAX: u32 = 31;

/// The last three offsets, the newest first, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets([Option<u32>; 3]);

/// A state of a table: what it means, and how to get to the next.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    symbol: u8,
    bits: u32,
    base: u32,
}

/// A table, ready to decode.
#[derive(Debug)]
struct Decoder {
    log: u32,
    states: Vec<State>,
    state: u32,
}

impl Decoder {
    fn new(table: &Table) -> Option<Self> {
        let (log, states) = match table {
            Table::Unset => return None,
            Table::One(symbol) => (
                0,
                vec![State {
                    symbol: *symbol,
                    bits: 0,
                    base: 0,
                }],
            ),
            Table::Many(distribution) => (distribution.log, states(distribution)?),
        };
        Some(Self {
            log,
            states,
            state: 0,
        })
    }

    fn start(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        self.state = u32::try_from(bits.take(self.log)?).ok()?;
        Some(())
    }

    fn now(&self) -> Option<State> {
        self.states.get(usize::try_from(self.state).ok()?).copied()
    }

    fn step(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let now = self.now()?;
        self.state = now.base + u32::try_from(bits.take(now.bits)?).ok()?;
        Some(())
    }
}

/// Spreads the symbols over the states.
fn states(distribution: &Distribution) -> Option<Vec<State>> {
    let size = 1usize << distribution.log;
    let mut states = vec![State::default(); size];
    let mut next: Vec<u32> = Vec::with_capacity(distribution.counts.len());
    let mut high = size;
    for (symbol, count) in (0u8..).zip(&distribution.counts) {
        next.push(count.unsigned_abs().into());
        if *count == -1 {
            high = high.checked_sub(1)?;
            states.get_mut(high)?.symbol = symbol;
        }
    }
    let step = (size >> 1) + (size >> 3) + 3;
    let mut at = 0;
    for (symbol, count) in (0u8..).zip(&distribution.counts) {
        for _ in 0..*count.max(&0) {
            states.get_mut(at)?.symbol = symbol;
            loop {
                at = (at + step) & (size - 1);
                if at < high || high == 0 {
                    break;
                }
            }
        }
    }
    for state in &mut states {
        let next = next.get_mut(usize::from(state.symbol))?;
        state.bits = distribution.log.checked_sub(next.checked_ilog2()?)?;
        state.base = (*next << state.bits).checked_sub(1 << distribution.log)?;
        *next += 1;
    }
    Some(states)
}

/// Bits that are read from the end.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that are left.
    left: usize,
}

impl<'a> Bits<'a> {
    /// The highest set bit of the last byte marks the end.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let last = bytes.last()?.checked_ilog2()?;
        let left = (bytes.len() - 1) * 8 + usize::try_from(last).ok()?;
        Some(Self { bytes, left })
    }

    /// The next `count` bits, at most 32.
    fn take(&mut self, count: u32) -> Option<u64> {
        self.left = self.left.checked_sub(usize::try_from(count).ok()?)?;
        let bytes = self.bytes.get(self.left / 8..)?;
        let word = match bytes.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            None => {
                let bytes = bytes.iter().rev();
                bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
            }
        };
        Some(word >> (self.left % 8) & ((1 << count) - 1))
    }
}

impl Offsets {
    /// Those that a frame starts with. Only sequences change them: blocks that are stored do not.
    pub(crate) const AT_START: Self = Self([Some(1), Some(4), Some(8)]);

    /// All three, once they are known.
    pub(crate) fn known(self) -> Option<[u32; 3]> {
        let [a, b, c] = self.0;
        Some([a?, b?, c?])
    }

    /// Follows the sequences of a block, whose tables are `tables`. What cannot be decoded leaves
    /// nothing known.
    pub(crate) fn follow(&mut self, sequences: &Sequences<'_>, tables: &[Table; 3]) {
        if sequences.count > 0 && self.decode(sequences, tables).is_none() {
            *self = Self::default();
        }
    }

    fn decode(&mut self, sequences: &Sequences<'_>, tables: &[Table; 3]) -> Option<()> {
        let [literals, offsets, matches] = tables;
        let mut literals = Decoder::new(literals)?;
        let mut offsets = Decoder::new(offsets)?;
        let mut matches = Decoder::new(matches)?;
        let mut bits = Bits::new(sequences.bits)?;
        literals.start(&mut bits)?;
        offsets.start(&mut bits)?;
        matches.start(&mut bits)?;
        for left in (0..sequences.count).rev() {
            let code = u32::from(offsets.now()?.symbol);
            if code > OFFSET_CODE_MAX {
                return None;
            }
            let value = (1 << code) + bits.take(code)?;
            let literal_code = literals.now()?.symbol;
            bits.take(extra(matches.now()?.symbol, 32, &MATCH_BITS)?)?;
            bits.take(extra(literal_code, 16, &LITERAL_BITS)?)?;
            self.push(u32::try_from(value).ok()?, literal_code == 0);
            if left > 0 {
                literals.step(&mut bits)?;
                matches.step(&mut bits)?;
                offsets.step(&mut bits)?;
            }
        }
        Some(())
    }

    fn push(&mut self, value: u32, has_no_literals: bool) {
        let [a, b, c] = self.0;
        self.0 = match (value, has_no_literals) {
            (4.., _) => [Some(value - 3), a, b],
            (1, false) => [a, b, c],
            (1, true) | (2, false) => [b, a, c],
            (2, true) | (3, false) => [c, a, b],
            _ => [a.and_then(|a| a.checked_sub(1)), a, b],
        };
    }
}

/// Bits after a code.
fn extra(code: u8, first: u8, bits: &[u32]) -> Option<u32> {
    match code.checked_sub(first) {
        None => Some(0),
        Some(index) => bits.get(usize::from(index)).copied(),
    }
}
