//! The checksum of our own structures: XXH64 with seed 0.
//!
//! The identity block and the extension carry it. It is neither cryptographic nor FreeBSD's; it was
//! chosen because it needs no table, no vector unit (a dying kernel may not touch the FPU) and no
//! memory but its state, and still runs at the speed of memory. Source: the xxHash specification
//! (`doc/xxhash_spec.md` of that project), "XXH64 algorithm description".
//!
//! ```
//! use vmcore_format::checksum::{Checksum, checksum};
//! let mut sum = Checksum::new();
//! sum.update(b"a");
//! sum.update(b"bc");
//! assert_eq!(sum.value(), 0x44bc_2cf5_ad77_0999);
//! assert_eq!(sum.value(), checksum(b"abc"));
//! ```

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
const PRIME_5: u64 = 0x27d4_eb2f_1656_67c5;

/// Bytes that the lanes take at a time.
const STRIPE: usize = 32;

/// The checksum of `bytes`.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Checksum::new();
    sum.update(bytes);
    sum.value()
}

/// A checksum that is fed piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct Checksum {
    lanes: [u64; 4],
    /// Bytes that do not fill a stripe yet: the first `tail_len`.
    tail: [u8; STRIPE],
    tail_len: usize,
    total_bytes: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

impl Checksum {
    /// The checksum of nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lanes: [
                PRIME_1.wrapping_add(PRIME_2),
                PRIME_2,
                0,
                0u64.wrapping_sub(PRIME_1),
            ],
            tail: [0; STRIPE],
            tail_len: 0,
            total_bytes: 0,
        }
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.total_bytes = self.total_bytes.wrapping_add(bytes.len() as u64);
        let mut bytes = bytes;
        if self.tail_len > 0 {
            let room = STRIPE.saturating_sub(self.tail_len);
            let (fill, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            for (to, from) in self.tail.iter_mut().skip(self.tail_len).zip(fill) {
                *to = *from;
            }
            self.tail_len += fill.len();
            if self.tail_len < STRIPE {
                return;
            }
            let tail = self.tail;
            self.stripe(&tail);
            self.tail_len = 0;
            bytes = rest;
        }
        let (stripes, rest) = bytes.as_chunks::<STRIPE>();
        for stripe in stripes {
            self.stripe(stripe);
        }
        for (to, from) in self.tail.iter_mut().zip(rest) {
            *to = *from;
        }
        self.tail_len = rest.len();
    }

    #[inline]
    fn stripe(&mut self, stripe: &[u8; STRIPE]) {
        let (words, _) = stripe.as_chunks::<8>();
        for (lane, word) in self.lanes.iter_mut().zip(words) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }

    /// The checksum of all that was added; more may follow.
    #[must_use]
    pub fn value(&self) -> u64 {
        let [a, b, c, d] = self.lanes;
        let mut sum = if self.total_bytes < STRIPE as u64 {
            PRIME_5
        } else {
            let mixed = a
                .rotate_left(1)
                .wrapping_add(b.rotate_left(7))
                .wrapping_add(c.rotate_left(12))
                .wrapping_add(d.rotate_left(18));
            self.lanes.iter().fold(mixed, |sum, lane| {
                (sum ^ round(0, *lane))
                    .wrapping_mul(PRIME_1)
                    .wrapping_add(PRIME_4)
            })
        };
        sum = sum.wrapping_add(self.total_bytes);
        let tail = self.tail.get(..self.tail_len).unwrap_or_default();
        let (words, rest) = tail.as_chunks::<8>();
        for word in words {
            sum = (sum ^ round(0, u64::from_le_bytes(*word)))
                .rotate_left(27)
                .wrapping_mul(PRIME_1)
                .wrapping_add(PRIME_4);
        }
        let (halves, rest) = rest.as_chunks::<4>();
        for half in halves {
            sum = (sum ^ u64::from(u32::from_le_bytes(*half)).wrapping_mul(PRIME_1))
                .rotate_left(23)
                .wrapping_mul(PRIME_2)
                .wrapping_add(PRIME_3);
        }
        for byte in rest {
            sum = (sum ^ u64::from(*byte).wrapping_mul(PRIME_5))
                .rotate_left(11)
                .wrapping_mul(PRIME_1);
        }
        sum = (sum ^ (sum >> 33)).wrapping_mul(PRIME_2);
        sum = (sum ^ (sum >> 29)).wrapping_mul(PRIME_3);
        sum ^ (sum >> 32)
    }
}

#[inline]
const fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2))
        .rotate_left(31)
        .wrapping_mul(PRIME_1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn published_values_come_out() {
        assert_eq!(checksum(b""), 0xef46_db37_51d8_e999);
        assert_eq!(checksum(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(
            checksum(b"Nobody inspects the spammish repetition"),
            0xfbce_a83c_8a37_8bf1
        );
    }

    proptest! {
        #[test]
        fn it_agrees_with_an_independent_implementation(bytes: std::vec::Vec<u8>) {
            prop_assert_eq!(checksum(&bytes), xxhash_rust::xxh64::xxh64(&bytes, 0));
        }

        #[test]
        fn pieces_of_any_size_make_the_same_sum(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(0usize..70, 0..20),
        ) {
            let mut sum = Checksum::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                sum.update(piece);
                rest = tail;
            }
            sum.update(rest);
            prop_assert_eq!(sum.value(), checksum(&bytes));
        }
    }
}
