//! Chunks that were expanded lately, in bounded memory.
//!
//! Most are wanted once: who reads in order never comes back, and who reads here and there seldom
//! does. These go soon, and their memory serves the next ones, which is several times faster than
//! fresh memory. Whoever is asked for again stays longer, also if it had gone in between.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Bytes of chunks that have not been asked for yet: they were made ahead.
const AHEAD_BYTES: usize = 16 << 20;
/// Bytes of chunks that were wanted once.
const ONCE_BYTES: usize = 4 << 20;
/// Bytes of chunks that were wanted again, with others between.
const AGAIN_BYTES: usize = 28 << 20;
/// How many of those that went are remembered, to tell who comes back.
const GONE_MAX: usize = 512;
/// Bytes that wait for the next chunks.
const SPARE_BYTES: usize = 8 << 20;

/// Expanded chunks by number; of each kind the one that was not used for longest goes first.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    chunks: HashMap<u64, Entry>,
    /// Counts uses.
    clock: u64,
    /// Of each kind.
    bytes: [usize; 3],
    /// Those that went after they had been wanted once, the oldest first.
    gone: VecDeque<u64>,
    spare: Vec<Vec<u8>>,
}

/// What is known of who wants a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    Ahead,
    Once,
    Again,
}

impl Demand {
    const fn limit(self) -> usize {
        match self {
            Self::Ahead => AHEAD_BYTES,
            Self::Once => ONCE_BYTES,
            Self::Again => AGAIN_BYTES,
        }
    }
}

#[derive(Debug)]
struct Entry {
    chunk: Arc<Vec<u8>>,
    used: u64,
    kind: Demand,
}

impl Cache {
    pub(crate) fn get(&mut self, number: u64) -> Option<Arc<Vec<u8>>> {
        let entry = self.chunks.get_mut(&number)?;
        let before = entry.kind;
        let kind = match before {
            Demand::Ahead => Demand::Once,
            // Several reads of one chunk in a row are one use of it.
            Demand::Once if entry.used != self.clock => Demand::Again,
            kind => kind,
        };
        self.clock += 1;
        entry.used = self.clock;
        let chunk = entry.chunk.clone();
        if kind != before {
            entry.kind = kind;
            self.account(before, kind, chunk.len());
        }
        Some(chunk)
    }

    pub(crate) fn has(&self, number: u64) -> bool {
        self.chunks.contains_key(&number)
    }

    pub(crate) fn put(&mut self, number: u64, chunk: Arc<Vec<u8>>, kind: Demand) {
        self.clock += 1;
        let came_back = self.gone.iter().position(|gone| *gone == number);
        let kind = match came_back.and_then(|place| self.gone.remove(place)) {
            Some(_) if kind == Demand::Once => Demand::Again,
            _ => kind,
        };
        let used = self.clock;
        *self.of(kind) += chunk.len();
        let before = self.chunks.insert(number, Entry { chunk, used, kind });
        if let Some(before) = before {
            *self.of(before.kind) -= before.chunk.len();
            self.save(before.chunk);
        }
        self.shrink(kind);
    }

    /// Memory for a chunk, if some is left over; it may be empty, and it may hold anything.
    pub(crate) fn spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    const fn of(&mut self, kind: Demand) -> &mut usize {
        let [ahead, once, again] = &mut self.bytes;
        match kind {
            Demand::Ahead => ahead,
            Demand::Once => once,
            Demand::Again => again,
        }
    }

    #[cold]
    fn account(&mut self, from: Demand, to: Demand, len: usize) {
        *self.of(from) -= len;
        *self.of(to) += len;
        self.shrink(to);
    }

    /// Lets the oldest of a kind go, but for the last that was used.
    fn shrink(&mut self, kind: Demand) {
        while *self.of(kind) > kind.limit() {
            let of_kind = self.chunks.iter().filter(|(_, entry)| entry.kind == kind);
            let oldest = of_kind.min_by_key(|(_, entry)| entry.used);
            let oldest = oldest.filter(|(_, entry)| entry.used != self.clock);
            let Some(gone) = oldest.map(|(number, _)| *number) else {
                return;
            };
            if let Some(entry) = self.chunks.remove(&gone) {
                *self.of(kind) -= entry.chunk.len();
                self.save(entry.chunk);
            }
            if kind == Demand::Once {
                self.gone.push_back(gone);
                if self.gone.len() > GONE_MAX {
                    self.gone.pop_front();
                }
            }
        }
    }

    /// Keeps the memory of a chunk, if it is not shared.
    fn save(&mut self, chunk: Arc<Vec<u8>>) {
        let kept: usize = self.spare.iter().map(Vec::capacity).sum();
        if let Some(bytes) = Arc::into_inner(chunk)
            && kept + bytes.capacity() <= SPARE_BYTES
        {
            self.spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(cache: &Cache, numbers: std::ops::Range<u64>) -> Vec<bool> {
        numbers
            .map(|number| cache.chunks.contains_key(&number))
            .collect()
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut cache = Cache::default();
        let chunk = Arc::new(vec![0; ONCE_BYTES / 3]);
        for number in 0..3 {
            cache.put(number, chunk.clone(), Demand::Once);
        }
        cache.put(3, chunk.clone(), Demand::Once);
        cache.put(3, chunk, Demand::Once);
        assert_eq!(there(&cache, 0..4), [false, true, true, true]);
        // One is kept however large it is.
        cache.put(4, Arc::new(vec![0; 2 * ONCE_BYTES]), Demand::Once);
        assert_eq!(there(&cache, 1..5), [false, false, false, true]);
        assert_eq!(cache.bytes, [0, 2 * ONCE_BYTES, 0]);
    }

    #[test]
    fn what_is_wanted_again_outlives_what_passes_by() {
        let mut cache = Cache::default();
        let chunk = || Arc::new(vec![0; ONCE_BYTES / 2]);
        cache.put(0, chunk(), Demand::Once);
        assert!(cache.get(0).is_some() && cache.get(0).is_some());
        assert_eq!(cache.bytes, [0, ONCE_BYTES / 2, 0]);
        cache.put(1, chunk(), Demand::Ahead);
        assert!(cache.get(0).is_some());
        assert_eq!(cache.bytes, [ONCE_BYTES / 2, 0, ONCE_BYTES / 2]);
        for number in 1..10 {
            cache.put(number, chunk(), Demand::Ahead);
            assert!(cache.get(number).is_some());
        }
        assert_eq!(there(&cache, 0..2), [true, false]);
        // What comes back stays, however many others there are.
        for number in 1..5 {
            cache.put(number, chunk(), Demand::Once);
        }
        assert_eq!(there(&cache, 0..5), [true; 5]);
        // The memory of those that went serves the next.
        assert!(cache.spare().capacity() >= ONCE_BYTES / 2);
    }
}
