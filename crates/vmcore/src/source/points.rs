//! Where reading a compressed stream can start again without what is before: its checkpoints.

use miniz_oxide::inflate::core::BlockBoundaryState;
use std::io;

/// The most bytes of all checkpoints. With more, every second one goes.
const POINTS_BYTES: usize = 96 << 20;
/// Fast, and good enough for windows of a dump that is compressible anyway.
const PACK_LEVEL: i32 = -5;

/// Bytes that are kept compressed.
#[derive(Debug)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    len: usize,
}

impl Packed {
    pub(super) fn new(bytes: &[u8]) -> io::Result<Self> {
        Ok(Self {
            bytes: zstd::bulk::compress(bytes, PACK_LEVEL)?,
            len: bytes.len(),
        })
    }

    pub(super) fn unpack(&self) -> io::Result<Vec<u8>> {
        zstd::bulk::decompress(&self.bytes, self.len)
    }
}

/// What it takes to go on.
pub(super) enum PointState {
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
            Self::Gzip { window, .. } => window.bytes.len(),
            Self::Zstd { dictionary, .. } => dictionary.bytes.len(),
        }
    }
}

/// A checkpoint.
#[derive(Debug)]
pub(super) struct Point {
    /// Expanded bytes before it.
    pub(super) out: u64,
    /// Compressed bytes before it.
    pub(super) stored: u64,
    pub(super) state: PointState,
}

/// The checkpoints of a stream, ascending.
#[derive(Debug)]
pub(super) struct Points {
    list: Vec<Point>,
    /// Expanded bytes between two of them, at least.
    spacing: u64,
    bytes: usize,
}

impl Points {
    pub(super) fn new(spacing: u64) -> Self {
        let first = Point {
            out: 0,
            stored: 0,
            state: PointState::Start,
        };
        Self {
            list: vec![first],
            spacing,
            bytes: 0,
        }
    }

    /// Where the next checkpoint is wanted, in expanded bytes.
    pub(super) fn next_at(&self) -> u64 {
        let last = self.list.last().map_or(0, |point| point.out);
        last.saturating_add(self.spacing)
    }

    pub(super) fn wants(&self, out: u64) -> bool {
        out >= self.next_at()
    }

    /// Makes the checkpoints at least so far apart: those of a large window cost time to make.
    pub(super) fn space_out(&mut self, spacing: u64) {
        self.spacing = self.spacing.max(spacing);
    }

    pub(super) fn add(&mut self, point: Point) {
        self.bytes += size_of::<Point>() + point.state.bytes();
        self.list.push(point);
        while self.bytes > POINTS_BYTES && self.list.len() > 2 {
            let mut number = 0;
            self.list.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            let points = self.list.iter();
            self.bytes = points
                .map(|point| size_of::<Point>() + point.state.bytes())
                .sum();
            self.spacing = self.spacing.saturating_mul(2);
        }
    }

    /// Takes back the checkpoint at `out`, if it is the last.
    pub(super) fn withdraw(&mut self, out: u64) {
        if let Some(point) = self.list.pop_if(|point| point.out == out && out != 0) {
            self.bytes -= size_of::<Point>() + point.state.bytes();
        }
    }

    /// The last checkpoint at or before `out`.
    pub(super) fn before(&self, out: u64) -> Option<&Point> {
        let behind = self.list.partition_point(|point| point.out <= out);
        self.list.get(behind.checked_sub(1)?)
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
                    dictionary: Packed::new(&noise).unwrap(),
                },
            });
            assert!(points.bytes <= POINTS_BYTES + noise.len() + 1000);
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
