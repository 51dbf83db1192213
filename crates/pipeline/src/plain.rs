//! A dump without what was around it: expanded, decrypted, out of its disk; or only decrypted.
//!
//! ```
//! use vmcore::source::{Access, Source};
//! use vmcore_pipeline::plain;
//! let dir = tempfile::tempdir()?;
//! let (from, to) = (dir.path().join("vmcore.0"), dir.path().join("copy"));
//! std::fs::write(&from, vec![7; 10_000])?;
//! let source = Source::open(&from, Access::Auto)?;
//! assert_eq!(plain::copy(&source, &to, false, |_, _| {})?, 10_000);
//! assert_eq!(std::fs::read(&to)?, vec![7; 10_000]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::compress::CompressError;
use crate::output::OutputFile;
use crate::sparse::SparseWriter;
use std::path::Path;
use vmcore::source::Source;

/// Bytes that are copied at once.
const CHUNK: usize = 1 << 20;
/// Runs of so many zeros become holes.
const HOLE: usize = 4096;

/// Copies all bytes of `source` to `path`, with holes for zeros; gives their number. `on_progress` is
/// told the bytes that are done, and how many there are.
///
/// # Errors
/// Returns an error if the dump cannot be read or the file cannot be written. Then there is no file
/// at `path`.
pub fn copy(
    source: &Source,
    path: &Path,
    overwrite: bool,
    mut on_progress: impl FnMut(u64, u64),
) -> Result<u64, CompressError> {
    let mut output = OutputFile::create(path, overwrite)?;
    let mut buf = vec![0; CHUNK];
    let mut done = 0u64;
    let mut writer = SparseWriter::new(output.file(), HOLE);
    let mut written = Ok(());
    while written.is_ok() {
        let read = source.read_positional(done, &mut buf);
        let read = read.map_err(|source| CompressError::Read {
            offset: done,
            source,
        })?;
        if read == 0 {
            break;
        }
        written = writer.write(done, buf.get(..read).unwrap_or_default());
        done += read as u64;
        // A compressed dump does not say how long it is before its end.
        let total = if source.knows_len() { source.len() } else { 0 };
        on_progress(done, total.max(done));
    }
    written
        .and_then(|()| output.file().set_len(done))
        .map_err(|source| output.error(source))?;
    output.commit()?;
    Ok(done)
}
