//! `vmcore save`, and the same by the name of FreeBSD's `savecore`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests may fail"
)]
#![cfg(unix)]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use vmcore_synth::Arch;
use vmcore_synth::header::DumpHeader;
use vmcore_synth::machine::{Machine, Options};
use vmcore_testkit::command::{Run, command, finish};

/// A folder with the image of a machine's dump device, and an empty directory for its dumps.
struct Device {
    dir: tempfile::TempDir,
    machine: Machine,
    dump: Vec<u8>,
}

impl Device {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// With a header that is changed before it is written.
    fn with(change: impl FnOnce(&mut DumpHeader)) -> Self {
        let mut machine = Machine::new(&Options::new(Arch::Amd64, 3));
        change(&mut machine.header);
        let device = Self {
            dir: tempfile::tempdir().unwrap(),
            dump: machine.dump.build(),
            machine,
        };
        device.write(
            &device
                .machine
                .header
                .device(4 << 20, &[], &device.dump)
                .unwrap(),
        );
        fs::create_dir(device.path().join("crash")).unwrap();
        device
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, image: &[u8]) {
        fs::write(self.path().join("swap.img"), image).unwrap();
    }

    fn image(&self) -> Vec<u8> {
        fs::read(self.path().join("swap.img")).unwrap()
    }

    fn saved(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join("crash").join(name)).unwrap()
    }

    fn vmcore(&self, words: &str) -> Run {
        finish(
            command(self.path())
                .args(words.split_whitespace())
                .output()
                .unwrap(),
        )
    }

    fn savecore(&self, words: &str) -> Run {
        let mut command = command(self.path());
        command
            .arg0("/sbin/savecore")
            .args(words.split_whitespace());
        finish(command.output().unwrap())
    }
}

#[test]
fn a_dump_goes_from_its_device_to_the_commands_that_read_it() {
    let device = Device::new();
    let image = device.image();
    let saved = device.vmcore("save swap.img crash").expect(0);
    assert_eq!(saved.stderr, "");
    assert_eq!(device.saved("vmcore.0"), device.dump);
    let text = saved.text();
    let panic = format!("  panic     {}\n", device.machine.header.panicstring);
    for words in [
        "crash/vmcore.0: minidump v3, complete, ",
        &panic,
        "  version   FreeBSD ",
        "  crashed   2026-03-02 04:11:09 +0000\n",
        "  from      swap.img, not changed (--clear marks it as saved)\n",
        "  vmcore info crash/vmcore.0\n",
    ] {
        assert!(text.contains(words), "{words:?} in {text}");
    }
    assert_eq!(device.image(), image);
    let info = device.vmcore("info -d crash").expect(0).text();
    assert!(info.contains("info.0"), "{info}");

    // The next run finds its own copy, and is told to mark the dump.
    let again = device
        .vmcore("save swap.img -d crash --clear")
        .expect(0)
        .text();
    assert!(
        again.contains("vmcore.0: minidump v3, complete, "),
        "{again}"
    );
    assert!(again.contains("was there already"), "{again}");
    assert!(again.contains("swap.img, marked as saved"), "{again}");
    let third = device.vmcore("save swap.img crash").expect(0);
    assert_eq!(third.text(), "");
    assert!(third.stderr.contains("was saved before"), "{third:?}");
    assert!(
        third
            .stderr
            .contains("try: vmcore save swap.img crash --force"),
        "{third:?}"
    );
    device.vmcore("save swap.img crash --force").expect(0);
    assert_eq!(device.saved("vmcore.1"), device.dump);
}

#[test]
fn the_answer_in_json_says_what_is_there_and_what_became_of_it() {
    let device = Device::new();
    let waiting = device
        .vmcore("save swap.img --check --json")
        .expect(0)
        .json();
    assert_eq!(waiting["schema"], "vmcore.save/1");
    assert_eq!(waiting["dumps"][0]["state"], "waiting");
    assert_eq!(
        waiting["dumps"][0]["panic_string"],
        device.machine.header.panicstring
    );
    let saved = device
        .vmcore("save swap.img crash --clear --json")
        .expect(0)
        .json();
    let dump = &saved["dumps"][0];
    assert_eq!(dump["state"], "saved");
    assert_eq!(dump["core_file"], "crash/vmcore.0");
    assert_eq!(dump["clearing"], "cleared");
    assert_eq!(dump["dump_status"], "good");
    assert_eq!(dump["dump_kind"], "minidump v3");
    assert_eq!(dump["completeness"]["state"], "complete");
    let listed = device.vmcore("info -d crash --json").expect(0).json();
    assert_eq!(dump["dump_id"], listed["dump_id"]);
    let before = device.vmcore("save swap.img crash --json").expect(0).json();
    assert_eq!(before["dumps"][0]["state"], "saved_before");
    device.write(&[0; 8192]);
    let none = device.vmcore("save swap.img crash --json").expect(0).json();
    assert_eq!(none["dumps"].as_array().unwrap().len(), 0);
}

#[test]
fn a_dump_can_be_looked_at_kept_and_discarded() {
    let device = Device::new();
    let waiting = device.vmcore("save swap.img --check").expect(0).text();
    assert!(waiting.contains("swap.img: a dump of "), "{waiting}");
    assert!(waiting.contains(", waits to be saved\n"), "{waiting}");
    let kept = device.vmcore("save swap.img crash --keep").expect(0).text();
    assert!(kept.contains("swap.img, not marked as saved\n"), "{kept}");
    device.vmcore("save swap.img --discard").expect(0);
    assert_eq!(&device.image()[(4 << 20) - 512..][..7], b"Cleared");
    let gone = device.vmcore("save swap.img --check").expect(1);
    assert!(gone.stderr.contains("was saved before"), "{gone:?}");
    for words in [
        "--check --keep",
        "--clear --keep",
        "--discard --max 3",
        "--max 0",
    ] {
        device.vmcore(&format!("save swap.img {words}")).expect(2);
    }
}

#[test]
fn whatever_keeps_a_dump_from_being_saved_ends_in_what_to_do() {
    let device = Device::new();
    let mut damaged = device.image();
    let at = damaged.len() - 100;
    damaged[at] ^= 1;
    device.write(&damaged);
    let run = device.vmcore("save swap.img crash --clear").expect(1);
    assert!(
        run.stderr
            .contains("the dump on swap.img is not saved: the parity of"),
        "{run:?}"
    );
    assert!(
        run.stderr.contains("try: vmcore save swap.img DIR --force"),
        "{run:?}"
    );
    assert_eq!(device.image(), damaged);
    let forced = device
        .vmcore("save swap.img crash --force")
        .expect(0)
        .text();
    assert!(
        forced.contains("  status    bad: its headers are damaged\n"),
        "{forced}"
    );
    let info = String::from_utf8(device.saved("info.0")).unwrap();
    assert!(info.contains("  Dump Status: bad\n"), "{info}");

    let device = Device::new();
    fs::write(device.path().join("crash/minfree"), "99999999999999\n").unwrap();
    for (words, sentence, next) in [
        (
            "save absent crash",
            "opening absent failed: ",
            "try: vmcore save DEVICE DIR",
        ),
        (
            "save crash crash",
            "opening crash failed: ",
            "try: vmcore save DEVICE DIR",
        ),
        (
            "save swap.img absent",
            "absent: ",
            "try: vmcore save DEVICE DIR",
        ),
        (
            "save swap.img crash",
            "no room for the dump in crash",
            "try: df -h crash",
        ),
    ] {
        let run = device.vmcore(words).expect(1);
        assert!(
            run.stderr.starts_with(&format!("vmcore: {sentence}")),
            "{run:?}"
        );
        assert!(run.stderr.contains(next), "{run:?}");
        assert_eq!(run.text(), "");
    }
    let mut disk = vec![0; 8192];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    device.write(&disk);
    let run = device.vmcore("save swap.img crash").expect(0);
    assert!(run.stderr.contains("no dump on swap.img"), "{run:?}");
    assert!(run.stderr.contains("it is a whole disk"), "{run:?}");
}

#[test]
fn help_says_what_happens_to_the_device() {
    let device = Device::new();
    let help = device.vmcore("save --help").expect(0).text();
    assert!(help.contains("vmcore save DEVICE [DIR]"), "{help}");
    assert!(help.contains("marked only with --clear"), "{help}");
    assert!(
        help.lines().all(|line| line.chars().count() <= 100),
        "{help}"
    );
    let help = device.savecore("--help").expect(0).text();
    assert!(
        help.contains("savecore [-fkuvz] [-m max] [directory [device ...]]"),
        "{help}"
    );
}

#[test]
fn by_the_name_savecore_options_and_exit_statuses_are_freebsds() {
    let device = Device::new();
    // Check.
    let check = device.savecore("-C ./swap.img").expect(0);
    assert_eq!(check.text(), "A dump exists on ./swap.img\n");
    // Save, and keep.
    let saved = device.savecore("-kvv -m 10 crash ./swap.img").expect(0);
    let panic = &device.machine.header.panicstring;
    let alert = format!("savecore: reboot after panic: {panic}\n");
    assert!(saved.stderr.contains(&alert), "{saved:?}");
    assert!(
        saved
            .stderr
            .contains("savecore: writing core to crash/vmcore.0"),
        "{saved:?}"
    );
    assert!(
        saved.stderr.contains("savecore: 1 cores saved in crash"),
        "{saved:?}"
    );
    assert_eq!(saved.text().as_bytes(), device.saved("info.0"));
    assert_eq!(device.saved("vmcore.0"), device.dump);
    assert_eq!(device.saved("bounds"), b"1\n");
    // Clear.
    let cleared = device.savecore("-cv ./swap.img").expect(0);
    assert!(
        cleared.stderr.contains("no unsaved dumps found"),
        "{cleared:?}"
    );
    let gone = device.savecore("-Cv ./swap.img").expect(1);
    assert!(gone.stderr.contains("No dump exists"), "{gone:?}");
    let none = device.savecore("-v crash ./swap.img").expect(0);
    assert!(
        none.stderr.contains("magic mismatch on last dump header"),
        "{none:?}"
    );
    assert!(none.stderr.contains("no dumps found"), "{none:?}");
    // Force.
    device.savecore("-f crash ./swap.img").expect(0);
    assert_eq!(device.saved("vmcore.1"), device.dump);
    device.write(&[0; 8192]);
    let bad = device.savecore("-f crash ./swap.img").expect(0);
    assert!(
        bad.stderr.contains("unable to force dump - bad magic"),
        "{bad:?}"
    );
    // A device that cannot be opened is no failure.
    device.savecore("crash ./absent").expect(0);
}

#[test]
fn savecore_refuses_what_freebsds_refuses() {
    let device = Device::new();
    for words in [
        "-Cf ./swap.img",
        "-zu crash",
        "-Z crash",
        "-m 0 crash",
        "-m -3 crash",
        "-y",
    ] {
        device.savecore(words).expect(1);
    }
    let live = device.savecore("-L crash").expect(1);
    assert!(
        live.stderr.contains("FreeBSD's own savecore -L"),
        "{live:?}"
    );
    let nowhere = device.savecore("absent ./swap.img").expect(1);
    assert!(nowhere.stderr.contains("chdir(absent)"), "{nowhere:?}");

    let mut damaged = device.image();
    let at = damaged.len() - 100;
    damaged[at] ^= 1;
    device.write(&damaged);
    let run = device.savecore("-v crash ./swap.img").expect(1);
    assert!(
        run.stderr.contains("unsaved dumps found but not saved"),
        "{run:?}"
    );
    device.savecore("-c ./swap.img").expect(0);
    assert_eq!(&device.image()[(4 << 20) - 512..][..7], b"Cleared");

    let old = Device::with(|header| header.version = 1);
    let run = old.savecore("crash ./swap.img").expect(0);
    assert!(run.stderr.contains("unknown version (1)"), "{run:?}");
    old.savecore("-f crash ./swap.img").expect(0);
    assert_eq!(old.saved("vmcore.0"), old.dump);
    // By our own name it needs no force.
    old.vmcore("save swap.img crash --force --max 1").expect(0);
}

#[test]
fn one_devices_trouble_is_not_anothers() {
    let device = Device::new();
    let zeros = device.path().join("empty.img");
    fs::write(zeros, [0; 8192]).unwrap();
    device
        .vmcore("convert swap.img packed.gz --compress gzip")
        .expect(0);
    let mut packed = fs::read(device.path().join("packed.gz")).unwrap();
    let gzip = DumpHeader {
        compression: 1,
        dumplength: packed.len() as u64,
        ..device.machine.header.clone()
    };
    packed.resize(packed.len().next_multiple_of(512), 0);
    let image = gzip.device(4 << 20, &[], &packed).unwrap();
    fs::write(device.path().join("gzip.img"), image).unwrap();
    let run = device
        .savecore("-u crash ./absent ./empty.img ./gzip.img ./swap.img")
        .expect(0);
    assert!(run.stderr.contains("opening ./absent failed"), "{run:?}");
    assert_eq!(device.saved("vmcore.0"), device.dump);
    assert_eq!(device.saved("vmcore.1"), device.dump);
}

/// `vmcore` with a limit of about a megabyte for a file, which fails as a full disk does.
fn with_small_files(directory: &Path, words: &str) -> Run {
    let script = format!("trap '' XFSZ; ulimit -f 1024; exec \"$0\" {words}");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_vmcore")]);
    finish(shell.current_dir(directory).output().unwrap())
}

#[test]
fn a_file_system_that_takes_no_more_leaves_the_dump_on_its_device() {
    let device = Device::new();
    let mut big = device.dump.clone();
    big.resize(3 << 20, 0x77);
    let header = DumpHeader::new("amd64", big.len() as u64);
    device.write(&header.device(4 << 20, &[], &big).unwrap());
    let before = device.image();
    let run = with_small_files(device.path(), "save swap.img crash --clear").expect(1);
    for words in [
        "crash/vmcore.0: ",
        "the dump is still on its device",
        "with a directory that has room",
    ] {
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
    assert!(device.image() == before, "the device was changed");
    let names = fs::read_dir(device.path().join("crash")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["bounds"]);
    // With room it goes.
    device.vmcore("save swap.img crash --clear").expect(0);
    assert!(device.saved("vmcore.1") == big);
}
