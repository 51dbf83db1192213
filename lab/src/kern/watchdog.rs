//! The watchdog: a timer chip (QEMU's `ib700`) that sends a non-maskable interrupt to every CPU
//! unless it is patted in time. Off unless `lab.watchdog` names a number of seconds.

use crate::arch::{cpu, time};
use crate::kern::setting::WATCHDOG;
use crate::kern::{proc, sched};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Disables the chip, and starts it anew.
const PORT_OFF: u16 = 0x441;
const PORT_START: u16 = 0x443;

/// When it was patted last, in microseconds since boot; 0 if it is not running.
static LAST_PAT: AtomicU64 = AtomicU64::new(0);
/// The process that pats it has been told to stop.
static HANGS: AtomicBool = AtomicBool::new(false);

/// Seconds that it waits.
fn patience() -> u64 {
    WATCHDOG.get().min(30)
}

/// Starts the process that pats it.
pub(crate) fn init() {
    if patience() >= 2 {
        pat();
        proc::kproc_create("watchdogd", run, 0);
    }
}

fn run(_: usize) {
    while !HANGS.load(Ordering::Relaxed) {
        pat();
        sched::sleep(c"wdog", time::hz.unsigned_abs().into());
    }
}

/// Tells it that the system is alive. Also called by the dump, forevery buffer that it writes.
pub(crate) fn pat() {
    let seconds = patience();
    if seconds >= 2 {
        // Noted first: when the chip bites, it has been at least as long as the chip waits.
        LAST_PAT.store(time::uptime_us().max(1), Ordering::Relaxed);
        // It counts in steps of two seconds, from 30 down to 0.
        cpu::outb(PORT_START, 15 - (seconds / 2) as u8);
    }
}

/// No timeout while a person debugs.
pub(crate) fn suspend() {
    if patience() >= 2 {
        cpu::outb(PORT_OFF, 0);
    }
}

pub(crate) fn resume() {
    pat();
}

/// Whether it has waited long enough to bite.
pub(crate) fn has_expired() -> bool {
    let last = LAST_PAT.load(Ordering::Relaxed);
    let waited_us = time::uptime_us().saturating_sub(last);
    last != 0 && waited_us >= patience().saturating_sub(1) * 1_000_000
}

/// Lets the system look hung.
pub(crate) fn stop_patting() {
    HANGS.store(true, Ordering::Relaxed);
}
