//! Where registers and offsets come from when the kernel does not tell them in the usual place: the
//! extension that our writer puts behind a dump, the types, the release.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::Open as _;
use std::path::Path;
use std::process::Command;
use vmcore::process::{OffsetSource, PcbSource, Process, Thread};
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session, SessionError};
use vmcore_debug::stack::Stack;
use vmcore_debug::unwind::How;
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::addr::FileOffset;
use vmcore_format::arch::Arch;
use vmcore_format::checksum::checksum;
use vmcore_format::extension::{
    Cpu, CpuState, EXTENSION_VERSION, LOCATOR_LEN, Locator, RecordHeader, RecordKind,
};
use vmcore_format::registers::{layout_number, names};
use vmcore_synth::machine::{Machine, Options};
use vmcore_testkit::TestKernel;
use vmcore_testkit::kernel::{crash, dump_of};

/// A CPU in the extension: its number, what became of it, its thread, some registers.
type Told<'a> = (u32, CpuState, u64, &'a [(&'a str, u64)]);

/// The dump with an extension behind it, as our writer puts it there.
fn with_extension(kernel: &TestKernel, cpus: &[Told<'_>]) -> Session {
    let all = names(Arch::Amd64);
    let number = |len: usize| u32::try_from(len).unwrap();
    let mut payload = Vec::new();
    let layout = layout_number(Arch::Amd64);
    payload.extend(Cpu::encode_head(
        layout,
        number(cpus.len()),
        number(all.len()),
    ));
    for (cpu, state, thread, registers) in cpus {
        payload.extend(Cpu::encode_cpu(*cpu, *state, *thread));
        for name in all {
            let known = registers.iter().find(|(known, _)| known == name);
            payload.extend(known.map_or(0, |(_, value)| *value).to_le_bytes());
        }
    }
    let header = RecordHeader::new(RecordKind::Cpus, payload.len() as u64);
    let mut record = header.encode().to_vec();
    record.extend(payload);
    record.extend(checksum(&record).to_le_bytes());
    let mut file = dump_of(&kernel.pages, 0x1000_0000);
    file.resize(file.len().next_multiple_of(4096), 0);
    let locator = Locator {
        version: EXTENSION_VERSION,
        records: 1,
        offset: FileOffset(file.len() as u64),
        len_bytes: record.len() as u64,
        dump_id: [0; 16],
    };
    file.extend(record);
    file.resize(
        (file.len() + LOCATOR_LEN).next_multiple_of(4096) - LOCATOR_LEN,
        0,
    );
    file.extend(locator.encode());
    let core = kernel.dir.path().join("vmcore.1");
    std::fs::write(&core, file).unwrap();
    let kernel = KernelChoice::Given(&kernel.file);
    Session::open(&core, kernel, &OpenOptions::default()).unwrap()
}

/// A thread and its stack.
fn thread(session: &Session, tid: i32) -> (Thread, Stack) {
    let files = DebugFiles::of(session).unwrap();
    let target = Target::new(session, &files).unwrap();
    let list = target.processes().unwrap();
    let mut threads = list.threads();
    let thread = threads.find(|thread| thread.tid == tid).unwrap();
    (thread.clone(), target.stack(thread))
}

#[test]
fn the_extension_has_registers_of_cpus_that_the_kernel_did_not_stop() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    // worker had just called leaf when the CPU was interrupted.
    let top = kernel.address("stacks") + 16384;
    let (worker, sp) = (top - 64, top - 128);
    let ret = kernel.address("ret_worker");
    kernel.write_words(sp, &[ret]);
    let ret = kernel.address("ret_fork_exit");
    kernel.write_words(worker, &[0, ret]);
    let registers = [
        ("rip", kernel.address("leaf")),
        ("rsp", sp),
        ("rbp", worker),
        ("rax", 0x18),
    ];
    let told = [
        (3, CpuState::Stopped, 100_000, &registers[..]),
        // A CPU that did not stop told nothing.
        (1, CpuState::Running, 100_002, &registers[..]),
    ];
    let session = with_extension(&kernel, &told);
    assert!(session.dump().extension().is_some());
    let (idle, stack) = thread(&session, 100_000);
    assert_eq!(idle.pcb, Some(PcbSource::Extension { cpu: 3 }));
    let found: Vec<_> = stack
        .frames
        .iter()
        .map(|frame| {
            (
                frame.function().unwrap(),
                frame.frame.how,
                frame.frame.exact,
            )
        })
        .collect();
    let expected = [
        ("leaf", How::Interrupted, true),
        ("worker", How::Prologue, false),
        ("fork_exit", How::FramePointer, false),
    ];
    assert_eq!(found, expected);
    // All its registers are known, not only those that a call keeps.
    assert_eq!(stack.frames[0].frame.registers.get(0), Some(0x18));
    let (init, stack) = thread(&session, 100_002);
    assert_eq!((init.registers, stack.frames.len()), (None, 0));
}

#[test]
fn what_the_kernel_saved_comes_before_the_extension() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    crash(&mut kernel);
    let registers = [("rip", kernel.address("leaf")), ("rsp", 8), ("rbp", 8)];
    let told = [(0, CpuState::Dumping, 100_077, &registers[..])];
    let session = with_extension(&kernel, &told);
    let (shell, stack) = thread(&session, 100_077);
    assert!(matches!(shell.pcb, Some(PcbSource::Dumppcb { .. })));
    assert_eq!(stack.frames[0].function(), Some("doadump"));
    // Without it the extension has to do.
    let dumppcb = kernel.address("dumppcb");
    kernel.write_words(dumppcb, &[0; 8]);
    let session = with_extension(&kernel, &told);
    let (shell, stack) = thread(&session, 100_077);
    assert_eq!(shell.pcb, Some(PcbSource::Extension { cpu: 0 }));
    assert_eq!(stack.frames[0].function(), Some("leaf"));
}

fn objcopy(args: &[&str], file: &Path) {
    let status = Command::new("objcopy").args(args).arg(file).status();
    assert!(status.unwrap().success());
}

/// Process ids, names and threads.
fn summary(processes: &[Process]) -> Vec<(i32, Vec<u8>, Vec<i32>)> {
    let tids = |process: &Process| process.threads.iter().map(|thread| thread.tid).collect();
    processes
        .iter()
        .map(|process| (process.pid, process.comm.clone(), tids(process)))
        .collect()
}

#[test]
fn without_constants_types_tell_where_processes_and_threads_are() {
    let kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let list = |kernel: &TestKernel| {
        let session = kernel.session();
        let files = DebugFiles::of(&session).unwrap();
        let target = Target::new(&session, &files).unwrap();
        target.processes()
    };
    let by_constants = list(&kernel).unwrap();
    assert_eq!(by_constants.offsets, OffsetSource::Constants);
    let without =
        ["proc_off_*", "thread_off_*", "pcb_size"].map(|name| format!("--strip-symbol={name}"));
    let mut args = vec!["--wildcard"];
    args.extend(without.iter().map(String::as_str));
    objcopy(&args, &kernel.file);
    let by_types = list(&kernel).unwrap();
    assert_eq!(by_types.offsets, OffsetSource::Types);
    assert_eq!(
        summary(&by_types.processes),
        summary(&by_constants.processes)
    );
    assert_eq!(by_types.problems, Vec::<String>::new());
    // With neither, and of no known release, it says what is missing.
    objcopy(&["--strip-debug"], &kernel.file);
    let error = list(&kernel).unwrap_err();
    assert!(
        matches!(&error, SessionError::NoSymbol { name, .. } if name == "proc_off_p_pid"),
        "{error}"
    );
}

#[test]
fn without_constants_and_types_the_release_is_a_guess_that_says_so() {
    // Version 1 of full dumps is an older kernel: FreeBSD 13.2.
    let mut options = Options::full(vmcore_synth::Arch::Amd64);
    options.version = 1;
    let machine = Machine::new(&options);
    let dir = tempfile::tempdir().unwrap();
    let (core, file) = (dir.path().join("vmcore.0"), dir.path().join("kernel"));
    std::fs::write(&core, machine.dump.build()).unwrap();
    let list = |kernel: &vmcore_synth::elf::Kernel| {
        std::fs::write(&file, kernel.build()).unwrap();
        let choice = KernelChoice::Given(&file);
        let session = Session::open(&core, choice, &OpenOptions::default()).unwrap();
        vmcore::process::list(&session).unwrap()
    };
    let by_constants = list(&machine.kernel);
    assert_eq!(by_constants.offsets, OffsetSource::Constants);
    let mut kernel = machine.kernel.clone();
    kernel.symbols.retain(|symbol| {
        let name = &symbol.name;
        !name.starts_with("proc_off_") && !name.starts_with("thread_off_") && name != "pcb_size"
    });
    assert!(kernel.symbols.len() < machine.kernel.symbols.len());
    let by_release = list(&kernel);
    assert_eq!(by_release.offsets, OffsetSource::Release);
    assert_eq!(
        summary(&by_release.processes),
        summary(&by_constants.processes)
    );
    assert!(!by_release.processes.is_empty());
}
