//! Which files a command takes, and what it does with and without the kernel's.

use crate::{amd64, assert_fails, minidump};
use std::fs;
use vmcore_synth::Arch;
use vmcore_synth::elf::SectionKind;
use vmcore_synth::header::DumpHeader;
use vmcore_synth::machine::{CRASH_TIME, HOST, Machine, Options, PANIC};
use vmcore_synth::minidump::Minidump;
use vmcore_testkit::command::{Folder, command, finish};

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
        ("arm", "arm minidump version 3; versions 1 to 2 are known"),
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
fn dumps_by_other_names_are_listed_too() {
    let folder = amd64();
    let dump = folder.machine.dump.build();
    folder.write("crash/vmcore.192.0.2.7.4", &dump);
    folder.write("crash/info.192.0.2.7.4", b"  Hostname: storage7\n");
    folder.write("crash/storage7-vmcore", &dump);
    folder.write("crash/vmcore.notes", b"no dump");
    folder.write("crash/other", &dump);
    let list = folder.vmcore("list crash --json").expect(0).json();
    let mut dumps: Vec<_> = list["dumps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dump| {
            (
                dump["path"].as_str().unwrap(),
                dump["number"].as_u64(),
                dump["host"]["value"].as_str(),
            )
        })
        .collect();
    dumps.sort_unstable();
    let received = ("crash/vmcore.192.0.2.7.4", Some(4), Some("storage7"));
    assert_eq!(dumps, [("crash/storage7-vmcore", None, None), received]);
    // Without FILE, only what a number tells apart is taken.
    let newest = folder.vmcore("info -d crash").expect(0).text();
    assert!(newest.starts_with("crash/vmcore.192.0.2.7.4: "), "{newest}");
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
fn the_kernel_of_another_release_is_refused_with_both_versions() {
    let folder = amd64();
    let mut other = Machine::new(&Options::new(Arch::Amd64, 2)).kernel;
    other.build_id = None;
    folder.write("other", &other.build());
    for words in [
        "ps vmcore.0",
        "bt vmcore.0",
        "report vmcore.0",
        "sym vmcore.0 hz",
    ] {
        let run = folder.vmcore(&format!("{words} -k other")).expect(1);
        assert!(
            run.stderr.contains("other is not the kernel of vmcore.0"),
            "{run:?}"
        );
        assert!(
            run.stderr.contains("version: dump \"FreeBSD 14.0-RELEASE "),
            "{run:?}"
        );
        assert!(
            run.stderr.contains(", file \"FreeBSD 12.2-RELEASE "),
            "{run:?}"
        );
    }
    folder.vmcore("info vmcore.0 -k other").expect(0);
    let run = folder.vmcore("sym vmcore.0 hz -k other --force").expect(0);
    assert!(run.stderr.contains("answers may be nonsense"), "{run:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_is_not_a_kernel() {
    let folder = amd64();
    let program = fs::read(env!("CARGO_BIN_EXE_vmcore")).unwrap();
    folder.write("program", &program);
    let run = folder.vmcore("ps vmcore.0 -k program").expect(1);
    assert!(
        run.stderr
            .contains("program is not a kernel, but a program"),
        "{run:?}"
    );
}

#[test]
fn advice_fits_the_failure() {
    let folder = amd64();
    let run = folder.vmcore("bt vmcore.0 99999").expect(1);
    assert!(run.stderr.contains("there is no thread 99999"), "{run:?}");
    assert!(run.stderr.contains("try: vmcore ps vmcore.0"), "{run:?}");
    let output = command(folder.path())
        .args(["gdb", "vmcore.0"])
        .env("TMPDIR", "/nonexistent")
        .output()
        .unwrap();
    let run = finish(output).expect(1);
    assert!(
        run.stderr.contains("no directory for temporary files: "),
        "{run:?}"
    );
    assert!(
        run.stderr.contains("try: TMPDIR=DIR vmcore gdb vmcore.0"),
        "{run:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_compressed_kernel_is_expanded_once() {
    let folder = amd64();
    let mut kernel = folder.machine.kernel.clone();
    let zeros = vec![0; 5 << 20];
    kernel.add_section(".debug_str", SectionKind::Debug, 0, &zeros);
    folder.write("kernel", &kernel.build());
    let file = folder.path().join("kernel");
    let packed = std::process::Command::new("gzip").arg(&file).status();
    assert!(packed.unwrap().success());
    let cache = folder.path().join("cache");
    let ask = |words: &str, cache: &std::path::Path| {
        let words = words.split_whitespace();
        finish(
            command(folder.path())
                .args(words)
                .env("VMCORE_CACHE", cache)
                .output()
                .unwrap(),
        )
    };
    ask("sym vmcore.0 kernel.gz hz", std::path::Path::new("")).expect(0);
    assert!(!cache.exists());
    let first = ask("sym vmcore.0 kernel.gz hz", &cache).expect(0).text();
    assert_eq!(
        ask("sym vmcore.0 kernel.gz hz", &cache).expect(0).text(),
        first
    );
    let mut kept: Vec<_> = fs::read_dir(&cache).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    // What is kept is what is read.
    let kept = kept.remove(0).path();
    let mut contents = fs::read(&kept).unwrap();
    let name = contents
        .windows(4)
        .position(|bytes| bytes == b"\0hz\0")
        .unwrap();
    contents[name + 2] = b'y';
    fs::write(&kept, &contents).unwrap();
    assert!(
        ask("sym vmcore.0 kernel.gz hy", &cache)
            .expect(0)
            .text()
            .starts_with("hy = ")
    );
    // Damage to it is not believed.
    contents.pop();
    fs::write(&kept, &contents).unwrap();
    assert_eq!(
        ask("sym vmcore.0 kernel.gz hz", &cache).expect(0).text(),
        first
    );
}

/// i386 runs its exception entries from a copy, which is as far away as `setidt_disp` says.
#[test]
fn addresses_in_the_copy_of_the_exception_entries_have_their_names() {
    let mut folder = Folder::new(&Options::new(Arch::I386, 2));
    let kernel = &mut folder.machine.kernel;
    let hz = kernel.address_of("hz").unwrap();
    let entry = kernel.address_of("calltrap").unwrap();
    kernel.add_object("setidt_disp", hz, 4);
    let kernel = kernel.build();
    folder.write("kernel", &kernel);
    // The copy begins at 0xffc00000: the distance takes the place of hz.
    let at = 0xffc0_0000 + (entry & 0xfffff) + 4;
    let distance = u32::try_from(at - 4 - entry).unwrap();
    let mut dump = minidump(&folder);
    let values = &folder.machine.truth.values;
    let (_, old) = values.iter().find(|(va, _)| *va == hz).unwrap();
    let page = dump.pages.values_mut().find(|page| {
        let start = usize::try_from(hz & 0xfff).unwrap();
        page[start..].starts_with(old)
    });
    let start = usize::try_from(hz & 0xfff).unwrap();
    page.unwrap()[start..start + 4].copy_from_slice(&distance.to_le_bytes());
    folder.write("vmcore.0", &dump.build());
    let run = folder.vmcore(&format!("sym vmcore.0 -k kernel {at:#x}"));
    let text = run.expect(0).text();
    assert!(
        text.starts_with(&format!("{at:#x} = calltrap+0x4")),
        "{text}"
    );
    // Below the copy nothing is moved.
    let run = folder.vmcore(&format!("sym vmcore.0 -k kernel {entry:#x}"));
    let text = run.expect(0).text();
    assert!(
        text.starts_with(&format!("{entry:#x} = calltrap")),
        "{text}"
    );
}
