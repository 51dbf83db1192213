//! Free space in the directory, all of it in bytes.

use super::error::SaveError;
use std::io;
use std::path::Path;

/// Room for `info.N`, links and directory entries beside a dump, as savecore reserves it.
const COMPANIONS: u64 = 2048;

/// Free bytes of a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Free {
    /// For users.
    pub(crate) user: u64,
    /// For the superuser, who may use up the reserve.
    pub(crate) root: u64,
}

impl Free {
    /// Queries the file system of `directory`; `None` where the operating system has no query.
    pub(crate) fn of(directory: &Path) -> io::Result<Option<Self>> {
        #[cfg(unix)]
        {
            let found = rustix::fs::statvfs(directory)?;
            let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
            Ok(Some(Self {
                user: bytes(found.f_bavail),
                root: bytes(found.f_bfree),
            }))
        }
        #[cfg(not(unix))]
        {
            let _ = directory;
            Ok(None)
        }
    }
}

/// How a dump fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// There is room.
    Fits,
    /// There is, but none would remain for users.
    CrossesThreshold,
    /// There is, once the files that it replaces are removed.
    AfterReplacing,
}

/// Whether `dump_bytes` fit. `minfree_bytes` must stay free for users; if it is 0 the superuser's
/// reserve may be used. `replaced_bytes` go when the dump takes an old one's number.
pub(crate) fn check(
    directory: &Path,
    free: Free,
    dump_bytes: u64,
    minfree_bytes: u64,
    replaced_bytes: u64,
) -> Result<Fit, SaveError> {
    let need = dump_bytes.saturating_add(COMPANIONS);
    let available = match minfree_bytes {
        0 => free.root,
        reserved => free.user.saturating_sub(reserved),
    };
    if need > available.saturating_add(replaced_bytes) {
        return Err(SaveError::NoRoom {
            directory: directory.to_owned(),
            need_bytes: need,
            available_bytes: available.saturating_add(replaced_bytes),
            reserved_bytes: minfree_bytes,
        });
    }
    Ok(if need > available {
        Fit::AfterReplacing
    } else if need > free.user {
        Fit::CrossesThreshold
    } else {
        Fit::Fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Free = Free {
        user: 1_000_000,
        root: 1_500_000,
    };

    fn fit(dump: u64, minfree: u64, replaced: u64) -> Option<Fit> {
        check(Path::new("dir"), FREE, dump, minfree, replaced).ok()
    }

    #[test]
    fn without_a_minimum_the_superusers_reserve_may_be_used() {
        assert_eq!(fit(900_000, 0, 0), Some(Fit::Fits));
        assert_eq!(fit(1_400_000, 0, 0), Some(Fit::CrossesThreshold));
        assert_eq!(
            fit(1_500_000 - COMPANIONS, 0, 0),
            Some(Fit::CrossesThreshold)
        );
        assert_eq!(fit(1_500_000 - COMPANIONS + 1, 0, 0), None);
    }

    #[test]
    fn a_minimum_stays_free() {
        assert_eq!(fit(800_000 - COMPANIONS, 200_000, 0), Some(Fit::Fits));
        assert_eq!(fit(800_000 - COMPANIONS + 1, 200_000, 0), None);
        assert_eq!(fit(0, u64::MAX, 0), None);
    }

    #[test]
    fn what_is_replaced_counts_in_the_same_unit() {
        assert_eq!(fit(800_000, 200_000, 2048), Some(Fit::AfterReplacing));
        assert_eq!(fit(800_001, 200_000, 2048), None);
        assert_eq!(fit(u64::MAX, 0, u64::MAX), Some(Fit::AfterReplacing));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_system_says_how_much_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let free = Free::of(dir.path()).unwrap().unwrap();
        assert!(free.root >= free.user);
        assert!(Free::of(&dir.path().join("absent")).is_err());
    }
}
