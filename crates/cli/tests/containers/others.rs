//! What is not a dump, or not a file: other kinds are named with what to type, a pipe is kept while it
//! is needed, and outputs replace nothing but files.

use super::{path, small, tool};
use std::fs;
use std::process::{Command, Output, Stdio};
use vmcore_synth::header::DumpHeader;
use vmcore_testkit::command::line;

fn shell(dir: &std::path::Path, script: &str) -> Output {
    Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_vmcore")])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn other_kinds_of_files_are_named_with_what_to_type() {
    let (dir, _) = small();
    for (magic, at, name, command) in [
        (
            &b"\xfd7zXZ\0"[..],
            0,
            "an xz file",
            "xz -dc FILE > FILE.plain",
        ),
        (b"BZh9", 0, "a bzip2 file", "bzip2 -dk FILE"),
        (b"\x04\x22\x4d\x18", 0, "an lz4 file", "lz4 -d FILE"),
        (b"KDUMP   ", 0, "kdump-compressed", "crash vmlinux FILE"),
        (
            b"makedumpfile\0",
            0,
            "flattened",
            "makedumpfile -R FILE.kdump < FILE",
        ),
        (b"EMiL", 0, "LiME", "vol -f FILE"),
        (b"AVML", 0, "AVML", "avml-convert FILE"),
        (b"\xd2\xbe\xd2\xbe", 0, "VMware", "vmss2core -N6 FILE"),
        (b"\xd3\xbe\xd3\xbe", 0, "VMware", "vmss2core -N6 FILE"),
        (b"\xd1\xba\xd1\xba", 0, "VMware", "vmss2core -N6 FILE"),
        (b"WithouFreSpacExt", 0, "Parallels", "qemu-img convert"),
        (b"QFI\xfb", 0, "qcow2", "qemu-img convert -O raw FILE"),
        (b"KDMV", 0, "VMDK", "qemu-img convert"),
        (b"\x7f\x10\xda\xbe", 64, "VDI", "qemu-img convert"),
        (b"conectix", 0, "VHD", "qemu-img convert"),
        (b"vhdxfile", 0, "VHDX", "qemu-img convert"),
        (b"ustar", 257, "a tar archive", "tar -xf FILE"),
        (b"070701", 0, "a cpio archive", "cpio -idv < FILE"),
        (b"PK\x03\x04", 0, "a zip archive", "unzip FILE"),
        (b"PAGEDU64", 0, "a Windows kernel", "windbg"),
        (b"\xcf\xfa\xed\xfe", 0, "Mach-O", "lldb -c FILE"),
    ] {
        let mut bytes = vec![0; 70_000];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        fs::write(path(&dir, "it"), bytes).unwrap();
        let run = line(dir.path(), "info it").expect(1);
        assert!(run.stderr.contains(name), "{name}: {}", run.stderr);
        let command = command.replace("FILE", "it");
        assert!(
            run.stderr.contains(&format!("try: {command}")),
            "{}",
            run.stderr
        );
    }
    // ELF cores by their notes.
    let core = |load: (u64, u64), name: &str, number: u32, contents: &[u8]| {
        let mut note = Vec::new();
        for word in [name.len() as u32 + 1, contents.len() as u32, number] {
            note.extend(word.to_le_bytes());
        }
        for part in [name.as_bytes(), contents] {
            note.extend(part);
            note.resize((note.len() + 1).next_multiple_of(4), 0);
        }
        let mut core = vec![0; 64];
        core[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        for (at, half) in [(16, 4u16), (18, 62), (20, 1), (52, 64), (54, 56), (56, 2)] {
            core[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
        core[32] = 64;
        let at = 64 + 2 * 56;
        let mut header = |kind: u32, fields: [u64; 6]| {
            core.extend(kind.to_le_bytes());
            core.extend([6, 0, 0, 0]);
            core.extend(fields.into_iter().flat_map(u64::to_le_bytes));
        };
        let len = note.len() as u64;
        header(4, [at, 0, 0, len, len, 4]);
        header(1, [4096, load.0, load.1, 4096, 4096, 4096]);
        core.extend(note);
        core.resize(8192, 0);
        core
    };
    for (bytes, name) in [
        (
            core((0x40_0000, 0), "CORE", 6, &[0; 16]),
            "a core of a program",
        ),
        (
            core((0x40_0000, 0), "FreeBSD", 8, &[0; 16]),
            "a core of a program",
        ),
        (
            core(
                (u64::MAX << 31, 1 << 20),
                "VMCOREINFO",
                0,
                b"OSRELEASE=6.1\n",
            ),
            "a Linux kernel",
        ),
    ] {
        fs::write(path(&dir, "it"), bytes).unwrap();
        let run = line(dir.path(), "info it").expect(1);
        assert!(run.stderr.contains(name), "{name}: {}", run.stderr);
    }
    // The same notes around physical memory are a kernel's.
    fs::write(
        path(&dir, "it"),
        core((u64::MAX << 31, 1 << 20), "CORE", 6, &[0; 16]),
    )
    .unwrap();
    let run = line(dir.path(), "info it");
    assert!(!run.stderr.contains("a program"), "{}", run.stderr);
}

#[test]
fn a_dump_may_come_through_a_pipe() {
    let (dir, _) = small();
    let plain = line(dir.path(), "log vmcore.0").expect(0).text();
    for script in [
        "cat vmcore.0 | \"$0\" log -",
        "cat vmcore.0 | \"$0\" log /dev/stdin",
        "\"$0\" log - < vmcore.0",
        "cat vmcore.0 | \"$0\" log /dev/fd/0",
    ] {
        let run = shell(dir.path(), script);
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert_eq!(
            String::from_utf8_lossy(&run.stdout),
            plain,
            "{script}: {stderr}"
        );
        assert_eq!(
            stderr.contains("kept meanwhile in"),
            script.contains("cat"),
            "{stderr}"
        );
    }
    fs::create_dir(path(&dir, "tmp")).unwrap();
    let run = shell(
        dir.path(),
        "cat vmcore.0 | TMPDIR=tmp \"$0\" convert - out --compress zstd",
    );
    assert!(run.status.success(), "{run:?}");
    assert_eq!(line(dir.path(), "log out").expect(0).text(), plain);
    assert_eq!(fs::read_dir(path(&dir, "tmp")).unwrap().count(), 0);
    let run = shell(dir.path(), "echo rubbish | \"$0\" info -");
    assert_eq!(run.status.code(), Some(1), "{run:?}");
}

#[test]
fn outputs_replace_files_and_nothing_else() {
    let (dir, _) = small();
    if tool(dir.path(), "mkfifo pipe").is_none() {
        return;
    }
    std::os::unix::fs::symlink("/dev/null", path(&dir, "null")).unwrap();
    for out in ["null", "pipe", "/dev/stdout", "/dev/fd/1"] {
        for words in [
            format!("report vmcore.0 kernel --html {out} --force"),
            format!("convert vmcore.0 {out} --to elf --force"),
            format!("map vmcore.0 --svg {out} --force"),
            format!("redact vmcore.0 kernel {out} --force"),
        ] {
            let run = line(dir.path(), &words);
            assert!(run.status > 0, "{words}: {run:?}");
            assert!(
                run.stderr.contains("is not a regular file"),
                "{words}: {}",
                run.stderr
            );
        }
    }
    assert!(path(&dir, "null").is_symlink());
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let (dir, dump) = small();
    let parts = || {
        let names = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names
            .filter(|name| name.ends_with(".part"))
            .collect::<Vec<_>>()
    };
    // The limit's signal would end the command.
    let run = shell(
        dir.path(),
        "ulimit -f 8; \"$0\" convert vmcore.0 out --to elf",
    );
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert!(stderr.contains("writing out failed"), "{stderr}");
    assert_eq!(parts(), Vec::<String>::new());
    // A file that takes long: its input is a pipe that does not end.
    let mut big = dump;
    big.resize(512 << 20, 0);
    let header = DumpHeader::new("amd64", big.len() as u64);
    fs::write(path(&dir, "big"), header.before(&big)).unwrap();
    for signal in ["INT", "TERM"] {
        let script = format!(
            "\"$0\" convert big slow --compress gzip & p=$!; \
             for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do \
             ls .slow*.part >/dev/null 2>&1 && break; sleep 0.1; done; \
             kill -{signal} $p; wait $p"
        );
        shell(dir.path(), &script);
        assert_eq!(parts(), Vec::<String>::new(), "{signal}");
    }
}
