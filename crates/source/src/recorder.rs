//! Which parts of a dump have been read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// log2 of the bytes of a unit.
const UNIT_SHIFT: u32 = 12;
/// Bits of a word.
const WORD_BITS: u64 = 64;
/// The most bytes of a dump that can be recorded: 32 MiB of bits.
const MAX_BYTES: u64 = 1 << 40;

/// Remembers what is read of a dump's bytes, in units of 4 KiB, while it is told to.
#[derive(Debug, Default)]
pub struct Recorder {
    is_on: AtomicBool,
    /// Bytes by which the first unit is longer than the file's start: pages are units, wherever they
    /// start.
    skew: AtomicU64,
    words: std::sync::OnceLock<Vec<AtomicU64>>,
}

impl Recorder {
    /// Begins or stops to remember.
    pub fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Makes the pages, which start at `pages`, units of their own.
    pub fn align(&self, pages: u64) {
        let skew = pages.wrapping_neg() & ((1 << UNIT_SHIFT) - 1);
        self.skew.store(skew, Ordering::Relaxed);
    }

    /// The unit of a byte.
    fn unit(&self, offset: u64) -> u64 {
        offset.saturating_add(self.skew.load(Ordering::Relaxed)) >> UNIT_SHIFT
    }

    /// Makes room for a dump of `len` bytes.
    pub(crate) fn begin(&self, len: u64) {
        self.words.get_or_init(|| {
            let units = len.min(MAX_BYTES) >> UNIT_SHIFT;
            let words = usize::try_from((units + 1) / WORD_BITS + 1).unwrap_or(0);
            zerocopy::FromZeros::new_vec_zeroed(words).unwrap_or_default()
        });
    }

    pub(crate) fn note(&self, offset: u64, len: usize) {
        if !self.is_on.load(Ordering::Relaxed) || len == 0 {
            return;
        }
        let last = self.unit(offset.saturating_add(len as u64 - 1));
        for unit in self.unit(offset)..=last {
            if let Some((word, bit)) = self.place(unit) {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Whether any of the 4 KiB at `offset` has been read: a multiple of that, counted from the pages'
    /// start.
    #[must_use]
    pub fn has_read(&self, offset: u64) -> bool {
        self.place(self.unit(offset))
            .is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    fn place(&self, unit: u64) -> Option<(&AtomicU64, u64)> {
        let words = self.words.get()?;
        let word = words.get(usize::try_from(unit / WORD_BITS).ok()?)?;
        Some((word, 1 << (unit % WORD_BITS)))
    }
}
