//! The dumps of real machines, which are not part of the repository.

#[path = "../../../vmcore/tests/corpus/unpack.rs"]
#[allow(unreachable_pub, reason = "the module of another crate's tests")]
mod unpack;

use std::path::PathBuf;
use std::sync::OnceLock;
use unpack::Corpus;

/// A real dump, unpacked beside its kernel.
pub(crate) struct Real {
    /// Such as `amd64-minidump`.
    pub(crate) name: String,
    /// Where all of them are.
    pub(crate) folder: PathBuf,
    pub(crate) dump: String,
    pub(crate) kernel: String,
}

fn corpus() -> Option<&'static Corpus> {
    static CORPUS: OnceLock<Option<Corpus>> = OnceLock::new();
    CORPUS.get_or_init(Corpus::open).as_ref()
}

/// What is known of them, in JSON.
pub(crate) fn expected() -> String {
    corpus().unwrap().text("expected.json")
}

/// Every real dump, unpacked once; `None` says that the tests are skipped.
pub(crate) fn unpacked() -> Option<Vec<Real>> {
    let Some(corpus) = corpus() else {
        eprintln!("skipped: no real dumps; VMCORE_CORPUS names a folder of them");
        return None;
    };
    let sums = corpus.text("SHA256SUMS.unpacked");
    let names = sums.lines().filter_map(|line| line.split_once("  "));
    let dumps = names.filter_map(|(_, name)| name.strip_prefix("vmcore-"));
    let mut reals: Vec<Real> = dumps
        .map(|name| Real {
            name: name.to_owned(),
            folder: corpus.file(""),
            dump: format!("vmcore-{name}"),
            kernel: format!("kernel-{}", name.split('-').next().unwrap_or(name)),
        })
        .collect();
    reals.sort_by(|a, b| a.name.cmp(&b.name));
    Some(reals)
}
