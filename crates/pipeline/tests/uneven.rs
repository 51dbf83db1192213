//! Minidumps of armv7 whose page tables end inside a page, with the pages right after them or on the
//! next page boundary: what is saved or redacted says what the machine's memory held.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests may fail")]

use std::path::Path;
use std::sync::Arc;
use vmcore::format::addr::VirtAddr;
use vmcore::session::KernelChoice;
use vmcore::source::Recorder;
use vmcore::{OpenOptions, Session, log};
use vmcore_pipeline::redact::Redaction;
use vmcore_pipeline::save::{self, Device, save};
use vmcore_synth::Arch;
use vmcore_synth::header::DumpHeader;
use vmcore_synth::machine::{DumpFile, Machine, Options};

/// Calls `check` with a folder that has the kernel, with the machine, and with its dump's bytes.
fn each(check: impl Fn(&Path, &Machine, &[u8])) {
    for is_padded in [false, true] {
        let mut machine = Machine::new(&Options::new(Arch::Armv7, 2));
        let DumpFile::Mini(dump) = &mut machine.dump else {
            unreachable!("a minidump")
        };
        dump.page_tables.extend([0; 1024]);
        assert_eq!(dump.page_tables.len() % 4096, 1024);
        dump.page_tables_padded = is_padded;
        let bytes = machine.dump.build();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kernel"), machine.kernel.build()).unwrap();
        check(folder.path(), &machine, &bytes);
    }
}

fn open(core: &Path, folder: &Path, options: &OpenOptions) -> Session {
    let kernel = folder.join("kernel");
    Session::open(core, KernelChoice::Given(&kernel), options).unwrap()
}

/// All that is known of the machine's memory is read right.
fn says_the_truth(session: &Session, machine: &Machine) {
    let space = session.space().unwrap();
    for (va, value) in &machine.truth.values {
        let mut found = vec![0; value.len()];
        space.read_exact(VirtAddr(*va), &mut found).unwrap();
        assert_eq!(&found, value, "{va:#x}");
    }
    assert_eq!(log::read(session).unwrap().text(), machine.truth.log);
}

#[test]
fn a_dump_that_was_saved_reads_right() {
    each(|folder, machine, bytes| {
        let header = DumpHeader::new(Arch::Armv7.machine_arch(), bytes.len() as u64);
        let media = (bytes.len() as u64).next_multiple_of(1 << 20) + (1 << 20);
        let image = folder.join("swap.img");
        std::fs::write(&image, header.device(media, &[], bytes).unwrap()).unwrap();
        let device = Device::open(&image).unwrap();
        let found = device.find().unwrap().unwrap();
        let to = folder.join("crash");
        std::fs::create_dir(&to).unwrap();
        let options = save::Options::default();
        let saved = save(&device, &found, &to, &options, &mut |_| {}).unwrap();
        says_the_truth(
            &open(&saved.core_file, folder, &OpenOptions::default()),
            machine,
        );
    });
}

#[test]
fn a_dump_that_was_redacted_has_what_was_read_and_nothing_else() {
    each(|folder, machine, bytes| {
        let core = folder.join("vmcore.0");
        std::fs::write(&core, bytes).unwrap();
        let recorder = Arc::new(Recorder::default());
        let options = OpenOptions {
            recorder: Some(recorder.clone()),
            ..OpenOptions::default()
        };
        let session = open(&core, folder, &options);
        recorder.set(true);
        says_the_truth(&session, machine);
        let redaction = Redaction::new(&session, &recorder, vec!["all"], true, &[]).unwrap();
        let manifest = redaction.manifest();
        assert_eq!(manifest.missing_pages, 0);
        let kept = manifest.kept_pages;
        let small = folder.join("vmcore.small");
        redaction.write(&small, false).unwrap();
        let new = open(&small, folder, &OpenOptions::default());
        says_the_truth(&new, machine);
        assert_eq!(vmcore::pages::all(new.dump().memory()).count() as u64, kept);
    });
}
