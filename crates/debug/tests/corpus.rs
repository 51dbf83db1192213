//! Backtraces of real dumps: every frame that an independent reader found, and every trap frame.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on shall stop"
)]

use serde_json::Value;
use std::collections::HashMap;
use std::ops::Range;
use vmcore::process::{self, Thread};
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_debug::arch::Machine;
use vmcore_debug::unwind::{
    Backtrace, CallFrames, Code, End, How, NearSymbol, TrapFrame, Unwinder,
};
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::addr::VirtAddr;
use vmcore_testkit::corpus::corpus;

/// Runs a check on every thread of every dump.
fn each_thread(check: impl Fn(&Target<'_>, &Thread, &Value, &str)) {
    let Some(corpus) = corpus() else {
        return;
    };
    let expected: Value = serde_json::from_str(&corpus.text("expected.json")).unwrap();
    for (name, expected) in expected["dumps"].as_object().unwrap() {
        let core = corpus.file(&format!("vmcore-{name}"));
        let kernel = corpus.file(&format!("kernel-{}", expected["machine"].as_str().unwrap()));
        let kernel = KernelChoice::Given(&kernel);
        let session = Session::open(&core, kernel, &OpenOptions::default()).unwrap();
        let files = DebugFiles::of(&session).unwrap();
        let target = Target::new(&session, &files).unwrap();
        let list = process::list(&session).unwrap();
        let threads: Vec<&Thread> = list.threads().collect();
        let known = expected["threads"].as_array().unwrap();
        assert_eq!(threads.len(), known.len(), "{name}");
        for (thread, known) in threads.into_iter().zip(known) {
            check(
                &target,
                thread,
                known,
                &format!("{name} thread {}", thread.tid),
            );
        }
    }
}

fn number(value: &Value) -> u64 {
    match value.as_str() {
        Some(hex) => u64::from_str_radix(hex.strip_prefix("0x").unwrap(), 16).unwrap(),
        None => value.as_u64().unwrap(),
    }
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn pcs(backtrace: &Backtrace) -> Vec<u64> {
    backtrace.frames.iter().map(|frame| frame.pc.0).collect()
}

#[test]
fn without_symbols_of_code_the_walk_is_the_chain_of_frame_pointers() {
    each_thread(|target, thread, known, name| {
        let backtrace = target.backtrace(thread);
        let mut lldb = pcs(&backtrace);
        let frames = known["frames"].as_array().unwrap();
        assert_eq!(
            backtrace.frames.len(),
            frames.len(),
            "{name}: {:?}",
            backtrace.end
        );
        for (frame, known) in backtrace.frames.iter().zip(frames) {
            assert_eq!(frame.pc.0, number(&known["pc"]), "{name}");
            assert_eq!(frame.fp.unwrap().0, number(&known["fp"]), "{name}");
            assert_eq!(frame.sp.unwrap().0, number(&known["sp"]), "{name}");
            assert!(matches!(frame.how, How::Pcb | How::FramePointer), "{name}");
        }
        // lldb leaves out a last frame without a frame pointer.
        if backtrace.frames.last().unwrap().fp == Some(VirtAddr(0)) {
            assert_eq!(backtrace.end, End::FramePointerZero, "{name}");
            lldb.pop();
        }
        assert_eq!(lldb, numbers(&known["bt_lldb"]), "{name}");
    });
}

/// The code of a kernel whose entries have their names back.
struct WithEntries<'a, 't> {
    target: &'a Target<'t>,
    /// Return addresses in entries, by what they stand in.
    entries: HashMap<u64, &'static str>,
}

impl Code for WithEntries<'_, '_> {
    fn symbol(&self, address: VirtAddr) -> Option<NearSymbol> {
        let name = self.entries.get(&(address.0 + 1))?;
        Some(NearSymbol {
            name: (*name).to_owned(),
            start: VirtAddr(address.0 - 4),
        })
    }
    fn text(&self) -> &[Range<u64>] {
        &[]
    }
    fn call_frames(&self, _: VirtAddr) -> Option<&CallFrames<'_>> {
        None
    }
    fn instructions(&self, address: VirtAddr, bytes: &mut [u8]) -> usize {
        self.target.instructions(address, bytes)
    }
}

/// The symbol that an entry has, by what the reference says of it.
fn entry_name(known: &str) -> &'static str {
    match known {
        "fast_syscall_common" => "fast_syscall_common",
        "nmi_calltrap" => "nmi_calltrap",
        name if name.contains("int 0x80") => "Xint0x80_syscall",
        name if name.contains("calltrap") => "calltrap",
        name if name.contains("fork_trampoline") => "fork_trampoline",
        name => panic!("{name}"),
    }
}

fn check_trap(trap: &TrapFrame, known: &Value, machine: &Machine, name: &str) {
    assert_eq!(trap.address.0, number(&known["trapframe"]), "{name}");
    let registers: HashMap<&str, u64> = trap.named(machine).into_iter().collect();
    let other: HashMap<&str, u64> = trap.other.iter().copied().collect();
    let mut checked = 0;
    for (field, value) in known["fields"].as_object().unwrap() {
        let found = match field.as_str() {
            "trapno" => trap.number,
            "err" => trap.error,
            // Interrupted kernel code has no stack pointer in an i386 trap frame.
            "esp" | "ss" | "isp" if !trap.user => continue,
            "sp" | "fp" | "pc" => continue,
            field => registers.get(field).or(other.get(field)).copied(),
        };
        let Some(found) = found else { continue };
        assert_eq!(found, number(value), "{name}: {field}");
        checked += 1;
    }
    assert!(checked > 10, "{name}: {checked} fields");
}

#[test]
fn with_the_names_of_the_entries_the_walk_goes_through_trap_frames() {
    each_thread(|target, thread, known, name| {
        let Some(traps) = known["traps"].as_array() else {
            return;
        };
        let frames = known["frames"].as_array().unwrap();
        let mut entries = HashMap::new();
        for trap in traps {
            let at = usize::try_from(trap["frame"].as_u64().unwrap()).unwrap();
            let pc = number(&frames[at]["pc"]);
            entries.insert(pc, entry_name(trap["symbol"].as_str().unwrap()));
        }
        let code = WithEntries { target, entries };
        let unwinder = Unwinder::new(target.arch(), target.space(), &code);
        let start = target.start_of(thread).unwrap();
        let backtrace = unwinder.walk(&start);
        let mut expected = numbers(&known["bt_traps"]);
        let found = pcs(&backtrace);
        if name.starts_with("i386-minidump thread 100003") {
            // Frame 5 differs. The reference has 0x28 there, which is no code: it goes on with the
            // frame pointer of the entry, which on i386 is the address of the trap frame (0x3d97a94),
            // and takes the segment registers in it for a frame record: fs and es, 8 and 0x28. The
            // interrupted code's own frame pointer is the trap frame's ebp (0x3d97ad4). It leads to
            // where every kernel thread starts, by the same two frames as the other idle threads.
            assert_eq!(expected.pop(), Some(0x28));
            let entry = &backtrace.frames[3];
            let trap = entry.trap.as_ref().unwrap();
            assert_eq!(entry.fp, Some(trap.address));
            assert_eq!(backtrace.frames[4].fp, Some(VirtAddr(0x3d9_7ad4)));
            expected.extend([
                0x00a3_4613,
                0x0139_f285,
                0x0139_f343,
                0x0103_23be,
                0x00fc_50b6,
                0xffc0_340e,
            ]);
        }
        assert_eq!(found, expected, "{name}: {:?}", backtrace.end);
        let machine = Machine::of(target.arch());
        let found: Vec<&TrapFrame> = backtrace
            .frames
            .iter()
            .filter_map(|frame| frame.trap.as_ref())
            .collect();
        assert_eq!(found.len(), traps.len(), "{name}");
        for (trap, known) in found.into_iter().zip(traps) {
            check_trap(trap, known, machine, name);
        }
        let last = backtrace.frames.last().unwrap();
        if traps.last().unwrap()["symbol"]
            .as_str()
            .unwrap()
            .contains("fork_trampoline")
        {
            assert_eq!(backtrace.end, End::ThreadStart, "{name}");
        } else if last.pc.0 >> 47 == 0 && !name.starts_with("i386") {
            assert_eq!((last.how, last.exact), (How::TrapFrame, true), "{name}");
            assert_eq!(backtrace.end, End::UserMode, "{name}");
        }
    });
}
