//! Arguments, help, exit statuses, colours, and where answers go.

use crate::{amd64, assert_fails, assert_usage};
use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use vmcore_synth::elf::SectionKind;
use vmcore_testkit::command::{command, finish, line, run};

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
    assert_usage(folder.vmcore("read vmcore.0 hz 4q"), "is not a length");
    assert_usage(
        folder.vmcore("read vmcore.0 12ab 4"),
        "neither an address nor a symbol",
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
        "not a row of bytes",
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
        for width in [60, 80, 100] {
            let help = folder.help_at(name, width);
            let lines: Vec<&str> = help.lines().collect();
            for pair in lines.windows(2) {
                let is_text = |line: &str| !line.is_empty() && !line.starts_with(' ');
                let word = pair[1].split(' ').next().unwrap_or_default();
                let would_fit = pair[0].chars().count() + 1 + word.chars().count() <= width;
                assert!(
                    !(is_text(pair[0]) && is_text(pair[1]) && would_fit),
                    "{name} at {width}: {pair:?}"
                );
            }
        }
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
    // What gdb needs beside an ELF core.
    folder.remove("out.frames.elf");
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
    for name in ["core.elf", "core.elf.frames.elf", "map.svg", "old"] {
        let mode = fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
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
    // As a debug file, it has none of the contents that could be compared.
    kernel
        .sections
        .retain(|section| section.kind == SectionKind::Bss);
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
