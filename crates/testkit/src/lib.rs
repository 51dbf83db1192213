//! What the tests of several crates share: real dumps, compiled kernels, debug information written by
//! hand, simulated machines for the writer, and runs of the command.
//!
//! Only tests, benches and fuzz targets depend on it. It does not depend on `vmcore` or the crates above
//! it: it returns bytes and paths, and each test opens them with the crate that it tests.
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test that cannot continue must stop, and its numbers are its own"
)]

pub mod command;
pub mod corpus;
pub mod dwarf;
pub mod foreign;
pub mod interrupted;
pub mod kernel;
pub mod modules;
pub mod stacks;
pub mod writer;

pub use kernel::TestKernel;

use std::path::{Path, PathBuf};

/// The directory in which cargo has put what it built: `target/debug`, above that of the tests.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let above = test.ancestors().nth(2);
    above.expect("the directories of a test").to_owned()
}

/// Writes `vmcore` into a temporary directory, which goes when the first value is dropped.
pub fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vmcore");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Whether a debugger, an emulator or a browser can be run. `./x test --quick` leaves them out.
pub fn has(program: &str) -> bool {
    let why = if std::env::var_os("VMCORE_QUICK").is_some() {
        "not in a quick test"
    } else if std::process::Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return true;
    } else {
        "not installed"
    };
    eprintln!("skipped: {program}: {why}");
    false
}

/// The C and assembler sources of test kernels.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("c").join(name)
}
