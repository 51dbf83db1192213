//! Which bytes of a file have arrived: ranges in order, as few as there are gaps.

/// Gaps that are kept track of: a client that sends in order, as all do, leaves fewer than 64.
const MOST: usize = 1024;

/// Ranges of bytes, ascending, none touching another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds the bytes from `start` to `end`; false if that would make too many gaps to keep track of.
    pub(crate) fn add(&mut self, start: u64, end: u64) -> bool {
        if start >= end {
            return true;
        }
        // The ones that touch it.
        let first = self.0.partition_point(|(_, range_end)| *range_end < start);
        let past = self
            .0
            .partition_point(|(range_start, _)| *range_start <= end);
        if first == past {
            if self.0.len() >= MOST {
                return false;
            }
            self.0.insert(first, (start, end));
            return true;
        }
        let merged = (self.0[first].0.min(start), self.0[past - 1].1.max(end));
        self.0.splice(first..past, [merged]);
        true
    }

    /// Whether all bytes from `start` to `end` have arrived.
    pub(crate) fn contains(&self, start: u64, end: u64) -> bool {
        let at = self.0.partition_point(|(_, range_end)| *range_end < end);
        start >= end
            || self
                .0
                .get(at)
                .is_some_and(|range| range.0 <= start && range.1 >= end)
    }

    /// The end of the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.1)
    }

    /// What is missing up to `end`.
    pub(crate) fn gaps(&self, end: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for (start, range_end) in &self.0 {
            if at < (*start).min(end) {
                gaps.push((at, (*start).min(end)));
            }
            at = *range_end;
        }
        if at < end {
            gaps.push((at, end));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_the_set_of_their_bytes(
            added in proptest::collection::vec((0..200u64, 0..40u64), 0..60), end in 0..260u64,
        ) {
            let mut ranges = Ranges::default();
            let mut naive = [false; 260];
            for (start, len) in added {
                prop_assert!(ranges.add(start, start + len));
                for at in start..start + len {
                    naive[usize::try_from(at).unwrap()] = true;
                }
                let has = |at: u64| naive[usize::try_from(at).unwrap()];
                let contained = (start..end).all(has);
                prop_assert_eq!(ranges.contains(start, end), contained);
            }
            let missing: Vec<u64> = (0..end)
                .filter(|at| !naive[usize::try_from(*at).unwrap()])
                .collect();
            let gaps = ranges.gaps(end);
            let told: Vec<u64> = gaps.iter().flat_map(|(start, end)| *start..*end).collect();
            prop_assert_eq!(told, missing);
            let last = naive.iter().rposition(|has| *has).map_or(0, |at| at as u64 + 1);
            prop_assert_eq!(ranges.end(), last);
        }
    }

    #[test]
    fn gaps_have_a_limit() {
        let mut ranges = Ranges::default();
        for index in 0..MOST as u64 {
            assert!(ranges.add(index * 10, index * 10 + 1));
        }
        assert!(!ranges.add(1 << 40, (1 << 40) + 1));
        assert!(ranges.add(1, 10));
        assert!(ranges.add(1 << 40, (1 << 40) + 1));
    }
}
