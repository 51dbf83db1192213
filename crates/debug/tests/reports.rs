//! Reports of crashes whose stacks the tests lay out: which function is at fault, and what is said of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::with_target;
use std::collections::BTreeSet;
use vmcore_debug::report::kind::CrashKind;
use vmcore_debug::report::{self, Report};
use vmcore_testkit::TestKernel;
use vmcore_testkit::stacks::{kernel, lay, lay_at};

const TRAPPED: &str = "doadump kern_reboot vpanic panic trap_fatal trap_pfault trap";

fn reported(kernel: &TestKernel) -> Report {
    with_target(kernel, |target| {
        report::of(target, &target.processes().unwrap()).unwrap()
    })
}

/// The report of a crash with this stack and message.
fn report_of(stack: &str, message: Option<&str>) -> Report {
    let mut kernel = kernel(stack, &["-gdwarf-5"]);
    lay(&mut kernel, stack);
    set_message(&mut kernel, message);
    reported(&kernel)
}

fn set_message(kernel: &mut TestKernel, message: Option<&str>) {
    let at = kernel.address("untouched");
    if let Some(message) = message {
        kernel.write(at, message.as_bytes());
        kernel.write(at + message.len() as u64, &[0]);
    }
    let panicstr = kernel.address("panicstr");
    kernel.write_words(panicstr, &[message.map_or(0, |_| at)]);
}

fn place(report: &Report) -> &str {
    report.crash.place.as_deref().unwrap_or("none")
}

#[test]
fn crashes_that_sysctl_makes_are_told_apart() {
    let recursion = "kdb_stack_overflow ".repeat(492);
    let crashes = [
        (
            format!("{TRAPPED} calltrap[12,0,0x10] kdb_sysctl_trap sysctl_root_handler_locked"),
            "page fault",
            CrashKind::PageFault,
            "kdb_sysctl_trap",
            7,
        ),
        (
            format!(
                "{TRAPPED} calltrap[12,16,0xdeadc0de] 0xdeadc0de kdb_sysctl_trap_code \
                 sysctl_root_handler_locked"
            ),
            "page fault",
            CrashKind::PageFault,
            "kdb_sysctl_trap_code",
            7,
        ),
        (
            format!(
                "doadump kern_reboot vpanic panic dblfault_handler Xdblfault[23,0,0] {recursion} \
                 kdb_sysctl_stack_overflow sysctl_root_handler_locked"
            ),
            "double fault",
            CrashKind::DoubleFault,
            "kdb_stack_overflow",
            5,
        ),
        (
            "doadump kern_reboot vpanic panic kdb_sysctl_panic sysctl_root_handler_locked".into(),
            "kdb_sysctl_panic",
            CrashKind::Forced,
            "kdb_sysctl_panic",
            4,
        ),
    ];
    let mut signatures = BTreeSet::new();
    for (stack, message, kind, function, handlers) in crashes {
        let report = report_of(&stack, Some(message));
        assert_eq!(report.crash.kind, kind, "{function}");
        assert_eq!(place(&report), function);
        assert_eq!(report.crash.fault.is_some(), kind != CrashKind::Forced);
        // Nothing is hidden but what belongs to the panic.
        let hidden = report.thread.as_ref().unwrap().hidden_frames;
        assert_eq!(
            hidden,
            handlers + usize::from(kind != CrashKind::Forced),
            "{function}"
        );
        signatures.insert(report.signature.text.clone());
        let text = report.to_string();
        assert!(text.lines().count() < 60, "{text}");
        match kind {
            CrashKind::DoubleFault => {
                assert!(
                    text.contains("this frame repeats, 492 rounds in all: #1 to #491"),
                    "{text}"
                );
                assert!(text.starts_with("PANIC   double fault: the kernel stack overflowed\n"));
                assert!(!text.contains("fault address"), "{text}");
                let functions = &report.signature.functions;
                assert_eq!(
                    functions[..2],
                    ["kdb_stack_overflow", "kdb_sysctl_stack_overflow"]
                );
            }
            CrashKind::PageFault => assert!(
                text.contains("FAULT   trap 12 (page fault), error"),
                "{text}"
            ),
            _ => {}
        }
    }
    assert_eq!(signatures.len(), 4);
}

#[test]
fn a_trap_is_known_without_a_panic() {
    let handlers = "kdb_trap trap_fatal trap_pfault trap calltrap[12,2,0x18] flow_lookup worker";
    let stack = format!("doadump db_dump db_command db_command_loop db_trap {handlers}");
    let silent = report_of(&stack, None);
    assert_eq!(silent.crash.kind, CrashKind::PageFault);
    assert_eq!(
        silent.crash.summary,
        "page fault: kernel write to 0x18 (NULL + 0x18)"
    );
    assert_eq!(place(&silent), "flow_lookup");
    // A panic that is asked for in the debugger is no other crash.
    let stack = format!("doadump kern_reboot vpanic panic db_panic db_command db_trap {handlers}");
    let asked = report_of(&stack, Some("from debugger"));
    assert_eq!(asked.crash.kind, CrashKind::PageFault);
    assert_eq!(asked.crash.message.as_deref(), Some("from debugger"));
    assert_eq!(asked.crash.summary, silent.crash.summary);
    let panicked = report_of(
        &format!("{TRAPPED} calltrap[12,2,0x18] flow_lookup worker"),
        Some("page fault"),
    );
    for other in [&silent, &asked] {
        assert_eq!(other.signature.text, panicked.signature.text);
    }
    let entered = "doadump db_dump db_trap kdb_trap trap calltrap[3,0,0] kdb_enter kdb_sysctl_enter sysctl_root";
    let entered = report_of(entered, None);
    assert_eq!(entered.crash.kind, CrashKind::Forced);
    assert_eq!(
        entered.crash.summary,
        "no panic: the dump was requested in the debugger"
    );
    assert_eq!(place(&entered), "kdb_sysctl_enter");
}

#[test]
fn one_call_site_has_one_signature_wherever_the_wild_call_went() {
    let mut signatures = BTreeSet::new();
    for (error, to) in [
        (16, "0x123456789000"),
        (16, "0xdeadc0de"),
        (17, "0xfffffe0012345678"),
    ] {
        let report = report_of(
            &format!("{TRAPPED} calltrap[12,{error},{to}] {to} flow_hook worker fork_exit"),
            Some("page fault"),
        );
        assert_eq!(place(&report), "flow_hook");
        assert_eq!(
            report.signature.functions,
            ["flow_hook", "worker", "fork_exit"]
        );
        assert!(
            report
                .crash
                .summary
                .starts_with("page fault: kernel jump to 0x")
        );
        let text = report.to_string();
        assert!(text.contains(" trap, not code\n"), "{text}");
        signatures.insert(report.signature.text);
    }
    // An address that no processor takes is refused in another way.
    let refused = report_of(
        &format!("{TRAPPED} calltrap[9,0,0] 0xdeadc0dedeadc0de flow_hook worker fork_exit"),
        Some("general protection fault"),
    );
    assert_eq!(
        (refused.crash.kind, place(&refused)),
        (CrashKind::ProtectionFault, "flow_hook")
    );
    signatures.insert(refused.signature.text);
    assert_eq!(signatures.len(), 1);
}

#[test]
fn faults_that_cannot_be_resolved_are_the_interrupted_functions() {
    for message in [
        "vm_fault_lookup: fault on nofault entry, addr: 0x18",
        "vm_fault failed: 18",
    ] {
        let report = report_of(
            "vpanic panic vm_fault vm_fault_trap trap_pfault trap calltrap[12,0,0x18] flow worker",
            Some(message),
        );
        assert_eq!(
            (report.crash.kind, place(&report)),
            (CrashKind::PageFault, "flow")
        );
    }
    let report = report_of(
        "vpanic panic trap_fatal trap calltrap[9,0,0] flow worker",
        Some("general protection fault"),
    );
    assert_eq!(report.crash.summary, "general protection fault");
    assert!(!report.to_string().contains("fault address"));
}

/// A shell that notices that init sleeps with a lock.
fn sleeper(stack: &str) -> TestKernel {
    let asleep = "sched_switch mi_switch sleepq_wait _sleep flow_sleeper fork_exit";
    let mut kernel = kernel(&format!("{stack} {asleep}"), &["-gdwarf-5"]);
    lay(&mut kernel, stack);
    let pcb = kernel.address("pcbs") + 320;
    let offset = |member| with_target(&kernel, |target| target.types().offset_of("thread", member));
    let (channel, message) = (offset("td_wchan").unwrap(), offset("td_wmesg").unwrap());
    let (init, hz) = (kernel.address("init_thread"), kernel.address("hz"));
    let text = kernel.address("untouched") + 0x200;
    lay_at(&mut kernel, pcb, "page_array", asleep);
    kernel.write(text, b"nap\0");
    kernel.write_words(init + channel, &[hz]);
    kernel.write_words(init + message, &[text]);
    kernel
}

#[test]
fn the_owner_of_a_lock_who_sleeps_is_at_fault() {
    let stack =
        "doadump vpanic panic propagate_priority turnstile_wait __mtx_lock_sleep flow_input";
    let mut kernel = sleeper(stack);
    set_message(&mut kernel, Some("sleeping thread holds flow"));
    let report = reported(&kernel);
    assert_eq!(
        (report.crash.kind, place(&report)),
        (CrashKind::Lock, "flow_sleeper")
    );
    assert_eq!(report.crash.noticed_by, Some(100_077));
    assert_eq!(
        report.crash.summary,
        "sleeping thread holds flow: thread 100002 (init), asleep on nap"
    );
    assert_eq!(report.thread.as_ref().unwrap().tid, 100_002);
    assert_eq!(report.signature.functions, ["flow_sleeper", "fork_exit"]);
    assert!(
        report
            .to_string()
            .contains("thread  100002, process 1 (init); thread 100077 panicked")
    );
    assert_eq!(
        report.locks.locks[0].owner_does.as_deref(),
        Some("sleeps on \"nap\"")
    );
}

#[test]
fn the_words_before_a_panic_name_the_owner_of_a_spin_lock() {
    let stack = "doadump vpanic panic _mtx_lock_indefinite_check _mtx_lock_spin_cookie flow_intr";
    let mut kernel = sleeper(stack);
    set_message(&mut kernel, Some("spin lock held too long"));
    let (lock, owner) = (kernel.address("flow_mtx"), kernel.address("init_thread"));
    kernel.log = format!(
        "booted\nspin lock {lock:#x} (flow) held by {owner:#x} (tid 100002) too long\n\
         panic: spin lock held too long\ncpuid = 0\n"
    );
    let report = reported(&kernel);
    assert_eq!(
        (report.crash.kind, place(&report)),
        (CrashKind::Hung, "flow_sleeper")
    );
    assert_eq!(
        report.crash.summary,
        "spin lock held too long: flow held by thread 100002 (init), asleep on nap"
    );
    // The thread that spins is on no queue.
    let shell = kernel.address("shell_thread");
    for (member, value) in [("td_blocked", 0_u64), ("td_oncpu", 2)] {
        let offset = with_target(&kernel, |target| target.types().offset_of("thread", member));
        let at = shell + offset.unwrap();
        match member {
            "td_oncpu" => kernel.write(at, &2_i32.to_le_bytes()),
            _ => kernel.write_words(at, &[value]),
        }
    }
    let report = reported(&kernel);
    let wait = &report.locks.waits[0];
    assert_eq!(
        (wait.tid, wait.lock.0, wait.spinning),
        (100_077, lock, true)
    );
    assert!(!wait.sleeping);
    let flow = &report.locks.locks[0];
    assert_eq!(
        (&*flow.name, flow.owner_does.as_deref()),
        ("flow", Some("sleeps on \"nap\""))
    );
}
