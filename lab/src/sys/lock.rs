//! Spin locks with interrupts off, shaped like FreeBSD's `struct mtx`.
//!
//! After a panic the scheduler has stopped: no lock that is held will ever be released, so
//! taking one succeeds at once. What it protects may be half changed; the panic path reads only what
//! survives that, and the dump path takes no lock at all.

use crate::arch::cpu;
use crate::arch::time::{self, Deadline};
use crate::sys::lock_object::{Class, lock_object};
use crate::sys::proc::thread;
use crate::sys::{mp, pcpu};
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Owner of a lock that is taken before there are threads.
const NO_THREAD: usize = 8;
/// How often a lock is tried without a delay, and how long it is tried in all. Delays are counted, for
/// time goes on while a debugger has the machine.
const SPINS: u64 = 100_000;
const DELAY_US: u64 = 50;
const SPIN_LIMIT_US: u64 = 5_000_000;

/// A value protected by a spin lock.
#[repr(C)]
pub(crate) struct SpinLock<T> {
    lock_object: lock_object,
    /// The owner's `struct thread`; 0 if there is none.
    mtx_lock: AtomicUsize,
    value: UnsafeCell<T>,
}

// SAFETY: one CPU at a time has the value; see above for the time after a panic, and
// `lock_impatiently` for the one exception.
unsafe impl<T: Send> Sync for SpinLock<T> {}

pub(crate) struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
    /// Whether this guard took the lock, and whether interrupts were on before.
    taken: bool,
    interrupts: bool,
}

impl<T> SpinLock<T> {
    pub(crate) const fn new(name: &'static CStr, value: T) -> Self {
        Self {
            lock_object: lock_object::new(name, Class::SpinMutex),
            mtx_lock: AtomicUsize::new(0),
            value: UnsafeCell::new(value),
        }
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.acquire(None)
    }

    /// As [`SpinLock::lock`], but after `limit_us` the value is used in spite of the lock's owner: the
    /// console must work even if a CPU died while it printed.
    pub(crate) fn lock_impatiently(&self, limit_us: u64) -> Guard<'_, T> {
        self.acquire(Some(Deadline::after_us(limit_us)))
    }

    fn acquire(&self, limit: Option<Deadline>) -> Guard<'_, T> {
        let interrupts = cpu::interrupts_on();
        cpu::disable_interrupts();
        let me = pcpu::curthread().map_or(NO_THREAD, |thread| ptr::from_ref(thread).addr());
        let mut taken = false;
        let mut spins = 0;
        while !mp::scheduler_stopped() {
            let lock = &self.mtx_lock;
            match lock.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    taken = true;
                    break;
                }
                // A fault in the middle of a message, too, is told on the console.
                Err(owner) if limit.is_some_and(|limit| owner == me || limit.has_passed()) => break,
                Err(owner) if owner == me && me != NO_THREAD => {
                    let name = self.lock_object.name();
                    panic!("lock {name:?} is taken twice by one thread")
                }
                Err(owner) => {
                    core::hint::spin_loop();
                    spins += 1;
                    if spins > SPINS {
                        time::delay_us(DELAY_US);
                    }
                    if spins > SPINS + SPIN_LIMIT_US / DELAY_US {
                        held_too_long(&self.lock_object, owner);
                    }
                }
            }
        }
        Guard {
            lock: self,
            taken,
            interrupts,
        }
    }

    /// The value, in spite of the lock's owner.
    pub(crate) const fn contents(&self) -> *mut T {
        self.value.get()
    }

    /// Hands the lock to another thread, which releases it: a thread switch holds the scheduler's
    /// lock from one thread to the next.
    pub(crate) fn hand_over(&self, to: usize) {
        self.mtx_lock.store(to, Ordering::Release);
    }

    /// Releases a lock that was handed over.
    pub(crate) fn release(&self) {
        self.mtx_lock.store(0, Ordering::Release);
    }
}

impl<T> Guard<'_, T> {
    /// Keeps the lock beyond the guard's life, and interrupts off.
    pub(crate) fn keep(self) {
        core::mem::forget(self);
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is ours, or the scheduler has stopped and no other CPU runs.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if self.taken {
            self.lock.mtx_lock.store(0, Ordering::Release);
        }
        if self.interrupts {
            cpu::enable_interrupts();
        }
    }
}

/// Panics because a lock that is not released stops this CPU for good.
#[unsafe(export_name = "_mtx_lock_indefinite_check")]
#[cold]
#[inline(never)]
fn held_too_long(lock: &lock_object, owner: usize) -> ! {
    let tid = if owner == NO_THREAD {
        0
    } else {
        // SAFETY: other owners are threads, which live forever.
        unsafe { (*ptr::with_exposed_provenance::<thread>(owner)).td_tid }
    };
    let name = lock.name();
    panic!("spin lock {lock:p} ({name}) held by {owner:#x} (tid {tid}) too long")
}
