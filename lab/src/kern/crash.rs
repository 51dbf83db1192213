//! Crashing on purpose: every way to panic, on any CPU, and what makes a dump hard.

use crate::arch::{cpu, layout, time};
use crate::dev::vtblk;
use crate::kern::setting::CRASH_CPU;
use crate::kern::{proc, sched, watchdog};
use crate::sys::console::printf;
use crate::sys::{kdb, mp, pcpu, tunable};
use crate::vm::{phys, pmap};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vmcore_format::addr::{PhysAddr, VirtAddr};

/// A name that is written to so that something happens.
pub(crate) struct Action {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&str),
    /// Whether it makes sense while everything is stopped.
    pub(crate) in_debugger: bool,
}

const fn crash(name: &'static str, about: &'static str, run: fn(&str)) -> Action {
    Action {
        name,
        about,
        run,
        in_debugger: false,
    }
}

/// The ones of FreeBSD have FreeBSD's names.
pub(crate) static ACTIONS: [Action; 14] = [
    crash("debug.kdb.enter", "enter the debugger", |_| {
        kdb::kdb_enter("sysctl debug.kdb.enter")
    }),
    crash("debug.kdb.panic", "panic", |_| {
        on_crash_cpu(|_| panic!("kdb_sysctl_panic"))
    }),
    crash("debug.kdb.trap", "read through a null pointer", |_| {
        on_crash_cpu(read_null)
    }),
    crash("debug.kdb.trap_code", "call what is not code", |_| {
        on_crash_cpu(jump_astray)
    }),
    crash("debug.kdb.stack_overflow", "overflow the stack", |_| {
        on_crash_cpu(|depth| _ = overflow(depth as u64))
    }),
    crash("lab.assert", "fail an assertion", |_| {
        on_crash_cpu(fail_assertion)
    }),
    crash(
        "lab.double_fault",
        "fault while a fault is delivered",
        |_| on_crash_cpu(fault_twice),
    ),
    crash("lab.protection", "use an address that is none", |_| {
        on_crash_cpu(use_noncanonical)
    }),
    crash(
        "lab.panic_together",
        "panic on every CPU at the same time",
        |_| panic_together(),
    ),
    crash(
        "lab.spin",
        "make a CPU (the number written) spin with interrupts off",
        |value| on_cpu(value, |_| spin()),
    ),
    crash(
        "lab.spin_nmi",
        "make a CPU spin where not even an NMI gets through",
        |value| on_cpu(value, |_| spin_deaf()),
    ),
    crash("lab.hang", "stop patting the watchdog", |_| {
        watchdog::stop_patting()
    }),
    crash(
        "lab.disk_panic",
        "panic in the disk driver, with requests in flight",
        |_| on_crash_cpu(|_| vtblk::panic_in_driver()),
    ),
    Action {
        name: "lab.poison",
        about: "make so many pages of the load unreadable",
        run: poison,
        in_debugger: true,
    },
];

/// Runs `what` in a thread on the CPU that `lab.crash_cpu` names.
pub(crate) fn on_crash_cpu(what: proc::Start) {
    run_on(CRASH_CPU.get() as usize, what);
}

/// Runs `what` in a thread on the CPU whose number is written.
fn on_cpu(value: &str, what: proc::Start) {
    match tunable::parse(value) {
        Some(cpu) => run_on(cpu as usize, what),
        None => printf!("not a CPU number: {value}\n"),
    }
}

fn run_on(cpu: usize, what: proc::Start) {
    if cpu >= mp::ncpus() {
        printf!("no cpu{cpu}\n");
        return;
    }
    let process = proc::kproc_create("crasher", |_| {}, 0);
    proc::kthread_add(process, "culprit", cpu as i32, what, 0);
    // The culprit gets its turn before the next command.
    sched::sleep(c"crash", u64::from(time::hz.unsigned_abs()));
}

/// Reads a word from wherever the caller likes; the compiler is not asked for its opinion.
#[inline(always)]
pub(crate) fn load_from(va: u64) {
    // SAFETY: none: this is the crash.
    unsafe { core::arch::asm!("mov {}, [{}]", out(reg) _, in(reg) va, options(nostack, readonly)) }
}

#[inline(never)]
fn read_null(_: usize) {
    load_from(0x18);
}

#[inline(never)]
fn jump_astray(_: usize) {
    // SAFETY: none: this is the crash. The direct map is not executable.
    unsafe { core::arch::asm!("call {}", "ud2", in(reg) layout::DMAP_MIN.0, options(noreturn)) }
}

#[inline(never)]
fn use_noncanonical(_: usize) {
    load_from(0xdead_c0de_dead_c0d8);
}

/// Calls itself until the stack is full; the sum keeps the calls from being folded into a loop.
#[inline(never)]
#[expect(unconditional_recursion, reason = "this is the crash")]
fn overflow(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 16]);
    overflow(depth + 1) + room[depth as usize % 16]
}

#[inline(never)]
fn fail_assertion(_: usize) {
    let free = phys::free_pages();
    assert!(free == 0, "free count {free} should be zero");
}

/// Without a stack even the page fault cannot be delivered.
#[inline(never)]
fn fault_twice(_: usize) {
    // SAFETY: none: this is the crash.
    unsafe { core::arch::asm!("xor esp, esp", "push rax", options(noreturn)) }
}

static ARRIVED: AtomicU32 = AtomicU32::new(0);

/// One thread on each CPU; they wait for each other and panic.
fn panic_together() {
    ARRIVED.store(0, Ordering::Release);
    let process = proc::kproc_create("crasher", |_| {}, 0);
    for cpu in 0..mp::ncpus() {
        proc::kthread_add(process, "culprit", cpu as i32, meet_and_panic, 0);
    }
    sched::sleep(c"crash", u64::from(time::hz.unsigned_abs()));
}

fn meet_and_panic(_: usize) {
    cpu::disable_interrupts();
    ARRIVED.fetch_add(1, Ordering::AcqRel);
    while (ARRIVED.load(Ordering::Acquire) as usize) < mp::ncpus() {
        core::hint::spin_loop();
    }
    panic!("all together on cpu{}", pcpu::cpuid());
}

fn spin() -> ! {
    cpu::disable_interrupts();
    loop {
        core::hint::spin_loop();
    }
}

/// CPUs that never leave their handler of non-maskable interrupts, once they are in it.
static DEAF: AtomicU64 = AtomicU64::new(0);

fn spin_deaf() {
    DEAF.fetch_or(1 << pcpu::cpuid(), Ordering::AcqRel);
    spin()
}

/// For that handler: on a deaf CPU it stays here.
pub(crate) fn stay_if_deaf() {
    while DEAF.load(Ordering::Acquire) >> pcpu::cpuid() & 1 == 1 {
        core::hint::spin_loop();
    }
}

/// Takes pages of the load out of the direct map.
fn poison(value: &str) {
    let Some(count) = tunable::parse(value) else {
        printf!("not a number: {value}\n");
        return;
    };
    let mut left = count;
    crate::kern::load::for_each_page(|va: VirtAddr| {
        if left > 0
            && let Some(pa) = pmap::kextract(va)
        {
            pmap::poison(PhysAddr(pa.0));
            printf!("poisoned {va} at physical {pa}\n");
            left -= 1;
        }
    });
}
