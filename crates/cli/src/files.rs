//! Which dump and which kernel file: from the words of the command line, or the newest dump.
//!
//! Files come first, arguments last. A word is a file if it must be one by its place, if it has a
//! slash, or if a file of that name is a dump or a kernel; so `read hz 4` and `read vmcore.0 hz 4`
//! both mean what they say. Dump and kernel are told apart by their first bytes, in either order.

use crate::options::Common;
use crate::outcome::Failure;
use crate::{spool, text};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use vmcore::container;
use vmcore::format::elf::{ELF_MAGIC, ET_CORE, FileHeader};
use vmcore::format::header::MINIDUMP_PREFIX;
use vmcore::format::kerneldump::DumpHeader;
use vmcore::format::sparc64;
use vmcore::list::CRASH_DIRECTORY;
use vmcore::source::OpenFile;
use vmcore::textdump;

/// The most files that a command takes: a dump and a kernel.
const MAX_FILES: usize = 2;

/// The dump and the kernel file that were named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) dump: PathBuf,
    pub(crate) kernel: Option<PathBuf>,
    /// What was typed for a dump that came through a pipe.
    pub(crate) stream: Option<PathBuf>,
}

/// The files of a command line, each opened once.
#[derive(Debug, Default)]
pub(crate) struct Files(RefCell<HashMap<PathBuf, Option<(Content, OpenFile)>>>);

impl Files {
    fn content(&self, path: &Path) -> Content {
        let mut known = self.0.borrow_mut();
        let file = known.entry(path.to_owned()).or_insert_with(|| {
            let file = OpenFile::open(path).ok()?;
            Some((content(&file), file))
        });
        file.as_ref()
            .map_or(Content::Other, |(content, _)| *content)
    }

    /// The open file.
    pub(crate) fn open(&self, path: &Path) -> io::Result<OpenFile> {
        match self.0.borrow().get(path) {
            Some(Some((_, file))) => Ok(file.clone()),
            _ => OpenFile::open(path),
        }
    }
}

/// What a file is by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Dump,
    Kernel,
    Other,
}

/// Whether a file holds a dump, whatever is around it.
pub(crate) fn is_dump(path: &Path) -> bool {
    Files::default().content(path) == Content::Dump
}

fn content(file: &OpenFile) -> Content {
    let Ok(first) = file.first(4096) else {
        return Content::Other;
    };
    if first.starts_with(ELF_MAGIC) {
        return elf(&first);
    }
    if container::is_compressed(&first) {
        return match expanded(file) {
            Ok(inside) if inside.starts_with(ELF_MAGIC) => elf(&inside),
            _ => Content::Dump,
        };
    }
    if first.starts_with(MINIDUMP_PREFIX)
        || DumpHeader::parse(&first).is_ok()
        || sparc64::is_header(&first)
        || textdump::is_archive(&first)
        || container::is_wrapped(file)
        || textdump::is_backwards(file)
    {
        Content::Dump
    } else {
        Content::Other
    }
}

/// What an ELF file is.
fn elf(first: &[u8]) -> Content {
    match FileHeader::parse(first) {
        Ok(header) if header.e_type == ET_CORE => Content::Dump,
        _ => Content::Kernel,
    }
}

/// The first bytes that a compressed file expands to.
fn expanded(file: &OpenFile) -> io::Result<Vec<u8>> {
    let mut first = vec![0; FileHeader::MAX_LEN];
    let read = container::expand_file(file)?.read_positional(0, &mut first)?;
    first.truncate(read);
    Ok(first)
}

/// Splits words into files and arguments. `arguments` says how many of the latter there are, and
/// `names` how the help calls them.
pub(crate) fn split<'a>(
    words: &'a [OsString],
    arguments: RangeInclusive<usize>,
    command: &str,
    names: &str,
    known: &Files,
) -> Result<(&'a [OsString], &'a [OsString]), Failure> {
    let (least, most) = (*arguments.start(), *arguments.end());
    let Some(room) = words.len().checked_sub(least) else {
        return Err(Failure::usage(format!("{names} is missing")).line(usage(command, names)));
    };
    let must = words.len().saturating_sub(most);
    if must > MAX_FILES {
        return Err(Failure::usage("too many words").line(usage(command, names)));
    }
    let is_file = |word: &&OsString| {
        let path = Path::new(word);
        spool::is_stream(path)
            || path.components().count() > 1
            || path.is_absolute()
            || known.content(path) != Content::Other
    };
    let seem = words
        .iter()
        .take(room.min(MAX_FILES))
        .take_while(is_file)
        .count();
    let files = must.max(seem);
    let (files, arguments) = words.split_at_checked(files).unwrap_or((words, &[]));
    // `translate vmcore.0`: the only word is the file, and the argument is missing.
    if let (true, [word, ..]) = (files.is_empty() && least > 0, arguments)
        && known.content(Path::new(word)) == Content::Dump
    {
        let word = text::path(Path::new(word));
        return Err(
            Failure::usage(format!("{word} is a dump; {names} is missing"))
                .line(usage(command, names)),
        );
    }
    Ok((files, arguments))
}

fn usage(command: &str, names: &str) -> String {
    let space = if names.is_empty() { "" } else { " " };
    format!("usage: vmcore {command} [FILE]{space}{names}")
}

/// Settles which of the named files is the dump and which the kernel; without any, the newest dump.
pub(crate) fn choose(
    common: &Common,
    command: &str,
    files: &[OsString],
    words: &[OsString],
    known: &Files,
) -> Result<Chosen, Failure> {
    if !files.is_empty() && (common.number.is_some() || common.directory.is_some()) {
        let file = files
            .first()
            .map(|file| text::path(Path::new(file)))
            .unwrap_or_default();
        return Err(Failure::usage(format!(
            "-n and -d choose a dump, and so does {file}: give one of them"
        )));
    }
    let kernel = common.kernel.clone();
    let paths: Vec<&Path> = files.iter().map(Path::new).collect();
    let (dump, kernel) = match paths.as_slice() {
        [] => (newest(common, command, words)?, kernel),
        [dump] => (dump.to_path_buf(), kernel),
        [first, second, ..] => {
            if kernel.is_some() {
                return Err(Failure::usage(
                    "two files and -k: the kernel file is named twice",
                ));
            }
            let (dump, kernel) = match (known.content(first), known.content(second)) {
                (Content::Dump, Content::Dump) => return Err(both(first, second, "dumps")),
                (Content::Kernel, Content::Kernel) => return Err(both(first, second, "kernels")),
                (Content::Kernel, _) | (Content::Other, Content::Dump) => (second, first),
                _ => (first, second),
            };
            (dump.to_path_buf(), Some(kernel.to_path_buf()))
        }
    };
    Ok(Chosen {
        dump,
        kernel,
        stream: None,
    })
}

fn both(first: &Path, second: &Path, what: &str) -> Failure {
    Failure::usage(format!(
        "{} and {} are both {what}",
        first.display(),
        second.display()
    ))
    .line("give a dump and, if you like, its kernel file")
}

/// The dump of the crash directory that was asked for.
fn newest(common: &Common, command: &str, words: &[OsString]) -> Result<PathBuf, Failure> {
    let directory = common
        .directory
        .as_deref()
        .unwrap_or(Path::new(CRASH_DIRECTORY));
    let error = match vmcore::list::newest(directory, common.number) {
        Ok(dump) => return Ok(dump),
        Err(error) => error,
    };
    let failure = Failure::new(format!(
        "no FILE was given, and no dump found: {}",
        text::os_error(&error)
    ));
    let failure = match words.first() {
        Some(word) => {
            let word = text::path(Path::new(word));
            failure.line(format!("({word} is neither a dump nor a kernel here)"))
        }
        None => failure,
    };
    Err(failure.next(format!("vmcore {command} FILE, or vmcore {command} -d DIR")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn files(line: &str, arguments: RangeInclusive<usize>) -> Result<usize, u8> {
        split(&words(line), arguments, "read", "ADDR", &Files::default())
            .map(|(files, _)| files.len())
            .map_err(|error| error.status())
    }

    #[test]
    fn arguments_come_last() {
        assert_eq!(files("", 0..=0), Ok(0));
        assert_eq!(files("vmcore.0", 0..=0), Ok(1));
        assert_eq!(files("kernel vmcore.0", 0..=0), Ok(2));
        assert_eq!(files("a b c", 0..=0), Err(USAGE));
        assert_eq!(files("hz", 1..=1), Ok(0));
        assert_eq!(files("vmcore.0 hz", 1..=1), Ok(1));
        assert_eq!(files("", 1..=1), Err(USAGE));
    }

    const USAGE: u8 = 2;

    #[test]
    fn an_optional_argument_is_one_unless_a_file_precedes_it() {
        assert_eq!(files("hz 4", 1..=2), Ok(0));
        assert_eq!(files("vmcore.0 hz 4", 1..=2), Ok(1));
        assert_eq!(files("dir/vmcore.0 hz", 1..=2), Ok(1));
        assert_eq!(files("kernel vmcore.0 hz 4", 1..=2), Ok(2));
        let dir = tempfile::tempdir().unwrap();
        let dump = dir.path().join("vmcore.0");
        std::fs::write(&dump, b"minidump").unwrap();
        assert_eq!(files(&format!("{} hz", dump.display()), 1..=2), Ok(1));
        assert_eq!(files(&format!("{}", dump.display()), 1..=2), Err(USAGE));
    }

    #[test]
    fn content_tells_dump_from_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            Files::default().content(&path)
        };
        assert_eq!(of("a", b"minidump FreeBSD/amd64"), Content::Dump);
        assert_eq!(of("b", b"\x28\xb5\x2f\xfd"), Content::Dump);
        assert_eq!(of("c", b"\x7fELF"), Content::Kernel);
        assert_eq!(of("d", b"hello"), Content::Other);
        assert_eq!(Files::default().content(dir.path()), Content::Other);
    }
}
