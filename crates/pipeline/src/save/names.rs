//! Names of the files that belong to a saved dump, as savecore gives them.

use super::copy::Form;
use crate::compress::Method;
use vmcore::container::DeviceHeader;
use vmcore_format::kerneldump::Compression;

/// Everything that may bear a dump's number, but for compression suffixes. `core.txt` is
/// crashinfo's report about the dump of that number.
const STEMS: [&str; 7] = [
    "info",
    "vmcore",
    "vmcore_encrypted",
    "textdump.tar",
    "livecore",
    "key",
    "core.txt",
];
/// Suffixes of compressed files, and none.
const SUFFIXES: [&str; 3] = ["", ".gz", ".zst"];

/// The name of a dump's file, without its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoreName {
    stem: &'static str,
    suffix: &'static str,
}

impl CoreName {
    /// By what the dump is, and by what becomes of it; what is compressed or encrypted stays so.
    pub(crate) fn of(header: &DeviceHeader, form: Form) -> Self {
        let packed = match form {
            Form::AsIs | Form::Unpacked => "",
            Form::Packed(Method::Gzip) => ".gz",
            Form::Packed(Method::Zstd) => ".zst",
        };
        let (stem, suffix) = match header.compression {
            _ if header.is_text() => ("textdump.tar", packed),
            _ if header.is_encrypted() => ("vmcore_encrypted", ""),
            _ if form == Form::Unpacked => ("vmcore", ""),
            Compression::Gzip => ("vmcore", ".gz"),
            Compression::Zstd => ("vmcore", ".zst"),
            Compression::None | Compression::Unknown(_) => ("vmcore", packed),
        };
        Self { stem, suffix }
    }

    /// `vmcore.3.zst`.
    pub(crate) fn file(self, number: u64) -> String {
        format!("{}.{number}{}", self.stem, self.suffix)
    }

    /// `vmcore.last.zst`.
    pub(crate) fn link(self) -> String {
        format!("{}.last{}", self.stem, self.suffix)
    }
}

/// `info.3`.
pub(crate) fn info_name(number: u64) -> String {
    format!("info.{number}")
}

/// `key.3`.
pub(crate) fn key_name(number: u64) -> String {
    format!("key.{number}")
}

/// The links that can be there from an earlier dump; crashinfo's own is not among them.
pub(crate) fn all_links() -> impl Iterator<Item = String> {
    STEMS
        .iter()
        .filter(|stem| **stem != "core.txt")
        .flat_map(|stem| SUFFIXES.map(|suffix| format!("{stem}.last{suffix}")))
}

/// N, if a file's name is that of a part of dump N.
pub(crate) fn number(name: &str) -> Option<u64> {
    STEMS
        .iter()
        .find_map(|stem| {
            let rest = name.strip_prefix(stem)?.strip_prefix('.')?;
            SUFFIXES.iter().find_map(|suffix| {
                let digits = rest.strip_suffix(suffix)?;
                // No sign, no more digits than savecore could have counted to.
                let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
                is_number.then(|| digits.parse::<u32>().ok()).flatten()
            })
        })
        .map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_dump_has_its_number() {
        for name in [
            "info.3",
            "vmcore.3",
            "vmcore.3.gz",
            "vmcore.3.zst",
            "vmcore_encrypted.3",
            "textdump.tar.3.gz",
            "livecore.3",
            "key.3",
            "core.txt.3",
        ] {
            assert_eq!(number(name), Some(3), "{name}");
        }
    }

    #[test]
    fn other_files_have_none() {
        for name in [
            "bounds",
            "minfree",
            "vmcore.last",
            "vmcore",
            "vmcore.",
            "vmcore.+3",
            "vmcore.3.bak",
            "vmcore.99999999999",
            "xvmcore.3",
            ".save.vmcore.3.part",
            "info.host.3",
        ] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
