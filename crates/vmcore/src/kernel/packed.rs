//! Kernel files that are compressed, as they are kept beside dumps (`kernel.zst`) and booted from
//! small disks (`kernel.gz`): expanded into memory.

use crate::container;
use crate::source::OpenFile;
use std::io;
use vmcore_format::elf::ELF_MAGIC;

/// The most bytes of an expanded kernel: the largest, with debug information, have a third of it.
/// Its compressed size says little, for kernels have long runs of zeros.
pub(super) const MAX_LEN: u64 = 512 << 20;
/// Bytes that are expanded at once.
const PIECE: usize = 1 << 20;

/// What a compressed file expands to; of what is not an ELF file, only the beginning.
///
/// # Errors
/// Returns an error if it cannot be read, is damaged, or expands to more than `max_len` bytes.
pub(super) fn expand(file: &OpenFile, max_len: u64) -> io::Result<Vec<u8>> {
    let source = container::expand_file(file)?;
    let mut bytes = Vec::new();
    loop {
        let have = bytes.len();
        if have as u64 > max_len {
            return Err(invalid(format!(
                "it expands to more than {max_len} bytes, as no kernel does"
            )));
        }
        bytes.resize(have + PIECE, 0);
        let piece = bytes.get_mut(have..).unwrap_or_default();
        let read = source.read_positional(have as u64, piece)?;
        bytes.truncate(have + read);
        if read == 0 {
            break;
        }
        if !bytes.starts_with(ELF_MAGIC) {
            return Ok(bytes);
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

    fn content() -> Vec<u8> {
        let rest = (4..LEN).map(|at| (at / 100 % 251).to_le_bytes()[0]);
        ELF_MAGIC.iter().copied().chain(rest).collect()
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

    fn open(file: &tempfile::NamedTempFile) -> io::Result<OpenFile> {
        OpenFile::open(file.path())
    }

    #[test]
    fn both_kinds_come_back_whole() -> Result<(), Box<dyn Error>> {
        let content = content();
        for packed in [zstd(&content)?, gzip(&content)?] {
            assert!(container::is_compressed(&packed));
            let file = file_of(&packed)?;
            assert!(expand(&open(&file)?, MAX_LEN)? == content);
        }
        Ok(())
    }

    #[test]
    fn what_expands_too_far_or_is_cut_is_refused() -> Result<(), Box<dyn Error>> {
        let sound = content();
        for pack in [zstd, gzip] {
            let packed = pack(&sound)?;
            let file = file_of(&packed)?;
            let refused = expand(&open(&file)?, PIECE as u64);
            let reason = refused.map_or_else(|error| error.to_string(), |_| String::new());
            let start = format!("it expands to more than {PIECE} bytes");
            assert!(reason.starts_with(&start), "{reason}");
            let half = packed.len() / 2;
            let cut = file_of(packed.get(..half).unwrap_or_default())?;
            assert!(expand(&open(&cut)?, MAX_LEN).is_err());
        }
        Ok(())
    }
    #[test]
    fn of_what_is_no_elf_file_only_the_beginning_is_expanded() -> Result<(), Box<dyn Error>> {
        for pack in [zstd, gzip] {
            let packed = pack(&vec![0; 20 * PIECE])?;
            let file = file_of(&packed)?;
            let expanded = expand(&open(&file)?, MAX_LEN)?;
            assert!(!expanded.is_empty() && expanded.len() <= PIECE);
        }
        Ok(())
    }
}
