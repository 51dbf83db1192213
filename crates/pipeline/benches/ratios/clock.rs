//! Medians of repeated measurements, ours and the reference's in turn.

use std::time::{Duration, Instant};

/// Rounds of each measurement.
const ROUNDS: usize = 15;

/// How long one call takes.
pub(crate) fn once<T>(body: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    std::hint::black_box(body());
    start.elapsed()
}

/// The medians of two bodies, run in turn so that both meet the same machine.
pub(crate) fn both(
    ours: impl FnMut() -> Duration,
    reference: impl FnMut() -> Duration,
) -> (f64, f64) {
    both_of(ROUNDS, ours, reference)
}

/// The same in another number of rounds.
pub(crate) fn both_of(
    rounds: usize,
    mut ours: impl FnMut() -> Duration,
    mut reference: impl FnMut() -> Duration,
) -> (f64, f64) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        a.push(ours());
        b.push(reference());
    }
    (median(a), median(b))
}

/// The median in seconds.
pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
