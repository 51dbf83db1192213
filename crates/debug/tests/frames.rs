//! Call frame information where real kernels have it: beside a debug file that left it out, in
//! modules, in compressed sections; and stacks of kernels that jumped through a bad pointer.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::Open as _;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use vmcore::process;
use vmcore_debug::modules::Search;
use vmcore_debug::unwind::{Backtrace, End, How};
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::addr::VirtAddr;
use vmcore_testkit::TestKernel;
use vmcore_testkit::kernel::{Pcb, crash, write_pcb};
use vmcore_testkit::modules::{ADDRESS, load_source};

/// Splits a file as the build of a system does: instructions and what is loaded here, the rest there.
fn split(file: &Path, debug: &Path) {
    let whole = file.with_extension("full");
    fs::copy(file, &whole).unwrap();
    for (kept, output) in [("--only-keep-debug", debug), ("--strip-debug", file)] {
        let status = Command::new("objcopy")
            .arg(kept)
            .args([&whole, output])
            .status();
        assert!(status.unwrap().success());
    }
}

/// The stack of a thread, with the modules of these directories.
fn backtrace(kernel: &TestKernel, directories: Vec<PathBuf>, tid: i32) -> Backtrace {
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    let search = Search {
        sysroot: None,
        directories,
    };
    let files = files.with_modules(&session, &search).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let list = process::list(&session).unwrap();
    let mut threads = list.threads();
    target.backtrace(threads.find(|thread| thread.tid == tid).unwrap())
}

/// Functions without their offsets, and how each frame was found.
fn found(backtrace: &Backtrace) -> Vec<(&str, How)> {
    backtrace
        .frames
        .iter()
        .map(|frame| {
            let known = frame.name.as_deref().unwrap_or("?");
            (known.split('+').next().unwrap(), frame.how)
        })
        .collect()
}

/// The words of a PCB of thread 100000 that was switched out there.
fn switch_out(kernel: &mut TestKernel, rip: &str, rsp: u64, rbp: u64) {
    let at = kernel.address("pcbs");
    let rip = kernel.address(rip);
    let pcb = Pcb {
        rbp,
        rsp,
        rbx: 0,
        rip,
    };
    write_pcb(kernel, at, &pcb);
}

/// The bottom of a stack: `fork_exit` called by `fork_trampoline`. Returns `fork_exit`'s frame
/// pointer.
fn bottom(kernel: &mut TestKernel) -> u64 {
    let fork_frame = kernel.address("stacks") + 16384 - 192;
    let ret = kernel.address("ret_fork_trampoline");
    kernel.write_words(fork_frame - 16, &[0, ret]);
    fork_frame - 16
}

#[test]
fn a_debug_file_leaves_the_loaded_call_frames_in_the_kernel() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    crash(&mut kernel);
    let debug = kernel.dir.path().join("kernel.debug");
    split(&kernel.file, &debug);
    let walked = backtrace(&kernel, Vec::new(), 100_077);
    let expected = [
        ("doadump", How::Pcb),
        ("panic", How::Cfi),
        ("trap", How::Cfi),
        ("calltrap", How::Cfi),
        ("leaf", How::TrapFrame),
        ("worker", How::Prologue),
        ("fork_exit", How::FramePointer),
        ("fork_trampoline", How::FramePointer),
    ];
    assert_eq!(found(&walked), expected);
    // Names, lines and types come from the debug file.
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    assert_eq!(files.kernel_path(), debug);
    let target = Target::new(&session, &files).unwrap();
    let places = target.places(VirtAddr(kernel.address("callee")));
    assert_eq!(places.last().unwrap().function, "callee");
    // The debug file alone has no such contents; frame pointers leave out who has none.
    kernel.file = debug;
    let walked = backtrace(&kernel, Vec::new(), 100_077);
    let by_frame_pointer = [
        ("doadump", How::Pcb),
        ("calltrap", How::FramePointer),
        ("leaf", How::TrapFrame),
        ("worker", How::Prologue),
        ("fork_exit", How::FramePointer),
        ("fork_trampoline", How::FramePointer),
    ];
    assert_eq!(found(&walked), by_frame_pointer);
}

#[test]
fn a_debug_file_is_found_below_the_copy_of_the_machine_s_file_system() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let root = tempfile::tempdir().unwrap();
    let (boot, debug) = (
        root.path().join("boot/kernel"),
        root.path().join("usr/lib/debug/boot/kernel"),
    );
    fs::create_dir_all(&boot).unwrap();
    fs::create_dir_all(&debug).unwrap();
    let debug = debug.join("kernel.debug");
    split(&kernel.file, &debug);
    let moved = boot.join("kernel");
    fs::rename(&kernel.file, &moved).unwrap();
    kernel.file = moved;
    let session = kernel.session();
    assert_eq!(DebugFiles::of(&session).unwrap().kernel_path(), debug);
}

/// `leaf`, called from a module's function without a frame pointer, called from `fork_exit`.
fn through_module(kernel: &mut TestKernel) {
    let fork_exit = bottom(kernel);
    let detour_cfa = fork_exit - 32;
    let ret = kernel.address("ret_fork_exit");
    kernel.write_words(detour_cfa - 16, &[fork_exit, ret]);
    // Where the saving routine would return to: doadump, whose frame has 40 bytes.
    let callee_cfa = detour_cfa - 40;
    let bytes = fs::read(kernel.dir.path().join("flow.ko")).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let ret_detour = ADDRESS + elf.symbol_by_name("ret_detour").unwrap().address();
    kernel.write_words(callee_cfa - 8, &[ret_detour]);
    switch_out(kernel, "ret_doadump", callee_cfa - 48 - 8, 5);
}

#[test]
fn modules_bring_their_own_call_frames() {
    let expected = [
        ("doadump", How::Pcb),
        ("detour", How::Cfi),
        ("fork_exit", How::Cfi),
        ("fork_trampoline", How::FramePointer),
    ];
    for with_debug_file in [false, true] {
        let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
        let file = kernel.dir.path().join("flow.ko");
        assert_eq!(load_source(&mut kernel, "detour.S", &file), ADDRESS);
        through_module(&mut kernel);
        if with_debug_file {
            split(&file, &kernel.dir.path().join("flow.ko.debug"));
        }
        let directory = kernel.dir.path().to_owned();
        let walked = backtrace(&kernel, vec![directory], 100_000);
        assert_eq!(found(&walked), expected, "{:?}", walked.end);
        assert!(walked.frames.iter().all(|frame| frame.doubt.is_none()));
    }
}

#[test]
fn code_of_a_module_without_a_file_is_named_by_the_module() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let file = kernel.dir.path().join("flow.ko");
    load_source(&mut kernel, "detour.S", &file);
    through_module(&mut kernel);
    let walked = backtrace(&kernel, Vec::new(), 100_000);
    assert_eq!(walked.frames.len(), 2);
    let detour = &walked.frames[1];
    assert!(detour.name.as_deref().unwrap().starts_with("flow.ko+0x"));
    // It is code, of which no more is known.
    assert_eq!(detour.doubt, None);
    // Its frame pointer is no address of the kernel's.
    assert_eq!(walked.end, End::UserMode);
}

#[test]
fn a_jump_to_address_zero_leads_back_to_who_jumped() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    crash(&mut kernel);
    let top = kernel.address("stacks") + 3 * 16384;
    let fork_exit = top - 192 - 16;
    let worker = fork_exit - 32 - 16;
    let leaf_sp = worker - 16 - 8;
    let trap_frame = leaf_sp - 8 - 192;
    // worker called through a null pointer: its return address is on top of the stack.
    kernel.write_words(trap_frame + 152, &[0]);
    let walked = backtrace(&kernel, Vec::new(), 100_077);
    let expected = [
        ("doadump", How::Pcb),
        ("panic", How::Cfi),
        ("trap", How::Cfi),
        ("calltrap", How::Cfi),
        ("?", How::TrapFrame),
        ("worker", How::StackTop),
        ("fork_exit", How::FramePointer),
        ("fork_trampoline", How::FramePointer),
    ];
    assert_eq!(found(&walked), expected);
    assert_eq!(walked.frames[4].pc, VirtAddr(0));
    assert_eq!(walked.end, End::ThreadStart);
}

#[test]
fn a_function_named_like_an_entry_is_none() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let fork_exit = bottom(&mut kernel);
    let update = fork_exit - 32 - 16;
    let ret = kernel.address("ret_fork_exit");
    kernel.write_words(update, &[fork_exit, ret]);
    // What lies where an entry's trap frame would be.
    let words: Vec<u64> = (1..=24).map(|word| word * 0x0101_0101).collect();
    kernel.write_words(update - 256, &words);
    let leaf = update - 256 - 16;
    let ret = kernel.address("ret_XXH64_update");
    kernel.write_words(leaf, &[update, ret]);
    switch_out(&mut kernel, "ret_worker", leaf - 16, leaf);
    let walked = backtrace(&kernel, Vec::new(), 100_000);
    let expected = [
        ("worker", How::Pcb),
        ("XXH64_update", How::FramePointer),
        ("fork_exit", How::FramePointer),
        ("fork_trampoline", How::FramePointer),
    ];
    assert_eq!(found(&walked), expected);
    assert_eq!(walked.frames[1].trap, None);
}

/// Stores a section of a file compressed with zstd, in its own place.
fn compress(file: &Path, name: &str) {
    const ELFCOMPRESS_ZSTD: u32 = 2;
    const SHF_COMPRESSED: u64 = 0x800;
    let mut bytes = fs::read(file).unwrap();
    let (index, offset, content) = {
        let elf = object::File::parse(&*bytes).unwrap();
        let section = elf.section_by_name(name).unwrap();
        let (offset, _) = section.file_range().unwrap();
        (section.index().0, offset, section.data().unwrap().to_vec())
    };
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let packed = ruzstd::encoding::compress_to_vec(&*content, level);
    let mut stored = Vec::new();
    for word in [ELFCOMPRESS_ZSTD, 0] {
        stored.extend(word.to_le_bytes());
    }
    for word in [content.len() as u64, 1] {
        stored.extend(word.to_le_bytes());
    }
    stored.extend(packed);
    assert!(stored.len() < content.len(), "{name} does not shrink");
    let offset = usize::try_from(offset).unwrap();
    bytes[offset..offset + stored.len()].copy_from_slice(&stored);
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let header = usize::try_from(word(&bytes, 40)).unwrap() + 64 * index;
    let flags = word(&bytes, header + 8) | SHF_COMPRESSED;
    bytes[header + 8..header + 16].copy_from_slice(&flags.to_le_bytes());
    let len = stored.len() as u64;
    bytes[header + 32..header + 40].copy_from_slice(&len.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn debug_sections_compressed_with_zstd_are_read() {
    let kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    for name in [".debug_info", ".debug_abbrev", ".debug_str"] {
        compress(&kernel.file, name);
    }
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    assert!(target.types().offset_of("thread", "td_kstack").is_some());
    let places = target.places(VirtAddr(kernel.address("callee")));
    assert_eq!(places.last().unwrap().function, "callee");
}
