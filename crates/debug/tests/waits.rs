//! States, parents, locks and deadlocks of a small kernel.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::Open as _;
use common::with_target;
use vmcore::process;
use vmcore_debug::arch::Machine;
use vmcore_debug::details::Details;
use vmcore_debug::locks::{self, Holder};
use vmcore_debug::unwind::{Registers, Start};
use vmcore_debug::whatis::{self, Fact};
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::addr::VirtAddr;
use vmcore_testkit::TestKernel;

#[test]
fn types_tell_what_processes_and_threads_do() {
    let kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let list = process::list(&session).unwrap();
    let details = Details::of(&target);
    let [shell, init, kernel_process] = &list.processes[..] else {
        panic!("{list:?}");
    };
    let of_shell = details.process(shell);
    assert_eq!((of_shell.ppid, of_shell.uid), (Some(1), Some(1001)));
    assert_eq!(of_shell.system, Some(false));
    assert_eq!(details.process(init).uid, Some(0));
    let of_kernel = details.process(kernel_process);
    assert_eq!((of_kernel.ppid, of_kernel.system), (None, Some(true)));
    let worker = details.thread(&shell.threads[0]);
    assert_eq!(worker.state, Some('L'));
    assert_eq!(worker.lock_name.as_deref(), Some("flow"));
    assert_eq!(worker.blocked_on, Some(VirtAddr(kernel.address("flow_ts"))));
    let sleeper = details.thread(&init.threads[0]);
    assert_eq!(sleeper.state, Some('D'));
    assert_eq!(sleeper.wait_message.as_deref(), Some("tree"));
    assert_eq!(
        sleeper.wait_channel,
        Some(VirtAddr(kernel.address("tree_sx")))
    );
    let stack = VirtAddr(kernel.address("stacks") + 16384);
    assert_eq!(sleeper.stack, Some((stack, 16384)));
    assert_eq!(details.thread(&kernel_process.threads[0]).state, Some('R'));
}

#[test]
fn two_threads_that_wait_for_each_other_are_a_deadlock() {
    let kernel = TestKernel::compile("kernel.c", &["-gdwarf-4"]);
    let found = find(&kernel);
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.cycles, [[100_002, 100_077]]);
    assert_eq!(found.waits.len(), 2);
    let flow = found.locks.iter().find(|lock| lock.name == "flow").unwrap();
    assert_eq!(flow.class, "sleep mutex");
    let init_thread = VirtAddr(kernel.address("init_thread"));
    assert_eq!(
        flow.holder,
        Holder::By {
            thread: init_thread,
            tid: Some(100_002)
        }
    );
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["locks"][0]["held"], "by");
}

#[test]
fn a_chain_ends_at_who_holds_everything_up() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    // init no longer waits for what the shell holds.
    set(&mut kernel, "init_thread", "td_wchan", 0);
    let found = find(&kernel);
    assert!(found.cycles.is_empty());
    assert_eq!(found.chains.len(), 1);
    assert_eq!(found.chains[0].tids, [100_077, 100_002]);
    assert!(!found.chains[0].is_cycle);
}

/// Writes a word into a member of a thread's structure.
fn set(kernel: &mut TestKernel, thread: &str, member: &str, value: u64) {
    let offset = with_target(kernel, |target| target.types().offset_of("thread", member));
    let at = kernel.address(thread) + offset.unwrap();
    kernel.write_words(at, &[value]);
}

/// Lets threads wait: each with a member of its structure that leads to what it waits for.
fn wait(kernel: &mut TestKernel, waits: &[(&str, &str, &str)]) {
    for (thread, member, what) in waits {
        let what = kernel.address(what);
        set(kernel, thread, member, what);
    }
}

fn find(kernel: &TestKernel) -> locks::Locks {
    with_target(kernel, |target| {
        locks::find(target, &target.processes().unwrap())
    })
}

fn holder<'a>(found: &'a locks::Locks, name: &str) -> &'a Holder {
    let mut locks = found.locks.iter();
    &locks.find(|lock| lock.name == name).unwrap().holder
}

#[test]
fn a_chain_leads_through_locks_of_every_kind_to_who_waits_for_nobody() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    // The shell wants to write what init writes; init wants the vnode of the idle thread.
    let waits = [
        ("shell_thread", "td_blocked", "table_ts"),
        ("init_thread", "td_wchan", "vnode_lock"),
    ];
    wait(&mut kernel, &waits);
    let (init, idle) = (kernel.address("init_thread"), kernel.address("idle_thread"));
    let (rw, vnode) = (kernel.address("table_rw"), kernel.address("vnode_lock"));
    // Whoever waits has left flags in the lowest bits.
    kernel.write_words(rw + 24, &[init | 0x6]);
    kernel.write_words(vnode + 24, &[idle | 0x14]);
    let found = find(&kernel);
    assert_eq!(found.chains.len(), 1);
    assert_eq!(found.chains[0].tids, [100_077, 100_002, 100_000]);
    assert!(!found.chains[0].is_cycle && found.cycles.is_empty());
    let by = |thread, tid| Holder::By {
        thread: VirtAddr(thread),
        tid: Some(tid),
    };
    assert_eq!(holder(&found, "table"), &by(init, 100_002));
    assert_eq!(holder(&found, "ufs"), &by(idle, 100_000));
    let sleeping: Vec<_> = found
        .waits
        .iter()
        .map(|wait| (wait.tid, wait.sleeping))
        .collect();
    assert_eq!(sleeping, [(100_077, false), (100_002, true)]);
    // The vnode's owner turns out to be the shell: all of them wait for ever.
    let shell = kernel.address("shell_thread");
    kernel.write_words(vnode + 24, &[shell | 0x4]);
    let found = find(&kernel);
    assert_eq!(found.cycles, [[100_002, 100_077]]);
    assert_eq!(holder(&found, "ufs"), &by(shell, 100_077));
}

#[test]
fn locks_without_one_owner_say_who_has_them() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let waits = [
        ("shell_thread", "td_blocked", "table_ts"),
        ("init_thread", "td_wchan", "vnode_lock"),
    ];
    wait(&mut kernel, &waits);
    let (rw, vnode) = (kernel.address("table_rw"), kernel.address("vnode_lock"));
    // Three readers; a buffer that the disk has.
    kernel.write_words(rw + 24, &[3 << 5 | 1]);
    kernel.write_words(vnode + 24, &[!0x1f | 0x4]);
    let found = find(&kernel);
    assert_eq!(holder(&found, "table"), &Holder::Shared { count: 3 });
    assert_eq!(holder(&found, "ufs"), &Holder::Disowned);
    assert!(found.chains.is_empty() && found.cycles.is_empty());
    // Nobody at all; a thread that is in no list.
    kernel.write_words(rw + 24, &[1]);
    kernel.write_words(vnode + 24, &[0xffff_ffff_9000_0004]);
    let found = find(&kernel);
    assert_eq!(holder(&found, "table"), &Holder::Free);
    let unknown = Holder::By {
        thread: VirtAddr(0xffff_ffff_9000_0000),
        tid: None,
    };
    assert_eq!(holder(&found, "ufs"), &unknown);
    // Of a read-mostly lock the turnstile knows the owner.
    wait(&mut kernel, &[("shell_thread", "td_blocked", "hook_ts")]);
    let init = VirtAddr(kernel.address("init_thread"));
    let found = find(&kernel);
    let by_init = Holder::By {
        thread: init,
        tid: Some(100_002),
    };
    assert_eq!(holder(&found, "hooks"), &by_init);
    assert_eq!(found.chains[0].tids, [100_077, 100_002]);
    // What is no lock is nobody's.
    let stacks = [
        ("shell_thread", "td_blocked", "stacks"),
        ("init_thread", "td_wchan", "stacks"),
    ];
    wait(&mut kernel, &stacks);
    assert_eq!(find(&kernel), locks::Locks::default());
}

#[test]
fn a_sleep_queue_is_a_locks_only_if_its_type_says_so() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5", "-DSLEEP_QUEUES"]);
    let found = find(&kernel);
    assert_eq!(found.cycles, [[100_002, 100_077]]);
    let wait = found.waits.iter().find(|wait| wait.tid == 100_002).unwrap();
    assert_eq!(
        (wait.sleeping, wait.wants),
        (true, Some(locks::Mode::Exclusive))
    );
    // A reader; its owner waits for the other lock.
    set(&mut kernel, "init_thread", "td_sqqueue", 1);
    let found = find(&kernel);
    let wait = found.waits.iter().find(|wait| wait.tid == 100_002).unwrap();
    assert_eq!(wait.wants, Some(locks::Mode::Shared));
    let tree = found.locks.iter().find(|lock| lock.name == "tree").unwrap();
    assert_eq!(
        tree.owner_does.as_deref(),
        Some("waits for sleep mutex \"flow\"")
    );
    // A lockmgr lock has any wait message, an sx lock its name.
    set(&mut kernel, "init_thread", "td_blocked", 0);
    wait_for(&mut kernel, "vnode_lock");
    assert_eq!(find(&kernel).waits.len(), 2);
    wait_for(&mut kernel, "tree_sx");
    let message = kernel.address("linker_path");
    set(&mut kernel, "init_thread", "td_wmesg", message);
    assert_eq!(find(&kernel).waits.len(), 1);
    // Memory that has the class bits of a lock, on a queue of another type, and on none.
    wait_for(&mut kernel, "random_bytes");
    assert_eq!(find(&kernel).waits.len(), 1);
    wait_for(&mut kernel, "flow_mtx");
    assert_eq!(find(&kernel).waits.len(), 1);
    // A circle of queues ends the search, and with it what is known of types.
    let queue = kernel.address("random_sq");
    kernel.write_words(queue + 40, &[queue]);
    wait_for(&mut kernel, "random_bytes");
    assert_eq!(find(&kernel).waits.len(), 1);
}

fn wait_for(kernel: &mut TestKernel, what: &str) {
    wait(kernel, &[("init_thread", "td_wchan", what)]);
}

#[test]
fn an_address_is_explained() {
    let kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let list = process::list(&session).unwrap();
    let at = |address: u64| whatis::at(&target, &list, VirtAddr(address));
    let offset = target.types().offset_of("proc", "p_comm").unwrap();
    let facts = at(kernel.address("shell") + offset + 2);
    assert_eq!(
        facts[0],
        Fact::Symbol {
            name: format!("shell+{:#x}", offset + 2)
        }
    );
    assert_eq!(
        facts[1],
        Fact::Process {
            pid: 77,
            comm: "sh".into(),
            offset: offset + 2,
            member: Some("p_comm".into()),
        }
    );
    assert!(matches!(
        facts[2],
        Fact::Mapped {
            file_offset: Some(_),
            ..
        }
    ));
    let facts = at(kernel.address("stacks") + 2 * 16384 + 0x100);
    let stack = Fact::Stack {
        tid: 100_077,
        below_top: 16384 - 0x100,
    };
    assert!(facts.contains(&stack), "{facts:?}");
    assert_eq!(
        stack.to_string(),
        "kernel stack of 100077, 0x3f00 below its top"
    );
    assert!(matches!(
        &at(0xffff_ffff_c000_0000)[..],
        [Fact::Missing { .. }]
    ));
}

#[test]
fn a_cpu_that_spins_names_the_lock_that_a_register_leads_to() {
    let kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let list = process::list(&session).unwrap();
    let spinning = locks::Spinning::of(&target, &list).unwrap();
    let machine = Machine::of(target.arch());
    let lock_of = |thread: &str, values: &[u64]| {
        let mut registers = Registers::default();
        for (number, value) in values.iter().enumerate() {
            registers.set(number, Some(*value));
        }
        registers.set(machine.pc, Some(kernel.address("callee")));
        let start = Start {
            registers,
            never_ran: false,
            interrupted: true,
        };
        let frames = target.unwinder().walk(&start).frames;
        let found = spinning.lock(VirtAddr(kernel.address(thread)), &frames);
        found.map(|lock| lock.name)
    };
    let (flow, tree) = (kernel.address("flow_mtx"), kernel.address("tree_sx"));
    // The lock itself, or its word, which the slow path of a lock is given.
    for value in [flow, flow + 24] {
        let name = lock_of("shell_thread", &[7, value, 0]);
        assert_eq!(name.as_deref(), Some("flow"), "{value:#x}");
    }
    // Its owner does not spin on it; two locks are one too many; numbers are none.
    assert_eq!(lock_of("init_thread", &[flow]), None);
    assert_eq!(lock_of("idle_thread", &[flow, tree]), None);
    assert_eq!(lock_of("shell_thread", &[7, u64::MAX]), None);
}
