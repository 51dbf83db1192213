//! How bytes are read, and what they are read as.

use std::ops::Range;
use std::sync::Arc;

/// How a file is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Positional reads first, the mapping where it pays; only regular files are mapped.
    #[default]
    Auto,
    /// Positional reads only.
    Positional,
    /// The mapping from the first read on.
    Mapped,
}

/// Bytes of a dump: borrowed from the mapping, or a part of a shared copy.
#[derive(Clone, Debug)]
pub enum Bytes<'a> {
    /// A part of the mapped file.
    Borrowed(&'a [u8]),
    /// A part of a copy.
    Chunk(Arc<Vec<u8>>, Range<usize>),
}

impl From<Vec<u8>> for Bytes<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        let all = 0..bytes.len();
        Self::Chunk(Arc::new(bytes), all)
    }
}

impl std::ops::Deref for Bytes<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Chunk(bytes, range) => bytes.get(range.clone()).unwrap_or_default(),
        }
    }
}
