//! The dumps in a directory: `vmcore.N` with `info.N` beside it, as savecore leaves them,
//! `vmcore.HOST.N`, as netdumpd does, and other files with `vmcore` in their names that are dumps.
//!
//! ```no_run
//! use vmcore::list;
//! for entry in list::list("/var/crash".as_ref(), &[])? {
//!     println!("{}: {:?}", entry.path.display(), entry.state);
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

use crate::around::{self, Known, Surroundings};
use crate::container::{ContainerError, ContainerOptions};
use crate::dump::{Completeness, Dump, OpenError, OpenOptions};
use crate::info::facts;
use crate::log;
use crate::names::number;
use crate::session::{KernelChoice, Session};
use crate::textdump::Textdump;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use vmcore_format::arch::Arch;

/// Where savecore puts dumps.
pub const CRASH_DIRECTORY: &str = "/var/crash";
/// The most directory entries that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// What there is of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// All of it.
    Complete,
    /// The file ends early.
    Truncated {
        /// Bytes that are missing, as far as they can be predicted.
        missing_bytes: Option<u64>,
    },
    /// Compressed: whether it is whole is known only when all of it has been expanded.
    Compressed {
        /// `zstd` or `gzip`.
        how: String,
    },
    /// Encrypted.
    Encrypted,
    /// Text, not memory; what there is of it is read.
    Textdump,
    /// No dump that can be read.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// A dump in a directory.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The file.
    #[serde(serialize_with = "crate::serialize_path")]
    pub path: PathBuf,
    /// N of `vmcore.N` or `vmcore.HOST.N`.
    pub number: Option<u64>,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// When it was last written.
    #[serde(skip)]
    pub modified: Option<SystemTime>,
    /// What there is of it.
    #[serde(flatten)]
    pub state: State,
    /// `minidump`, `full dump`, `ELF core` or `textdump`.
    pub kind: Option<&'static str>,
    /// Architecture.
    pub arch: Option<Arch>,
    /// The panic message.
    pub panic: Option<Known>,
    /// Host name.
    pub host: Option<Known>,
    /// When it crashed.
    pub crashed: Option<Known>,
    /// The kernel file that matches.
    pub kernel: Option<String>,
}

/// The dumps in `directory`, newest first. Kernels are looked for in `kernel_path` first.
///
/// # Errors
/// Returns an error if the directory cannot be read.
pub fn list(directory: &Path, kernel_path: &[PathBuf]) -> io::Result<Vec<Entry>> {
    Ok(files(directory)?
        .into_iter()
        .map(|file| look(file, kernel_path))
        .filter(|entry| entry.number.is_some() || !matches!(entry.state, State::Unreadable { .. }))
        .collect())
}

/// The newest dump in `directory`, or number `number`.
///
/// # Errors
/// Returns an error if the directory cannot be read or has no such dump.
pub fn newest(directory: &Path, number: Option<u64>) -> io::Result<PathBuf> {
    let found = files(directory)?
        .into_iter()
        .find(|file| file.number.is_some() && (number.is_none() || file.number == number));
    found.map(|file| file.path).ok_or_else(|| {
        let what = number.map_or("no vmcore.N".to_owned(), |number| {
            format!("no vmcore.{number}")
        });
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{what} in {}", directory.display()),
        )
    })
}

/// A file whose name may be a dump's.
struct Candidate {
    path: PathBuf,
    number: Option<u64>,
    size_bytes: u64,
    modified: Option<SystemTime>,
}

/// Files named as [`crate::names::tail`] knows them, and all others with `vmcore` in their names; newest first.
fn files(directory: &Path) -> io::Result<Vec<Candidate>> {
    let entries = std::fs::read_dir(directory).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
    })?;
    let mut files = Vec::new();
    for entry in entries.flatten().take(MAX_ENTRIES) {
        let path = entry.path();
        let number = number(&path);
        let metadata = match number {
            Some(_) => std::fs::metadata(&path),
            // `vmcore.last` is a link to one of the others.
            None if entry.file_name().to_string_lossy().contains("vmcore") => entry.metadata(),
            None => continue,
        };
        if let Ok(metadata) = metadata
            && metadata.is_file()
        {
            files.push(Candidate {
                path,
                number,
                size_bytes: metadata.len(),
                modified: metadata.modified().ok(),
            });
        }
    }
    files.sort_by(|a, b| (b.modified, b.number, &a.path).cmp(&(a.modified, a.number, &b.path)));
    Ok(files)
}

fn look(file: Candidate, kernel_path: &[PathBuf]) -> Entry {
    let Candidate {
        path,
        number,
        size_bytes,
        modified,
    } = file;
    let mut entry = Entry {
        number,
        size_bytes,
        modified,
        state: State::Complete,
        kind: None,
        arch: None,
        panic: None,
        host: None,
        crashed: None,
        kernel: None,
        path,
    };
    let name = entry.path.file_name().unwrap_or_default();
    if name.to_string_lossy().starts_with("vmcore_encrypted.") {
        entry.state = State::Encrypted;
        return with_facts(entry, around::beside);
    }
    let opened = Session::open(
        &entry.path,
        KernelChoice::Find(kernel_path),
        // It would have to expand all of a compressed dump.
        &OpenOptions {
            realign: false,
            ..OpenOptions::default()
        },
    );
    let session = match opened {
        Ok(session) => session,
        Err(crate::SessionError::Open(OpenError::Container(ContainerError::Encrypted {
            ..
        }))) => {
            entry.state = State::Encrypted;
            return with_facts(entry, around::beside);
        }
        Err(crate::SessionError::Open(OpenError::Truncated { need, have, .. })) => {
            entry.state = State::Truncated {
                missing_bytes: need.checked_sub(have),
            };
            return with_facts(entry, around::beside);
        }
        Err(crate::SessionError::Open(OpenError::Textdump { .. })) => {
            match Textdump::open(&entry.path, &ContainerOptions::default()) {
                Ok(textdump) => {
                    entry.state = State::Textdump;
                    entry.kind = Some("textdump");
                    return with_facts(entry, |_| textdump.facts());
                }
                Err(error) => {
                    let reason = error.to_string();
                    entry.state = State::Unreadable { reason };
                    return with_facts(entry, around::beside);
                }
            }
        }
        Err(error) => {
            entry.state = State::Unreadable {
                reason: error.to_string(),
            };
            return with_facts(entry, around::beside);
        }
    };
    let dump = session.dump();
    entry.state = state(dump);
    entry.kind = Some(dump.kind().name());
    entry.arch = Some(dump.arch());
    entry.kernel = session
        .kernel()
        .map(|kernel| kernel.path().display().to_string());
    let log = log::read(&session).ok();
    with_facts(entry, |_| facts::gather(&session, log.as_ref()))
}

/// What there is of a dump that opens. Nothing is expanded for it.
fn state(dump: &Dump) -> State {
    if !dump.memory().source().knows_len() {
        let how = dump.layers().last().map(ToString::to_string);
        return State::Compressed {
            how: how.unwrap_or_default(),
        };
    }
    match dump.completeness() {
        Ok(Completeness::Complete { .. }) => State::Complete,
        Ok(Completeness::Truncated { missing_bytes, .. }) => State::Truncated {
            missing_bytes: Some(missing_bytes),
        },
        Ok(Completeness::TruncatedSection { .. }) => State::Truncated {
            missing_bytes: None,
        },
        Err(reason) => State::Unreadable {
            reason: reason.to_string(),
        },
    }
}

fn with_facts(mut entry: Entry, facts: impl FnOnce(&Path) -> Surroundings) -> Entry {
    let facts = facts(&entry.path);
    entry.panic = facts.panic;
    entry.host = facts.host;
    entry.crashed = facts.crashed;
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_dump_comes_first_and_rubbish_is_listed_as_such() {
        let dir = tempfile::tempdir().unwrap();
        for (name, age) in [("vmcore.0", 20), ("vmcore.1", 10), ("vmcore.2.zst", 30)] {
            let path = dir.path().join(name);
            std::fs::write(&path, b"not a dump").unwrap();
            let time = SystemTime::now() - std::time::Duration::from_secs(age);
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
        }
        std::fs::write(dir.path().join("bounds"), b"3").unwrap();
        let entries = list(dir.path(), &[]).unwrap();
        let numbers: Vec<u64> = entries.iter().filter_map(|entry| entry.number).collect();
        assert_eq!(numbers, [1, 0, 2]);
        assert!(matches!(entries[0].state, State::Unreadable { .. }));
        assert_eq!(
            newest(dir.path(), None).unwrap(),
            dir.path().join("vmcore.1")
        );
        assert_eq!(
            newest(dir.path(), Some(0)).unwrap(),
            dir.path().join("vmcore.0")
        );
        let error = newest(dir.path(), Some(7)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
