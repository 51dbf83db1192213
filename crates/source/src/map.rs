//! The mapping of a dump file: the one place with `unsafe` code in this crate.
#![expect(unsafe_code, reason = "a file mapping has no safe constructor")]

use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::ops::{Deref, Range};

/// A read-only, private mapping of a part of a regular file.
#[derive(Debug)]
pub(crate) struct Mapping(Mmap);

impl Mapping {
    /// Maps `len` bytes from `start`, to be read here and there; `None` if the operating system
    /// refuses or there are none.
    pub(crate) fn new(file: &File, start: u64, len: u64) -> Option<Self> {
        let mapping = Self::plain(file, start, len)?;
        // Readahead on random access reads sixteen pages for one.
        #[cfg(unix)]
        let _ = mapping.0.advise(memmap2::Advice::Random);
        Some(mapping)
    }

    /// The same, to be read from its start to its end, soon.
    pub(crate) fn in_order(file: &File, start: u64, len: u64) -> Option<Self> {
        let mapping = Self::plain(file, start, len)?;
        mapping.populate(0..len);
        Some(mapping)
    }

    fn plain(file: &File, start: u64, len: u64) -> Option<Self> {
        let len = usize::try_from(len).ok().filter(|len| *len > 0)?;
        let mut options = MmapOptions::new();
        options.offset(start).len(len);
        // SAFETY: `Mmap` requires that the file is not modified while it is mapped. A dump is
        // evidence, and not written to; the documentation of the module says what happens to
        // those who shorten one while it is open, and `Access::Positional` avoids it. We never
        // build anything but bytes on the mapping: a byte has no invalid value, and no code here
        // relies on two reads of one place giving the same value.
        unsafe { options.map(file) }.ok().map(Self)
    }

    /// Makes the pages of `range` present in one go, where the operating system can.
    pub(crate) fn populate(&self, range: Range<u64>) {
        #[cfg(target_os = "linux")]
        if let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
            && start < end
            && end <= self.0.len()
        {
            // Only speed depends on it; kernels before 5.14 refuse.
            let _ = self
                .0
                .advise_range(memmap2::Advice::PopulateRead, start, end - start);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }
}

impl Deref for Mapping {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
