//! The pages of a dump, copied into the core in their order, with holes for zeros.

use super::ConvertError;
use crate::output::OutputFile;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use vmcore::memory::Memory;
use vmcore::pages::{self, Chunk};

/// What was copied.
pub(super) struct Copied {
    /// Where the last page ends in the core.
    pub(super) end: u64,
    /// Pages of which the dump's file has all or a part.
    pub(super) pages: u64,
}

/// Copies every page to `data` and behind, and gives the core its length.
pub(super) fn pages(
    memory: &Memory,
    output: &mut OutputFile,
    data: u64,
    mut on_progress: impl FnMut(u64, u64),
) -> Result<Copied, ConvertError> {
    let size = memory.page_size();
    let all = pages::numbered_page_count(memory)? << size.shift();
    let mut copied = Copied {
        end: data,
        pages: 0,
    };
    let mut writer = SparseWriter {
        file: output.file(),
        position: None,
        page: usize::try_from(size.bytes()).unwrap_or(4096),
    };
    let mut result = Ok(());
    pages::scan_chunks(memory, |chunk: Chunk<'_>| {
        let at = data + (chunk.number << size.shift());
        result = writer.write(at, chunk.bytes);
        if result.is_err() {
            return ControlFlow::Break(());
        }
        copied.end = copied.end.max(at + chunk.bytes.len() as u64);
        copied.pages += size.pages(chunk.bytes.len() as u64);
        on_progress(copied.end - data, all);
        ControlFlow::Continue(())
    })?;
    result
        .and_then(|()| output.file().set_len(copied.end))
        .map_err(|source| output.error(source))?;
    Ok(copied)
}

/// Writes what is not zero.
struct SparseWriter<'f> {
    file: &'f mut File,
    /// Where the file stands, if that is known.
    position: Option<u64>,
    page: usize,
}

impl SparseWriter<'_> {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        let mut at = at;
        while !rest.is_empty() {
            let zeros = self.leading(rest, true);
            let (_, behind) = rest.split_at(zeros);
            let filled = self.leading(behind, false);
            let (run, behind) = behind.split_at(filled);
            self.put(at + zeros as u64, run)?;
            at += (zeros + filled) as u64;
            rest = behind;
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
