//! The scheduler: every thread in one table, whose turn it is goes round.
//!
//! The lock is held across a switch: the thread that stops takes it, the one that goes on releases
//! it. Interrupts are off meanwhile.

use crate::arch::pcb::{cpu_switch, trapframe};
use crate::arch::{cpu, time};
use crate::kern::proc::Start;
use crate::sys::lock::SpinLock;
use crate::sys::lock_object::{lock_object, turnstile};
use crate::sys::proc::{NOCPU, TDS_INHIBITED, TDS_RUNNING, TDS_RUNQ, thread};
use crate::sys::{kdb, pcpu, uart};
use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::Ordering;

/// The most threads beside the idle ones.
const THREADS_MAX: usize = 256;

static SCHED: SpinLock<Table> = SpinLock::new(
    c"sched lock",
    Table {
        threads: [None; THREADS_MAX],
        len: 0,
        last: 0,
    },
);

struct Table {
    threads: [Option<&'static thread>; THREADS_MAX],
    len: usize,
    /// The thread that was chosen last.
    last: usize,
}

impl Table {
    /// The next thread that can run here.
    fn choose(&mut self, cpu: usize, now: u64) -> Option<&'static thread> {
        for step in 1..=self.len {
            let index = (self.last + step) % self.len;
            let Some(thread) = self.threads[index] else {
                continue;
            };
            let state = thread.td_state.load(Ordering::Relaxed);
            let awake = state == TDS_RUNQ
                || state == TDS_INHIBITED && thread.wake_at.load(Ordering::Relaxed) <= now;
            if awake && (thread.bound_to == NOCPU || thread.bound_to == cpu as i32) {
                self.last = index;
                return Some(thread);
            }
        }
        None
    }
}

/// Lets a thread take part.
pub(crate) fn add(thread: &'static thread) {
    let mut table = SCHED.lock();
    let len = table.len;
    assert!(len < THREADS_MAX, "too many threads");
    table.threads[len] = Some(thread);
    table.len += 1;
}

/// Gives the CPU to another thread, until the tick `wake_at` or until it is this one's turn again.
#[unsafe(no_mangle)]
#[inline(never)]
fn mi_switch(wake_at: Option<u64>) {
    let interrupts = cpu::interrupts_on();
    sched_switch(wake_at);
    if interrupts {
        cpu::enable_interrupts();
    }
}

/// Switches under the scheduler's lock, which the thread that goes on releases.
#[unsafe(no_mangle)]
#[inline(never)]
fn sched_switch(wake_at: Option<u64>) {
    let mut table = SCHED.lock();
    let own = pcpu::current();
    let old = pcpu::curthread().expect("a thread switches");
    let now = time::now_ticks();
    // Only now: from here on another CPU may choose it, as soon as the lock is free again.
    let state = match wake_at {
        Some(tick) => {
            old.wake_at.store(tick, Ordering::Relaxed);
            TDS_INHIBITED
        }
        None => TDS_RUNQ,
    };
    old.td_state.store(state, Ordering::Relaxed);
    let cpuid = pcpu::cpuid();
    let new = match table.choose(cpuid, now) {
        Some(thread) => thread,
        // SAFETY: idle threads live forever, and every CPU has one.
        None => unsafe { &*own.pc_idlethread.load(Ordering::Acquire) },
    };
    new.td_state.store(TDS_RUNNING, Ordering::Relaxed);
    if ptr::eq(old, new) {
        return;
    }
    old.td_oncpu.store(NOCPU, Ordering::Relaxed);
    new.td_oncpu.store(cpuid as i32, Ordering::Relaxed);
    own.pc_curthread
        .store(ptr::from_ref(new).cast_mut(), Ordering::Release);
    own.pc_switches.fetch_add(1, Ordering::Relaxed);
    SCHED.hand_over(new.address());
    table.keep();
    // SAFETY: `new` does not run anywhere: its state said so under the lock. Its PCB holds where it
    // stood when it was switched out, or where it begins.
    unsafe {
        cpu_switch(
            old.td_pcb.load(Ordering::Relaxed),
            new.td_pcb.load(Ordering::Relaxed),
        );
    }
    SCHED.release();
}

/// The first thing that a new thread does.
#[unsafe(no_mangle)]
#[expect(
    improper_ctypes_definitions,
    reason = "a plain pointer, made and called by Rust alone"
)]
extern "C" fn fork_exit(start: Start, argument: usize, _frame: *const trapframe) -> ! {
    SCHED.release();
    cpu::enable_interrupts();
    start(argument);
    exit()
}

/// The running thread ends. Its structure and its stack stay, for those who look at them.
fn exit() -> ! {
    loop {
        sleep(c"exited", u64::MAX);
    }
}

/// Sleeps for some ticks; `why` is the wait message.
#[unsafe(export_name = "_sleep")]
#[inline(never)]
pub(crate) fn sleep(why: &'static CStr, for_ticks: u64) {
    let own = pcpu::curthread().expect("a thread sleeps");
    own.set_wmesg(Some(why));
    mi_switch(Some(time::now_ticks().saturating_add(for_ticks)));
    own.set_wmesg(None);
}

/// Gives the CPU to others for a tick, because a lock is taken.
#[unsafe(export_name = "turnstile_wait")]
#[inline(never)]
pub(crate) fn block(on: &'static turnstile, lock: &'static lock_object) {
    let own = pcpu::curthread().expect("a thread blocks");
    own.set_blocked(Some((on, lock)));
    mi_switch(Some(time::now_ticks() + 1));
    own.set_blocked(None);
}

/// Gives the CPU to others for some ticks, without sleeping.
pub(crate) fn yield_for(ticks: u64) {
    let end = time::now_ticks() + ticks;
    while time::now_ticks() < end {
        mi_switch(None);
    }
}

/// Sleeps forever, in pieces.
pub(crate) fn sleep_forever() -> ! {
    loop {
        sleep(c"psleep", 1000);
    }
}

/// A tick of the timer.
pub(crate) fn hardclock() {
    let own = pcpu::current();
    let is_idle =
        own.pc_curthread.load(Ordering::Relaxed) == own.pc_idlethread.load(Ordering::Relaxed);
    own.pc_cp_time[if is_idle { 4 } else { 2 }].fetch_add(1, Ordering::Relaxed);
    if pcpu::cpuid() == 0 {
        time::tick();
        if uart::collect_input() {
            kdb::kdb_enter("manual escape to debugger");
        }
    }
}

/// At the end of an interrupt: waiting threads get a turn.
pub(crate) fn preempt() {
    if pcpu::curthread().is_some() {
        mi_switch(None);
    }
}

/// What a CPU does while it has nothing to do.
pub(crate) fn idle_loop() -> ! {
    loop {
        mi_switch(None);
        cpu::wait_for_interrupt();
    }
}
