//! Processes, threads and their saved registers.

use super::{Case, each, list, number, text};
use serde_json::Value;
use vmcore::format::addr::VirtAddr;
use vmcore::format::arch::Arch;
use vmcore::process::{self, Constants, PcbSource, Process, Thread};

/// Every thread with its process, in the order of the kernel's lists.
fn threads(case: &Case) -> Vec<(Process, Thread)> {
    let list = process::list(&case.session).unwrap();
    assert_eq!(list.problems, [""; 0], "{}", case.name);
    let of = |process: &Process| {
        let threads = process.threads.clone();
        threads
            .into_iter()
            .map(|thread| (process.clone(), thread))
            .collect::<Vec<_>>()
    };
    list.processes.iter().flat_map(of).collect()
}

#[test]
fn every_thread_is_listed_in_the_kernels_order() {
    each(|case| {
        let found = threads(case);
        let expected = list(&case.expected["threads"]);
        assert_eq!(found.len(), expected.len(), "{}", case.name);
        let numthread = &case.expected["lldb_expected"]["numthread"];
        assert_eq!(found.len() as u64, number(numthread));
        for ((process, thread), expected) in found.iter().zip(expected) {
            let at = format!("{} thread {}", case.name, expected["index"]);
            assert_eq!(process.address.0, number(&expected["proc"]), "{at}");
            assert_eq!(
                Some(i64::from(process.pid)),
                expected["pid"].as_i64(),
                "{at}"
            );
            assert_eq!(process.comm, text(&expected["comm"]).as_bytes(), "{at}");
            assert!(!process.zombie, "{at}");
            assert_eq!(thread.address.0, number(&expected["thread"]), "{at}");
            assert_eq!(
                Some(i64::from(thread.tid)),
                expected["tid"].as_i64(),
                "{at}"
            );
            assert_eq!(thread.name, text(&expected["td_name"]).as_bytes(), "{at}");
            let cpu = thread.cpu.map_or(-1, i64::from);
            assert_eq!(Some(cpu), expected["oncpu"].as_i64(), "{at}");
            assert_eq!(Some(thread.crashed), expected["crashed"].as_bool(), "{at}");
        }
        let constants = Constants::read(&case.session).unwrap();
        let crashed: Vec<i32> = found
            .iter()
            .filter(|(_, thread)| thread.crashed)
            .map(|(_, thread)| thread.tid)
            .collect();
        assert_eq!(crashed, [constants.dumptid.unwrap()], "{}", case.name);
    });
}

#[test]
fn names_are_those_that_a_debugger_prints() {
    each(|case| {
        for ((process, thread), expected) in
            threads(case).iter().zip(list(&case.expected["threads"]))
        {
            let name = process.thread_name(thread);
            let state = match (thread.crashed, thread.cpu) {
                (true, _) => " (crashed)".to_owned(),
                (false, Some(cpu)) => format!(" (on CPU {cpu})"),
                (false, None) => String::new(),
            };
            let name = format!(
                "(pid {}) {}{state}",
                process.pid,
                String::from_utf8_lossy(&name)
            );
            assert_eq!(name, text(&expected["lldb_name"]), "{}", case.name);
        }
    });
}

#[test]
fn registers_come_from_the_right_pcb() {
    each(|case| {
        let space = case.session.space().unwrap();
        let constants = Constants::read(&case.session).unwrap();
        for ((_, thread), expected) in threads(case).iter().zip(list(&case.expected["threads"])) {
            let at = format!("{} thread {}", case.name, expected["index"]);
            let pcb = thread.pcb.unwrap();
            let (source, stale) = match pcb {
                PcbSource::Dumppcb { .. } => ("dumppcb".to_owned(), false),
                PcbSource::Stoppcbs { cpu, .. } => (format!("stoppcbs[{cpu}]"), false),
                PcbSource::TdPcb { stale, .. } => ("td_pcb".to_owned(), stale),
                PcbSource::Extension { cpu } => (format!("extension[{cpu}]"), false),
                PcbSource::Recorded => ("recorded".to_owned(), false),
            };
            assert_eq!(
                (&source[..], stale),
                (text(&expected["pcb_source"]), false),
                "{at}"
            );
            assert_eq!(pcb.address().unwrap().0, number(&expected["pcb"]), "{at}");
            let td_pcb = space.read_pointer(VirtAddr(thread.address.0 + constants.td_pcb));
            assert_eq!(td_pcb.unwrap().0, number(&expected["td_pcb"]), "{at}");
            check_registers(case, thread, &expected["registers"], &at);
        }
    });
}

/// Every saved register has its value; of arm64's old layout x0 to x7 are leftovers that no
/// debugger may show.
fn check_registers(case: &Case, thread: &Thread, expected: &Value, at: &str) {
    let registers = thread.registers.as_ref().unwrap();
    let expected = expected.as_object().unwrap();
    let is_leftover = |name: &str| {
        case.session.dump().arch() == Arch::Arm64
            && matches!(name.strip_prefix('x'), Some(n) if n < "8" && n.len() == 1)
    };
    for (name, value) in expected {
        let value = (!is_leftover(name)).then(|| number(value));
        assert_eq!(registers.get(name), value, "{at} {name}");
    }
    assert!(
        registers
            .iter()
            .all(|(name, _)| expected.contains_key(name)),
        "{at}"
    );
}

#[test]
fn the_registers_that_a_debuggers_test_asserts_are_found() {
    each(|case| {
        let found = threads(case);
        for (index, expected) in case.expected["lldb_expected"]["threads"]
            .as_object()
            .unwrap()
        {
            let (_, thread) = &found[index.parse::<usize>().unwrap()];
            let registers = thread.registers.as_ref().unwrap();
            for (name, value) in expected["regs"].as_object().unwrap() {
                if let Some(found) = registers.get(name) {
                    assert_eq!(found, number(value), "{} thread {index} {name}", case.name);
                }
            }
            let pc = registers
                .iter()
                .find(|(name, _)| matches!(*name, "rip" | "eip" | "pc"));
            assert_eq!(pc.unwrap().1, number(&expected["bt"][0]));
        }
    });
}

/// The chain of frame pointers is memory that must read right: two words for each frame.
#[test]
fn the_stacks_hold_the_frames_that_were_found() {
    each(|case| {
        let space = case.session.space().unwrap();
        let word = space.word().bytes();
        for expected in list(&case.expected["threads"]) {
            let at = format!("{} thread {}", case.name, expected["index"]);
            let frames = list(&expected["frames"]);
            for pair in frames.windows(2) {
                let fp = number(&pair[0]["fp"]);
                let next = |address| space.read_word(VirtAddr(address)).unwrap();
                assert_eq!(next(fp), number(&pair[1]["fp"]), "{at}");
                assert_eq!(next(fp + word), number(&pair[1]["pc"]), "{at}");
                assert_eq!(fp + 2 * word, number(&pair[1]["sp"]), "{at}");
            }
            let last = number(&frames.last().unwrap()["fp"]);
            if text(&expected["end"]).ends_with("cannot be read") {
                assert!(space.read_word(VirtAddr(last)).is_err(), "{at}");
            }
            let expected = &expected["word_at_sp"];
            // Null where the sparse copy holds nothing.
            let word_at_sp = space.read_word(VirtAddr(number(&frames[0]["sp"])));
            let word_at_sp = word_at_sp.ok().filter(|word| *word != 0);
            assert_eq!(
                word_at_sp,
                (!expected.is_null()).then(|| number(expected)),
                "{at}"
            );
        }
    });
}
