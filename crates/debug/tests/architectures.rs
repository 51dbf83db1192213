//! Stock gdb of all architectures on the stub: threads, registers and stacks as we see them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on shall stop, and says what it skips"
)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session, process};
use vmcore_debug::gdb::{self, Stub};
use vmcore_debug::{DebugFiles, Target};
use vmcore_synth::machine::{DumpFile, Machine, Options};
use vmcore_synth::machines;

/// The machines: each architecture, in each byte order, moved or not.
const MACHINES: [&str; 10] = [
    "amd64-v3",
    "arm-v2",
    "armeb-v2",
    "arm64-v3",
    "i386-v2",
    "powerpc",
    "powerpc64-v1",
    "powerpc64-v2-radix",
    "powerpc64le-v2",
    "riscv-v2",
];

fn options(name: &str) -> Options {
    let mut all = machines::all().into_iter();
    all.find(|(other, _)| other == name).unwrap().1
}

/// Writes a machine's files and opens them.
fn open(machine: &Machine, dir: &std::path::Path) -> Session {
    let (dump, kernel) = (dir.join("vmcore.0"), dir.join("kernel"));
    std::fs::write(&dump, machine.dump.build()).unwrap();
    std::fs::write(&kernel, machine.kernel.build()).unwrap();
    let kernel = KernelChoice::Given(&kernel);
    Session::open(&dump, kernel, &OpenOptions::default()).unwrap()
}

fn has_gdb() -> bool {
    vmcore_testkit::has("gdb-multiarch")
}

/// What gdb says, connected to the stub.
fn in_gdb(target: &Target<'_>, dir: &std::path::Path, commands: &[&str]) -> String {
    let list = process::list(target.session()).unwrap();
    let mut stub = Stub::new(target, &list);
    let frames = dir.join("frames");
    std::fs::write(&frames, gdb::frames::for_gdb(target).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut gdb = Command::new("gdb-multiarch");
    gdb.args(["-nx", "-batch", "-iex", "set osabi none"]);
    gdb.args(["-iex", "set confirm off", "-iex", "set sysroot"]);
    let first = [
        "set pagination off".to_owned(),
        "set width 0".to_owned(),
        format!("target remote {}", listener.local_addr().unwrap()),
    ];
    let (kernel, osabi) = (target.files().kernel_path(), gdb::commands::OSABI_STUB);
    let load = gdb::commands::load(target, osabi, kernel, Some(&frames));
    for command in load
        .iter()
        .chain(&first)
        .map(String::as_str)
        .chain(commands.iter().copied())
    {
        gdb.args(["-ex", command]);
    }
    let gdb = gdb
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let started = gdb.spawn().unwrap();
    let session = std::thread::spawn(move || started.wait_with_output().unwrap());
    let (stream, _) = listener.accept().unwrap();
    gdb::serve(&mut stub, &stream, &stream).unwrap();
    drop(stream);
    let Output { stdout, stderr, .. } = session.join().unwrap();
    String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
}

/// The program counters that gdb shows of each thread; `None` for a frame above a trap frame.
fn stacks(said: &str) -> BTreeMap<i32, Vec<Option<u64>>> {
    let mut stacks: BTreeMap<i32, Vec<Option<u64>>> = BTreeMap::new();
    let mut current = None;
    for line in said.lines() {
        if let Some((_, rest)) = line.split_once("(Thread 1.") {
            let tid = rest.split([' ', ')']).next().unwrap();
            current = Some(stacks.entry(tid.parse().unwrap()).or_default());
        } else if line.starts_with('#')
            && let Some(stack) = &mut current
        {
            let mut words = line.split_whitespace().skip(1);
            let pc = words.next().and_then(|word| word.strip_prefix("0x"));
            stack.push(pc.map(|pc| u64::from_str_radix(pc, 16).unwrap()));
        }
    }
    stacks
}

#[test]
fn stock_gdb_sees_the_threads_and_stacks_of_every_architecture() {
    if !has_gdb() {
        return;
    }
    for name in MACHINES {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new(&options(name));
        let session = open(&machine, dir.path());
        let files = DebugFiles::of(&session).unwrap();
        let target = Target::new(&session, &files).unwrap();
        let said = in_gdb(&target, dir.path(), &["thread apply all backtrace"]);
        for complaint in ["rejected", "not available", "Exception", "warning: Can"] {
            assert!(!said.contains(complaint), "{name}: {complaint}\n{said}");
        }
        let stacks = stacks(&said);
        let list = process::list(&session).unwrap();
        let threads = list.threads();
        let mut compared = 0;
        for thread in threads {
            let found = &stacks[&thread.tid];
            let ours = target.backtrace(thread);
            for (number, frame) in ours.frames.iter().enumerate() {
                let pc = found.get(number).copied();
                if pc == Some(None) {
                    // The trap frames of these machines are empty, but for those of powerpc.
                    match machine.kernel.arch.is_powerpc() {
                        true => continue,
                        false => break,
                    }
                }
                let expected = Some(Some(frame.pc.0));
                assert_eq!(pc, expected, "{name}, {}, {number}\n{said}", thread.tid);
                compared += 1;
            }
        }
        assert!(compared > 60, "{name}: {compared} frames\n{said}");
        assert!(
            said.contains("in doadump ()") || said.contains("doadump"),
            "{name}"
        );
    }
}

/// gdb before release 14 takes no signatures off a kernel's addresses.
#[test]
fn stock_gdb_sees_stacks_of_signed_return_addresses() {
    const RECORD_LEN: usize = 16;
    if !has_gdb() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(&options("arm64-v3"));
    let text = machine.kernel.address_of("btext").unwrap();
    let DumpFile::Mini(dump) = &mut machine.dump else {
        return;
    };
    let is_stack = |fp: u64| fp == 0 || fp >> 48 == 0xffff || fp >> 32 == 0;
    let mut signed = 0;
    for page in dump.pages.values_mut() {
        for at in (0..page.len().saturating_sub(RECORD_LEN)).step_by(16) {
            let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
            let (fp, pc) = (word(at), word(at + 8));
            if is_stack(fp) && (text + 1..text + 0x1000).contains(&pc) {
                // Bit 55 stays.
                let signature = 0x2a15_0000_0000_0000 | signed << 56;
                page[at + 8..at + 16].copy_from_slice(&(pc ^ signature).to_le_bytes());
                signed += 1;
            }
        }
    }
    assert!(signed > 20, "{signed} return addresses");
    let session = open(&machine, dir.path());
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let said = in_gdb(&target, dir.path(), &["thread apply all backtrace"]);
    let stacks = stacks(&said);
    let list = process::list(&session).unwrap();
    let mut threads = list.threads();
    let crashed = threads.find(|thread| thread.crashed).unwrap();
    let ours: Vec<_> = target.backtrace(crashed).frames;
    let ours: Vec<_> = ours.iter().map(|frame| Some(frame.pc.0)).collect();
    assert!(ours.len() > 9, "{ours:x?}");
    let found = &stacks[&crashed.tid];
    assert_eq!(found[..9], ours[..9], "{said}");
}

/// i386's entries run from a copy, of which the kernel file has no symbols.
#[test]
fn stock_gdb_names_the_copy_that_entries_run_from() {
    if !has_gdb() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(&options("i386-v2"));
    let address = |name: &str| machine.kernel.address_of(name).unwrap();
    let (text, entry) = (address("btext"), address("calltrap"));
    // A variable that nothing reads.
    let variable = address("mp_maxcpus");
    machine.kernel.add_object("setidt_disp", variable, 4);
    let mut pages = machine.truth.pages.iter();
    let page = pages.find(|page| page.kernel_map.contains(&(variable & !0xfff)));
    let pa = page.unwrap().pa;
    let DumpFile::Mini(dump) = &mut machine.dump else {
        return;
    };
    let displacement = 0xffc0_2000 - text;
    let at = usize::try_from(variable & 0xfff).unwrap();
    let value = u32::try_from(displacement).unwrap().to_le_bytes();
    let content = dump.pages.get_mut(&pa).unwrap();
    content.resize(4096, 0);
    content[at..at + 4].copy_from_slice(&value);
    let session = open(&machine, dir.path());
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let question = format!("info symbol {:#x}", entry + displacement + 4);
    let said = in_gdb(&target, dir.path(), &[&question]);
    assert!(said.contains("calltrap + 4 in section .text of "), "{said}");
}

#[test]
fn registers_are_those_of_the_dump_in_either_byte_order() {
    if !has_gdb() {
        return;
    }
    for (name, sp) in [
        ("arm-v2", "sp"),
        ("armeb-v2", "sp"),
        ("powerpc", "r1"),
        ("powerpc64-v2-radix", "r1"),
        ("powerpc64le-v2", "r1"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new(&options(name));
        let session = open(&machine, dir.path());
        let files = DebugFiles::of(&session).unwrap();
        let target = Target::new(&session, &files).unwrap();
        let list = process::list(&session).unwrap();
        let mut threads = list.threads();
        let crashed = threads.find(|thread| thread.crashed).unwrap();
        let registers = crashed.registers.as_ref().unwrap();
        let printed = [
            "printf \"pc=%lx\\n\", (unsigned long) $pc".to_owned(),
            format!("printf \"sp=%lx\\n\", (unsigned long) ${sp}"),
            "printf \"hz=%d\\n\", *(int *) &hz".to_owned(),
        ];
        let printed: Vec<&str> = printed.iter().map(String::as_str).collect();
        let said = in_gdb(&target, dir.path(), &printed);
        let value = |name: &str| registers.get(name).unwrap();
        for expected in [
            format!("pc={:x}\n", value("pc")),
            format!("sp={:x}\n", value(sp)),
            "hz=100\n".to_owned(),
        ] {
            assert!(said.contains(&expected), "{name}: {expected}\n{said}");
        }
    }
}
