//! The dumps of real machines, which are not part of the repository, unpacked for the tests.
//!
//! `VMCORE_CORPUS` names their folder; by default it is beside the workspace. Without it the
//! tests are skipped, unless `VMCORE_REQUIRE_CORPUS` is 1. The dumps are unpacked below the target
//! folder, with holes for zeros, and checked by their sums before they are used; a later run that
//! finds them there checks them again.

use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const VARIABLE: &str = "VMCORE_CORPUS";
const REQUIRED: &str = "VMCORE_REQUIRE_CORPUS";
/// Bytes that are copied, or left out as a hole, in one go.
const BLOCK: usize = 64 << 10;

/// The real dumps, unpacked once; `None` says that the tests are skipped.
pub fn corpus() -> Option<&'static Corpus> {
    static CORPUS: OnceLock<Option<Corpus>> = OnceLock::new();
    let corpus = CORPUS.get_or_init(Corpus::open).as_ref();
    if corpus.is_none() {
        eprintln!("skipped: no real dumps; {VARIABLE} names a folder of them");
    }
    corpus
}

/// A real dump, unpacked beside its kernel.
pub struct Real {
    /// Such as `amd64-minidump`.
    pub name: String,
    /// Where all of them are.
    pub folder: PathBuf,
    pub dump: String,
    pub kernel: String,
}

/// What is known of them, in JSON.
pub fn expected() -> serde_json::Value {
    let text = corpus().unwrap().text("expected.json");
    serde_json::from_str(&text).unwrap()
}

/// Every real dump, in the order of their names.
pub fn unpacked() -> Option<Vec<Real>> {
    let corpus = corpus()?;
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

/// The unpacked dumps.
pub struct Corpus {
    /// The packed ones.
    packed: PathBuf,
    /// Where they were unpacked.
    unpacked: PathBuf,
}

impl Corpus {
    /// Unpacks every file of the corpus; `None` if there is none and none is required.
    fn open() -> Option<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let named = std::env::var_os(VARIABLE).unwrap_or_else(|| "../shared/vmcores".into());
        let packed = workspace.join(&named);
        if !packed.join("expected.json").is_file() {
            let required = std::env::var_os(REQUIRED).is_some_and(|value| value == "1");
            assert!(
                !required,
                "{REQUIRED}=1, but there are no dumps in {}",
                packed.display()
            );
            return None;
        }
        let unpacked = crate::built().join("../tmp/corpus");
        fs::create_dir_all(&unpacked).expect("a folder for unpacked dumps");
        let corpus = Self { packed, unpacked };
        for line in corpus.text("SHA256SUMS.unpacked").lines() {
            let (sum, name) = line.split_once("  ").expect("lines of sums");
            corpus.unpack(name, sum);
        }
        Some(corpus)
    }

    /// A text file of the corpus.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.packed.join(name)).expect("a readable corpus")
    }

    /// An unpacked file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.unpacked.join(name)
    }

    /// The file that it was unpacked from.
    pub fn packed(&self, name: &str) -> PathBuf {
        self.packed.join(format!("{name}.zst"))
    }

    fn unpack(&self, name: &str, sum: &str) {
        let target = self.file(name);
        if let Ok(mut file) = File::open(&target)
            && copy(&mut file, None) == sum
        {
            return;
        }
        // Another process may do the same at this moment: the name appears with the whole file.
        let partial = self.file(&format!("{name}.{}", std::process::id()));
        let packed = File::open(self.packed(name)).expect("a packed file");
        let mut decoder = StreamingDecoder::new(packed).expect("a zstd frame");
        let mut file = File::create(&partial).expect("room for an unpacked file");
        assert_eq!(
            copy(&mut decoder, Some(&mut file)),
            sum,
            "{name} has another sum"
        );
        fs::rename(&partial, &target).expect("a name for the unpacked file");
    }
}

/// Reads `from` to its end, writes it with holes for zeros, and returns its sum.
fn copy(from: &mut dyn Read, mut to: Option<&mut File>) -> String {
    let (mut hash, mut len) = (Sha256::new(), 0);
    let mut block = vec![0; BLOCK];
    loop {
        let mut have = 0;
        while have < BLOCK {
            match from.read(&mut block[have..]).expect("readable bytes") {
                0 => break,
                read => have += read,
            }
        }
        let bytes = &block[..have];
        hash.update(bytes);
        len += have as u64;
        if let Some(file) = to.as_deref_mut() {
            if bytes.iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Start(len)).expect("a hole");
            } else {
                file.write_all(bytes).expect("room for an unpacked file");
            }
        }
        if have < BLOCK {
            break;
        }
    }
    if let Some(file) = to {
        file.set_len(len).expect("room for an unpacked file");
    }
    hash.finalize().iter().fold(String::new(), |mut sum, byte| {
        write!(sum, "{byte:02x}").expect("a string takes all");
        sum
    })
}
