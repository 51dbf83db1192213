//! Chunks that were expanded lately, in bounded memory.

use std::collections::HashMap;
use std::sync::Arc;

/// The most bytes that are kept.
pub(super) const CACHE_BYTES: usize = 48 << 20;

/// Expanded chunks by number; the one that was not used for longest goes first.
#[derive(Debug, Default)]
pub(super) struct Cache {
    chunks: HashMap<u64, Entry>,
    /// Counts uses.
    clock: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    chunk: Arc<Vec<u8>>,
    used: u64,
}

impl Cache {
    pub(super) fn get(&mut self, number: u64) -> Option<&Arc<Vec<u8>>> {
        let entry = self.chunks.get_mut(&number)?;
        self.clock += 1;
        entry.used = self.clock;
        Some(&entry.chunk)
    }

    pub(super) fn put(&mut self, number: u64, chunk: Arc<Vec<u8>>) {
        self.clock += 1;
        let used = self.clock;
        self.bytes += chunk.len();
        if let Some(before) = self.chunks.insert(number, Entry { chunk, used }) {
            self.bytes -= before.chunk.len();
        }
        while self.bytes > CACHE_BYTES {
            let oldest = self.chunks.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(number, _)| *number) else {
                break;
            };
            if let Some(gone) = self.chunks.remove(&oldest) {
                self.bytes -= gone.chunk.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut cache = Cache::default();
        let chunk = Arc::new(vec![0; CACHE_BYTES / 3]);
        for number in 0..3 {
            cache.put(number, chunk.clone());
        }
        assert!(cache.get(0).is_some());
        cache.put(3, chunk.clone());
        cache.put(3, chunk);
        let there: Vec<bool> = (0..4).map(|number| cache.get(number).is_some()).collect();
        assert_eq!(there, [true, false, true, true]);
        cache.put(4, Arc::new(vec![0; CACHE_BYTES]));
        assert!(cache.get(3).is_none());
        assert_eq!(cache.bytes, CACHE_BYTES);
    }
}
