//! Textdumps: what DDB and the kernel said, as a tar archive on a dump device instead of memory.
//!
//! The kernel writes the archive backwards, block by block, from the end of the device, because its
//! length is not known before; savecore turns it round and calls it `textdump.tar.N`. Either is read
//! here, after whatever layers [`crate::container`] takes off. Source: `sys/ddb/db_textdump.c`.

pub use crate::text_archive::{is_archive, is_backwards, reverse_blocks};

use crate::around::{Known, Surroundings};
use crate::container::{self, ContainerOptions, DeviceHeader, Layer};
use crate::dump::OpenError;
use crate::text_archive::{self, DDB, LOG, PANIC, VERSION, base_name, members};
use serde::Serialize;
use std::path::{Path, PathBuf};
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
        Self::of(path, container::open(path, options)?)
    }

    /// As [`Textdump::open`], but of what a container held. Errors call it `path`.
    ///
    /// # Errors
    /// As [`Textdump::open`].
    pub fn of(path: &Path, opened: container::Opened) -> Result<Self, OpenError> {
        let archive =
            text_archive::read(&opened.source).map_err(|error| OpenError::io(path, error))?;
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

    pub(crate) fn facts(&self) -> Surroundings {
        let text = |name: &'static str| {
            let contents = String::from_utf8_lossy(self.contents(name)?).into_owned();
            Some((name, contents))
        };
        Surroundings::of_text(
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
