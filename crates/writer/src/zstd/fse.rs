//! Finite state entropy: tables for encoding, and their description. RFC 8878, 4.1.
//!
//! All sizes are powers of two and all indices masked, so that no access can be out of bounds.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "states and counts are below 1024"
)]

use super::bits::BitWriter;
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

/// The most states of a table.
const STATES: usize = 512;
/// The most symbols, rounded up.
pub(super) const SYMBOLS: usize = 64;

/// How often each symbol occurs in a table of `1 << log` states; -1 is once, with a whole state's bits.
pub(super) type Norm = [i16; SYMBOLS];

/// What a symbol does to a state.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
struct Transform {
    delta_bits: u32,
    delta_state: i32,
}

/// A table for encoding.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
pub(super) struct Table {
    log: u32,
    transforms: [Transform; SYMBOLS],
    states: [u16; STATES],
    /// While it is built: the symbol of each state.
    spread: [u8; STATES],
    /// While it is built: the next state of each symbol.
    next: [u16; SYMBOLS],
    padding: [u8; 4],
}

impl Table {
    pub(super) const EMPTY: Self = Self {
        log: 0,
        transforms: [Transform {
            delta_bits: 0,
            delta_state: 0,
        }; SYMBOLS],
        states: [0; STATES],
        spread: [0; STATES],
        next: [0; SYMBOLS],
        padding: [0; 4],
    };

    /// The table of `norm`, whose counts add up to `1 << log`.
    pub(super) const fn new(norm: &Norm, log: u32) -> Self {
        let mut table = Self::EMPTY;
        table.build(norm, log);
        table
    }

    /// Makes this the table of `norm`.
    pub(super) const fn build(&mut self, norm: &Norm, log: u32) {
        let log = if log > 9 { 9 } else { log };
        self.log = log;
        let size = 1usize << log;
        let mask = size - 1;
        // Rare symbols take the last states, the others are spread over the rest.
        let mut high = size;
        let mut symbol = 0;
        let mut start = 0u16;
        while symbol < SYMBOLS {
            let count = norm[symbol & (SYMBOLS - 1)];
            self.next[symbol & (SYMBOLS - 1)] = start;
            if count == -1 {
                high = high.wrapping_sub(1);
                self.spread[high & (STATES - 1)] = symbol as u8;
                start = start.wrapping_add(1);
            } else {
                start = start.wrapping_add(count as u16);
            }
            symbol += 1;
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let mut position = 0;
        symbol = 0;
        while symbol < SYMBOLS {
            let mut left = norm[symbol & (SYMBOLS - 1)];
            while left > 0 {
                self.spread[position & (STATES - 1)] = symbol as u8;
                position = position.wrapping_add(step) & mask;
                let mut tries = 0;
                while position >= high && tries < size {
                    position = position.wrapping_add(step) & mask;
                    tries += 1;
                }
                left -= 1;
            }
            symbol += 1;
        }
        let mut state = 0;
        while state < size {
            let symbol = self.spread[state & (STATES - 1)] as usize & (SYMBOLS - 1);
            let at = self.next[symbol] as usize & (STATES - 1);
            self.states[at] = size.wrapping_add(state) as u16;
            self.next[symbol] = self.next[symbol].wrapping_add(1);
            state += 1;
        }
        let mut total = 0i32;
        symbol = 0;
        while symbol < SYMBOLS {
            let count = norm[symbol & (SYMBOLS - 1)];
            let whole = 1u32 << log;
            self.transforms[symbol & (SYMBOLS - 1)] = match count {
                0 => Transform {
                    delta_bits: ((log + 1) << 16).wrapping_sub(whole),
                    delta_state: 0,
                },
                -1 | 1 => Transform {
                    delta_bits: (log << 16).wrapping_sub(whole),
                    delta_state: total.wrapping_sub(1),
                },
                _ => {
                    let high_bit = 31 - (((count - 1) as u32) | 1).leading_zeros();
                    let bits = log.wrapping_sub(high_bit) & 15;
                    Transform {
                        delta_bits: (bits << 16).wrapping_sub((count as u32) << bits),
                        delta_state: total.wrapping_sub(count as i32),
                    }
                }
            };
            total = total.wrapping_add(if count < 0 { 1 } else { count as i32 });
            symbol += 1;
        }
    }

    /// The state that encodes `symbol` as the last of a stream, which is encoded first.
    #[inline]
    pub(super) fn first(&self, symbol: u8) -> State {
        let change = self.transforms[usize::from(symbol) & (SYMBOLS - 1)];
        let bits = change.delta_bits.wrapping_add(1 << 15) >> 16;
        let value = (bits << 16).wrapping_sub(change.delta_bits);
        self.state(value >> (bits & 31), change)
    }

    #[inline]
    fn state(&self, value: u32, change: Transform) -> State {
        let at = (value as i32).wrapping_add(change.delta_state) as usize;
        State(self.states[at & (STATES - 1)].into())
    }

    /// Encodes `symbol`: what goes out is the part of the state that the next one does not know.
    #[inline]
    pub(super) fn encode(&self, state: &mut State, symbol: u8, out: &mut BitWriter<'_>) {
        let change = self.transforms[usize::from(symbol) & (SYMBOLS - 1)];
        let bits = state.0.wrapping_add(change.delta_bits) >> 16;
        out.add(state.0.into(), bits);
        *state = self.state(state.0 >> (bits & 31), change);
    }

    /// Ends a stream: the decoder starts with this.
    pub(super) fn finish(&self, state: State, out: &mut BitWriter<'_>) {
        out.add(state.0.into(), self.log);
    }

    /// Bits that `symbol` takes, in 1/256 of a bit, roughly; a lot if it has no state.
    pub(super) fn cost(&self, symbol: usize, norm: &Norm) -> u64 {
        match norm[symbol & (SYMBOLS - 1)] {
            0 => 1 << 20,
            count => {
                let count = u64::from(count.unsigned_abs());
                u64::from(self.log) * 256 - log2_256(count)
            }
        }
    }
}

/// log2 of a number in 1/256, linear between powers of two.
fn log2_256(value: u64) -> u64 {
    let bit = u64::from(63 - (value | 1).leading_zeros());
    let rest = (value << 8 >> (bit & 63)) & 255;
    bit * 256 + rest
}

/// The state of an encoder.
#[derive(Clone, Copy)]
pub(super) struct State(u32);

/// Turns counts into shares of `1 << log` states: no symbol that occurs has less than one. `None` if
/// fewer than two symbols occur, or there are more than states.
pub(super) fn normalise(
    counts: &[u32; SYMBOLS],
    total: u32,
    log: u32,
    norm: &mut Norm,
) -> Option<()> {
    let size = 1i32 << (log & 15);
    let mut left = size;
    let mut largest = 0;
    let mut largest_count = 0;
    let mut used = 0;
    for (symbol, (count, to)) in counts.iter().zip(norm.iter_mut()).enumerate() {
        if *count == 0 {
            *to = 0;
            continue;
        }
        used += 1;
        let share = (u64::from(*count) << log).checked_div(total.into())?;
        // Rounded to the nearest, and never to nothing.
        let rest = (u64::from(*count) << log).checked_rem(total.into())?;
        let rounded = share + u64::from(rest * 2 >= u64::from(total));
        let share = i32::try_from(rounded.max(1)).ok()?;
        *to = i16::try_from(share).ok()?;
        left -= share;
        if *count > largest_count {
            (largest, largest_count) = (symbol, *count);
        }
    }
    if used < 2 || used > size {
        return None;
    }
    // What rounding took or left over: first the largest, then any that can give some.
    let mut guard = 0;
    while left < 0 && guard < size {
        let taker = norm.iter_mut().max_by_key(|count| **count)?;
        if *taker <= 1 {
            return None;
        }
        *taker -= 1;
        left += 1;
        guard += 1;
    }
    if left > 0 {
        let to = norm.get_mut(largest)?;
        *to = to.checked_add(i16::try_from(left).ok()?)?;
    }
    (left >= 0).then_some(())
}

/// Writes the description of a table, and returns its bytes.
pub(super) fn describe(norm: &Norm, log: u32, out: &mut [u8]) -> Option<usize> {
    let mut bits = BitWriter::new(out);
    let size = 1i32 << (log & 15);
    bits.add(u64::from(log.wrapping_sub(5)), 4);
    let mut remaining = size + 1;
    let mut threshold = size;
    let mut width = log + 1;
    let mut previous_is_zero = false;
    let mut symbol = 0usize;
    while symbol < SYMBOLS && remaining > 1 {
        if previous_is_zero {
            let start = symbol;
            while symbol < SYMBOLS && norm[symbol & (SYMBOLS - 1)] == 0 {
                symbol += 1;
            }
            if symbol >= SYMBOLS {
                return None;
            }
            let mut zeros = symbol - start;
            while zeros >= 3 {
                bits.add(3, 2);
                bits.flush();
                zeros -= 3;
            }
            bits.add(zeros as u64, 2);
        }
        let count = i32::from(norm[symbol & (SYMBOLS - 1)]);
        symbol += 1;
        let max = 2 * threshold - 1 - remaining;
        remaining -= count.abs();
        let mut value = count + 1;
        previous_is_zero = value == 1;
        if value >= threshold {
            value += max;
        }
        bits.add(value as u64, width - u32::from(value < max));
        bits.flush();
        while remaining < threshold && threshold > 1 {
            width -= 1;
            threshold >>= 1;
        }
    }
    bits.end()
}
