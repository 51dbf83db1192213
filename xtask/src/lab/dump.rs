//! The dump on a lab disk, taken off it by hand, and what the reader says of it.

use crate::{Result, shell};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Bytes of a dump header, and of a block of the lab's disks.
const HEADER: usize = 512;
const MAGIC: &[u8] = b"FreeBSD Kernel Dump";

/// A dump that was taken off a disk.
pub(super) struct Dump {
    /// The dump, without the headers around it.
    pub(super) file: PathBuf,
    /// Its bytes.
    pub(super) len: u64,
    /// The panic message in its header.
    pub(super) panic: String,
    kernel: PathBuf,
    reader: PathBuf,
    /// The private key, if it is encrypted.
    key: Option<PathBuf>,
}

fn u64_at(header: &[u8; HEADER], at: usize) -> u64 {
    header[at..at + 8]
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Takes the dump off a disk, if both of its headers are there.
pub(super) fn take(disk: &Path, to: &Path, kernel: &Path, reader: &Path) -> Result<Option<Dump>> {
    let failed = |error| format!("{}: {error}", disk.display());
    let mut image = File::open(disk).map_err(failed)?;
    let end = image.seek(SeekFrom::End(0)).map_err(failed)?;
    let mut header_at = |at: u64| -> std::io::Result<[u8; HEADER]> {
        let mut header = [0; HEADER];
        image.seek(SeekFrom::Start(at))?;
        image.read_exact(&mut header)?;
        Ok(header)
    };
    let block = HEADER as u64;
    let trailer = header_at(end - block).map_err(failed)?;
    let (len, extent) = (u64_at(&trailer, 40), u64_at(&trailer, 496));
    if !trailer.starts_with(MAGIC) || extent > end - 2 * block {
        return Ok(None);
    }
    let start = end - block - extent;
    if header_at(start - block).map_err(failed)? != trailer {
        return Ok(None);
    }
    copy(&mut image, start, len, to).map_err(|error| format!("{}: {error}", to.display()))?;
    let panic = &trailer[320..495];
    let panic = panic.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Some(Dump {
        file: to.to_owned(),
        len,
        panic: String::from_utf8_lossy(panic).into_owned(),
        kernel: kernel.to_owned(),
        reader: reader.to_owned(),
        key: None,
    }))
}

/// A file that is a dump, whatever is around it; `key` if it is encrypted.
pub(super) fn open(
    file: &Path,
    key: Option<PathBuf>,
    kernel: &Path,
    reader: &Path,
) -> Result<Dump> {
    let metadata =
        std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Dump {
        file: file.to_owned(),
        len: metadata.len(),
        panic: String::new(),
        kernel: kernel.to_owned(),
        reader: reader.to_owned(),
        key,
    })
}

/// Has the reader convert a file to a dump of another kind.
pub(super) fn convert(
    file: &Path,
    to: &Path,
    kind: &str,
    kernel: &Path,
    reader: &Path,
) -> Result<Dump> {
    let mut command = Command::new(reader);
    command.arg("convert").args([file, to]).args(["--to", kind]);
    command.arg("-k").arg(kernel);
    shell::run(&mut command)?;
    open(to, None, kernel, reader)
}

/// Copies part of a file; zeros become holes.
fn copy(from: &mut File, start: u64, len: u64, to: &Path) -> std::io::Result<()> {
    let mut out = File::create(to)?;
    from.seek(SeekFrom::Start(start))?;
    let mut buffer = vec![0; 1 << 20];
    let mut left = len;
    while left > 0 {
        let part = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = &mut buffer[..part];
        from.read_exact(part)?;
        if part.iter().all(|byte| *byte == 0) {
            out.seek(SeekFrom::Start(len - left + part.len() as u64))?;
        } else {
            out.write_all(part)?;
        }
        left -= part.len() as u64;
    }
    out.set_len(len)
}

impl Dump {
    /// The kernel that it is of.
    pub(super) fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// Runs a command of the reader on it: its answer, as far as the dump goes.
    pub(super) fn ask(&self, words: &[&str]) -> Result<Vec<u8>> {
        let (reader, output) = self.run(words)?;
        match output.status.code() {
            // 3: answered, as far as the dump goes.
            Some(0 | 3) => Ok(output.stdout),
            _ => Err(format!(
                "{}\n{}",
                shell::text(&reader),
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }

    /// Runs stock gdb on it, or lldb, by way of `vmcore gdb`: what that prints.
    pub(super) fn debug(&self, words: &[&str]) -> Result<String> {
        let mut reader = Command::new(&self.reader);
        reader.arg("gdb").arg(&self.file);
        reader.arg("-k").arg(&self.kernel).args(words);
        shell::said(&mut reader)
    }

    /// What `verify --json` finds, whether the dump is sound or not.
    pub(super) fn verified(&self) -> Result<String> {
        let (_, output) = self.run(&["verify", "--json"])?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn run(&self, words: &[&str]) -> Result<(Command, Output)> {
        let (command, arguments) = words.split_first().unwrap_or((&"info", &[]));
        let mut reader = Command::new(&self.reader);
        reader
            .arg(command)
            .arg(&self.file)
            .args(arguments)
            .arg("-k")
            .arg(&self.kernel);
        if let Some(key) = &self.key {
            reader.arg("--key").arg(key);
        }
        match reader.output() {
            Ok(output) => Ok((reader, output)),
            Err(error) => Err(shell::no_start(&reader, &error)),
        }
    }

    /// As [`Dump::ask`], as text.
    pub(super) fn says(&self, words: &[&str]) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.ask(words)?).into_owned())
    }

    /// Memory as words of eight bytes.
    pub(super) fn words(&self, from: u64, to: u64) -> Result<Vec<u64>> {
        let (from, len) = (format!("{from:#x}"), (to - from).to_string());
        let bytes = self.ask(&["read", &from, &len, "--raw"])?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    /// Whether a run of this word is anywhere in the file.
    pub(super) fn holds(&self, word: u64) -> Result<bool> {
        let bytes = std::fs::read(&self.file)
            .map_err(|error| format!("{}: {error}", self.file.display()))?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words
            .windows(4)
            .any(|four| four.iter().all(|found| *found == word.to_le_bytes())))
    }
}
