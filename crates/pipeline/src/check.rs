//! Whether a host is ready to dump, before it has to: device, size, key, room for saving.
//!
//! ```
//! use vmcore_pipeline::check::{self, Question, Verdict};
//! let dir = tempfile::tempdir()?;
//! let device = dir.path().join("swap.img");
//! std::fs::write(&device, vec![0; 1 << 20])?;
//! let question = Question {
//!     device: &device,
//!     directory: dir.path(),
//!     memory_bytes: Some(64 << 20),
//!     kernel_bytes: Some(512 << 10),
//!     public_key: None,
//! };
//! let findings = check::check(&question);
//! assert!(findings.iter().all(|finding| finding.verdict != Verdict::Bad), "{findings:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::save::{self, Device};
use serde::Serialize;
use std::path::Path;
use vmcore::crypt;
use vmcore::source::read_small;
use vmcore_format::kerneldumpkey::KeyBlock;

/// Bytes at the start of a device that dumps never touch.
const UNTOUCHED: u64 = 64 << 10;
/// The most bytes of a block, for each of the two headers.
const BLOCK: u32 = 4096;
/// The most bytes of a key file that are read.
const KEY_FILE_MAX: usize = 1 << 20;
/// Shorter keys can be factored.
const KEY_BITS_MIN: usize = 2048;
/// The longest that the kernel takes.
const KEY_BITS_MAX: usize = 16_384;

/// What is to be checked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The dump device.
    pub device: &'a Path,
    /// Where dumps will be saved.
    pub directory: &'a Path,
    /// Bytes of RAM; a full dump has all of it.
    pub memory_bytes: Option<u64>,
    /// Bytes that the kernel uses now: about what a minidump has.
    pub kernel_bytes: Option<u64>,
    /// The RSA public key for encryption, if dumps are to be encrypted.
    pub public_key: Option<&'a Path>,
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Ready.
    Good,
    /// It cannot be told.
    Unknown,
    /// It may go wrong.
    Doubtful,
    /// It will go wrong.
    Bad,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `device`, `waiting`, `size`, `key` or `directory`.
    pub name: &'static str,
    /// The outcome.
    pub verdict: Verdict,
    /// In words.
    pub detail: String,
}

/// Checks everything. Nothing is written anywhere.
#[must_use]
pub fn check(question: &Question<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |name, verdict, detail: String| {
        findings.push(Finding {
            name,
            verdict,
            detail,
        });
    };
    let mut key_bytes = 0;
    if let Some(path) = question.public_key {
        let (verdict, detail, bytes) = key(path);
        key_bytes = bytes;
        find("key", verdict, detail);
    }
    match Device::open(question.device) {
        Err(error) => find("device", Verdict::Bad, error.to_string()),
        Ok(device) => {
            let (verdict, detail) = match device.has_partition_table() {
                true => (
                    Verdict::Bad,
                    "it is a whole disk: a dump belongs on a separate partition, or on swap",
                ),
                false if device.is_image() => (
                    Verdict::Doubtful,
                    "it is a regular file: kernels dump to devices",
                ),
                false => (Verdict::Good, "it can be read"),
            };
            find("device", verdict, detail.to_owned());
            if let Some((verdict, detail)) = waiting(&device) {
                find("waiting", verdict, detail);
            }
            let (verdict, detail) = size(&device, question, key_bytes);
            find("size", verdict, detail);
        }
    }
    let (verdict, detail) = directory(question);
    find("directory", verdict, detail);
    findings
}

/// The key, and the bytes that it takes on the device.
fn key(path: &Path) -> (Verdict, String, u64) {
    let bits = read_small(path, KEY_FILE_MAX)
        .map_err(|error| error.to_string())
        .and_then(|pem| {
            crypt::public_key_bits(&String::from_utf8_lossy(&pem))
                .ok_or("not a PEM RSA public key".to_owned())
        });
    match bits {
        Err(reason) => (Verdict::Bad, format!("{}: {reason}", path.display()), 0),
        Ok(bits) if bits < KEY_BITS_MIN => (
            Verdict::Bad,
            format!("{bits} bits: dumpon refuses less than {KEY_BITS_MIN}, which can be factored"),
            0,
        ),
        Ok(bits) if bits > KEY_BITS_MAX => (
            Verdict::Bad,
            format!("{bits} bits: the kernel takes no more than {KEY_BITS_MAX}"),
            0,
        ),
        Ok(bits) => {
            let block = KeyBlock::len_on_medium(bits / 8, BLOCK).unwrap_or(0);
            let detail = format!("RSA, {bits} bits; keep the private key off this host");
            (Verdict::Good, detail, block.into())
        }
    }
}

/// A dump that is still there, and that the next one would overwrite.
fn waiting(device: &Device) -> Option<(Verdict, String)> {
    match device.find() {
        Err(error) => Some((Verdict::Bad, error.to_string())),
        Ok(Some(found)) if !found.is_cleared() => Some((
            Verdict::Doubtful,
            "a dump waits on the device, and the next would overwrite it: save it first".to_owned(),
        )),
        Ok(_) => None,
    }
}

fn size(device: &Device, question: &Question<'_>, key_bytes: u64) -> (Verdict, String) {
    let around = UNTOUCHED + 2 * u64::from(BLOCK) + key_bytes;
    let Some(room) = device.len_bytes().checked_sub(around) else {
        let detail = format!("{} bytes: too small for any dump", device.len_bytes());
        return (Verdict::Bad, detail);
    };
    let mib = |bytes: u64| bytes >> 20;
    match (question.kernel_bytes, question.memory_bytes) {
        (_, Some(memory)) if room >= memory => (
            Verdict::Good,
            format!("room for {} MiB: even all of RAM fits", mib(room)),
        ),
        (Some(kernel), _) if room >= kernel.saturating_mul(3) / 2 => (
            Verdict::Good,
            format!(
                "room for {} MiB; a minidump would have about {} MiB now",
                mib(room),
                mib(kernel)
            ),
        ),
        (Some(kernel), _) if room >= kernel => (
            Verdict::Doubtful,
            format!(
                "room for {} MiB; a minidump would have about {} MiB now, and more under load: \
                 compress it (dumpon -Z)",
                mib(room),
                mib(kernel)
            ),
        ),
        (Some(kernel), _) => (
            Verdict::Bad,
            format!(
                "room for {} MiB; a minidump would have about {} MiB now: it fits only if it \
                 compresses well (dumpon -Z)",
                mib(room),
                mib(kernel)
            ),
        ),
        (None, Some(memory)) => (
            Verdict::Doubtful,
            format!(
                "room for {} MiB of {} MiB of RAM: enough for most minidumps, too little for a \
                 full dump",
                mib(room),
                mib(memory)
            ),
        ),
        (None, None) => (
            Verdict::Unknown,
            format!(
                "room for {} MiB; how much RAM there is is not known",
                mib(room)
            ),
        ),
    }
}

fn directory(question: &Question<'_>) -> (Verdict, String) {
    let path = question.directory.display();
    let free = match save::free_bytes(question.directory) {
        Err(error) => return (Verdict::Bad, format!("{path}: {error}")),
        Ok(None) => {
            let detail = format!("{path}: free space cannot be told here");
            return (Verdict::Unknown, detail);
        }
        Ok(Some(free)) => free,
    };
    let mib = free >> 20;
    match question.kernel_bytes.or(question.memory_bytes) {
        Some(need) if need > free => (
            Verdict::Bad,
            format!(
                "{path}: {mib} MiB free, and a dump may have {} MiB",
                need >> 20
            ),
        ),
        _ => (Verdict::Good, format!("{path}: {mib} MiB free")),
    }
}
