//! How bytes are read, and what they are read as.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are not in a file: memory of a running guest, a part of another store, an array.
///
/// ```
/// use std::io;
/// use vmcore_source::{ReadAt, Source};
/// #[derive(Debug)]
/// struct Zeros;
/// impl ReadAt for Zeros {
///     fn len_bytes(&self) -> u64 {
///         1 << 40
///     }
///     fn read_at(&self, _offset: u64, buf: &mut [u8]) -> io::Result<usize> {
///         buf.fill(0);
///         Ok(buf.len())
///     }
/// }
/// let source = Source::of(Zeros);
/// assert_eq!(source.array(1 << 30), Some([0; 8]));
/// assert_eq!(source.array::<8>(1 << 40), None);
/// ```
pub trait ReadAt: fmt::Debug + Send + Sync {
    /// The length, which does not change.
    fn len_bytes(&self) -> u64;

    /// Reads into `buf` from `offset`, which is below the length; `buf` does not reach beyond it.
    /// Returns how many bytes were read, none only where there are no more.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Whether two reads of one place may differ.
    fn may_change(&self) -> bool {
        false
    }
}

impl ReadAt for Vec<u8> {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(start..).unwrap_or_default();
        let len = bytes.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }
}

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
