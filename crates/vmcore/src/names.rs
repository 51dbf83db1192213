//! The names that savecore and the server that receives dumps give to files.

use std::path::Path;

/// What follows `vmcore.` in a dump's name, and `info.` and `key.` in the names of the files beside
/// it: `3`, or `storage7.3` of a dump that came over the network.
pub(crate) fn tail(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let rest = name
        .strip_prefix("vmcore.")
        .or_else(|| name.strip_prefix("vmcore_encrypted."))
        .or_else(|| name.strip_prefix("textdump.tar."))?;
    let tail = rest
        .strip_suffix(".zst")
        .or_else(|| rest.strip_suffix(".gz"))
        .unwrap_or(rest);
    number_of(tail).map(|_| tail)
}

/// N of a dump's name.
pub(crate) fn number(path: &Path) -> Option<u64> {
    number_of(tail(path)?)
}

fn number_of(tail: &str) -> Option<u64> {
    tail.rsplit('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_dumps_have_their_number() {
        let of = |name: &str| number(Path::new(name));
        assert_eq!(of("/var/crash/vmcore.12"), Some(12));
        assert_eq!(of("vmcore.3.zst"), Some(3));
        assert_eq!(of("vmcore.3.gz"), Some(3));
        assert_eq!(of("vmcore_encrypted.4"), Some(4));
        assert_eq!(of("vmcore.last"), None);
        assert_eq!(of("info.3"), None);
        assert_eq!(of("vmcore.3.bak"), None);
        assert_eq!(of("vmcore.192.0.2.7.12.zst"), Some(12));
        assert_eq!(of("vmcore.storage7.12.incomplete"), None);
        assert_eq!(
            tail(Path::new("a/vmcore.storage7.12.gz")),
            Some("storage7.12")
        );
    }
}
