//! Accidents for tests: a change fails, or the process dies, or the power goes.

use super::Change;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What happens at the change whose turn it is, and to those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accident {
    /// It fails; the next ones succeed.
    Error,
    /// The process dies before it.
    Kill,
    /// The process dies half-way through it, if it writes.
    TornKill,
    /// The machine loses power before it, or after the last one: of what was not made durable,
    /// nothing is left.
    PowerCut,
}

/// Lets changes happen up to the accident, and knows how to undo what was not durable.
pub(crate) struct Fate {
    accident: Accident,
    at: usize,
    seen: AtomicUsize,
    /// What undoes the names since they were made durable, newest last.
    names: Mutex<Vec<Undo>>,
    /// Files with contents that are not durable; what a device had before.
    contents: Mutex<HashMap<PathBuf, Option<Vec<u8>>>>,
}

/// Undoes a change of names.
enum Undo {
    Remove(PathBuf),
    Restore(PathBuf, Entry),
    RenameBack { to: PathBuf, from: PathBuf },
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    File(Vec<u8>),
    Link(PathBuf),
}

impl Entry {
    fn of(path: &Path) -> Option<Self> {
        match fs::read_link(path) {
            Ok(target) => Some(Self::Link(target)),
            Err(_) => fs::read(path).ok().map(Self::File),
        }
    }
}

impl Accident {
    pub(crate) const ALL: [Self; 4] = [Self::Error, Self::Kill, Self::TornKill, Self::PowerCut];
}

impl Fate {
    pub(crate) fn new(accident: Accident, at: usize) -> Self {
        Self {
            accident,
            at,
            seen: AtomicUsize::new(0),
            names: Mutex::default(),
            contents: Mutex::default(),
        }
    }

    pub(crate) fn has_happened(&self) -> bool {
        self.seen.load(Ordering::Relaxed) > self.at
    }

    /// What becomes of a change: for a watcher of changes.
    pub(crate) fn meet(&self, change: &Change<'_>) -> io::Result<()> {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        let is_over = match self.accident {
            Accident::Error => number == self.at,
            Accident::Kill | Accident::TornKill | Accident::PowerCut => number >= self.at,
        };
        if !is_over {
            self.remember(change);
            return Ok(());
        }
        if let (
            Accident::TornKill,
            true,
            Change::Write {
                path,
                offset,
                bytes,
            },
        ) = (self.accident, number == self.at, change)
        {
            let mut file = fs::File::options().write(true).open(path)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(*offset))?;
            io::Write::write_all(&mut file, &bytes[..bytes.len() / 2])?;
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Notes how to undo a change that is about to happen.
    fn remember(&self, change: &Change<'_>) {
        let mut names = self.names.lock().unwrap();
        let mut contents = self.contents.lock().unwrap();
        let restore = |path: &Path| Entry::of(path).map(|entry| Undo::Restore(path.into(), entry));
        match change {
            Change::Create(path) => {
                names.push(Undo::Remove(path.to_path_buf()));
                contents.insert(path.to_path_buf(), None);
            }
            Change::Write { path, .. } | Change::SetLen(path) => {
                let is_device = path.extension().is_some_and(|extension| extension == "img");
                let before = is_device.then(|| fs::read(path).unwrap());
                contents.entry(path.to_path_buf()).or_insert(before);
            }
            Change::Sync(path) => {
                contents.remove(*path);
            }
            Change::HardLink { from, to } => {
                names.push(Undo::Remove(to.to_path_buf()));
                let state = contents.get(*from).cloned();
                contents.extend(state.map(|state| (to.to_path_buf(), state)));
            }
            Change::Rename { from, to } => {
                names.extend(restore(to));
                let (to, from) = (to.to_path_buf(), from.to_path_buf());
                if let Some(state) = contents.remove(&from) {
                    contents.insert(to.clone(), state);
                }
                names.push(Undo::RenameBack { to, from });
            }
            Change::Remove(path) => {
                contents.remove(*path);
                names.extend(restore(path));
            }
            Change::Link(link) => names.push(Undo::Remove(link.to_path_buf())),
            Change::SyncDirectory => names.clear(),
        }
    }

    /// What is left after the power was cut.
    pub(crate) fn cut_power(&self) {
        for (path, before) in std::mem::take(&mut *self.contents.lock().unwrap()) {
            match before {
                Some(before) => fs::write(path, before).unwrap(),
                None => {
                    let len = fs::metadata(&path).unwrap().len();
                    fs::write(path, vec![0; usize::try_from(len).unwrap()]).unwrap();
                }
            }
        }
        for undo in std::mem::take(&mut *self.names.lock().unwrap())
            .into_iter()
            .rev()
        {
            match undo {
                Undo::Remove(path) => fs::remove_file(path).unwrap(),
                Undo::RenameBack { to, from } => fs::rename(to, from).unwrap(),
                Undo::Restore(path, Entry::File(bytes)) => fs::write(path, bytes).unwrap(),
                Undo::Restore(path, Entry::Link(target)) => {
                    std::os::unix::fs::symlink(target, path).unwrap();
                }
            }
        }
    }
}
