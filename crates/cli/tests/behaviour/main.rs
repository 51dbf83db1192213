//! What the command promises, whatever the dump: exit statuses, words, files, escaping.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod convert;
mod damage;
mod kernels;
mod memory;
#[cfg(target_os = "linux")]
mod opens;
mod output;
mod threads;

use vmcore_synth::Arch;
use vmcore_synth::machine::{DumpFile, Options};
use vmcore_synth::minidump::Minidump;
use vmcore_testkit::command::{Folder, Run};

pub(crate) fn amd64() -> Folder {
    Folder::new(&Options::new(Arch::Amd64, 3))
}

pub(crate) fn minidump(folder: &Folder) -> Minidump {
    match &folder.machine.dump {
        DumpFile::Mini(dump) => (**dump).clone(),
        DumpFile::Full(_) | DumpFile::Regions(_) => panic!("a minidump was wanted"),
    }
}

/// A failure is one sentence on standard error, with the next command, and nothing else.
#[track_caller]
pub(crate) fn assert_fails(run: Run, sentence: &str) {
    let run = run.expect(1);
    assert_eq!(run.text(), "");
    let first = run.stderr.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("vmcore: ") && first.contains(sentence),
        "{run:?}"
    );
    assert!(run.stderr.contains("\n  try: "), "no next command: {run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
}

#[track_caller]
pub(crate) fn assert_usage(run: Run, sentence: &str) {
    let run = run.expect(2);
    assert_eq!(run.text(), "");
    assert!(run.stderr.contains(sentence), "{run:?}");
}
