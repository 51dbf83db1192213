//! What compressed kernel files expand to, kept on disk: every command would expand them anew.
//!
//! A program that wants this names a directory, which must be the user's alone. A file in it is taken
//! only if it belongs to the same user, no other user can write it, and its trailer names the very file
//! that was expanded: device, inode, size, times of the last change, and both ends of its contents.
//! Whatever goes wrong, the kernel is expanded as without a cache.

use crate::source::{Access, OpenFile, Source};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use xxhash_rust::xxh3::Xxh3;

/// Smaller ones are expanded in no time.
const MIN_LEN: usize = 4 << 20;
/// The most bytes in the directory: older files go.
const MAX_TOTAL: u64 = 2 << 30;
/// How the files are named.
const ENDING: &str = "kernel";
/// Bytes of either end of the compressed file that its key is made of.
const END_LEN: u64 = 64 << 10;
/// The trailer: a mark, the key, and the length of what is before it.
const MAGIC: &[u8; 16] = b"vmcore kernel 1\n";
const TRAILER_LEN: usize = 40;

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// Keeps what compressed kernels expand to in a directory, which is made if it is not there. It must
/// belong to the user who runs this program, and to no other user.
pub fn keep_expanded_in(directory: PathBuf) {
    let _ = DIRECTORY.set(directory);
}

/// Where a compressed file's contents are or would be kept.
pub(super) struct CachedImage {
    path: PathBuf,
    key: u128,
    owner: u32,
}

impl CachedImage {
    /// Where the contents of a compressed file are kept; `None` if nowhere.
    #[cfg(unix)]
    pub(super) fn of(compressed: &OpenFile) -> Option<Self> {
        use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
        let directory = DIRECTORY.get()?;
        if !directory.exists() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(directory).ok()?;
        }
        let found = fs::symlink_metadata(directory).ok()?;
        if !found.is_dir() || found.mode() & 0o077 != 0 {
            return None;
        }
        let stored = compressed.metadata();
        if !stored.is_file() {
            return None;
        }
        let mut hash = Xxh3::new();
        for number in [stored.dev(), stored.ino(), stored.len()] {
            hash.update(&number.to_le_bytes());
        }
        for time in [
            stored.mtime(),
            stored.mtime_nsec(),
            stored.ctime(),
            stored.ctime_nsec(),
        ] {
            hash.update(&time.to_le_bytes());
        }
        let source = Source::of_file(compressed, Access::Positional);
        let mut end = vec![0; usize::try_from(END_LEN.min(stored.len())).ok()?];
        for start in [0, stored.len().saturating_sub(END_LEN)] {
            let read = source.read_positional(start, &mut end).ok()?;
            hash.update(end.get(..read)?);
        }
        let key = hash.digest128();
        Some(Self {
            path: directory.join(format!("{key:032x}.{ENDING}")),
            key,
            owner: found.uid(),
        })
    }

    #[cfg(not(unix))]
    pub(super) fn of(_: &OpenFile) -> Option<Self> {
        None
    }

    /// The file and the length of its contents, if they are kept and sound.
    #[cfg(unix)]
    pub(super) fn find(&self) -> Option<(Source, u64)> {
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::symlink_metadata(&self.path).ok()?;
        if !found.is_file() || found.uid() != self.owner || found.mode() & 0o077 != 0 {
            return None;
        }
        let len = found.len().checked_sub(TRAILER_LEN as u64)?;
        let source = Source::open(&self.path, Access::Mapped).ok()?;
        let mut trailer = [0; TRAILER_LEN];
        source.read_positional(len, &mut trailer).ok()?;
        (trailer == self.trailer(len)).then_some((source, len))
    }

    #[cfg(not(unix))]
    pub(super) fn find(&self) -> Option<(Source, u64)> {
        None
    }

    fn trailer(&self, len: u64) -> [u8; TRAILER_LEN] {
        let mut trailer = [0; TRAILER_LEN];
        let parts = MAGIC
            .iter()
            .copied()
            .chain(self.key.to_le_bytes())
            .chain(len.to_le_bytes());
        trailer
            .iter_mut()
            .zip(parts)
            .for_each(|(to, from)| *to = from);
        trailer
    }

    /// Keeps the contents. A failure is ignored.
    pub(super) fn keep(&self, contents: &[u8]) {
        if contents.len() < MIN_LEN || contents.len() as u64 > MAX_TOTAL / 2 {
            return;
        }
        let part = self
            .path
            .with_extension(format!("{}.part", std::process::id()));
        let kept = self.write(&part, contents);
        if kept.is_err() || fs::rename(&part, &self.path).is_err() {
            let _ = fs::remove_file(&part);
        } else {
            self.make_room();
        }
    }

    fn write(&self, part: &Path, contents: &[u8]) -> io::Result<()> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(part)?;
        file.write_all(contents)?;
        file.write_all(&self.trailer(contents.len() as u64))?;
        // A crash leaves no file with the right length and other contents.
        file.sync_data()
    }

    /// Removes the oldest files until the rest is small enough.
    fn make_room(&self) {
        let entries = self
            .path
            .parent()
            .and_then(|folder| fs::read_dir(folder).ok());
        let mut files: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((found.modified().ok()?, found.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if total <= MAX_TOTAL {
                break;
            }
            if path != self.path && fs::remove_file(&path).is_ok() {
                total -= len;
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn contents_are_taken_only_as_they_were_kept_for_the_same_file() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (cache, kernel) = (dir.path().join("cache"), dir.path().join("kernel.gz"));
        keep_expanded_in(cache.clone());
        fs::write(&kernel, b"compressed")?;
        let place = || CachedImage::of(&OpenFile::open(&kernel).ok()?);
        let kept = place().ok_or(io::ErrorKind::NotFound)?;
        assert!(kept.find().is_none());
        kept.keep(&vec![7; MIN_LEN - 1]);
        assert!(kept.find().is_none());
        kept.keep(&vec![7; MIN_LEN]);
        assert_eq!(kept.find().map(|(_, len)| len), Some(MIN_LEN as u64));
        let mode = |path: &Path| fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
        assert_eq!((mode(&cache)?, mode(&kept.path)?), (0o700, 0o600));
        // Others may write it.
        fs::set_permissions(&kept.path, fs::Permissions::from_mode(0o666))?;
        assert!(kept.find().is_none());
        fs::set_permissions(&kept.path, fs::Permissions::from_mode(0o600))?;
        assert!(kept.find().is_some());
        // It is cut.
        let file = File::options().write(true).open(&kept.path)?;
        file.set_len(MIN_LEN as u64)?;
        assert!(kept.find().is_none());
        // A link leads elsewhere.
        kept.keep(&vec![7; MIN_LEN]);
        let moved = cache.join("moved");
        fs::rename(&kept.path, &moved)?;
        std::os::unix::fs::symlink(&moved, &kept.path)?;
        assert!(kept.find().is_none());
        // The kernel is another one, of the same length.
        kept.keep(&vec![7; MIN_LEN]);
        assert!(kept.find().is_some());
        fs::write(&kernel, b"compressee")?;
        assert!(place().ok_or(io::ErrorKind::NotFound)?.find().is_none());
        // The directory is open to others.
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o755))?;
        assert!(place().is_none());
        Ok(())
    }
}
