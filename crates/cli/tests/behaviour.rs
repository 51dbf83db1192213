//! What the command promises, whatever the dump: exit statuses, words, files, escaping.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod support;

use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use support::{Folder, Run, command, finish, line, run};
use vmcore_synth::Arch;
use vmcore_synth::header::DumpHeader;
use vmcore_synth::machine::{CRASH_TIME, DumpFile, HOST, Options, PANIC};
use vmcore_synth::minidump::Minidump;

fn amd64() -> Folder {
    Folder::new(&Options::new(Arch::Amd64, 3))
}

fn minidump(folder: &Folder) -> Minidump {
    match &folder.machine.dump {
        DumpFile::Mini(dump) => (**dump).clone(),
        DumpFile::Full(_) => panic!("a minidump was wanted"),
    }
}

/// A failure is one sentence on standard error, with the next command, and nothing else.
#[track_caller]
fn assert_fails(run: Run, sentence: &str) {
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
fn assert_usage(run: Run, sentence: &str) {
    let run = run.expect(2);
    assert_eq!(run.text(), "");
    assert!(run.stderr.contains(sentence), "{run:?}");
}

#[test]
fn every_command_answers_without_being_told_where_the_kernel_is() {
    let folder = amd64();
    for words in [
        "info vmcore.0",
        "log vmcore.0",
        "dmesg vmcore.0",
        "ps vmcore.0",
        "read vmcore.0 hz",
        "translate vmcore.0 hz",
        "vtop vmcore.0 hz",
        "sym vmcore.0 hz",
        "search vmcore.0 panic",
        "map vmcore.0",
        "verify vmcore.0",
        "convert vmcore.0 core.elf --to elf",
        "list -d .",
        "list .",
    ] {
        let run = folder.vmcore(words).expect(0);
        assert!(!run.stdout.is_empty(), "{words}");
        assert_eq!(run.stderr, "", "{words}");
    }
}

#[test]
fn dump_and_kernel_come_in_either_order() {
    let folder = amd64();
    folder.write("elsewhere/k", &folder.machine.kernel.build());
    folder.remove("kernel");
    let expected = folder.vmcore("ps vmcore.0 -k elsewhere/k").expect(0).text();
    assert!(expected.contains("sysctl"));
    for words in [
        "ps vmcore.0 elsewhere/k",
        "ps elsewhere/k vmcore.0",
        "ps -k elsewhere/k vmcore.0",
        "-k elsewhere/k ps vmcore.0",
        "ps -d . -k elsewhere/k",
        "ps -d . -n 0 -k elsewhere/k",
    ] {
        assert_eq!(folder.vmcore(words).expect(0).text(), expected, "{words}");
    }
    let hz = folder
        .vmcore("read elsewhere/k vmcore.0 hz 4")
        .expect(0)
        .text();
    assert_eq!(
        folder
            .vmcore("read vmcore.0 elsewhere/k hz 4")
            .expect(0)
            .text(),
        hz
    );
    assert_eq!(
        folder
            .vmcore("read -d . -k elsewhere/k hz 4")
            .expect(0)
            .text(),
        hz
    );
    assert_eq!(
        folder
            .vmcore("read -d . -k elsewhere/k hz")
            .expect(0)
            .text(),
        hz
    );
}

#[test]
fn the_kernel_is_found_by_its_build_id_along_the_path() {
    let folder = amd64();
    folder.write("kernels/boot/kernel", &folder.machine.kernel.build());
    folder.remove("kernel");
    assert_fails(folder.vmcore("ps vmcore.0"), "needs the kernel file");
    let path = format!("nowhere:{}", folder.path().join("kernels").display());
    let found = finish(
        command(folder.path())
            .env("VMCORE_KERNEL_PATH", path)
            .args(["ps", "vmcore.0", "-v"])
            .output()
            .unwrap(),
    )
    .expect(0);
    assert!(
        found.stderr.contains("tried nowhere: no such file"),
        "{found:?}"
    );
    assert!(
        found.stderr.contains("kernels/boot/kernel: matches"),
        "{found:?}"
    );
}

#[test]
fn without_the_kernel_file_all_that_the_dump_can_tell_is_told() {
    let folder = amd64();
    folder.remove("kernel");
    let hz = folder.machine.kernel.address_of("hz").unwrap();
    for words in [
        "info vmcore.0".to_owned(),
        "log vmcore.0".to_owned(),
        "map vmcore.0".to_owned(),
        "verify vmcore.0".to_owned(),
        "search vmcore.0 panic".to_owned(),
        "convert vmcore.0 core.elf --to elf".to_owned(),
        format!("read vmcore.0 {hz:#x} 4"),
        format!("translate vmcore.0 {hz:#x}"),
    ] {
        folder.vmcore(&words).expect(0);
    }
    for words in [
        "ps vmcore.0",
        "sym vmcore.0 hz",
        "read vmcore.0 hz",
        "translate vmcore.0 hz",
    ] {
        let run = folder.vmcore(words);
        assert!(run.stderr.contains("-k DIR/kernel"), "{run:?}");
        assert_fails(
            run,
            "needs the kernel file, and none was found for vmcore.0",
        );
    }
}

#[test]
fn a_full_dump_needs_its_kernel_only_for_virtual_addresses() {
    let folder = Folder::new(&Options::full(Arch::Amd64));
    folder.write("elsewhere/k", &folder.machine.kernel.build());
    folder.remove("kernel");
    folder.vmcore("info vmcore.0").expect(0);
    folder.vmcore("map vmcore.0").expect(0);
    folder.vmcore("search vmcore.0 panic").expect(0);
    folder.vmcore("read vmcore.0 --phys 0x200000 16").expect(0);
    assert_fails(folder.vmcore("log vmcore.0"), "needs the kernel file");
    assert_fails(
        folder.vmcore("convert vmcore.0 out --to elf"),
        "kernel file",
    );
    assert!(!folder.path().join("out").exists());
    let log = folder.vmcore("log vmcore.0 elsewhere/k").expect(0);
    assert!(log.text().contains(&format!("panic: {PANIC}\n")), "{log:?}");
}

#[test]
fn another_kernel_is_refused_where_symbols_are_needed() {
    let folder = amd64();
    let mut other = folder.machine.kernel.clone();
    other.build_id = Some(vec![0x5a; 20]);
    folder.write("other", &other.build());
    for words in [
        "ps vmcore.0 -k other",
        "read vmcore.0 hz -k other",
        "sym other vmcore.0 hz",
    ] {
        let run = folder.vmcore(words);
        assert!(run.stderr.contains("file 5a5a…5a5a"), "{run:?}");
        assert_fails(run, "other is not the kernel of vmcore.0");
    }
    folder.vmcore("log vmcore.0 -k other").expect(0);
    let info = folder.vmcore("info vmcore.0 -k other").expect(0);
    assert!(info.text().contains("is another kernel's"), "{info:?}");
    let forced = folder.vmcore("ps vmcore.0 -k other --force").expect(0);
    assert!(forced.stderr.contains("another kernel's"), "{forced:?}");
    assert!(forced.text().contains("sysctl"));

    let i386 = Folder::new(&Options::new(Arch::I386, 2));
    folder.write("i386", &i386.machine.kernel.build());
    let run = folder.vmcore("ps vmcore.0 i386");
    assert!(run.stderr.contains("dump amd64, file i386"), "{run:?}");
    assert_fails(run, "i386 is not the kernel of vmcore.0");
}

#[test]
fn kernels_that_cannot_serve_say_which_could() {
    let folder = amd64();
    folder.write("boot/kernel/kernel", &folder.machine.kernel.build());
    let run = folder.vmcore("ps vmcore.0 -k boot/kernel");
    assert!(
        run.stderr
            .contains("try: vmcore ps vmcore.0 -k boot/kernel/kernel\n"),
        "{run:?}"
    );
    assert_fails(run, "kernel boot/kernel: is a directory");
    assert_fails(folder.vmcore("ps vmcore.0 -k nowhere"), "No such file");
    assert_fails(folder.vmcore("ps vmcore.0 -k info.0"), "not a kernel");
    assert_fails(folder.vmcore("ps vmcore.0 -k vmcore.0"), "not a kernel");
    let mut old = folder.machine.kernel.clone();
    old.symbols
        .retain(|symbol| symbol.name != "proc_off_p_pid" && symbol.name != "allproc");
    folder.write("old", &old.build());
    let run = folder.vmcore("ps vmcore.0 -k old");
    assert!(run.stderr.contains("since FreeBSD 10.3"), "{run:?}");
    assert_fails(run, "old has no symbol proc_off_p_pid");
    let run = folder.vmcore("read vmcore.0 allproc -k old");
    assert!(
        run.stderr.contains("try: vmcore sym vmcore.0 allproc\n"),
        "{run:?}"
    );
    assert_fails(run, "old has no symbol allproc");
}

#[test]
fn files_that_are_no_dump_are_named_in_one_sentence() {
    let folder = amd64();
    let dump = minidump(&folder);
    let make = |name: &str, change: &dyn Fn(&mut Minidump)| {
        let mut dump = dump.clone();
        change(&mut dump);
        folder.write(name, &dump.build());
    };
    folder.write("empty", b"");
    folder.write("text", b"hello, world\n");
    folder.write("magic", b"minidump");
    folder.write("elf", b"\x7fELF");
    folder.write("zst", b"\x28\xb5\x2f\xfd....");
    make("version", &|dump| dump.version_field = Some(9));
    make("arm", &|dump| dump.magic = b"minidump FreeBSD/arm".to_vec());
    make("unknown", &|dump| {
        dump.magic = b"minidump NoBSD/vax".to_vec()
    });
    make("short", &|dump| dump.truncate_to = Some(40));
    make("sections", &|dump| {
        dump.truncate_to = Some(dump.sections().page_tables + 1)
    });
    make("ranges", &|dump| dump.dump_avail = vec![(0, 0)]);
    for (name, sentence) in [
        ("missing", "missing: No such file or directory"),
        ("empty", "empty is empty"),
        ("text", "text is not a kernel dump"),
        ("magic", "truncated"),
        ("elf", "elf"),
        ("zst", "breaks off"),
        ("version", "version 9; versions 1 to 3 are known"),
        ("arm", "not supported yet"),
        ("unknown", "unknown magic"),
        ("short", "truncated inside"),
        ("sections", "truncated inside its page tables"),
        ("ranges", "RAM ranges"),
        (
            "kernel",
            "kernel is a kernel or program (amd64), not a dump",
        ),
        (".", "directory"),
    ] {
        for rest in ["ps", "map", "read"] {
            let words = if rest == "read" {
                format!("read {name} 0 1")
            } else {
                format!("{rest} {name}")
            };
            assert_fails(folder.vmcore(&words), sentence);
        }
    }
}

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

#[test]
fn wrong_arguments_are_status_2() {
    let folder = amd64();
    folder.write("again", &folder.machine.dump.build());
    assert_usage(folder.vmcore(""), "What happened?");
    assert_usage(folder.vmcore("frobnicate"), "frobnicate");
    assert_usage(folder.vmcore("vmcore.0"), "try: vmcore info vmcore.0");
    assert_usage(folder.vmcore("info --frobnicate"), "--frobnicate");
    assert_usage(folder.vmcore("info a b c"), "too many words");
    assert_usage(folder.vmcore("info vmcore.0 again"), "both dumps");
    assert_usage(
        folder.vmcore("info vmcore.0 kernel -k kernel"),
        "named twice",
    );
    assert_usage(folder.vmcore("info vmcore.0 -n 0"), "give one of them");
    assert_usage(folder.vmcore("info vmcore.0 -q -v"), "--quiet");
    assert_usage(folder.vmcore("read"), "ADDR [LEN] is missing");
    assert_usage(
        folder.vmcore("read vmcore.0"),
        "vmcore.0 is a dump; ADDR [LEN] is missing",
    );
    assert_usage(folder.vmcore("read vmcore.0 hz 0"), "at least 1");
    assert_usage(folder.vmcore("read vmcore.0 hz 4q"), "no length");
    assert_usage(
        folder.vmcore("read vmcore.0 12ab 4"),
        "no address and no symbol",
    );
    assert_usage(
        folder.vmcore("read vmcore.0 hz --phys"),
        "symbols are virtual",
    );
    assert_usage(folder.vmcore("read vmcore.0 hz --raw --json"), "--json");
    assert_usage(folder.vmcore("read vmcore.0 hz --fill 0"), "--raw");
    assert_usage(folder.vmcore("translate vmcore.0"), "ADDR is missing");
    assert_usage(
        folder.vmcore("search vmcore.0 --hex abc"),
        "no row of bytes",
    );
    assert_usage(run(folder.path(), &["search", "vmcore.0", ""]), "empty");
    assert_usage(folder.vmcore("convert vmcore.0 --to elf"), "OUT is missing");
    assert_usage(folder.vmcore("convert vmcore.0 out"), "--to");
    assert_usage(folder.vmcore("convert vmcore.0 out --to pdf"), "pdf");
}

#[test]
fn help_is_asked_for_and_fits_on_a_terminal() {
    let folder = amd64();
    let top = folder.vmcore("help").expect(0).text();
    assert_eq!(folder.vmcore("--help").expect(0).text(), top);
    assert_eq!(folder.vmcore("").expect(2).stderr, top);
    assert!(
        top.lines().count() <= 50 && top.lines().all(|line| line.len() <= 80),
        "{top}"
    );
    for name in [
        "list",
        "info",
        "log",
        "read",
        "translate",
        "sym",
        "search",
        "report",
        "ps",
        "bt",
        "print",
        "locks",
        "mods",
        "whatis",
        "gdb",
        "map",
        "verify",
        "convert",
    ] {
        let help = folder.vmcore(&format!("{name} --help")).expect(0).text();
        assert!(help.contains(&format!("vmcore {name} ")), "{help}");
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
    }
    assert!(
        folder
            .vmcore("--version")
            .expect(0)
            .text()
            .starts_with("vmcore ")
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = amd64();
    for words in [
        "read vmcore.0 --phys 0x400000 1m --json",
        "read vmcore.0 --phys 0x400000 1m --raw --fill 1",
    ] {
        let mut child = command(folder.path())
            .args(words.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // More than a pipe holds is still to come.
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 16]).unwrap();
        drop(stdout);
        let run = finish(child.wait_with_output().unwrap()).expect(0);
        assert_eq!(run.stderr, "");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let folder = amd64();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(folder.path())
        .args(["log", "vmcore.0"])
        .stdout(full)
        .output()
        .unwrap();
    let run = finish(output).expect(1);
    assert!(
        run.stderr
            .contains("writing the answer failed: No space left on device"),
        "{run:?}"
    );
}

#[test]
fn output_files_are_never_overwritten_by_accident() {
    let folder = amd64();
    for words in ["convert vmcore.0 out --to elf", "map vmcore.0 --svg out"] {
        folder.write("out", b"precious");
        assert_fails(folder.vmcore(words), "out exists, and is not overwritten");
        assert_eq!(fs::read(folder.path().join("out")).unwrap(), b"precious");
        folder.vmcore(&format!("{words} --force")).expect(0);
        assert_ne!(fs::read(folder.path().join("out")).unwrap(), b"precious");
        folder.remove("out");
        let run = folder.vmcore(&words.replace("out", "no/where"));
        assert_fails(run, "writing no/where failed: No such file or directory");
    }
    // Nothing is left over beside what was there.
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["info.0", "kernel", "vmcore.0"]);
}

#[cfg(unix)]
#[test]
fn output_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = amd64();
    folder.write("old", b"");
    fs::set_permissions(folder.path().join("old"), fs::Permissions::from_mode(0o666)).unwrap();
    folder
        .vmcore("convert vmcore.0 core.elf --to elf")
        .expect(0);
    folder.vmcore("map vmcore.0 --svg map.svg").expect(0);
    folder
        .vmcore("convert vmcore.0 old --to elf --force")
        .expect(0);
    for name in ["core.elf", "map.svg", "old"] {
        let mode = fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
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
fn the_log_comes_escaped_or_exactly() {
    let folder = amd64();
    let truth = &folder.machine.truth;
    let raw = folder.vmcore("log vmcore.0 --raw").expect(0);
    assert_eq!(raw.stdout, truth.log);
    let text = folder.vmcore("log vmcore.0").expect(0).text();
    assert!(
        text.contains("ugen0.2: <Gerät für Ωhm \\x1b[31mred>"),
        "{text}"
    );
    assert!(text.contains("\nSetting hostname: "), "{text}");
    let json = folder.vmcore("log vmcore.0 --json").expect(0).json();
    let lines = json["lines"].as_array().unwrap();
    let hostname = lines
        .iter()
        .find(|line| line["text"].as_str().unwrap().starts_with("Setting"))
        .unwrap();
    assert_eq!(hostname["priority"], 118);
    assert_eq!(lines[0].get("priority"), None);
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
fn reads_give_the_bytes_of_the_machine() {
    for options in [
        Options::new(Arch::Amd64, 3),
        Options::new(Arch::I386, 2),
        Options {
            page_size: 16384,
            ..Options::new(Arch::Arm64, 3)
        },
        Options::full(Arch::Amd64),
    ] {
        let folder = Folder::new(&options);
        for (va, bytes) in folder.machine.truth.values.iter().take(40) {
            let words = format!("read vmcore.0 {va:#x} {} --raw", bytes.len());
            assert_eq!(folder.vmcore(&words).expect(0).stdout, *bytes, "{va:#x}");
        }
        let hz = folder.vmcore("read vmcore.0 hz --raw").expect(0);
        let address = folder.machine.kernel.address_of("hz").unwrap();
        let values = &folder.machine.truth.values;
        let (_, expected) = values.iter().find(|(va, _)| *va == address).unwrap();
        assert_eq!(hz.stdout, *expected);
        let inside = folder.vmcore("read vmcore.0 hz+1 2 --raw").expect(0);
        assert_eq!(inside.stdout, expected[1..3]);
    }
}

#[test]
fn the_same_byte_is_read_by_symbol_address_and_physical_address() {
    let folder = amd64();
    let translated = folder
        .vmcore("translate vmcore.0 hz --json")
        .expect(0)
        .json();
    let pa = translated["physical_address"].as_str().unwrap();
    let va = translated["address"].as_str().unwrap();
    let text = folder.vmcore("read vmcore.0 hz 4").expect(0).text();
    assert_eq!(
        folder
            .vmcore(&format!("read vmcore.0 {va} 4"))
            .expect(0)
            .text(),
        text
    );
    let bare = va.trim_start_matches("0x");
    assert_eq!(
        folder
            .vmcore(&format!("read vmcore.0 {bare} 0x4"))
            .expect(0)
            .text(),
        text
    );
    assert!(text.ends_with("= 100 (0x64)\n"), "{text}");
    let raw = folder
        .vmcore(&format!("read vmcore.0 {pa} 4 --phys --raw"))
        .expect(0);
    assert_eq!(raw.stdout, [100, 0, 0, 0]);
    let offset = translated["file_offset"]
        .as_str()
        .unwrap()
        .trim_start_matches("0x");
    let offset = usize::from_str_radix(offset, 16).unwrap();
    assert_eq!(
        &folder.machine.dump.build()[offset..offset + 4],
        [100, 0, 0, 0]
    );
}

#[test]
fn holes_are_lines_that_say_why() {
    let folder = amd64();
    let (va, pa) = folder.machine.truth.absent[0];
    let run = folder
        .vmcore(&format!("translate vmcore.0 {va:#x}"))
        .expect(3);
    assert!(
        run.text().contains(&format!("physical  {pa:#x}\n")),
        "{run:?}"
    );
    let next = format!("try: vmcore translate vmcore.0 {va:#x}");
    let run = folder.vmcore(&format!("read vmcore.0 {va:#x} 4"));
    assert!(run.stderr.contains(&next), "{run:?}");
    assert_fails(run, &format!("{va:#x} is not in the dump"));

    // Physical memory around a page that is there: a hole, bytes, a hole.
    let page = folder.machine.truth.pages[0].pa;
    let start = page - 4096;
    let run = folder
        .vmcore(&format!("read vmcore.0 --phys {start:#x} 12k"))
        .expect(3);
    let text = run.text();
    assert!(
        text.starts_with(&format!("0x{start:016x}  -- 4,096 bytes: ")),
        "{text}"
    );
    assert!(text.contains(&format!("\n0x{page:016x}  ")), "{text}");
    let json = folder
        .vmcore(&format!("read vmcore.0 --phys {start:#x} 12k --json"))
        .expect(3)
        .json();
    let parts = json["parts"].as_array().unwrap();
    assert!(
        parts[0].get("data").is_none() && parts[0]["missing"].is_string(),
        "{json}"
    );
    assert_eq!(parts[1]["data"].as_str().unwrap().len(), 8192);

    // Raw bytes stop at a hole, unless told what to put there.
    let run = folder
        .vmcore(&format!("read vmcore.0 --phys {page:#x} 8k --raw"))
        .expect(1);
    assert_eq!(run.stdout.len(), 4096);
    let words = format!("read vmcore.0 --phys {start:#x} 12k --raw --fill 0xa5");
    let run = folder.vmcore(&words).expect(3);
    assert_eq!(run.stdout.len(), 3 * 4096);
    assert!(run.stdout[..4096].iter().all(|byte| *byte == 0xa5));
}

#[test]
fn addresses_that_no_kernel_has_are_refused() {
    let folder = amd64();
    assert_fails(
        folder.vmcore("read vmcore.0 0x1000 4"),
        "0x1000 is no kernel address of this dump",
    );
    assert_fails(
        folder.vmcore("read vmcore.0 --phys 0xfffffffff000 4"),
        "physical 0xfffffffff000",
    );
    let unmapped = folder.machine.truth.unmapped[0];
    assert_fails(
        folder.vmcore(&format!("read vmcore.0 {unmapped:#x} 4")),
        "is not mapped",
    );
    let run = folder
        .vmcore(&format!("translate vmcore.0 {unmapped:#x}"))
        .expect(1);
    assert!(run.text().contains("not valid"), "{run:?}");
    // The end of the address space ends a read.
    folder
        .vmcore("read vmcore.0 0xffffffffffffffff 64k")
        .expect(1);
    folder
        .vmcore("read vmcore.0 --phys 0xffffffffffffffff 64k")
        .expect(1);
}

#[test]
fn symbols_and_addresses_lead_to_each_other() {
    let folder = amd64();
    let hz = folder.machine.kernel.address_of("hz").unwrap();
    assert_eq!(
        folder.vmcore("sym vmcore.0 hz").expect(0).text(),
        format!("hz = {hz:#x} (4 bytes)\n")
    );
    let text = folder
        .vmcore(&format!("sym vmcore.0 {:#x}", hz + 1))
        .expect(0)
        .text();
    assert_eq!(text, format!("{:#x} = hz+0x1 (4 bytes)\n", hz + 1));
    let run = folder.vmcore("sym vmcore.0 proc_off");
    assert!(run.stderr.contains("similar: proc_off_p_"), "{run:?}");
    assert_fails(run, "kernel has no symbol proc_off");
    let run = folder.vmcore("sym vmcore.0 nosuch --json").expect(1);
    assert_eq!(run.json()["symbols"], serde_json::json!([]));
    assert_fails(
        folder.vmcore("read vmcore.0 nosuch"),
        "has no symbol nosuch",
    );
    assert_fails(folder.vmcore("sym vmcore.0 1"), "no symbol");
}

#[test]
fn ps_has_every_thread_and_the_one_that_crashed() {
    let folder = amd64();
    let truth = &folder.machine.truth;
    let text = folder.vmcore("ps vmcore.0").expect(0).text();
    let crashed = text.lines().nth(2).unwrap();
    assert!(
        crashed.starts_with('*') && crashed.contains(&truth.crashed_tid.to_string()),
        "{text}"
    );
    assert!(
        text.starts_with(&format!("crashed: thread {} of process", truth.crashed_tid)),
        "{text}"
    );
    let json = folder.vmcore("ps vmcore.0 --json").expect(0).json();
    let found: Vec<(i64, i64)> = json["processes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|process| {
            let threads = process["threads"].as_array().unwrap();
            threads.iter().map(|thread| {
                (
                    process["pid"].as_i64().unwrap(),
                    thread["tid"].as_i64().unwrap(),
                )
            })
        })
        .collect();
    let expected: Vec<(i64, i64)> = truth
        .processes
        .iter()
        .flat_map(|process| {
            process
                .threads
                .iter()
                .map(|thread| (process.pid.into(), thread.tid.into()))
        })
        .collect();
    assert_eq!(found, expected);
    let in_order = folder.vmcore("ps vmcore.0 --kernel-order").expect(0).text();
    let first = in_order.lines().nth(2).unwrap();
    assert!(
        first.contains(&truth.processes[0].threads[0].tid.to_string()),
        "{in_order}"
    );
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

#[test]
fn searches_find_strings_bytes_and_pointers() {
    let folder = amd64();
    let json = folder
        .vmcore("search vmcore.0 httpd --json")
        .expect(0)
        .json();
    let found = json["matches"].as_array().unwrap();
    assert!(!found.is_empty());
    for place in found {
        let address = place["addresses"][0].as_str().unwrap();
        let bytes = folder
            .vmcore(&format!("read vmcore.0 {address} 5 --raw"))
            .expect(0)
            .stdout;
        assert_eq!(bytes, b"httpd");
    }
    let same = folder
        .vmcore("search vmcore.0 --hex 6874747064 --json")
        .expect(0)
        .json();
    assert_eq!(same["matches"], json["matches"]);
    let process = folder.machine.truth.processes[1].address;
    let pointers = folder
        .vmcore(&format!("search vmcore.0 --pointer {process:#x}"))
        .expect(0)
        .text();
    assert!(pointers.lines().count() > 1, "{pointers}");
    folder.vmcore("search vmcore.0 --pointer allproc").expect(0);
    let limited = folder.vmcore("search vmcore.0 panic --limit 1").expect(0);
    assert_eq!(limited.text().lines().count(), 2);
    assert!(limited.stderr.contains("more than 1"), "{limited:?}");
    let nothing = folder.vmcore("search vmcore.0 xyzzy").expect(0);
    assert_eq!(nothing.text(), "");
    assert!(nothing.stderr.contains("not found"), "{nothing:?}");
    let nothing = folder
        .vmcore("search vmcore.0 xyzzy --json")
        .expect(0)
        .json();
    assert_eq!(nothing["matches"], serde_json::json!([]));
}

#[test]
fn the_newest_dump_is_taken_without_a_name() {
    let folder = amd64();
    let other = Folder::new(&Options::new(Arch::Arm64, 3));
    folder.write("crash/vmcore.1", &other.machine.dump.build());
    let old = fs::File::options()
        .write(true)
        .open(folder.path().join("crash/vmcore.1"))
        .unwrap();
    old.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600))
        .unwrap();
    folder.write("crash/vmcore.0", &folder.machine.dump.build());
    assert!(
        folder
            .vmcore("info -d crash")
            .expect(0)
            .text()
            .starts_with("crash/vmcore.0: FreeBSD/amd64")
    );
    assert!(
        folder
            .vmcore("info -d crash -n 1")
            .expect(0)
            .text()
            .starts_with("crash/vmcore.1: FreeBSD/arm64")
    );
    assert_fails(folder.vmcore("info -d crash -n 2"), "no vmcore.2 in crash");
    assert_fails(
        folder.vmcore("info -d nowhere"),
        "nowhere: No such file or directory",
    );
    let list = folder.vmcore("list crash --json").expect(0).json();
    let numbers: Vec<_> = list["dumps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dump| &dump["number"])
        .collect();
    assert_eq!(numbers, [0, 1]);
    assert_fails(
        folder.vmcore("list nowhere"),
        "nowhere: No such file or directory",
    );
    fs::create_dir(folder.path().join("bare")).unwrap();
    assert_eq!(folder.vmcore("list bare").expect(0).text(), "");
    let bare = folder.vmcore("list bare --json").expect(0).json();
    assert_eq!(bare["dumps"], serde_json::json!([]));
}

#[test]
fn a_device_header_in_front_tells_more() {
    let folder = amd64();
    let device = [
        folder.machine.header.build().to_vec(),
        folder.machine.dump.build(),
    ]
    .concat();
    folder.write("disk", &device);
    let info = folder.vmcore("info disk").expect(0).text();
    let host = info.lines().find(|line| line.contains(HOST)).unwrap();
    assert!(host.ends_with("dump header"), "{info}");
    assert!(info.contains(PANIC), "{info}");
    let hz = folder.vmcore("read disk hz --raw").expect(0).stdout;
    assert_eq!(hz, 100u32.to_le_bytes());
    let wrapped = DumpHeader {
        dumpkeysize: 512,
        dumptime: CRASH_TIME.into(),
        ..folder.machine.header.clone()
    };
    folder.write("disk", &[wrapped.build().to_vec(), vec![0; 8192]].concat());
    assert_fails(folder.vmcore("info disk"), "encryption 0");
}

#[test]
fn colours_come_when_asked_for() {
    let folder = amd64();
    for words in [
        "info vmcore.0",
        "ps vmcore.0",
        "map vmcore.0",
        "verify vmcore.0",
        "list .",
    ] {
        let plain = folder.vmcore(words).expect(0).text();
        assert!(!plain.contains('\u{1b}'), "{plain}");
        assert_eq!(
            folder
                .vmcore(&format!("{words} --color never"))
                .expect(0)
                .text(),
            plain
        );
        let colored = folder
            .vmcore(&format!("{words} --color always"))
            .expect(0)
            .text();
        let mut rest = String::new();
        for (position, part) in colored.split("\u{1b}[").enumerate() {
            rest.push_str(if position == 0 {
                part
            } else {
                part.split_once('m').unwrap().1
            });
        }
        assert!(colored.contains('\u{1b}'), "{colored}");
        assert_eq!(rest, plain);
    }
    let json = folder
        .vmcore("info vmcore.0 --json --color always")
        .expect(0)
        .text();
    assert!(!json.contains('\u{1b}'));
}

#[test]
fn the_picture_is_one_file_of_svg() {
    let folder = amd64();
    let dump = folder.machine.dump.build();
    folder.write("<b>&", &dump);
    let run = run(folder.path(), &["map", "<b>&", "--svg", "map.svg"]).expect(0);
    assert_eq!(run.text(), "");
    let svg = fs::read_to_string(folder.path().join("map.svg")).unwrap();
    assert!(
        svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""),
        "{svg}"
    );
    assert!(
        svg.contains("&lt;b&gt;&amp;: FreeBSD/amd64 minidump"),
        "{svg}"
    );
    assert_eq!(
        svg.matches("http").count(),
        1,
        "nothing is loaded from elsewhere"
    );
    assert!(svg.ends_with("</svg>\n"));
}

#[test]
fn a_converted_core_is_a_dump_again() {
    let folder = amd64();
    let report = folder
        .vmcore("convert vmcore.0 core.elf --to elf --json")
        .expect(0)
        .json();
    assert_eq!(report["thread"], folder.machine.truth.crashed_tid);
    assert_eq!(report["truncated_pages"], 0);
    let info = folder.vmcore("info core.elf").expect(0).text();
    assert!(
        info.starts_with("core.elf: FreeBSD/amd64 ELF core, complete"),
        "{info}"
    );
    let ps = folder
        .vmcore("ps core.elf kernel --kernel-order")
        .expect(0)
        .text();
    assert_eq!(
        ps,
        folder.vmcore("ps vmcore.0 --kernel-order").expect(0).text()
    );
}

#[test]
fn a_full_dump_becomes_a_minidump_and_a_full_dump_again() {
    let folder = Folder::new(&Options::full(Arch::Amd64));
    let report = folder
        .vmcore("convert vmcore.0 mini --to minidump --json")
        .expect(0)
        .json();
    assert_eq!(
        (&report["to"], &report["version"]),
        (&"minidump".into(), &3.into())
    );
    assert_eq!(
        (&report["choice"], &report["missing_pages"]),
        (&"all_ram".into(), &0.into())
    );
    assert_eq!(report["identity"], report["dump_id"]);
    let info = folder.vmcore("info mini").expect(0).text();
    assert!(info.starts_with("mini: FreeBSD/amd64 minidump"), "{info}");
    let ps = |dump: &str| {
        folder
            .vmcore(&format!("ps {dump} kernel --kernel-order"))
            .expect(0)
            .text()
    };
    assert_eq!(ps("mini"), ps("vmcore.0"));
    let said = folder
        .vmcore("convert vmcore.0 full --to full")
        .expect(0)
        .text();
    assert!(said.starts_with("full: full dump, "), "{said}");
    assert_eq!(ps("full"), ps("vmcore.0"));
    // What is converted already is told what can be done instead.
    let refused = folder.vmcore("convert mini out --to full").expect(1);
    assert!(
        refused
            .stderr
            .contains("try: vmcore convert mini OUT --to elf")
    );
}

#[test]
fn every_answer_in_json_says_what_it_is_about() {
    let folder = amd64();
    let hz = folder.machine.kernel.address_of("hz").unwrap();
    let mut ids = Vec::new();
    for (name, words) in [
        ("info", "info vmcore.0".to_owned()),
        ("log", "log vmcore.0".to_owned()),
        ("ps", "ps vmcore.0".to_owned()),
        ("read", format!("read vmcore.0 {hz:#x} 4")),
        ("translate", "vtop vmcore.0 hz".to_owned()),
        ("sym", "sym vmcore.0 hz".to_owned()),
        ("search", "search vmcore.0 panic".to_owned()),
        ("map", "map vmcore.0".to_owned()),
        ("verify", "verify vmcore.0".to_owned()),
        ("convert", "convert vmcore.0 core.elf --to elf".to_owned()),
    ] {
        let json = folder.vmcore(&format!("{words} --json")).expect(0).json();
        assert_eq!(json["schema"], format!("vmcore.{name}/1"));
        assert_eq!(json["tool_version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(json["completeness"]["state"], "complete");
        ids.push(json["dump_id"].as_str().unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one dump has one id");
    assert_eq!(ids[0].len(), 32);
}

#[test]
fn nothing_is_said_beside_the_answer_when_asked_to_be_quiet() {
    let folder = amd64();
    let mut kernel = folder.machine.kernel.clone();
    kernel.build_id = None;
    kernel.symbols.retain(|symbol| symbol.name != "version");
    folder.write("k", &kernel.build());
    let run = folder.vmcore("ps vmcore.0 -k k").expect(0);
    assert!(
        run.stderr
            .contains("nothing proves that k is the kernel of this dump"),
        "{run:?}"
    );
    assert_eq!(folder.vmcore("ps vmcore.0 -k k -q").expect(0).stderr, "");
    assert_eq!(
        line(folder.path(), "search vmcore.0 xyzzy -q")
            .expect(0)
            .stderr,
        ""
    );
}

#[test]
fn the_crashed_thread_and_the_others_are_told_apart() {
    // A CPU that did not stop has a thread with stale registers.
    let folder = Folder::new(&Options {
        unstopped_cpu: Some(3),
        ..Options::new(Arch::Amd64, 3)
    });
    let json = folder.vmcore("ps vmcore.0 --json").expect(0).json();
    let threads = json["processes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|process| process["threads"].as_array().unwrap());
    let stale: Vec<_> = threads
        .filter(|thread| thread["pcb"]["stale"] == true)
        .collect();
    assert_eq!(stale.len(), 1, "{json}");
    assert_eq!(stale[0]["cpu"], 3);
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
