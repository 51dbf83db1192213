//! Numbers that look random and are the same every time.
//!
//! ```
//! use vmcore_synth::random::Random;
//! let mut random = Random::new(7);
//! let numbers: Vec<u64> = (0..3).map(|_| random.below(10)).collect();
//! let mut again = Random::new(7);
//! assert_eq!(numbers, [again.below(10), again.below(10), again.below(10)]);
//! ```

/// A xorshift generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence that `seed` decides.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give similar numbers, and zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number; never 0.
    pub const fn next_number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number less than `limit`, which is not 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        (self.next_number() >> 11) % limit
    }

    /// Some of `items`, in random order.
    #[must_use]
    pub fn sample(&mut self, items: &[u64], count: usize) -> Vec<u64> {
        let pick = |_| usize::try_from(self.below(items.len() as u64)).unwrap_or(0);
        (0..count)
            .map(pick)
            .filter_map(|index| items.get(index))
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_over_the_range() {
        let mut random = Random::new(1);
        let mut counts = [0_u32; 8];
        for _ in 0..8000 {
            counts[usize::try_from(random.below(8)).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn samples_are_of_the_items() {
        let sample = Random::new(3).sample(&[5, 6, 7], 100);
        assert_eq!(sample.len(), 100);
        assert!([5, 6, 7].iter().all(|item| sample.contains(item)));
    }
}
