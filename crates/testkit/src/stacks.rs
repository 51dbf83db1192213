//! Stacks of amd64 in words: functions that an assembler makes, and the frames that they leave.

use crate::kernel::{Pcb, TestKernel, write_pcb};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

/// Bytes of a function, and where in it every frame is.
const FUNCTION: u64 = 32;
const INSIDE: u64 = 16;
/// Bytes from one frame pointer to the next, and of a trap frame.
const FRAME: u64 = 32;
const TRAP_FRAME: u64 = 192;

/// A kernel with a function of each name, and `kernel.c`.
pub fn kernel(functions: &str, flags: &[&str]) -> TestKernel {
    let names = functions.split_whitespace().map(name_of);
    let names: BTreeSet<&str> = names.filter(|name| !name.starts_with("0x")).collect();
    let mut source = "\t.text\n".to_owned();
    for name in names {
        write!(
            source,
            "\t.globl {name}\n\t.type {name}, @function\n{name}:\n\t.fill {FUNCTION}, 1, 0x90\n\
             \t.size {name}, {FUNCTION}\n"
        )
        .unwrap();
    }
    source += "\t.section .note.GNU-stack, \"\", @progbits\n";
    let dir = tempfile::tempdir().unwrap();
    let (file, object) = (dir.path().join("names.s"), dir.path().join("names.o"));
    std::fs::write(&file, source).unwrap();
    let status = Command::new("gcc")
        .arg("-c")
        .arg(&file)
        .arg("-o")
        .arg(&object)
        .status();
    assert!(status.expect("gcc").success());
    TestKernel::compile_alone("kernel.c", flags, &[object])
}

fn name_of(word: &str) -> &str {
    word.split('[').next().unwrap()
}

/// Lays out the stack of the thread that crashed, and its registers. A word is a function, the innermost
/// first; `calltrap[NUMBER,ERROR,ADDRESS]` left a trap frame; `0x…` is not code.
pub fn lay(kernel: &mut TestKernel, stack: &str) {
    let at = kernel.address("dumppcb");
    lay_at(kernel, at, "stacks", stack);
}

/// The same for the thread with this PCB, from this symbol up.
pub fn lay_at(kernel: &mut TestKernel, pcb: u64, from: &str, stack: &str) {
    let words: Vec<&str> = stack.split_whitespace().collect();
    let pc = |kernel: &TestKernel, word: &str| match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => kernel.address(name_of(word)) + INSIDE,
    };
    let mut fp = kernel.address(from) + 0x100;
    let first = pc(kernel, words[0]);
    let saved = Pcb {
        rbp: fp,
        rsp: fp - 16,
        rbx: 0,
        rip: first,
    };
    write_pcb(kernel, pcb, &saved);
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        let caller = pc(kernel, word);
        let Some((_, trap)) = word.split_once('[') else {
            let next = fp + FRAME;
            kernel.write_words(fp, &[next, caller]);
            fp = next;
            continue;
        };
        let fields = trap.trim_end_matches(']').split(',');
        let fields: Vec<u64> = fields
            .map(|field| match field.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
                None => field.parse().unwrap(),
            })
            .collect();
        let frame = fp + 16;
        let interrupted = rest.next().expect("what was interrupted");
        let (rip, sp) = (pc(kernel, interrupted), frame + TRAP_FRAME);
        let next = sp + FRAME;
        kernel.write_words(fp, &[next, caller]);
        for (offset, value) in [
            (64, next),
            (120, fields[0]),
            (144, fields[1]),
            (128, fields[2]),
            (152, rip),
            (160, 0x20),
            (168, 0x246),
            (176, sp),
            (184, 0x28),
        ] {
            kernel.write_words(frame + offset, &[value]);
        }
        fp = next;
        if interrupted.starts_with("0x")
            && let Some(jumped) = rest.next()
        {
            let jumped = pc(kernel, jumped);
            kernel.write_words(sp, &[jumped]);
        }
    }
    kernel.write_words(fp, &[0, 0]);
}
