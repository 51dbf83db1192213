//! Huffman codes for literals: lengths of at most 11 bits, their description, and the four streams.
//! RFC 8878, 4.2.
#![expect(
    clippy::cast_possible_truncation,
    reason = "symbols are bytes, lengths below 12, nodes below 512"
)]

use super::bits::BitWriter;
use super::fse::{Norm, SYMBOLS, Table, describe, normalise};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

/// The longest code.
const MAX_BITS: u32 = 11;
/// Fewer literals than this are not worth four streams.
const FOUR_STREAMS_MIN: usize = 256;

/// A code in the making; too large for a stack.
#[derive(FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
pub(super) struct Huffman {
    counts: [u32; 256],
    /// Length in the low byte, code above.
    codes: [u32; 256],
    /// Weights of the tree's nodes, leaves first.
    weights: [u32; 512],
    parents: [u16; 512],
    depths: [u16; 512],
    /// Symbols that occur, the rarest first.
    order: [u16; 256],
    lengths: [u8; 256],
    /// For the description.
    norm: Norm,
    table: Table,
    description: [u8; 136],
}

impl Huffman {
    /// Encodes `literals` to `out` as the literals section of a block; `None` if they do not become
    /// fewer bytes by it.
    pub(super) fn encode(&mut self, literals: &[u8], out: &mut [u8]) -> Option<usize> {
        let len = literals.len();
        self.count(literals);
        let used = self.sort();
        if used < 2 {
            return None;
        }
        self.measure(used)?;
        let longest = self.limit(used)?;
        let description = self.describe(longest)?;
        let bits: u64 = self
            .counts
            .iter()
            .zip(&self.lengths)
            .map(|(count, length)| u64::from(*count) * u64::from(*length))
            .sum();
        // Not worth the decoder's time, or the header would not pay.
        let estimate = bits / 8 + description as u64 + 12;
        if estimate + (len as u64 >> 6) >= len as u64 {
            return None;
        }
        self.assign(longest);
        let four = len >= FOUR_STREAMS_MIN;
        let header = match (four, len) {
            (_, 0..=1023) => 3,
            (_, 1024..=16383) => 4,
            _ => 5,
        };
        let mut at = header;
        let from = self.description.get(..description)?;
        let to = out.get_mut(at..)?.get_mut(..description)?;
        to.copy_from_slice(from);
        at += description;
        if four {
            let (part, jump) = (len.div_ceil(4), at);
            at += 6;
            let mut rest = literals;
            for stream in 0..4 {
                let (piece, tail) = rest.split_at_checked(part).unwrap_or((rest, &[]));
                rest = tail;
                let size = self.stream(piece, out.get_mut(at..)?)?;
                if stream < 3 {
                    let slot = out.get_mut(jump + 2 * stream..)?;
                    *slot.first_chunk_mut::<2>()? = u16::try_from(size).ok()?.to_le_bytes();
                }
                at += size;
            }
        } else {
            at += self.stream(literals, out.get_mut(at..)?)?;
        }
        let compressed = at - header;
        if at + (len >> 6) >= len {
            return None;
        }
        let (format, width) = match header {
            3 => (u64::from(four), 10),
            4 => (2, 14),
            _ => (3, 18),
        };
        let fields = 2 | format << 2 | (len as u64) << 4 | (compressed as u64) << (4 + width);
        for (to, from) in out.iter_mut().zip(fields.to_le_bytes()).take(header) {
            *to = from;
        }
        Some(at)
    }

    fn count(&mut self, literals: &[u8]) {
        self.counts.fill(0);
        for byte in literals {
            let slot = &mut self.counts[usize::from(*byte)];
            *slot = slot.wrapping_add(1);
        }
    }

    /// Orders the symbols that occur by how often they do, and returns how many there are.
    fn sort(&mut self) -> usize {
        let mut used = 0usize;
        for symbol in 0..256usize {
            if self.counts[symbol & 255] > 0 {
                self.order[used & 255] = symbol as u16;
                used += 1;
            }
        }
        let counts = &self.counts;
        let key = |symbol: u16| counts[usize::from(symbol) & 255];
        let order = &mut self.order;
        for gap in [57usize, 23, 10, 4, 1] {
            for index in gap..used {
                let symbol = order[index & 255];
                let mut at = index;
                while at >= gap && key(order[(at - gap) & 255]) > key(symbol) {
                    order[at & 255] = order[(at - gap) & 255];
                    at -= gap;
                }
                order[at & 255] = symbol;
            }
        }
        used
    }

    /// The lengths of an optimal code: two queues, leaves and nodes, both sorted.
    fn measure(&mut self, used: usize) -> Option<()> {
        for leaf in 0..used {
            let symbol = self.order[leaf & 255];
            self.weights[leaf & 511] = self.counts[usize::from(symbol) & 255];
        }
        let (mut leaf, mut node, mut next) = (0usize, used, used);
        let root = 2 * used - 2;
        while next <= root {
            let mut sum = 0u32;
            for _ in 0..2 {
                let leaf_weight = self.weights[leaf & 511];
                let node_weight = self.weights[node & 511];
                let from_leaves = leaf < used && (node >= next || leaf_weight <= node_weight);
                let child = if from_leaves { leaf } else { node };
                if from_leaves {
                    leaf += 1;
                } else {
                    node += 1;
                }
                sum = sum.wrapping_add(self.weights[child & 511]);
                self.parents[child & 511] = next as u16;
            }
            self.weights[next & 511] = sum;
            next += 1;
        }
        self.depths[root & 511] = 0;
        for node in (0..root).rev() {
            let parent = usize::from(self.parents[node & 511]);
            self.depths[node & 511] = self.depths[parent & 511].wrapping_add(1);
        }
        self.lengths.fill(0);
        for leaf in 0..used {
            let symbol = usize::from(self.order[leaf & 255]);
            self.lengths[symbol & 255] = self.depths[leaf & 511].min(255) as u8;
        }
        Some(())
    }

    /// Shortens codes that are too long, and makes up for it elsewhere. Returns the longest.
    fn limit(&mut self, used: usize) -> Option<u32> {
        let mut sum = 0u32;
        let max = MAX_BITS as u8;
        for symbol in self.order.iter().take(used) {
            let length = &mut self.lengths[usize::from(*symbol) & 255];
            *length = (*length).clamp(1, max);
            sum += 1 << (MAX_BITS - u32::from(*length));
        }
        let whole = 1u32 << MAX_BITS;
        // The rarest symbol that still can gets a bit more; each pass changes at least one.
        for _ in 0..MAX_BITS {
            for symbol in self.order.iter().take(used) {
                let length = &mut self.lengths[usize::from(*symbol) & 255];
                if sum > whole && *length < max {
                    sum -= 1 << (MAX_BITS.wrapping_sub(1 + u32::from(*length)) & 31);
                    *length += 1;
                }
            }
        }
        // What is left over goes to the most frequent that can use it.
        for _ in 0..MAX_BITS {
            for symbol in self.order.iter().take(used).rev() {
                let length = &mut self.lengths[usize::from(*symbol) & 255];
                let gain = 1u32 << (MAX_BITS.wrapping_sub(u32::from(*length)) & 31);
                if *length > 1 && gain <= whole.wrapping_sub(sum) && sum < whole {
                    sum += gain;
                    *length -= 1;
                }
            }
        }
        if sum != whole {
            return None;
        }
        self.lengths.iter().max().map(|longest| u32::from(*longest))
    }

    /// Codes from lengths: the longest first, in the order of symbols.
    fn assign(&mut self, longest: u32) {
        let mut cell = 0u32;
        for weight in 1..=longest {
            let length = longest + 1 - weight;
            for (code, len) in self.codes.iter_mut().zip(&self.lengths) {
                if u32::from(*len) == length {
                    *code = (cell >> ((weight - 1) & 31)) << 8 | length;
                    cell = cell.wrapping_add(1 << ((weight - 1) & 31));
                }
            }
        }
    }

    /// Writes the weights to `description`, and returns its bytes.
    fn describe(&mut self, longest: u32) -> Option<usize> {
        let last = self.lengths.iter().rposition(|length| *length > 0)?;
        // That of the last symbol follows from the others.
        let weights: &[u8] = self.lengths.get(..last)?;
        let weight = |length: u8| match length {
            0 => 0,
            length => (longest + 1).wrapping_sub(length.into()) as u8 & 15,
        };
        let direct = 1 + weights.len().div_ceil(2);
        let (head, room) = self.description.split_first_mut()?;
        let entropy = weigh(weights, weight, &mut self.norm, &mut self.table, room);
        match entropy {
            Some(len) if len < 128 && len + 1 < direct || len_only(weights, entropy) => {
                *head = len as u8;
                Some(len + 1)
            }
            _ if weights.len() <= 128 => {
                *head = (127 + weights.len()) as u8;
                for (to, pair) in room.iter_mut().zip(weights.chunks(2)) {
                    let high = pair.first().map_or(0, |length| weight(*length));
                    let low = pair.get(1).map_or(0, |length| weight(*length));
                    *to = high << 4 | low;
                }
                Some(direct)
            }
            _ => None,
        }
    }

    /// One stream: from the last literal to the first.
    fn stream(&self, literals: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut bits = BitWriter::new(out);
        let (head, groups) = literals.as_rchunks::<4>();
        for group in groups.iter().rev() {
            for byte in group.iter().rev() {
                let code = self.codes[usize::from(*byte)];
                bits.add((code >> 8).into(), code & 255);
            }
            bits.flush();
        }
        for byte in head.iter().rev() {
            let code = self.codes[usize::from(*byte)];
            bits.add((code >> 8).into(), code & 255);
        }
        bits.flush();
        bits.close()
    }
}

/// Whether there is no other way to describe these weights.
fn len_only(weights: &[u8], entropy: Option<usize>) -> bool {
    weights.len() > 128 && entropy.is_some_and(|len| len < 128)
}

/// Weights as a stream of two states that take turns.
fn weigh(
    lengths: &[u8],
    weight: impl Fn(u8) -> u8,
    norm: &mut Norm,
    table: &mut Table,
    out: &mut [u8],
) -> Option<usize> {
    const LOG: u32 = 6;
    if lengths.len() < 3 {
        return None;
    }
    let mut counts = [0u32; SYMBOLS];
    for length in lengths {
        let slot = &mut counts[usize::from(weight(*length)) & (SYMBOLS - 1)];
        *slot = slot.wrapping_add(1);
    }
    normalise(&counts, lengths.len() as u32, LOG, norm)?;
    let head = describe(norm, LOG, out)?;
    table.build(norm, LOG);
    let mut bits = BitWriter::new(out.get_mut(head..)?);
    // The last two weights start the states; the first weight is that of the first state.
    let mut states = [None; 2];
    for (index, length) in lengths.iter().enumerate().rev() {
        let state = &mut states[index & 1];
        match state {
            None => *state = Some(table.first(weight(*length))),
            Some(state) => {
                table.encode(state, weight(*length), &mut bits);
                bits.flush();
            }
        }
    }
    let [Some(first), Some(second)] = states else {
        return None;
    };
    table.finish(second, &mut bits);
    table.finish(first, &mut bits);
    Some(head + bits.close()?)
}
