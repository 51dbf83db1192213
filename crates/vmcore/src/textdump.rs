//! Textdumps: what DDB and the kernel said, as a tar archive on a dump device instead of memory.
//!
//! The kernel writes the archive backwards, block by block, from the end of the device, because its
//! length is not known before; savecore turns it round and calls it `textdump.tar.N`. Either is read
//! here, after whatever layers [`crate::container`] takes off. Source: `sys/ddb/db_textdump.c`.

use crate::container::{self, ContainerOptions, DeviceHeader, Layer};
use crate::dump::OpenError;
use crate::info::{Facts, Known};
use crate::source::{Access, Source};
use serde::Serialize;
use std::path::{Path, PathBuf};
use vmcore_format::kerneldump::TEXT_BLOCK;
use vmcore_format::tar::{self, BLOCK_LEN};

/// The most bytes of an archive that are read: DDB's capture buffer has 5 MiB at most, and the
/// message buffer is of the same order.
const ARCHIVE_MAX: usize = 64 << 20;
/// The most files of an archive; the kernel writes five.
const FILES_MAX: usize = 64;
/// The files that the kernel writes.
const NAMES: [&str; 5] = [DDB, "config.txt", LOG, PANIC, VERSION];
const DDB: &str = "ddb.txt";
const LOG: &str = "msgbuf.txt";
const PANIC: &str = "panic.txt";
const VERSION: &str = "version.txt";

/// A file of a textdump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    /// Its name.
    pub name: String,
    /// Its contents, or as much as there is of them.
    pub contents: Vec<u8>,
    /// Bytes that its header announces.
    pub len_bytes: u64,
}

/// A textdump.
#[derive(Debug)]
pub struct Textdump {
    path: PathBuf,
    layers: Vec<Layer>,
    device_header: Option<DeviceHeader>,
    files: Vec<TextFile>,
}

/// What a textdump says of the crash.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// The file.
    pub file: String,
    /// `textdump`.
    pub kind: &'static str,
    /// The panic message.
    pub panic: Option<Known>,
    /// The kernel's version string, its first line.
    pub kernel_version: Option<Known>,
    /// Host name.
    pub host: Option<Known>,
    /// When it crashed.
    pub crashed: Option<Known>,
    /// What is around it in its file, the outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    /// Its files.
    pub files: Vec<Entry>,
}

/// A file of a textdump, in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Bytes of its contents.
    pub size_bytes: u64,
    /// Bytes of them that are missing: the archive is cut.
    pub missing_bytes: u64,
}

impl Textdump {
    /// Opens a textdump.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or holds no textdump.
    pub fn open(path: &Path, options: &ContainerOptions) -> Result<Self, OpenError> {
        let opened = container::open(path, options)?;
        let archive = read(&opened.source).map_err(|error| OpenError::io(path, error))?;
        let files = files(&archive);
        if files.is_empty() {
            return Err(OpenError::BadTextdump {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            layers: opened.layers,
            device_header: opened.device_header,
            files,
        })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files, in their order.
    #[must_use]
    pub fn files(&self) -> &[TextFile] {
        &self.files
    }

    /// Whether all bytes are there that the headers of its files announce.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let is_whole = |file: &TextFile| file.contents.len() as u64 == file.len_bytes;
        self.files.iter().all(is_whole)
    }

    /// What the kernel printed; `None` if the archive has no message buffer.
    #[must_use]
    pub fn log(&self) -> Option<&[u8]> {
        self.contents(LOG)
    }

    /// What DDB printed: the output of the script that ran at the panic.
    #[must_use]
    pub fn ddb(&self) -> Option<&[u8]> {
        self.contents(DDB)
    }

    fn contents(&self, name: &str) -> Option<&[u8]> {
        let file = self.files.iter().find(|file| file.name == name)?;
        Some(&file.contents)
    }

    pub(crate) fn facts(&self) -> Facts {
        let text = |name: &'static str| {
            let contents = String::from_utf8_lossy(self.contents(name)?).into_owned();
            Some((name, contents))
        };
        Facts::of_text(
            &self.path,
            self.device_header.as_ref(),
            text(PANIC),
            text(VERSION),
            self.log(),
        )
    }

    /// What it says of the crash.
    #[must_use]
    pub fn info(&self) -> Info {
        let facts = self.facts();
        let files = self.files.iter().map(|file| Entry {
            name: file.name.clone(),
            size_bytes: file.contents.len() as u64,
            missing_bytes: file.len_bytes - file.contents.len() as u64,
        });
        Info {
            file: self.path.display().to_string(),
            kind: "textdump",
            panic: facts.panic,
            kernel_version: facts.version,
            host: facts.host,
            crashed: facts.crashed,
            layers: self.layers.clone(),
            files: files.collect(),
        }
    }
}

/// Whether a textdump's archive starts here, the right way round: as far as `first` reaches, one of
/// its files has a name that the kernel gives. Who packs them anew puts them in a directory, or others
/// beside them.
#[must_use]
pub fn is_archive(first: &[u8]) -> bool {
    members(first).any(|(member, _)| {
        let name = base_name(member.name);
        member.is_file && NAMES.iter().any(|known| known.as_bytes() == name)
    })
}

/// Whether an archive ends here that is still as the kernel wrote it: backwards.
pub(crate) fn ends_in_archive(source: &Source) -> bool {
    let is_short = !source.reaches(ARCHIVE_MAX as u64 + 1);
    let last = source.len().checked_sub(BLOCK_LEN as u64);
    let first_block = last.filter(|_| is_short).and_then(|at| source.array(at));
    first_block.is_some_and(|block: [u8; BLOCK_LEN]| is_archive(&block))
}

/// Whether the file at `path` is a textdump that has no header, and is still backwards.
#[must_use]
pub fn is_backwards(path: &Path) -> bool {
    Source::open(path, Access::Positional).is_ok_and(|source| ends_in_archive(&source))
}

fn base_name(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b'/').next().unwrap_or(name)
}

/// Puts the last block of a textdump first; within a block nothing moves.
pub fn reverse_blocks(archive: &mut [u8]) {
    archive.reverse();
    archive.chunks_mut(TEXT_BLOCK).for_each(<[u8]>::reverse);
}

/// The archive, the right way round.
fn read(source: &Source) -> std::io::Result<Vec<u8>> {
    let len = match source.reaches(ARCHIVE_MAX as u64) {
        true => ARCHIVE_MAX,
        false => usize::try_from(source.len()).unwrap_or(ARCHIVE_MAX),
    };
    let mut archive = vec![0; len - len % TEXT_BLOCK];
    let mut first = [0; BLOCK_LEN];
    source.read_positional(0, &mut first)?;
    let is_backwards = tar::parse(&first).is_none();
    // What is longer than any archive ends where the device does.
    let at = match is_backwards && source.reaches(len as u64 + 1) {
        true => source.len() - archive.len() as u64,
        false => 0,
    };
    let read = source.read_positional(at, &mut archive)?;
    archive.truncate(read);
    if is_backwards {
        reverse_blocks(&mut archive);
    }
    Ok(archive)
}

/// The files of an archive, as far as it can be read.
fn files(archive: &[u8]) -> Vec<TextFile> {
    members(archive)
        .filter(|(member, _)| member.is_file)
        .map(|(member, contents)| TextFile {
            name: String::from_utf8_lossy(base_name(member.name)).into_owned(),
            contents: contents.to_vec(),
            len_bytes: member.len_bytes,
        })
        .collect()
}

/// What is in an archive, with as much as there is of its contents.
fn members(archive: &[u8]) -> impl Iterator<Item = (tar::Member<'_>, &[u8])> {
    let mut rest = archive;
    let next = move || {
        let member = tar::parse(rest)?;
        let contents = rest.get(BLOCK_LEN..).unwrap_or_default();
        let len = usize::try_from(member.len_bytes).unwrap_or(usize::MAX);
        let padded = len.checked_next_multiple_of(BLOCK_LEN).unwrap_or(len);
        rest = contents.get(padded..).unwrap_or_default();
        Some((member, contents.get(..len).unwrap_or(contents)))
    };
    std::iter::from_fn(next).take(FILES_MAX)
}
