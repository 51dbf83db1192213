//! C programs on synthetic machines: every function, what it gives and how it fails.

use crate::built::{folder, run, run_watched, succeed};
use crate::functions;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use vmcore_synth::Arch;
use vmcore_synth::machine::{DumpFile, Machine, Options, Pcb};
use vmcore_synth::machines;

/// A machine whose dump and kernel lie in a folder.
struct Made {
    machine: Machine,
    folder: TempDir,
}

impl Made {
    fn new(options: &Options) -> Self {
        let (machine, folder) = (Machine::new(options), tempfile::tempdir().unwrap());
        fs::write(folder.path().join("vmcore"), machine.dump.build()).unwrap();
        fs::write(folder.path().join("kernel"), machine.kernel.build()).unwrap();
        Self { machine, folder }
    }

    /// Kernel and dump, and more words.
    fn words(&self, more: &[&str]) -> Vec<String> {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let mut words = vec![file("kernel"), file("vmcore")];
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }
}

fn amd64() -> Made {
    Made::new(&Options::new(Arch::Amd64, 3))
}

#[test]
fn the_shared_library_exports_the_interface_and_nothing_else() {
    let library = folder().join("libkvmcore.so.1");
    let output = succeed(
        Command::new("readelf")
            .args(["-W", "--dyn-syms", "-d"])
            .arg(library),
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Library soname: [libkvmcore.so.1]"));
    let exported: BTreeSet<&str> = text
        .lines()
        .filter(|line| line.contains(" GLOBAL ") && !line.contains(" UND "))
        .filter_map(|line| line.split_whitespace().last())
        .filter(|name| *name != "KVMCORE_1.0")
        .collect();
    let expected: BTreeSet<String> = functions()
        .iter()
        .map(|name| format!("{name}@@KVMCORE_1.0"))
        .collect();
    assert_eq!(exported, expected.iter().map(String::as_str).collect());
}

#[test]
fn every_machine_reads_as_its_builder_made_it() {
    for (name, options) in machines::all() {
        let made = Made::new(&options);
        let hz = made.machine.kernel.address_of("hz").unwrap();
        let values: BTreeMap<u64, &[u8]> = made
            .machine
            .truth
            .values
            .iter()
            .map(|(va, bytes)| (*va, bytes.as_slice()))
            .collect();
        let mut words = vec![
            "hz".to_owned(),
            "no_such_symbol".to_owned(),
            "_hz".to_owned(),
        ];
        for (va, bytes) in &values {
            words.extend([format!("{va:#x}"), bytes.len().to_string()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (status, out, err) = run("reads", &made.words(&words));
        assert_eq!((status, err.as_str()), (Some(0), ""), "{name}: {out}");
        let mut lines = out.lines();
        let native = u32::from(options.arch == Arch::Amd64 && cfg!(target_arch = "x86_64"));
        assert_eq!(
            lines.next(),
            Some(&*format!("native {native} displacement 0")),
            "{name}"
        );
        assert_eq!(lines.next(), Some(&*format!("hz 0 {hz:#x} 0x6")), "{name}");
        assert_eq!(lines.next(), Some("no_such_symbol 1 0 0"), "{name}");
        assert_eq!(lines.next(), Some(&*format!("_hz 0 {hz:#x} 0x6")), "{name}");
        for ((va, bytes), line) in values.iter().zip(lines.by_ref()) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(line, format!("{va:#x} {} {hex}", bytes.len()), "{name}");
        }
        assert_eq!(lines.next(), None, "{name}");
    }
}

#[test]
fn a_read_ends_where_the_dump_does_and_says_why() {
    let made = amd64();
    let (absent, _) = made.machine.truth.absent[1];
    let address = format!("{absent:#x}");
    let before = format!("{:#x}", made.machine.truth.unmapped.last().unwrap() - 16);
    let (_, out, _) = run(
        "reads",
        &made.words(&[&address, "8", &before, "64", "0x10", "4"]),
    );
    let lines: Vec<&str> = out.lines().skip(1).collect();
    assert!(
        lines[0].starts_with(&format!("{address} -1  {address}")),
        "{out}"
    );
    assert!(lines[0].contains("not in the dump"), "{out}");
    assert!(lines[1].starts_with(&format!("{before} 16 ")), "{out}");
    assert!(lines[1].contains("is not mapped"), "{out}");
    assert!(lines[2].starts_with("0x10 -1  0x10 is in no part"), "{out}");
}

#[test]
fn code_and_data_are_told_apart() {
    let made = amd64();
    let at = made.machine.kernel.address_of("doadump").unwrap();
    let (_, out, _) = run("reads", &made.words(&["doadump"]));
    assert!(out.ends_with(&format!("doadump 0 {at:#x} 0x4\n")), "{out}");
}

/// Variables of a network stack and of a CPU lie in copies of their linker sets.
#[test]
fn variables_of_a_network_stack_and_of_a_cpu_are_found_in_the_copies() {
    let mut made = amd64();
    let (set, place) = (0x1_0000, 0x1_0010);
    let kernel = &mut made.machine.kernel;
    for (name, address) in [
        ("__start_set_vnet", set),
        ("__stop_set_vnet", set + 0x100),
        ("vnet_entry_ifnet", place),
        ("vnet_entry_outside", set + 0x100),
        ("__start_set_pcpu", set),
        ("__stop_set_pcpu", set + 0x100),
        ("pcpu_entry_runq", place),
    ] {
        kernel.add_object(name, address, 0);
    }
    // In the buffer of the panic message: a struct vnet as it was before 2020, what leads to it, and
    // the offset of CPU 0.
    let buffer = kernel.address_of("vpanic.buf").unwrap() + 64;
    kernel.add_object("vnet0", buffer, 8);
    kernel.add_object("dpcpu_off", buffer + 8, 8);
    let vnet = buffer + 16;
    let mut bytes = Vec::new();
    bytes.extend(vnet.to_le_bytes());
    bytes.extend(0xffff_0000_u64.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(0x3e0d_8f29_u32.to_le_bytes());
    bytes.extend([0; 20]);
    bytes.extend(0x7700_0000_u64.to_le_bytes());
    let DumpFile::Mini(dump) = &mut made.machine.dump else {
        panic!("a minidump");
    };
    // The image is mapped at its physical address behind KERNBASE.
    let pa = buffer - 0xffff_ffff_8000_0000;
    for (pa, byte) in (pa..).zip(&bytes) {
        let page = dump.pages.get_mut(&(pa & !0xfff)).unwrap();
        page[usize::try_from(pa & 0xfff).unwrap()] = *byte;
    }
    let folder = made.folder.path();
    fs::write(folder.join("vmcore"), made.machine.dump.build()).unwrap();
    fs::write(folder.join("kernel"), made.machine.kernel.build()).unwrap();
    let (_, out, _) = run(
        "reads",
        &made.words(&["ifnet", "_ifnet", "runq", "outside"]),
    );
    let lines: Vec<&str> = out.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "ifnet 0 0x77010010 0x6",
            "_ifnet 0 0x77010010 0x6",
            "runq 0 0x100000010 0x6",
            "outside 1 0 0",
        ],
        "{out}"
    );
}

#[test]
fn every_page_is_walked_once_for_each_of_its_addresses() {
    for (name, options) in machines::all() {
        let made = Made::new(&options);
        let (status, out, err) = run("pages", &made.words(&[]));
        assert_eq!((status, err.as_str()), (Some(0), ""), "{name}: {out}");
        assert!(out.ends_with("walk 1\n"), "{name}");
        let mut walked: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut absent = BTreeSet::new();
        for line in out.lines().filter(|line| !line.starts_with("walk")) {
            let words: Vec<&str> = line.split(' ').collect();
            let hex = |word: &str| {
                let digits = word.strip_prefix("0x").unwrap_or(word);
                u64::from_str_radix(digits, 16).unwrap()
            };
            let (pa, va, direct) = (hex(words[0]), hex(words[1]), hex(words[2]));
            if words[4] == "-1" {
                let len: u64 = words[5].parse().unwrap();
                absent.insert((va, va.saturating_add(len)));
                continue;
            }
            let offset: u64 = words[4].parse().unwrap();
            assert_eq!(
                made.machine.dump.offset_of(pa),
                Some(offset),
                "{name}: {line}"
            );
            if va != 0 || direct != 0 {
                assert_eq!(words[6], "8", "{name}: {line}");
            }
            let addresses = walked
                .entry(pa / options.page_size * options.page_size)
                .or_default();
            addresses.extend((va != 0).then_some(va));
        }
        if options.kind == vmcore_synth::machine::Kind::Mini {
            for page in &made.machine.truth.pages {
                assert_eq!(
                    walked.remove(&page.pa),
                    Some(page.kernel_map.clone()),
                    "{name}"
                );
            }
            assert!(walked.is_empty(), "{name}: {walked:x?}");
        }
        for (va, _) in &made.machine.truth.absent {
            let is_shown = absent.iter().any(|(start, end)| start <= va && va < end);
            assert!(is_shown, "{name}: {va:#x}");
        }
    }
}

#[test]
fn a_walk_stops_when_it_is_told_to() {
    let (_, out, _) = run("pages", &amd64().words(&["3"]));
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(out.ends_with("walk 0\n"));
}

#[test]
fn processes_and_threads_are_those_of_the_machine() {
    for (name, options) in machines::all() {
        let made = Made::new(&options);
        let truth = &made.machine.truth;
        let (status, out, err) = run("procs", &made.words(&["0", "0"]));
        assert_eq!(status, Some(0), "{name}: {out}{err}");
        let mut lines = out.lines();
        assert_eq!(
            lines.next(),
            Some(&*truth.processes.len().to_string()),
            "{name}"
        );
        for (process, line) in truth.processes.iter().zip(lines) {
            let expected = format!("{} ", process.pid);
            assert!(line.starts_with(&expected), "{name}: {line}");
            assert!(
                line.contains(&format!(" {} ", process.comm)),
                "{name}: {line}"
            );
            assert!(
                line.ends_with(&format!(" {} 1", process.threads.len())),
                "{name}: {line}"
            );
        }
        // PID 0 has the threads of the kernel.
        let (_, out, _) = run("procs", &made.words(&["17", "0"]));
        let kernel = truth
            .processes
            .iter()
            .find(|process| process.pid == 0)
            .unwrap();
        assert_eq!(
            out.lines().count(),
            kernel.threads.len() + 1,
            "{name}: {out}"
        );
        for thread in &kernel.threads {
            assert!(out.contains(&format!("0 {} ", thread.tid)), "{name}: {out}");
            assert!(
                out.contains(&format!("{:#x}", thread.address)),
                "{name}: {out}"
            );
            assert_ne!(thread.pcb, Pcb::Dumppcb);
        }
    }
}

#[test]
fn what_cannot_be_answered_is_an_error() {
    let made = amd64();
    let (_, out, err) = run("procs", &made.words(&["5", "0"]));
    assert!(
        out.starts_with("-1\nerror: this choice needs the kernel's types"),
        "{out}"
    );
    assert!(err.starts_with("procs: this choice needs"), "{err}");
    let other = Made::new(&Options::new(Arch::Arm64, 3));
    let kernel = other.folder.path().join("kernel").display().to_string();
    let dump = made.folder.path().join("vmcore").display().to_string();
    let (status, out, _) = run("reads", &[kernel.clone(), dump]);
    assert_eq!(status, Some(1));
    assert!(
        out.contains("is a kernel for arm64, the dump is of amd64"),
        "{out}"
    );
    let (status, out, _) = run("reads", &[kernel.clone(), kernel]);
    assert_eq!(status, Some(1));
    assert!(out.starts_with("error: "), "{out}");
    let (status, _, err) = run(
        "procs",
        &["none".into(), "none".into(), "0".into(), "0".into()],
    );
    assert_eq!(status, Some(1));
    assert!(err.starts_with("procs: none: "), "{err}");
}

#[test]
fn the_kernel_is_not_mixed_up_with_another_build() {
    let made = amd64();
    let mut other = made.machine.kernel.clone();
    other.build_id = Some(vec![7; 20]);
    let path = made.folder.path().join("other");
    fs::write(&path, other.build()).unwrap();
    let mut words = made.words(&["hz"]);
    words[0] = path.display().to_string();
    let (_, out, _) = run("reads", &words);
    assert!(out.ends_with("hz -1 0 0\n"), "{out}");
}

#[test]
fn threads_use_handles_of_their_own_at_once() {
    let (status, out, err) = run("threads", &amd64().words(&["hz"]));
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert_eq!(out, "100\n".repeat(4));
}

#[test]
fn valgrind_finds_nothing() {
    let made = Made::new(&Options {
        is_tiny: true,
        cpus: 2,
        ..Options::new(Arch::Amd64, 3)
    });
    let (absent, _) = made.machine.truth.absent[0];
    let absent = format!("{absent:#x}");
    let runs: [(&str, &[&str]); 4] = [
        ("reads", &["hz", "nothing", &absent, "64", "0x10", "8"]),
        ("pages", &["200"]),
        ("procs", &["16", "0"]),
        ("threads", &["hz"]),
    ];
    for (name, more) in runs {
        let words = made.words(more);
        let Some(watched) = run_watched(name, &words) else {
            return;
        };
        assert_eq!(watched, run(name, &words).1, "{name}");
    }
}

#[test]
fn the_header_is_one_for_c_plus_plus_too() {
    let source = "#include <kvm.h>\nint main() { return kvm_close(nullptr) == -1 ? 0 : 1; }\n";
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("program.cc");
    fs::write(&path, source).unwrap();
    if Command::new("c++").arg("--version").output().is_err() {
        return;
    }
    let program = file.path().join("program");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let mut compile = Command::new("c++");
    compile
        .args(["-Wall", "-Werror", "-I"])
        .arg(include)
        .arg("-o")
        .arg(&program)
        .arg(path);
    compile
        .arg(format!("-L{}", folder().display()))
        .arg("-lkvmcore");
    succeed(&mut compile);
    succeed(Command::new(program).env("LD_LIBRARY_PATH", folder()));
}
