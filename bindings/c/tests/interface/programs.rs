//! C programs on synthetic machines: every function, what it gives and how it fails.

use crate::built::{folder, run, run_watched, succeed};
use crate::functions;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use vmcore_synth::Arch;
use vmcore_synth::elf::{Kernel, SectionKind};
use vmcore_synth::machine::{DumpFile, Machine, Options, Pcb};
use vmcore_synth::machines;
use vmcore_synth::minidump::Minidump;
use vmcore_testkit::TestKernel;

/// A machine whose dump and kernel are in a folder.
struct Made {
    machine: Machine,
    folder: TempDir,
}

impl Made {
    fn new(options: &Options) -> Self {
        Self::of(Machine::new(options))
    }

    fn of(machine: Machine) -> Self {
        let folder = tempfile::tempdir().unwrap();
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
    let all = machines::all().into_iter();
    let mut all: Vec<_> = all
        .map(|(name, options)| (name, options.arch, Machine::new(&options)))
        .collect();
    // arm's page tables may end inside a page, with the pages right after them.
    for is_padded in [false, true] {
        let mut machine = Machine::new(&Options::new(Arch::Armv7, 2));
        if let DumpFile::Mini(dump) = &mut machine.dump {
            dump.page_tables.extend([0; 1024]);
            dump.page_tables_padded = is_padded;
        }
        let name = format!("uneven, padded {is_padded}");
        all.push((name, Arch::Armv7, machine));
    }
    for (name, arch, machine) in all {
        let made = Made::of(machine);
        let hz = made.machine.kernel.running_address_of("hz").unwrap();
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
        let displacement = made.machine.kernel.displacement.cast_signed();
        let native = u32::from(arch == Arch::Amd64 && cfg!(target_arch = "x86_64"));
        assert_eq!(
            lines.next(),
            Some(&*format!("native {native} displacement {displacement}")),
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

/// Reads of every length, over the sizes that are read at once.
#[test]
fn long_reads_are_in_order_and_end_where_the_dump_does() {
    let made = amd64();
    let DumpFile::Mini(dump) = &made.machine.dump else {
        panic!("a minidump");
    };
    // The direct map has the pages as they are in memory; the last one before a hole ends a read.
    let runs: Vec<u64> = dump.pages.keys().copied().collect();
    let start = runs[0];
    let end = (start..)
        .step_by(4096)
        .find(|pa| !dump.pages.contains_key(pa));
    let end = end.unwrap();
    let memory: Vec<u8> = (start..end)
        .step_by(4096)
        .flat_map(|pa| {
            let mut page = dump.pages[&pa].clone();
            page.resize(4096, 0);
            page
        })
        .collect();
    for len in [1, 255, 256, 257, 4096, memory.len(), memory.len() + 1] {
        let va = format!("{:#x}", dump.dmapbase + start);
        let (status, out, err) = run("reads", &made.words(&[&va, &len.to_string()]));
        assert_eq!((status, err.as_str()), (Some(0), ""), "{len}: {out}");
        let got = len.min(memory.len());
        let hex: String = memory[..got]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let line = out.lines().nth(1).unwrap();
        assert!(line.starts_with(&format!("{va} {got} {hex}")), "{len}");
    }
}

/// Symbols are where the kernel ran, and debuggers are told how far that is from the file.
#[test]
fn a_relocated_kernel_is_read_where_it_ran() {
    for arch in [Arch::Powerpc64le, Arch::Powerpc64] {
        let mut dump = Minidump::new(arch, 2);
        dump.dump_avail = vec![(0x1000, 0x100_0000)];
        dump.kernel_range = (0xc000_0000_0050_0100, 0xc000_0000_0060_0000);
        dump.pages.insert(0x50_1000, b"where it ran".to_vec());
        let mut kernel = Kernel::new(arch, 0x10_0100);
        kernel.add_section(".text", SectionKind::Code, 0x10_0800, &[0; 0x40]);
        kernel.add_function("doadump", 0x10_0800, 0x40);
        kernel.add_object("hz", 0x10_1000, 4);
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        fs::write(file("kernel"), kernel.build()).unwrap();
        fs::write(file("vmcore"), dump.build()).unwrap();
        let more = [
            "hz",
            "doadump",
            "0xc000000000501000",
            "12",
            "0x101000",
            "12",
        ];
        let mut words = vec![file("kernel"), file("vmcore")];
        words.extend(more.map(str::to_owned));
        let (status, out, err) = run("reads", &words);
        assert_eq!((status, err.as_str()), (Some(0), ""), "{arch:?}: {out}");
        let lines: Vec<&str> = out.lines().collect();
        let moved = 0xc000_0000_0040_0000_u64.cast_signed();
        assert_eq!(
            lines,
            [
                &*format!("native 0 displacement {moved}"),
                "hz 0 0xc000000000501000 0x6",
                "doadump 0 0xc000000000500800 0x4",
                "0xc000000000501000 12 77686572652069742072616e",
                "0x101000 12 77686572652069742072616e",
            ],
            "{arch:?}"
        );
    }
}

#[test]
fn code_and_data_are_told_apart() {
    let made = amd64();
    let at = made.machine.kernel.address_of("doadump").unwrap();
    let (_, out, _) = run("reads", &made.words(&["doadump"]));
    assert!(out.ends_with(&format!("doadump 0 {at:#x} 0x4\n")), "{out}");
}

/// Variables of a network stack and of a CPU are in copies of their linker sets.
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
    // The image is mapped at its physical address plus KERNBASE.
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
        if options.kind == vmcore_synth::machine::DumpKind::Mini {
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
        assert_eq!((status, err.as_str()), (Some(0), ""), "{name}: {out}");
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
            // Without types neither groups nor CPUs are known, and no terminal.
            let expected = format!(" {} 1 0 0 0 1 ", process.threads.len());
            assert!(line.contains(&expected), "{name}: {line}");
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

/// A kernel with types, of which users, groups and sessions are known.
#[test]
fn processes_are_chosen_by_users_groups_and_sessions() {
    let kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    kernel.write_dump();
    let words = |op: i32, arg: i32| {
        let core = kernel.dir.path().join("vmcore.0");
        let files = [&kernel.file, &core].map(|path| path.display().to_string());
        let [kernel, core] = files;
        [kernel, core, op.to_string(), arg.to_string()]
    };
    // The shell alone has these; ids by KERN_PROC_PGRP, SESSION, UID, RUID, RGID and GID.
    for (op, arg) in [(2, 71), (3, 70), (5, 1001), (6, 1002), (10, 30), (11, 20)] {
        let (status, out, err) = run("procs", &words(op, arg));
        assert_eq!((status, err.as_str()), (Some(0), ""), "{op}: {out}");
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "1"), "{op}: {out}");
        assert!(lines[1].starts_with("77 100077 sh worker "), "{op}: {out}");
        // Real and first group, session, no terminal, no CPU now, and the last one.
        assert!(lines[1].ends_with(" 30 20 70 1 -1 3"), "{op}: {out}");
        let (_, out, _) = run("procs", &words(op, 4711));
        assert_eq!(out, "0\n", "{op}");
    }
    let (_, out, _) = run("procs", &words(5, 0));
    assert!(out.starts_with("2\n"), "{out}");
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
    // Nor the same architecture's in the other byte order.
    let swapped = made.folder.path().join("armeb").display().to_string();
    fs::write(&swapped, Kernel::new(Arch::Armeb, 0xc000_0000).build()).unwrap();
    let arm = made.folder.path().join("arm").display().to_string();
    fs::write(&arm, Minidump::new(Arch::Armv7, 1).build()).unwrap();
    let (status, out, _) = run("reads", &[swapped, arm]);
    assert_eq!(status, Some(1));
    assert!(
        out.contains("is a kernel for armeb, the dump is of armv7"),
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
fn a_pipe_is_refused_and_blocks_nothing() {
    let made = amd64();
    let pipe = made.folder.path().join("pipe").display().to_string();
    let made_it = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made_it.unwrap().success());
    let dump = made.folder.path().join("vmcore").display().to_string();
    let kernel = made.folder.path().join("kernel").display().to_string();
    for (kernel, dump) in [(&kernel, &pipe), (&pipe, &dump)] {
        // With no writer, an open that waits for one would never return.
        let (sender, receiver) = std::sync::mpsc::channel();
        let words = [kernel.clone(), dump.clone()];
        std::thread::spawn(move || sender.send(run("reads", &words)));
        let answer = receiver.recv_timeout(std::time::Duration::from_secs(60));
        let (status, out, _) = answer.expect("it waits for a writer");
        assert_eq!(status, Some(1), "{out}");
        assert!(out.contains("is a pipe, not a file"), "{out}");
    }
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
