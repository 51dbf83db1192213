//! Where reading a compressed stream can start again without what is before: its checkpoints.

use miniz_oxide::inflate::core::BlockBoundaryState;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most bytes of all checkpoints. With more, every second one goes.
const POINTS_BYTES: usize = 96 << 20;
/// Fast, and good enough for windows of a dump that is compressible anyway.
const PACK_LEVEL: i32 = -5;

/// The most of them that wait to be compressed, of all streams.
const WAITING_MAX: usize = 4;
/// Bytes up to which compressing is quicker than asking another thread to.
const SMALL: usize = 64 << 10;

/// Bytes that are kept compressed.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    bytes: Arc<Mutex<Bytes>>,
    len: usize,
}

#[derive(Debug)]
enum Bytes {
    /// Not yet.
    Plain(Vec<u8>),
    Packed(Vec<u8>),
}

/// Compresses, and keeps no memory beyond what came out: there may be ten thousands of them.
fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = zstd::bulk::compress(bytes, PACK_LEVEL)?;
    packed.shrink_to_fit();
    Ok(packed)
}

impl Packed {
    /// Compresses them on another thread, if few wait for that already.
    pub(crate) fn new(bytes: Vec<u8>) -> io::Result<Self> {
        static WAITING: AtomicUsize = AtomicUsize::new(0);
        let len = bytes.len();
        let of = |bytes| Self {
            bytes: Arc::new(Mutex::new(bytes)),
            len,
        };
        if len <= SMALL || WAITING.load(Ordering::Relaxed) >= WAITING_MAX {
            return Ok(of(Bytes::Packed(pack(&bytes)?)));
        }
        let packed = of(Bytes::Plain(bytes));
        let job = packed.clone();
        WAITING.fetch_add(1, Ordering::Relaxed);
        rayon::spawn(move || {
            job.pack();
            WAITING.fetch_sub(1, Ordering::Relaxed);
        });
        Ok(packed)
    }

    fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pack(&self) {
        let mut bytes = self.bytes();
        if let Bytes::Plain(plain) = &*bytes
            && let Ok(packed) = pack(plain)
        {
            // Without memory for it they stay as they are.
            *bytes = Bytes::Packed(packed);
        }
    }

    pub(crate) fn unpack(&self) -> io::Result<Vec<u8>> {
        match &*self.bytes() {
            Bytes::Plain(plain) => Ok(plain.clone()),
            Bytes::Packed(packed) => zstd::bulk::decompress(packed, self.len),
        }
    }

    /// How many there are now. Whoever compresses them meanwhile is not waited for.
    fn kept_bytes(&self) -> usize {
        match self.bytes.try_lock().as_deref() {
            Ok(Bytes::Packed(packed)) => packed.len(),
            Ok(Bytes::Plain(_)) | Err(_) => self.len,
        }
    }
}

/// What it takes to go on.
pub(crate) enum PointState {
    /// A frame or a member starts here: nothing.
    Start,
    /// Between two blocks of deflate: the bits that are left of the last byte, and the bytes before.
    Gzip {
        bits: BlockBoundaryState,
        window: Packed,
    },
    /// Between two blocks of a zstd frame: a dictionary that holds the tables and the bytes before.
    Zstd {
        window_bytes: u64,
        has_checksum: bool,
        dictionary: Packed,
    },
}

impl std::fmt::Debug for PointState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "Start",
            Self::Gzip { .. } => "Gzip",
            Self::Zstd { .. } => "Zstd",
        })
    }
}

impl PointState {
    fn bytes(&self) -> usize {
        match self {
            Self::Start => 0,
            Self::Gzip { window, .. } => window.kept_bytes(),
            Self::Zstd { dictionary, .. } => dictionary.kept_bytes(),
        }
    }
}

/// A checkpoint.
#[derive(Debug)]
pub(crate) struct Point {
    /// Expanded bytes before it.
    pub(crate) out: u64,
    /// Compressed bytes before it.
    pub(crate) stored: u64,
    pub(crate) state: PointState,
}

/// The checkpoints of a stream, ascending.
#[derive(Debug)]
pub(crate) struct Points {
    list: Vec<Point>,
    /// Expanded bytes between two of them, at least.
    spacing: u64,
}

impl Points {
    pub(crate) fn new(spacing: u64) -> Self {
        let first = Point {
            out: 0,
            stored: 0,
            state: PointState::Start,
        };
        Self {
            list: vec![first],
            spacing,
        }
    }

    /// Where the next checkpoint is wanted, in expanded bytes.
    pub(crate) fn next_at(&self) -> u64 {
        let last = self.list.last().map_or(0, |point| point.out);
        last.saturating_add(self.spacing)
    }

    pub(crate) fn wants(&self, out: u64) -> bool {
        out >= self.next_at()
    }

    /// Makes the checkpoints at least so far apart: those of a large window cost time to make.
    pub(crate) fn space_out(&mut self, spacing: u64) {
        self.spacing = self.spacing.max(spacing);
    }

    pub(crate) fn add(&mut self, point: Point) {
        self.list.push(point);
        while self.bytes() > POINTS_BYTES && self.list.len() > 2 {
            let mut number = 0;
            self.list.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.spacing = self.spacing.saturating_mul(2);
        }
    }

    fn bytes(&self) -> usize {
        let points = self.list.iter();
        points
            .map(|point| size_of::<Point>() + point.state.bytes())
            .sum()
    }

    /// Takes back the checkpoint at `out`, if it is the last.
    pub(crate) fn withdraw(&mut self, out: u64) {
        let _ = self.list.pop_if(|point| point.out == out && out != 0);
    }

    /// The last checkpoint at or before `out`.
    pub(crate) fn before(&self, out: u64) -> Option<&Point> {
        let after = self.list.partition_point(|point| point.out <= out);
        self.list.get(after.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_thin_out_when_they_grow_too_large() {
        let mut points = Points::new(1);
        // Does not become smaller.
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(POINTS_BYTES / 4)
        .collect();
        for out in 1..=20 {
            if !points.wants(out) {
                continue;
            }
            points.add(Point {
                out,
                stored: out,
                state: PointState::Zstd {
                    window_bytes: 0,
                    has_checksum: false,
                    dictionary: Packed::new(noise.clone()).unwrap(),
                },
            });
            assert!(points.bytes() <= POINTS_BYTES + noise.len() + 1000);
        }
        assert_eq!(points.before(0).unwrap().out, 0);
        assert!(points.list.len() < 6);
        assert!(points.before(20).unwrap().out >= 10);
        let last = points.before(20).unwrap();
        let PointState::Zstd { dictionary, .. } = &last.state else {
            panic!("{last:?}")
        };
        assert_eq!(dictionary.unpack().unwrap(), noise);
        let out = last.out;
        points.withdraw(out);
        assert!(points.before(20).unwrap().out < out);
    }
}
