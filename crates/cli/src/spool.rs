//! A dump from a pipe, copied to a temporary file: a pipe cannot be read twice.

use crate::outcome::Failure;
use crate::text;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use vmcore_pipeline::save::free_bytes;

/// The most bytes that are kept, where that much is free.
const MAX_BYTES: u64 = 64 << 30;
/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// Whether a word names standard input, or a pipe that the shell has opened for us.
pub(crate) fn is_stream(path: &Path) -> bool {
    let is_ours = |directory: &str| path.starts_with(directory);
    path == Path::new("-")
        || path == Path::new("/dev/stdin")
        || ["/dev/fd", "/proc/self/fd"].into_iter().any(is_ours)
}

/// Where what `path` names can be read: itself, or a file that holds what came through it.
pub(crate) fn spool(path: &Path) -> Result<(PathBuf, Option<NamedTempFile>), Failure> {
    let device = match path == Path::new("-") {
        true => Path::new("/dev/stdin"),
        false => path,
    };
    if device.metadata().is_ok_and(|there| there.is_file()) {
        return Ok((device.to_owned(), None));
    }
    let is_stdin = device == Path::new("/dev/stdin");
    if is_stdin && io::stdin().is_terminal() {
        let words = "standard input is a terminal, and a dump is expected there";
        return Err(Failure::new(words).next("vmcore info - < vmcore.N"));
    }
    let failed = |error: io::Error| {
        let sentence = format!("{}: {}", text::path(path), text::os_error(&error));
        Failure::new(sentence).next("copy it to a file, and name that")
    };
    let kept = match is_stdin {
        true => keep(io::stdin().lock()),
        false => File::open(device).and_then(keep),
    };
    let kept = kept.map_err(failed)?;
    Ok((kept.path().to_owned(), Some(kept)))
}

/// Copies all of a stream to a temporary file, which may take half of what is free.
fn keep(mut stream: impl Read) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("vmcore.").tempfile()?;
    let directory = std::env::temp_dir();
    let free = free_bytes(&directory)?;
    let most = free.map_or(MAX_BYTES, |free| (free / 2).min(MAX_BYTES));
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        let read = match stream.read(&mut piece) {
            Ok(0) => return Ok(file),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        total += read as u64;
        if total > most {
            let words = format!(
                "more than {}, half of what is free in {} (TMPDIR chooses another directory)",
                text::size(most),
                directory.display()
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, words));
        }
        file.write_all(piece.get(..read).unwrap_or_default())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_through_a_pipe_is_kept() {
        let bytes = vec![7; 3 * PIECE + 5];
        let kept = keep(bytes.as_slice()).unwrap();
        assert!(std::fs::read(kept.path()).unwrap() == bytes);
        assert!(is_stream(Path::new("/dev/fd/63")) && is_stream(Path::new("-")));
        assert!(!is_stream(Path::new("vmcore.0")) && !is_stream(Path::new("--")));
    }
}
