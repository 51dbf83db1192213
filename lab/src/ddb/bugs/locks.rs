//! Bugs of locks: taken in opposite order, not released, held in a sleep.

use crate::kern::mutex::mtx;
use crate::kern::{proc, sched};
use crate::sys::console::printf;
use crate::sys::lock::SpinLock;
use crate::sys::proc::{NOCPU, thread};
use core::sync::atomic::{AtomicU64, Ordering};

static PROC_LOCK: mtx = mtx::new(c"process lock");
static FILEDESC_LOCK: mtx = mtx::new(c"filedesc structure");
/// Ticks for which a thread may wait for a lock.
const DEADLOCK_TICKS: u64 = 30;

/// One thread closes files, another one ends the process, each with the locks in its own order.
pub(super) fn lock_order(_: usize) {
    let process = proc::kproc_create("httpd", |_| {}, 0);
    let closer = proc::kthread_add(process, "closer", NOCPU, fdescfree, 0);
    proc::kthread_add(process, "exiter", NOCPU, exit1, 0);
    deadlkres(closer);
}

#[unsafe(no_mangle)]
#[inline(never)]
fn fdescfree(_: usize) {
    FILEDESC_LOCK.lock();
    sched::yield_for(2);
    PROC_LOCK.lock();
    PROC_LOCK.unlock();
    FILEDESC_LOCK.unlock();
}

#[unsafe(no_mangle)]
#[inline(never)]
fn exit1(_: usize) {
    PROC_LOCK.lock();
    sched::yield_for(2);
    FILEDESC_LOCK.lock();
    FILEDESC_LOCK.unlock();
    PROC_LOCK.unlock();
}

/// Watches a thread, as FreeBSD's deadlock resolver watches all.
fn deadlkres(td: &'static thread) {
    let mut blocked_ticks = 0;
    loop {
        sched::sleep(c"-", 1);
        blocked_ticks = if td.is_blocked() {
            blocked_ticks + 1
        } else {
            0
        };
        if blocked_ticks > DEADLOCK_TICKS {
            deadlres_td_on_lock(td, blocked_ticks);
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
fn deadlres_td_on_lock(td: &thread, tticks: u64) -> ! {
    panic!(
        "deadlres_td_on_lock: possible deadlock detected for {td:p} ({}), blocked for {tticks} ticks",
        td.name()
    )
}

/// A queue of packets for the device.
struct TxQueue {
    free: u64,
}

static TX_LOCK: SpinLock<TxQueue> = SpinLock::new(c"em0 tx", TxQueue { free: 0 });
static TX_DROPS: AtomicU64 = AtomicU64::new(0);

/// The driver finds its queue full and returns without releasing the lock.
pub(super) fn spin_lock(_: usize) {
    em_start(1);
    let process = proc::kproc_create("if_io_tqg_0", |_| {}, 0);
    proc::kthread_add(process, "if_io_tqg_0", NOCPU, em_start, 1);
    sched::sleep_forever();
}

#[unsafe(no_mangle)]
#[inline(never)]
fn em_start(packets: usize) {
    let mut queue = TX_LOCK.lock();
    if queue.free < packets as u64 {
        TX_DROPS.fetch_add(1, Ordering::Relaxed);
        return queue.keep();
    }
    queue.free -= packets as u64;
}

static VNODE_LOCK: mtx = mtx::new(c"vnode interlock");

/// A thread waits for its disk with a mutex that another one wants.
pub(super) fn sleeping_thread(_: usize) {
    proc::kproc_create("fsync", bufwait, 0);
    sched::yield_for(5);
    vget();
}

#[unsafe(no_mangle)]
#[inline(never)]
fn bufwait(_: usize) {
    VNODE_LOCK.lock();
    sched::sleep(c"biord", 1000);
    VNODE_LOCK.unlock();
}

#[unsafe(no_mangle)]
#[inline(never)]
fn vget() {
    VNODE_LOCK.lock();
    printf!("vget: the interlock was free\n");
    VNODE_LOCK.unlock();
}
