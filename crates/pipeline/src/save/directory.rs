//! The directory that dumps are saved to: its lock, the next number, old files, links.
//!
//! `bounds` holds the next number, `minfree` the KiB that must stay free. A file is written under
//! a temporary name and renamed when it is complete and durable; the next run removes what a killed
//! run left.

use super::error::SaveError;
use super::names;
use crate::changes::{Changes, NewFile};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use vmcore::source::read_small;

/// Characters of `bounds` that count: savecore reads no more.
const BOUNDS_CHARACTERS: usize = 5;
/// Bytes of a file with one number that are read.
const NUMBER_FILE_MAX: usize = 64;
/// Names of unfinished files.
const PART_PREFIX: &str = ".save.";
const PART_SUFFIX: &str = ".part";

/// A directory, locked against other processes that save to it.
#[derive(Debug)]
pub(crate) struct Directory<'w> {
    path: PathBuf,
    changes: Changes<'w>,
    /// Advisory lock, held while the file is open.
    #[cfg(unix)]
    _lock: fs::File,
}

/// The number of the next dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) number: u64,
    /// What is wrong with `bounds`.
    pub(crate) remark: Option<String>,
}

impl<'w> Directory<'w> {
    /// Locks the directory, and removes what a killed run left.
    pub(crate) fn open(path: &Path, changes: Changes<'w>) -> Result<Self, SaveError> {
        if !fs::metadata(path)
            .map_err(SaveError::directory(path))?
            .is_dir()
        {
            return Err(SaveError::directory(path)(
                io::ErrorKind::NotADirectory.into(),
            ));
        }
        #[cfg(unix)]
        let lock = {
            let lock = fs::File::open(path).map_err(SaveError::directory(path))?;
            match lock.try_lock() {
                Ok(()) => lock,
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(SaveError::Busy {
                        directory: path.to_owned(),
                    });
                }
                Err(fs::TryLockError::Error(error)) => {
                    return Err(SaveError::directory(path)(error));
                }
            }
        };
        let directory = Self {
            path: path.to_owned(),
            changes,
            #[cfg(unix)]
            _lock: lock,
        };
        directory.remove_parts()?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The number of the next dump: that of `bounds`, back to 0 at `maxdumps`. Without a usable
    /// `bounds`, and when an unlimited count meets a number that is in use, it goes on after the
    /// highest one there is: an old dump makes room for a new one only where the count wraps.
    pub(crate) fn next_number(&self, maxdumps: Option<u64>) -> Result<Number, SaveError> {
        let (bounds, mut remark) = match self.bounds()? {
            Ok(bounds) => (Some(bounds), None),
            Err(remark) => (None, Some(remark)),
        };
        let mut number = match bounds {
            Some(bounds) => bounds,
            None => self.after_the_highest()?,
        };
        match maxdumps {
            Some(max) if number >= max => number = 0,
            Some(_) => {}
            None if bounds.is_some() && !self.files_of(number)?.is_empty() => {
                remark = Some(format!("number {number} is in use already"));
                number = self.after_the_highest()?;
            }
            None => {}
        }
        Ok(Number { number, remark })
    }

    /// The number of the dump saved last, from `bounds`.
    pub(crate) fn last_number(&self) -> Result<Option<u64>, SaveError> {
        let bounds = self.bounds()?.ok();
        Ok(bounds.and_then(|bounds| bounds.checked_sub(1)))
    }

    /// The number in `bounds`, or why there is none.
    fn bounds(&self) -> Result<Result<u64, String>, SaveError> {
        let Some(text) = self.number_file("bounds")? else {
            return Ok(Err("there is no bounds file".to_owned()));
        };
        let number: String = text.chars().take(BOUNDS_CHARACTERS).collect();
        let number = number.trim();
        Ok(match number.parse::<u32>() {
            _ if number.is_empty() => Err("the bounds file is empty".to_owned()),
            Ok(bounds) => Ok(bounds.into()),
            Err(_) => Err("the bounds file does not contain a number".to_owned()),
        })
    }

    /// Bytes that must stay free, and a remark if `minfree` does not contain a size.
    pub(crate) fn minfree_bytes(&self) -> Result<(u64, Option<String>), SaveError> {
        let Some(text) = self.number_file("minfree")? else {
            return Ok((0, None));
        };
        let line = text.lines().next().unwrap_or_default();
        Ok(match line.trim().parse::<u64>() {
            Ok(kib) => (kib.saturating_mul(1024), None),
            Err(_) => {
                let line = line.escape_debug();
                (
                    0,
                    Some(format!("minfree does not contain a valid size: \"{line}\"")),
                )
            }
        })
    }

    /// The start of a small text file; `None` if there is none.
    fn number_file(&self, name: &str) -> Result<Option<String>, SaveError> {
        let path = self.file(name);
        match read_small(&path, NUMBER_FILE_MAX) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SaveError::directory(&path)(error)),
        }
    }

    fn after_the_highest(&self) -> Result<u64, SaveError> {
        let numbers = self
            .names()?
            .into_iter()
            .filter_map(|name| names::number(&name));
        Ok(numbers.max().map_or(0, |highest| highest + 1))
    }

    /// The names in the directory, as far as they are text.
    fn names(&self) -> Result<Vec<String>, SaveError> {
        let entries = fs::read_dir(&self.path).map_err(SaveError::directory(&self.path))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(SaveError::directory(&self.path))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    /// The files of dump `number`, with their sizes on disk.
    pub(crate) fn files_of(&self, number: u64) -> Result<Vec<(PathBuf, u64)>, SaveError> {
        let names = self.names()?.into_iter();
        let of_number = names.filter(|name| names::number(name) == Some(number));
        Ok(of_number
            .map(|name| {
                let path = self.file(&name);
                let bytes = path
                    .symlink_metadata()
                    .map_or(0, |metadata| allocated(&metadata));
                (path, bytes)
            })
            .collect())
    }

    /// Removes the files of dump `number`.
    pub(crate) fn remove_dump(&self, number: u64) -> Result<(), SaveError> {
        for (path, _) in self.files_of(number)? {
            self.changes
                .remove(&path)
                .map_err(SaveError::directory(&path))?;
        }
        Ok(())
    }

    /// Removes the files of the old dump `number` if a new one replaces it. Files that another process
    /// has made meanwhile are kept.
    pub(crate) fn free_number(&self, number: u64, is_replaced: bool) -> Result<(), SaveError> {
        if is_replaced {
            return self.remove_dump(number);
        }
        match self.files_of(number)?.first() {
            None => Ok(()),
            Some((path, _)) => {
                let error = io::Error::new(io::ErrorKind::AlreadyExists, "has appeared meanwhile");
                Err(SaveError::directory(path)(error))
            }
        }
    }

    /// Removes a file.
    pub(crate) fn remove(&self, name: &str) -> Result<(), SaveError> {
        let path = self.file(name);
        self.changes
            .remove(&path)
            .map_err(SaveError::directory(&path))
    }

    /// Removes unfinished files.
    pub(crate) fn remove_parts(&self) -> Result<(), SaveError> {
        for name in self.names()? {
            if name.starts_with(PART_PREFIX) && name.ends_with(PART_SUFFIX) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Begins a file that will be called `name`.
    pub(crate) fn begin(&self, name: &str) -> Result<NewFile<'w>, SaveError> {
        let path = self.part(name);
        self.changes
            .create(&path)
            .map_err(SaveError::directory(&path))
    }

    /// The path of a file until it is complete.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.path.join(format!("{PART_PREFIX}{name}{PART_SUFFIX}"))
    }

    /// Writes a small file, and makes its contents durable.
    pub(crate) fn write_part(&self, name: &str, text: &str) -> Result<(), SaveError> {
        let mut file = self.begin(name)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync());
        written.map_err(SaveError::directory(&self.file(name)))
    }

    /// Renames a complete file to its final name.
    pub(crate) fn finish(&self, name: &str) -> Result<(), SaveError> {
        let path = self.file(name);
        self.changes
            .rename(&self.part(name), &path)
            .map_err(SaveError::directory(&path))
    }

    /// Makes the names durable.
    pub(crate) fn sync(&self) -> Result<(), SaveError> {
        self.changes
            .sync_directory(&self.path)
            .map_err(SaveError::directory(&self.path))
    }

    /// Records that `number` is taken: `bounds` has the next one.
    pub(crate) fn set_bounds(&self, number: u64) -> Result<(), SaveError> {
        self.write_part("bounds", &format!("{}\n", number + 1))?;
        self.finish("bounds")
    }

    /// Points the links to a dump's files, and then removes those that point to an earlier one.
    pub(crate) fn set_links(&self, links: &[(String, String)]) -> Result<(), SaveError> {
        if !cfg!(unix) {
            return Ok(());
        }
        let is_link = |path: &Path| match path.symlink_metadata() {
            Ok(metadata) => Some(metadata.is_symlink()),
            Err(_) => None,
        };
        for (link, target) in links {
            let (path, part) = (self.file(link), self.part(link));
            if is_link(&path) == Some(false) {
                let error =
                    io::Error::new(io::ErrorKind::AlreadyExists, "is not a link, and is kept");
                return Err(SaveError::directory(&path)(error));
            }
            let made = self.changes.link(Path::new(target), &part);
            made.map_err(SaveError::directory(&part))?;
            self.finish(link)?;
        }
        for link in names::all_links() {
            let path = self.file(&link);
            let is_old = links.iter().all(|(new, _)| *new != link)
                && path
                    .symlink_metadata()
                    .is_ok_and(|metadata| metadata.is_symlink());
            if is_old {
                self.changes
                    .remove(&path)
                    .map_err(SaveError::directory(&path))?;
            }
        }
        Ok(())
    }
}

/// Bytes that a file takes on its disk.
fn allocated(metadata: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        std::os::unix::fs::MetadataExt::blocks(metadata).saturating_mul(512)
    }
    #[cfg(not(unix))]
    {
        metadata.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in files {
                fs::write(dir.path().join(name), text).unwrap();
            }
            Self { dir }
        }

        fn open(&self) -> Directory<'static> {
            Directory::open(self.dir.path(), Changes::unwatched()).unwrap()
        }

        fn number(&self, maxdumps: Option<u64>) -> u64 {
            self.open().next_number(maxdumps).unwrap().number
        }
    }

    #[test]
    fn bounds_is_read_as_savecore_reads_it() {
        for (text, number) in [
            ("3\n", 3),
            ("0", 0),
            (" 12 \n", 12),
            ("99999\n", 99_999),
            ("123456\n", 12_345),
            ("", 0),
            ("\n", 0),
            ("abc\n", 0),
            ("-1\n", 0),
        ] {
            assert_eq!(
                Fixture::new(&[("bounds", text)]).number(None),
                number,
                "{text:?}"
            );
        }
        let unread = Fixture::new(&[("bounds", "abc")])
            .open()
            .next_number(None)
            .unwrap();
        assert_eq!(
            unread.remark.as_deref(),
            Some("the bounds file does not contain a number")
        );
        assert_eq!(Fixture::new(&[]).number(None), 0);
    }

    #[test]
    fn the_count_wraps_at_the_maximum() {
        for (bounds, number) in [("8", 8), ("9", 9), ("10", 0), ("11", 0), ("99999", 0)] {
            assert_eq!(
                Fixture::new(&[("bounds", bounds)]).number(Some(10)),
                number,
                "{bounds}"
            );
        }
    }

    #[test]
    fn a_number_in_use_is_not_taken_unless_the_count_wraps() {
        let files = [("bounds", "1"), ("vmcore.1.zst", ""), ("info.7", "")];
        assert_eq!(Fixture::new(&files).number(None), 8);
        assert_eq!(Fixture::new(&files).number(Some(10)), 1);
        // Without bounds as well.
        assert_eq!(Fixture::new(&files[1..]).number(None), 8);
        assert_eq!(Fixture::new(&files[1..]).number(Some(10)), 8);
        assert_eq!(Fixture::new(&files[1..]).number(Some(8)), 0);
    }

    #[test]
    fn minfree_is_kib() {
        for (text, bytes, is_odd) in [
            ("2048\n", 2 << 20, false),
            ("0", 0, false),
            ("-5", 0, true),
            ("lots", 0, true),
            ("", 0, true),
            ("18446744073709551615", u64::MAX, false),
        ] {
            let (found, remark) = Fixture::new(&[("minfree", text)])
                .open()
                .minfree_bytes()
                .unwrap();
            assert_eq!((found, remark.is_some()), (bytes, is_odd), "{text:?}");
        }
        assert_eq!(Fixture::new(&[]).open().minfree_bytes().unwrap(), (0, None));
    }

    #[test]
    fn a_killed_runs_unfinished_files_go_and_others_stay() {
        let fixture = Fixture::new(&[
            (".save.vmcore.3.part", "half"),
            (".other.part", ""),
            ("vmcore.2", ""),
        ]);
        fixture.open();
        let mut names = fixture.open().names().unwrap();
        names.sort();
        assert_eq!(names, [".other.part", "vmcore.2"]);
    }

    #[cfg(unix)]
    #[test]
    fn two_runs_do_not_save_to_one_directory() {
        let fixture = Fixture::new(&[]);
        let first = fixture.open();
        let second = Directory::open(fixture.dir.path(), Changes::unwatched());
        assert!(matches!(second, Err(SaveError::Busy { .. })));
        drop(first);
        fixture.open();
    }
}
