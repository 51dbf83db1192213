//! Dumps that are cut, damaged or hostile.

use crate::{amd64, assert_fails, minidump};
use vmcore_synth::Arch;
use vmcore_synth::machine::{HOST, Options, PANIC};
use vmcore_synth::minidump::Minidump;
use vmcore_testkit::command::{Folder, run};

#[test]
fn a_dump_that_is_cut_in_its_sections_still_tells_what_it_has() {
    let folder = amd64();
    let mut dump = minidump(&folder);
    dump.truncate_to = Some(dump.sections().page_tables + 8);
    folder.write("vmcore.0", &dump.build());
    let log = folder.vmcore("log vmcore.0").expect(0);
    assert!(log.text().contains(&format!("panic: {PANIC}\n")), "{log:?}");
    let info = folder.vmcore("info vmcore.0").expect(0);
    assert!(
        info.text().contains("truncated inside its page tables"),
        "{info:?}"
    );
    assert!(info.text().contains(PANIC));
    let verify = folder.vmcore("verify vmcore.0").expect(3);
    assert!(verify.text().contains("BAD  length"), "{verify:?}");
    let run = folder.vmcore("ps vmcore.0");
    assert!(run.stderr.contains("try: vmcore log vmcore.0"), "{run:?}");
}

#[test]
fn a_truncated_dump_is_answered_as_far_as_it_goes() {
    let folder = amd64();
    let mut dump = minidump(&folder);
    let whole = dump.build().len() as u64;
    dump.truncate_to = Some(whole - 4096);
    folder.write("vmcore.0", &dump.build());
    folder.vmcore("info vmcore.0").expect(0);
    folder.vmcore("verify vmcore.0").expect(3);
    folder.vmcore("search vmcore.0 panic").expect(3);
    folder
        .vmcore("convert vmcore.0 core.elf --to elf")
        .expect(3);
    assert!(folder.path().join("core.elf").exists());
    let last = dump.offsets().last().unwrap().0;
    let run = folder.vmcore(&format!("read vmcore.0 --phys {last:#x} 16"));
    assert!(
        run.stderr.contains("try: vmcore verify vmcore.0"),
        "{run:?}"
    );
    assert_fails(run, "is lost: the file ends before it");
    let before = last - 4096;
    let partly = folder
        .vmcore(&format!("read vmcore.0 --phys {before:#x} 8k"))
        .expect(3);
    assert!(
        partly
            .text()
            .contains("-- 4,096 bytes: lost: the file ends before it"),
        "{partly:?}"
    );
}

#[test]
fn damage_is_a_failure_of_verify() {
    let folder = amd64();
    let mut dump = minidump(&folder);
    let behind = dump.bitmap_bytes().len() as u64 * 8 - 1;
    dump.extra_bits = [behind].into();
    folder.write("vmcore.0", &dump.build());
    let run = folder.vmcore("verify vmcore.0").expect(1);
    assert!(run.text().contains("BAD  bitmap"), "{run:?}");
    assert!(
        run.stderr
            .starts_with("vmcore: vmcore.0 is not sound: bitmap\n"),
        "{run:?}"
    );
}

/// Puts bytes that a terminal would obey wherever a dump has text.
fn hostile() -> Folder {
    let folder = amd64();
    let mut dump = folder.machine.dump.build();
    for (find, replace) in [
        (&b"httpd\0"[..], &b"h\x1b\x9b\x07d\0"[..]),
        (b"worker 1", b"w\xc2\x9b31m\xff1"),
    ] {
        let at: Vec<usize> = (0..dump.len() - find.len())
            .filter(|at| dump[*at..].starts_with(find))
            .collect();
        assert!(!at.is_empty());
        for at in at {
            dump[at..at + replace.len()].copy_from_slice(replace);
        }
    }
    folder.write("vmcore.0", &dump);
    let info = folder
        .machine
        .info
        .replace(PANIC, "p\u{1b}]0;x\u{7}\u{9b}2J\u{202e}");
    folder.write("info.0", info.replace(HOST, "h\u{1b}c").as_bytes());
    folder
}

#[test]
fn bytes_from_a_dump_cannot_command_a_terminal() {
    let folder = hostile();
    let harmless = |text: &str| {
        text.chars()
            .all(|c| c == '\n' || !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c))
    };
    for words in [
        "info",
        "log",
        "ps",
        "list -d .",
        "search worker",
        "map",
        "verify",
        "read 0 1",
    ] {
        let words = match words {
            "list -d ." => words.to_owned(),
            _ => {
                let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
                format!("{name} vmcore.0 {rest}")
            }
        };
        for json in ["", " --json"] {
            let run = folder.vmcore(&format!("{words}{json}"));
            assert!(harmless(&run.text()), "{words}{json}: {:?}", run.text());
            assert!(harmless(&run.stderr), "{words}{json}: {:?}", run.stderr);
        }
    }
    let ps = folder.vmcore("ps vmcore.0").expect(0).text();
    assert!(ps.contains("h\\x1b\\x9b\\x07d"), "{ps}");
    assert!(ps.contains("w\\u{9b}31m\\xff1"), "{ps}");
    let info = folder.vmcore("info vmcore.0").expect(0).text();
    assert!(info.contains("p\\x1b]0;x\\x07\\u{9b}2J\\u{202e}"), "{info}");
    // JSON says the same, and a parser gives the bytes back.
    let info = folder.vmcore("info vmcore.0 --json").expect(0).json();
    assert_eq!(info["panic"]["value"], "p\u{1b}]0;x\u{7}\u{9b}2J\u{202e}");
}

#[test]
fn names_of_files_cannot_command_a_terminal_either() {
    let folder = amd64();
    let run = run(folder.path(), &["info", "no\u{1b}[31m"]).expect(1);
    assert!(run.stderr.contains("no\\x1b[31m: No such file"), "{run:?}");
    assert!(!run.stderr.contains('\u{1b}'), "{run:?}");
}

#[test]
fn an_empty_log_is_said_to_be_empty_or_lost() {
    let folder = amd64();
    let mut dump = minidump(&folder);
    dump.msgbuf.fill(0);
    folder.write("vmcore.0", &dump.build());
    let run = folder.vmcore("log vmcore.0").expect(3);
    assert_eq!(run.text(), "");
    assert!(
        run.stderr.contains("is empty, or not in the dump"),
        "{run:?}"
    );
    assert_eq!(folder.vmcore("log vmcore.0 -q").expect(3).stderr, "");
    let json = folder.vmcore("log vmcore.0 --json").expect(3).json();
    assert_eq!(json["lines"], serde_json::json!([]));
}

#[test]
fn a_broken_list_is_shown_as_far_as_it_goes() {
    let folder = amd64();
    // The second process of the list points into nowhere.
    let second = folder.machine.truth.processes[1].address;
    let offset = folder
        .vmcore(&format!("translate vmcore.0 {second:#x} --json"))
        .expect(0)
        .json();
    let offset = offset["file_offset"]
        .as_str()
        .unwrap()
        .trim_start_matches("0x")
        .to_owned();
    let offset = usize::from_str_radix(&offset, 16).unwrap();
    let mut dump = folder.machine.dump.build();
    dump[offset..offset + 8].copy_from_slice(&0x10u64.to_le_bytes());
    folder.write("vmcore.0", &dump);
    let run = folder.vmcore("ps vmcore.0").expect(3);
    assert!(
        run.stderr.contains("a list breaks off: process list at"),
        "{run:?}"
    );
    assert!(run.text().contains("crashed: thread"), "{run:?}");
}

/// A small generator of numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

#[test]
fn damaged_files_are_answered_or_refused_but_never_crash_the_command() {
    for options in [
        Options::new(Arch::Amd64, 3),
        Options::new(Arch::I386, 1),
        Options::full(Arch::Amd64),
    ] {
        let folder = Folder::new(&options);
        let files = [folder.machine.dump.build(), folder.machine.kernel.build()];
        let mut numbers = Numbers(7);
        for round in 0..12 {
            let mut damaged = files.clone();
            let file = &mut damaged[round % 2];
            for _ in 0..8 {
                // Headers are at the start, and where a mistake costs most.
                let end = if round % 3 == 0 { file.len() } else { 256 };
                let at = numbers.below(end);
                file[at] = [0, 0xff, 0x80, 0x7f][numbers.below(4)];
            }
            folder.write("vmcore.0", &damaged[0]);
            folder.write("kernel", &damaged[1]);
            for words in [
                "info vmcore.0 -k kernel",
                "log vmcore.0 -k kernel",
                "ps vmcore.0 -k kernel",
                "read vmcore.0 allproc 64k -k kernel",
                "map vmcore.0 -k kernel --json",
                "verify vmcore.0 -k kernel",
                "search vmcore.0 panic -k kernel",
                "convert vmcore.0 core.elf --to elf -k kernel --force",
            ] {
                let run = folder.vmcore(words);
                assert!(
                    [0, 1, 3].contains(&run.status),
                    "round {round}: {words}: {run:?}"
                );
                assert!(
                    !run.stderr.contains("panicked"),
                    "round {round}: {words}: {run:?}"
                );
            }
        }
    }
}

/// Of a cut dump of arm whose page tables are not whole pages, and whose pages say nothing.
#[test]
fn an_answer_that_rests_on_a_guess_is_said_to_be_one() {
    let folder = amd64();
    let mut dump = Minidump::new(Arch::Armv7, 2);
    dump.dump_avail = vec![(0x8000_0000, 0x8000_8000)];
    dump.msgbuf = vec![b'x'; 100];
    dump.page_tables = vec![0; 3 * 1024];
    for number in 0..4 {
        dump.pages
            .insert(0x8000_0000 + (number << 12), vec![b'a'; 4096]);
    }
    let whole = dump.build().len() as u64;
    folder.write("vmcore.8", &dump.build());
    let read = "--phys 0x80000000 16";
    let sound = folder.vmcore(&format!("read vmcore.8 {read}")).expect(0);
    assert!(!sound.stderr.contains("warning"), "{sound:?}");
    dump.truncate_to = Some(whole - 5000);
    folder.write("vmcore.9", &dump.build());
    let said = "nothing shows whether the pages follow at once";
    let guess = folder.vmcore(&format!("read vmcore.9 {read}")).expect(3);
    assert!(guess.stderr.contains(said), "{guess:?}");
    let info = folder.vmcore("info vmcore.9").expect(3);
    assert!(info.text().contains("are not whole pages"), "{info:?}");
    let verify = folder.vmcore("verify vmcore.9").expect(3);
    assert!(verify.text().contains("BAD  page tables"), "{verify:?}");
}
