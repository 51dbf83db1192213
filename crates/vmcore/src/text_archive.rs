//! A textdump's archive, which lies backwards on its device: told from other files, and turned round.

use crate::source::{Access, OpenFile, Source};
use vmcore_format::kerneldump::TEXT_BLOCK;
use vmcore_format::tar::{self, BLOCK_LEN};

/// The most bytes of an archive that are read: DDB's capture buffer has 5 MiB at most, and the
/// message buffer is of the same order.
const ARCHIVE_MAX: usize = 64 << 20;
/// The most files of an archive; the kernel writes five.
const FILES_MAX: usize = 64;
/// The files that the kernel writes.
const NAMES: [&str; 5] = [DDB, "config.txt", LOG, PANIC, VERSION];
pub(crate) const DDB: &str = "ddb.txt";
pub(crate) const LOG: &str = "msgbuf.txt";
pub(crate) const PANIC: &str = "panic.txt";
pub(crate) const VERSION: &str = "version.txt";

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

/// Whether a file is a textdump that has no header, and is still backwards.
#[must_use]
pub fn is_backwards(file: &OpenFile) -> bool {
    ends_in_archive(&Source::of_file(file, Access::Positional))
}

pub(crate) fn base_name(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b'/').next().unwrap_or(name)
}

/// Puts the last block of a textdump first; within a block nothing moves.
pub fn reverse_blocks(archive: &mut [u8]) {
    archive.reverse();
    archive.chunks_mut(TEXT_BLOCK).for_each(<[u8]>::reverse);
}

/// The archive, the right way round.
pub(crate) fn read(source: &Source) -> std::io::Result<Vec<u8>> {
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

/// What is in an archive, with as much as there is of its contents.
pub(crate) fn members(archive: &[u8]) -> impl Iterator<Item = (tar::Member<'_>, &[u8])> {
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
