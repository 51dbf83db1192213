//! The files of a received dump, with netdumpd's names: `vmcore.HOST.N`, `info.HOST.N`, `key.HOST.N`,
//! `bounds.HOST`, and of our own `record.HOST.N.json`.
//!
//! Until a dump is whole its file is `.vmcore.HOST.N.part`; one that never became whole ends as
//! `vmcore.HOST.N.incomplete`. A server that is killed at any point leaves no file under its final name that
//! is not whole, and a number is never used twice. A file that is being received is locked, so that
//! another server in the same directory leaves it alone.

use super::record::Record;
use crate::changes::{Changes, NewFile};
use crate::sparse::SparseWriter;
use std::fs::{self, File, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use vmcore::source::{open_file, read_small};
use vmcore_format::kerneldump::Compression;

/// Bytes of a `bounds.HOST` that are read.
const BOUNDS_MAX: usize = 64;
/// Numbers that are tried before giving up.
const TRIES: u32 = 10_000;

/// The files of one dump.
#[derive(Debug)]
pub(crate) struct Files {
    changes: Changes<'static>,
    directory: PathBuf,
    host: String,
    number: u32,
    core: NewFile<'static>,
    core_name: String,
    key: Option<(NewFile<'static>, String)>,
}

impl Files {
    /// Makes the file of the next dump of `host`, whose name is an address: no separators in it.
    pub(crate) fn create(
        changes: Changes<'static>,
        directory: &Path,
        host: &str,
    ) -> io::Result<Self> {
        let host = host.replace([':', '%', '/'], "_");
        let bounds = directory.join(format!("bounds.{host}"));
        let text = read_small(&bounds, BOUNDS_MAX).unwrap_or_default();
        let first: u32 = String::from_utf8_lossy(&text).trim().parse().unwrap_or(0);
        for number in first..first.saturating_add(TRIES) {
            let core_name = format!(".vmcore.{host}.{number}.part");
            let is_taken = |stem: &str, suffix: &str| {
                let name = format!("{stem}.{host}.{number}{suffix}");
                directory.join(name).symlink_metadata().is_ok()
            };
            let suffixes = ["", ".gz", ".zst", ".incomplete"];
            if suffixes.iter().any(|suffix| is_taken("vmcore", suffix))
                || is_taken("vmcore_encrypted", "")
                || is_taken("key", "")
            {
                continue;
            }
            // The process that creates this file has the number: others may be looking for one at the same time.
            match changes.create(&directory.join(record_name(&host, number))) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            let core = changes.create(&directory.join(&core_name))?;
            core.lock();
            let next = format!("{}\n", number.wrapping_add(1));
            replace(changes, &bounds, next.as_bytes())?;
            return Ok(Self {
                changes,
                directory: directory.to_owned(),
                host,
                number,
                core,
                core_name,
                key: None,
            });
        }
        Err(io::Error::other("no free number for the dump"))
    }

    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn partial_name(&self) -> String {
        self.core_name.clone()
    }

    pub(crate) fn core_name(&self) -> &str {
        &self.core_name
    }

    pub(crate) fn key_name(&self) -> Option<&str> {
        self.key.as_ref().map(|(_, name)| name.as_str())
    }

    pub(crate) fn info_name(&self) -> String {
        format!("info.{}.{}", self.host, self.number)
    }

    /// Writes bytes of the dump.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        SparseWriter::new(&mut self.core, bytes.len()).write(offset, bytes)
    }

    /// Writes bytes of the key block.
    pub(crate) fn write_key(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.key.is_none() {
            let name = format!("key.{}.{}", self.host, self.number);
            let file = self.changes.create(&self.directory.join(&name))?;
            self.key = Some((file, name));
        }
        // Its padding is zeros, and part of it.
        if let Some((file, _)) = &mut self.key {
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(bytes)?;
        }
        Ok(())
    }

    /// Gives the dump, which is whole and has `len` bytes, its final name.
    pub(crate) fn finish(
        &mut self,
        len: u64,
        compression: Compression,
        is_encrypted: bool,
    ) -> io::Result<()> {
        let (stem, suffix) = match compression {
            _ if is_encrypted => ("vmcore_encrypted", ""),
            Compression::Gzip => ("vmcore", ".gz"),
            Compression::Zstd => ("vmcore", ".zst"),
            Compression::None | Compression::Unknown(_) => ("vmcore", ""),
        };
        if let Some((key, _)) = &self.key {
            key.sync()?;
        }
        self.rename(
            len,
            &format!("{stem}.{}.{}{suffix}", self.host, self.number),
        )
    }

    /// Gives a dump that is not whole, of which `len` bytes or less are there, a name that says so.
    pub(crate) fn give_up(&mut self, len: u64) -> io::Result<()> {
        self.rename(
            len,
            &format!("vmcore.{}.{}.incomplete", self.host, self.number),
        )
    }

    fn rename(&mut self, len: u64, name: &str) -> io::Result<()> {
        // What was left out because it is all zeros comes back.
        self.core.set_len(len)?;
        self.core.sync()?;
        let from = self.directory.join(&self.core_name);
        self.changes.hard_link(&from, &self.directory.join(name))?;
        name.clone_into(&mut self.core_name);
        self.changes.remove(&from)?;
        self.changes.sync_directory(&self.directory)
    }

    pub(crate) fn write_info(&self, text: &str) -> io::Result<()> {
        let path = self.directory.join(self.info_name());
        replace(self.changes, &path, text.as_bytes())
    }

    pub(crate) fn write_record(&self, record: &Record) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(record)?;
        text.push(b'\n');
        let name = record_name(&self.host, self.number);
        replace(self.changes, &self.directory.join(name), &text)
    }

    /// Points the links at this dump; that they cannot be made is not a reason to lose it.
    pub(crate) fn link_last(&self) {
        for (link, target) in [
            (format!("vmcore.{}.last", self.host), self.core_name.clone()),
            (format!("info.{}.last", self.host), self.info_name()),
        ] {
            let link = self.directory.join(link);
            if link.symlink_metadata().is_ok() {
                let _ = self.changes.remove(&link);
            }
            let _ = self.changes.link(target.as_ref(), &link);
        }
    }
}

/// Tries whether files can be made in a directory, before a dump depends on it.
pub(crate) fn probe(directory: &Path) -> io::Result<()> {
    let changes = Changes::unwatched();
    let path = directory.join(format!(".vmcore.{}.probe", std::process::id()));
    if path.symlink_metadata().is_ok() {
        changes.remove(&path)?;
    }
    changes.create(&path)?.lock();
    changes.remove(&path)
}

/// Dumps that a server which was killed left behind get the name of incomplete ones; what it had for a
/// moment goes. Returns those dumps.
pub(crate) fn recover(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_of_a_moment(&name) {
            // One that cannot be removed is harmless.
            let _ = discard(&directory.join(&name));
            continue;
        }
        let stem = name
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(".part"));
        if let Some(stem) = stem.filter(|stem| stem.starts_with("vmcore.")) {
            // One that cannot be renamed stays as it is.
            let to = format!("{stem}.incomplete");
            let renamed = adopt(&directory.join(&name), &directory.join(&to));
            names.extend(renamed.unwrap_or(false).then_some(to));
        }
    }
    Ok(names)
}

/// Gives a file that is no longer in use another name. False if it is in use, or has one.
fn adopt(from: &Path, to: &Path) -> io::Result<bool> {
    let changes = Changes::unwatched();
    let file = open_file(from)?;
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return Ok(false);
    }
    // The server was killed when the file had its final name already.
    let is_named = has_other_name(&file)?;
    if !is_named {
        changes.hard_link(from, to)?;
    }
    changes.remove(from)?;
    Ok(!is_named)
}

/// Whether a file has names beside the one that it was opened by.
fn has_other_name(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    return Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 1);
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(false)
    }
}

fn record_name(host: &str, number: u32) -> String {
    format!("record.{host}.{number}.json")
}

/// Writes a small file in one go: it is the old one or the new one at any moment.
fn replace(changes: Changes<'_>, path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{count}.new", std::process::id()));
    let temporary = PathBuf::from(name);
    if temporary.symlink_metadata().is_ok() {
        changes.remove(&temporary)?;
    }
    let mut file = changes.create(&temporary)?;
    file.lock();
    let replaced = file
        .write_all(bytes)
        .and_then(|()| file.sync())
        .and_then(|()| changes.rename(&temporary, path));
    if replaced.is_err() {
        // What cannot be removed either, the next server removes.
        let _ = changes.remove(&temporary);
    }
    replaced
}

/// Whether [`replace`] or [`probe`] gave a file this name for a moment.
fn is_of_a_moment(name: &str) -> bool {
    let is_number = |part: &str| part.parse::<u64>().is_ok();
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["", "vmcore", number, "probe"] => is_number(number),
        ["bounds" | "info" | "record", .., process, count, "new"] => {
            is_number(process) && is_number(count)
        }
        _ => false,
    }
}

/// Removes a file that is no longer in use.
fn discard(path: &Path) -> io::Result<()> {
    match open_file(path)?.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(()),
        _ => Changes::unwatched().remove(path),
    }
}
