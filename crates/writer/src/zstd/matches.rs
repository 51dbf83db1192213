//! The search for repetitions: greedy, with one hash table, in what the frame has so far.
#![expect(
    clippy::cast_possible_truncation,
    reason = "positions are below the frame's 2^20"
)]

use super::bits::{load32, load64};
use super::sequences::Sequence;

/// log2 of the entries of the hash table.
const HASH_LOG: u32 = 15;
pub(super) const HASH_ENTRIES: usize = 1 << HASH_LOG;
/// Bytes that are hashed: shorter repetitions do not pay.
const HASHED_BYTES: u32 = 6;
/// The shortest match that is taken.
const MIN_MATCH: usize = 4;
/// Bytes that must be left for a search.
const MARGIN: usize = 8;
/// After so many bytes (log2) without a match, steps grow by one.
const SKIP_LOG: u32 = 6;

/// The two most recent distances; what a frame starts with, a decoder knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recent {
    pub(super) last: u32,
    pub(super) before: u32,
}

impl Recent {
    pub(super) const START: Self = Self { last: 1, before: 4 };
}

/// What was found in a block.
pub(super) struct BlockMatches {
    pub(super) sequences: usize,
    pub(super) literals: usize,
    /// Where the block ends: earlier than asked if there was no room for more sequences.
    pub(super) end: usize,
}

/// Where sequences and literals go.
struct Output<'o> {
    sequences: &'o mut [Sequence],
    count: usize,
    literals: &'o mut [u8],
    literals_len: usize,
}

impl Output<'_> {
    fn is_full(&self) -> bool {
        self.count + 2 >= self.sequences.len()
    }

    /// A match of `match_len` bytes after the literals `from`.
    #[inline]
    fn put(&mut self, from: &[u8], offset: u32, match_len: usize) {
        self.put_literals(from);
        if let Some(slot) = self.sequences.get_mut(self.count) {
            *slot = Sequence {
                literals: from.len() as u32,
                match_len: match_len as u32,
                offset,
            };
            self.count += 1;
        }
    }

    #[inline]
    fn put_literals(&mut self, from: &[u8]) {
        let end = self.literals_len.wrapping_add(from.len());
        if let Some(to) = self.literals.get_mut(self.literals_len..end) {
            to.copy_from_slice(from);
            self.literals_len = end;
        }
    }
}

#[inline]
fn hash(word: u64) -> usize {
    let prime = 0xcf1b_bcdc_bf9b_u64;
    ((word << (64 - 8 * HASHED_BYTES)).wrapping_mul(prime) >> (64 - HASH_LOG)) as usize
}

/// How many bytes at `at` are those at `from`, at most up to `end`.
#[inline]
fn common(frame: &[u8], from: usize, at: usize, end: usize) -> usize {
    let mut len = 0usize;
    while at.wrapping_add(len).wrapping_add(8) <= end {
        let difference =
            load64(frame, from.wrapping_add(len)) ^ load64(frame, at.wrapping_add(len));
        if difference != 0 {
            return len.wrapping_add((difference.trailing_zeros() >> 3) as usize);
        }
        len = len.wrapping_add(8);
    }
    while at.wrapping_add(len) < end
        && frame.get(from.wrapping_add(len)) == frame.get(at.wrapping_add(len))
    {
        len = len.wrapping_add(1);
    }
    len
}

/// Finds the repetitions in `frame[start..end]`.
pub(super) fn find(
    frame: &[u8],
    (start, end): (usize, usize),
    table: &mut [u32; HASH_ENTRIES],
    recent: &mut Recent,
    sequences: &mut [Sequence],
    literals: &mut [u8],
) -> BlockMatches {
    let mut out = Output {
        sequences,
        count: 0,
        literals,
        literals_len: 0,
    };
    let limit = end.saturating_sub(MARGIN);
    let mut at = start;
    let mut anchor = start;
    let between = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    while at < limit && !out.is_full() {
        let word = load64(frame, at);
        let slot = &mut table[hash(word) & (HASH_ENTRIES - 1)];
        let candidate = *slot as usize;
        *slot = at as u32;
        let next = at + 1;
        let last = recent.last as usize;
        if last <= next && load32(frame, next.wrapping_sub(last)) == (word >> 8) as u32 {
            // The distance of before, a byte on.
            let len = MIN_MATCH
                + common(
                    frame,
                    next.wrapping_sub(last).wrapping_add(MIN_MATCH),
                    next + MIN_MATCH,
                    end,
                );
            out.put(between(anchor, next), 1, len);
            at = next + len;
            anchor = at;
        } else if candidate < at && load32(frame, candidate) == word as u32 {
            let mut from = candidate;
            let mut len = MIN_MATCH + common(frame, from + MIN_MATCH, at + MIN_MATCH, end);
            while at > anchor && from > 0 && frame.get(from - 1) == frame.get(at - 1) {
                at -= 1;
                from -= 1;
                len += 1;
            }
            let distance = (at - from) as u32;
            out.put(between(anchor, at), distance.wrapping_add(3), len);
            *recent = Recent {
                last: distance,
                before: recent.last,
            };
            at += len;
            anchor = at;
        } else {
            at += ((at - anchor) >> SKIP_LOG) + 1;
            continue;
        }
        if at < limit {
            let back = at - 2;
            table[hash(load64(frame, back)) & (HASH_ENTRIES - 1)] = back as u32;
        }
        // Right after a match the distance before the last is worth a look.
        while at < limit && !out.is_full() {
            let before = recent.before as usize;
            let word = load32(frame, at);
            if before > at || load32(frame, at.wrapping_sub(before)) != word {
                break;
            }
            let len = MIN_MATCH
                + common(
                    frame,
                    at.wrapping_sub(before).wrapping_add(MIN_MATCH),
                    at + MIN_MATCH,
                    end,
                );
            table[hash(load64(frame, at)) & (HASH_ENTRIES - 1)] = at as u32;
            // Without literals, number 1 means the distance before the last.
            out.put(&[], 1, len);
            *recent = Recent {
                last: recent.before,
                before: recent.last,
            };
            at += len;
            anchor = at;
        }
    }
    // What is left has no repetitions that were found; a block that was cut ends here.
    let block_end = if out.is_full() {
        anchor.max(start + 1)
    } else {
        end
    };
    out.put_literals(between(anchor, block_end));
    BlockMatches {
        sequences: out.count,
        literals: out.literals_len,
        end: block_end,
    }
}
