//! Copies with holes: pages of zeros are left out of the file.

use std::io::{self, Seek, SeekFrom, Write};
use vmcore::pages;

/// Writes what is not zero. The caller gives the file its length at the end: a hole there is
/// no write.
pub(crate) struct SparseWriter<W> {
    file: W,
    /// Where the file stands, if that is known.
    position: Option<u64>,
    page: usize,
}

impl<W: Write + Seek> SparseWriter<W> {
    /// Leaves out runs of whole pages of `page` bytes.
    pub(crate) const fn new(file: W, page: usize) -> Self {
        Self {
            file,
            position: None,
            page,
        }
    }

    /// Writes `bytes`, which begin a page, to `at`.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        let mut at = at;
        while !rest.is_empty() {
            let zeros = self.leading(rest, true);
            let (_, tail) = rest.split_at(zeros);
            let filled = self.leading(tail, false);
            let (run, tail) = tail.split_at(filled);
            self.put(at + zeros as u64, run)?;
            at += (zeros + filled) as u64;
            rest = tail;
        }
        Ok(())
    }

    /// Bytes of the pages in front that are all zeros, or all are not.
    fn leading(&self, bytes: &[u8], zero: bool) -> usize {
        bytes
            .chunks(self.page)
            .take_while(|page| pages::is_zero(page) == zero)
            .map(<[u8]>::len)
            .sum()
    }

    fn put(&mut self, at: u64, run: &[u8]) -> io::Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        if self.position != Some(at) {
            self.file.seek(SeekFrom::Start(at))?;
        }
        self.file.write_all(run)?;
        self.position = Some(at + run.len() as u64);
        Ok(())
    }
}
