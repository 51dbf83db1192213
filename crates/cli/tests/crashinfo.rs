//! The report by the name of FreeBSD's tool: where it writes, what is in it, its exit statuses.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use vmcore_synth::Arch;
use vmcore_synth::machine::Options;
use vmcore_testkit::TestKernel;
use vmcore_testkit::command::{Folder, Run, finish};

fn crashinfo(folder: &Path, words: &str) -> Run {
    let link = folder.join("crashinfo");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vmcore"), &link).unwrap();
    }
    let mut command = Command::new(link);
    command.current_dir(folder).args(words.split_whitespace());
    finish(command.output().unwrap())
}

/// A kernel whose names hold a newline and a line like one of ours.
fn forging() -> TestKernel {
    const NAME: &[u8] = b"\nPANIC   all is ok\n\xe2\x80\xae\0";
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    let at = 0xffff_ffff_8900_0000;
    kernel.write(at, NAME);
    kernel.write_words(kernel.address("flow_mtx"), &[at]);
    kernel.write_words(kernel.address("tree_sx"), &[at]);
    kernel.write_words(kernel.address("mbuf_zone") + 16, &[at]);
    kernel.write_words(kernel.address("temp_type") + 16, &[at]);
    kernel.write_dump();
    let place = |lvalue: &str| vmcore_testkit::command::address_of(kernel.dir.path(), lvalue);
    let names = ["shell_thread.td_name", "init_thread.td_name"].map(place);
    let pointers = ["shell_thread.td_lockname", "init_thread.td_wmesg"].map(place);
    for name in names {
        kernel.write(name, &NAME[..19]);
    }
    for pointer in pointers {
        kernel.write_words(pointer, &[at]);
    }
    kernel.write_dump();
    let info = "Dump header from device: /dev/da0\n  Hostname: a\u{2028}PANIC   all is ok\n  \
                Panic String: page fault\u{85}PANIC   all is ok\n";
    std::fs::write(kernel.dir.path().join("info.0"), info).unwrap();
    kernel
}

#[test]
fn no_name_of_the_dump_makes_a_line() {
    let kernel = forging();
    let folder = kernel.dir.path();
    crashinfo(folder, "-k kernel vmcore.0").expect(0);
    let mut texts = vec![std::fs::read_to_string(folder.join("core.txt.0")).unwrap()];
    for words in [
        "report vmcore.0 kernel",
        "report vmcore.0 kernel --share",
        "ps vmcore.0 kernel",
        "bt vmcore.0 kernel --all",
        "bt vmcore.0 kernel --unique",
        "locks vmcore.0 kernel",
        "info vmcore.0 kernel",
        "list .",
        "read vmcore.0 kernel mbuf_zone 64",
    ] {
        let run = vmcore_testkit::command::line(folder, words);
        texts.push(run.text() + &run.stderr);
    }
    for text in texts {
        assert!(!text.contains("\nPANIC   all"), "{text}");
        assert!(!text.contains(['\u{202e}', '\u{2028}', '\u{85}']), "{text}");
    }
    let report = vmcore_testkit::command::line(folder, "report vmcore.0 kernel").text();
    assert!(report.contains("sh/\\x0aPANIC   all is ok"), "{report}");
}

#[test]
fn the_sections_have_the_names_that_readers_know() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    kernel.write_dump();
    let folder = kernel.dir.path();
    let run = crashinfo(folder, "-k kernel vmcore.0").expect(0);
    assert_eq!(run.text(), "Writing crash summary to core.txt.0.\n");
    let file = folder.join("core.txt.0");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let sections: Vec<&str> = text
        .split(&format!("{}\n", "-".repeat(72)))
        .skip(1)
        .map(|section| section.lines().next().unwrap())
        .collect();
    assert_eq!(sections[..3], ["ps -axlww", "vmstat -m", "vmstat -z"]);
    for expected in [
        "dumped core - see vmcore.0\n",
        "panic: page fault\n",
        "PANIC   page fault: kernel read of 0x18",
        "  100077 ",
        "                    temp          2           2048              4\n",
        "mbuf                          256        120            157\n",
        "vmcore does not tell: ",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    // It is written anew, quietly in a batch.
    let again = crashinfo(folder, "-b -d . -n 0 -k kernel").expect(0);
    assert_eq!((again.text(), again.stderr), (String::new(), String::new()));
    let again = std::fs::read_to_string(&file).unwrap();
    assert_eq!(again.replace("./vmcore.0", "vmcore.0"), text);
}

#[test]
fn without_a_kernel_there_is_still_the_log() {
    let folder = Folder::new(&Options::new(Arch::Amd64, 3));
    folder.remove("kernel");
    let run = crashinfo(folder.path(), "-d .").expect(1);
    assert!(run.stderr.contains("kernel file"), "{run:?}");
    let text = std::fs::read_to_string(folder.path().join("core.txt.0")).unwrap();
    assert!(text.starts_with("storage7"), "{text}");
    assert!(
        text.contains("\ndmesg\n") && text.contains("not all could be told"),
        "{text}"
    );
    // Nothing to write about.
    crashinfo(folder.path(), "-d . -n 7").expect(1);
    crashinfo(folder.path(), "-n 0 vmcore.0").expect(1);
    crashinfo(folder.path(), "kernel").expect(1);
}
