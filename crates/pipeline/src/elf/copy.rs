//! The pages of a dump, copied into the core in their order, with holes for zeros.

use super::ConvertError;
use crate::output::OutputFile;
use crate::sparse::SparseWriter;
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

/// Copies every page to `data` and after it, and gives the core its length.
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
    let page = usize::try_from(size.bytes()).unwrap_or(4096);
    let mut writer = SparseWriter::new(output.file(), page);
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
