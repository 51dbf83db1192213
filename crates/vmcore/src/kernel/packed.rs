//! Kernel files that are compressed, as they are kept beside dumps (`kernel.zst`) and booted from
//! small disks (`kernel.gz`): expanded into memory.

use crate::container;
use std::io;
use std::path::Path;

/// How much larger an expanded kernel may be: real ones are five times as large.
const MAX_RATIO: u64 = 64;
/// Bytes of an expanded kernel that are always taken.
const ALWAYS: u64 = 4 << 20;
/// The most bytes of one: the largest, with debug information, have a tenth of it.
const MAX_LEN: u64 = 1 << 30;
/// Bytes that are expanded at once.
const PIECE: usize = 1 << 20;

/// What a compressed file of `stored_bytes` expands to.
///
/// # Errors
/// Returns an error if it cannot be read, is damaged, or expands to more than any kernel of its size.
pub(super) fn expand(path: &Path, stored_bytes: u64) -> io::Result<Vec<u8>> {
    let max_len = stored_bytes.saturating_mul(MAX_RATIO);
    let max_len = max_len.clamp(ALWAYS, MAX_LEN);
    let source = container::expand_part(path, 0..stored_bytes)?;
    let mut bytes = Vec::new();
    loop {
        let have = bytes.len();
        if have as u64 > max_len {
            return Err(invalid(format!(
                "it expands to more than {max_len} bytes, as no kernel of its size does"
            )));
        }
        bytes.resize(have + PIECE, 0);
        let piece = bytes.get_mut(have..).unwrap_or_default();
        let read = source.read_positional(have as u64, piece)?;
        bytes.truncate(have + read);
        if read == 0 {
            break;
        }
    }
    match source.damage() {
        Some(damage) => Err(invalid(format!(
            "its compression breaks off after {} bytes: {}",
            damage.expanded_bytes, damage.reason
        ))),
        None => Ok(bytes),
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::io::Write as _;

    /// More than two pieces, and not a multiple of one.
    const LEN: usize = 2 * PIECE + 12_345;

    fn content(len: usize) -> Vec<u8> {
        (0..len)
            .map(|at| (at / 100 % 251).to_le_bytes()[0])
            .collect()
    }

    fn zstd(content: &[u8]) -> io::Result<Vec<u8>> {
        zstd::encode_all(content, 1)
    }

    fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content)?;
        encoder.finish()
    }

    fn file_of(bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(bytes)?;
        Ok(file)
    }

    #[test]
    fn both_kinds_come_back_whole() -> Result<(), Box<dyn Error>> {
        let content = content(LEN);
        for packed in [zstd(&content)?, gzip(&content)?] {
            assert!(container::is_compressed(&packed));
            let file = file_of(&packed)?;
            assert!(expand(file.path(), packed.len() as u64)? == content);
        }
        Ok(())
    }

    #[test]
    fn what_expands_too_far_or_is_cut_is_refused() -> Result<(), Box<dyn Error>> {
        let (sound, bomb) = (content(LEN), vec![0; 20 * PIECE]);
        for pack in [zstd, gzip] {
            let packed = pack(&bomb)?;
            let file = file_of(&packed)?;
            let refused = expand(file.path(), packed.len() as u64);
            let reason = refused.map_or_else(|error| error.to_string(), |_| String::new());
            let most = (64 * packed.len()).max(4 << 20);
            let start = format!("it expands to more than {most} bytes");
            assert!(reason.starts_with(&start), "{reason}");
            let packed = pack(&sound)?;
            let half = packed.len() / 2;
            let cut = file_of(packed.get(..half).unwrap_or_default())?;
            assert!(expand(cut.path(), half as u64).is_err());
        }
        Ok(())
    }
}
