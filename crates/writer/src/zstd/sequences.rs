//! Sequences: so many literals, then so many bytes from so far back. RFC 8878, 3.1.1.3.2.
#![expect(
    clippy::cast_possible_truncation,
    reason = "codes are below 64, lengths below 2^18"
)]

use super::bits::BitWriter;
use super::fse::{Norm, SYMBOLS, Table, describe, normalise};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

/// A sequence.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
pub(super) struct Sequence {
    pub(super) literals: u32,
    /// At least 3.
    pub(super) match_len: u32,
    /// The distance plus 3, or the number of a recent one.
    pub(super) offset: u32,
}

/// The distributions that need no description.
const LITERALS_NORM: Norm = norm(&[
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
    -1, -1, -1, -1,
]);
const MATCH_NORM: Norm = norm(&[
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
]);
const OFFSET_NORM: Norm = norm(&[
    1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
]);
static LITERALS_TABLE: Table = Table::new(&LITERALS_NORM, 6);
static MATCH_TABLE: Table = Table::new(&MATCH_NORM, 6);
static OFFSET_TABLE: Table = Table::new(&OFFSET_NORM, 5);

const fn norm(shares: &[i16]) -> Norm {
    let mut norm = [0; SYMBOLS];
    let mut symbol = 0;
    while symbol < shares.len() {
        norm[symbol & (SYMBOLS - 1)] = shares[symbol];
        symbol += 1;
    }
    norm
}

/// Codes of lengths from 16 literals, or 35 bytes of a match, on: what each adds, and extra bits.
const LITERALS_CODES: [(u32, u32); 20] = [
    (16, 1),
    (18, 1),
    (20, 1),
    (22, 1),
    (24, 2),
    (28, 2),
    (32, 3),
    (40, 3),
    (48, 4),
    (64, 6),
    (128, 7),
    (256, 8),
    (512, 9),
    (1024, 10),
    (2048, 11),
    (4096, 12),
    (8192, 13),
    (16384, 14),
    (32768, 15),
    (65536, 16),
];
const MATCH_CODES: [(u32, u32); 21] = [
    (32, 1),
    (34, 1),
    (36, 1),
    (38, 1),
    (40, 2),
    (44, 2),
    (48, 3),
    (56, 3),
    (64, 4),
    (80, 4),
    (96, 5),
    (128, 7),
    (256, 8),
    (512, 9),
    (1024, 10),
    (2048, 11),
    (4096, 12),
    (8192, 13),
    (16384, 14),
    (32768, 15),
    (65536, 16),
];

/// A code with its base and extra bits, by the length itself for short ones, and by its highest bit
/// for long ones.
struct Codes {
    short: [u8; 128],
    bases: [u32; SYMBOLS],
    bits: [u8; SYMBOLS],
    /// What to add to the number of the highest bit.
    long: u32,
}

const fn codes(first: u32, long: &[(u32, u32)], delta: u32) -> Codes {
    let mut codes = Codes {
        short: [0; 128],
        bases: [0; SYMBOLS],
        bits: [0; SYMBOLS],
        long: delta,
    };
    let mut code = 0;
    while code < first as usize {
        codes.short[code & 127] = code as u8;
        codes.bases[code & (SYMBOLS - 1)] = code as u32;
        code += 1;
    }
    let mut index = 0;
    while index < long.len() {
        let (base, bits) = long[index];
        codes.bases[(code + index) & (SYMBOLS - 1)] = base;
        codes.bits[(code + index) & (SYMBOLS - 1)] = bits as u8;
        let mut value = base;
        while value < 128 && value < base + (1 << bits) {
            codes.short[value as usize & 127] = (code + index) as u8;
            value += 1;
        }
        index += 1;
    }
    codes
}

static LITERALS: Codes = codes(16, &LITERALS_CODES, 19);
static MATCHES: Codes = codes(32, &MATCH_CODES, 36);

impl Codes {
    #[inline]
    fn code(&self, value: u32) -> u8 {
        match self.short.get(value as usize) {
            Some(code) => *code,
            None => ((31 - (value | 1).leading_zeros()) + self.long) as u8 & 63,
        }
    }

    /// What the code leaves to be said of `value`, and its bits.
    #[inline]
    fn extra(&self, code: u8, value: u32) -> (u64, u32) {
        let code = usize::from(code) & (SYMBOLS - 1);
        let rest = value.wrapping_sub(self.bases[code]);
        (rest.into(), self.bits[code].into())
    }
}

/// The number of an offset's highest bit is its code, the rest its extra bits.
#[inline]
fn offset_code(offset: u32) -> u8 {
    (31 - (offset | 1).leading_zeros()) as u8
}

/// Shortest match: what a match's code counts from.
const MATCH_BASE: u32 = 3;

/// Tables of one block; too large for a stack.
#[derive(FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
pub(super) struct Tables {
    literals: Table,
    matches: Table,
    offsets: Table,
    norm: Norm,
    counts: [[u32; SYMBOLS]; 3],
}

/// How a kind of code is encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Predefined,
    Described,
}

impl Tables {
    /// Encodes `sequences` to `out` as the sequences section of a block; `None` if there is no room.
    pub(super) fn encode(&mut self, sequences: &[Sequence], out: &mut [u8]) -> Option<usize> {
        let count = sequences.len();
        let mut at = put_count(count, out)?;
        let Some((last, rest)) = sequences.split_last() else {
            return Some(at);
        };
        self.count(sequences);
        let modes_at = at;
        at += 1;
        let total = u32::try_from(count).ok()?;
        let Self {
            literals,
            matches,
            offsets,
            norm,
            counts: [literals_counts, offsets_counts, matches_counts],
        } = self;
        // The descriptions follow one another in this order.
        let mut describe = |counts: &[u32; SYMBOLS], stock, most, own: &mut Table| {
            let room = out.get_mut(at..)?;
            let (mode, len) = choose(counts, total, stock, most, (own, &mut *norm), room)?;
            at += len;
            Some(mode)
        };
        let stock = (&LITERALS_TABLE, &LITERALS_NORM);
        let literals_mode = describe(literals_counts, stock, 9, literals)?;
        let stock = (&OFFSET_TABLE, &OFFSET_NORM);
        let offsets_mode = describe(offsets_counts, stock, 8, offsets)?;
        let stock = (&MATCH_TABLE, &MATCH_NORM);
        let matches_mode = describe(matches_counts, stock, 9, matches)?;
        let mode = |mode, shift: u32| match mode {
            Mode::Predefined => 0u8,
            Mode::Described => 2 << shift,
        };
        *out.get_mut(modes_at)? =
            mode(literals_mode, 6) | mode(offsets_mode, 4) | mode(matches_mode, 2);
        let pick = |mode, own, stock| match mode {
            Mode::Predefined => stock,
            Mode::Described => own,
        };
        let literals: &Table = pick(literals_mode, &*literals, &LITERALS_TABLE);
        let offsets: &Table = pick(offsets_mode, &*offsets, &OFFSET_TABLE);
        let matches: &Table = pick(matches_mode, &*matches, &MATCH_TABLE);

        let mut bits = BitWriter::new(out.get_mut(at..)?);
        let codes = Coded::of(last);
        let mut match_state = matches.first(codes.match_len);
        let mut offset_state = offsets.first(codes.offset);
        let mut literals_state = literals.first(codes.literals);
        codes.extras(last, &mut bits);
        for sequence in rest.iter().rev() {
            let codes = Coded::of(sequence);
            offsets.encode(&mut offset_state, codes.offset, &mut bits);
            matches.encode(&mut match_state, codes.match_len, &mut bits);
            literals.encode(&mut literals_state, codes.literals, &mut bits);
            bits.flush();
            codes.extras(sequence, &mut bits);
        }
        matches.finish(match_state, &mut bits);
        offsets.finish(offset_state, &mut bits);
        literals.finish(literals_state, &mut bits);
        Some(at + bits.close()?)
    }

    fn count(&mut self, sequences: &[Sequence]) {
        let [literals, offsets, matches] = &mut self.counts;
        literals.fill(0);
        offsets.fill(0);
        matches.fill(0);
        for sequence in sequences {
            let codes = Coded::of(sequence);
            for (counts, code) in [
                (&mut *literals, codes.literals),
                (&mut *offsets, codes.offset),
                (&mut *matches, codes.match_len),
            ] {
                let slot = &mut counts[usize::from(code) & (SYMBOLS - 1)];
                *slot = slot.wrapping_add(1);
            }
        }
    }
}

/// The codes of a sequence.
struct Coded {
    literals: u8,
    match_len: u8,
    offset: u8,
}

impl Coded {
    #[inline]
    fn of(sequence: &Sequence) -> Self {
        Self {
            literals: LITERALS.code(sequence.literals),
            match_len: MATCHES.code(sequence.match_len.wrapping_sub(MATCH_BASE)),
            offset: offset_code(sequence.offset),
        }
    }

    #[inline]
    fn extras(&self, sequence: &Sequence, bits: &mut BitWriter<'_>) {
        let (value, len) = LITERALS.extra(self.literals, sequence.literals);
        bits.add(value, len);
        let match_len = sequence.match_len.wrapping_sub(MATCH_BASE);
        let (value, len) = MATCHES.extra(self.match_len, match_len);
        bits.add(value, len);
        bits.flush();
        bits.add(sequence.offset.into(), self.offset.into());
        bits.flush();
    }
}

/// How many sequences there are.
fn put_count(count: usize, out: &mut [u8]) -> Option<usize> {
    let bytes = (count as u64).to_le_bytes();
    let [low, high, ..] = bytes;
    match count {
        0..=127 => {
            *out.first_mut()? = low;
            Some(1)
        }
        128..0x7f00 => {
            *out.first_chunk_mut::<2>()? = [high + 128, low];
            Some(2)
        }
        _ => {
            let [low, high, ..] = (count as u64 - 0x7f00).to_le_bytes();
            *out.first_chunk_mut::<3>()? = [255, low, high];
            Some(3)
        }
    }
}

/// Chooses the table of one kind of code: the stock one, or one of its own if that pays for its
/// description. Returns which, and the bytes of the description.
fn choose(
    counts: &[u32; SYMBOLS],
    total: u32,
    stock: (&Table, &Norm),
    most: u32,
    own: (&mut Table, &mut Norm),
    out: &mut [u8],
) -> Option<(Mode, usize)> {
    let (table, norm) = own;
    let cost = |table: &Table, norm: &Norm| -> u64 {
        let costs = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        costs
            .map(|(symbol, count)| table.cost(symbol, norm).saturating_mul(u64::from(*count)))
            .fold(0, u64::saturating_add)
    };
    let stock_cost = cost(stock.0, stock.1);
    // As many states as the sequences can tell apart.
    let log = (31 - (total | 1).leading_zeros())
        .saturating_sub(1)
        .clamp(5, most);
    if total >= 32 && normalise(counts, total, log, norm).is_some() {
        table.build(norm, log);
        if let Some(len) = describe(norm, log, out)
            && cost(table, norm).saturating_add(len as u64 * 8 * 256) < stock_cost
        {
            return Some((Mode::Described, len));
        }
    }
    // Symbols that the stock table lacks do not occur: lengths and distances are below its limits.
    Some((Mode::Predefined, 0))
}
