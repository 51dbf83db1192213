//! Mutexes on which threads block, shaped like FreeBSD's `struct mtx`.

use crate::kern::sched;
use crate::sys::console::printf;
use crate::sys::lock_object::{Class, lock_object, turnstile};
use crate::sys::pcpu;
use crate::sys::proc::thread;
use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

#[repr(C)]
pub(crate) struct mtx {
    lock_object: lock_object,
    /// The owner; null if there is none.
    mtx_lock: AtomicPtr<thread>,
    turnstile: turnstile,
}

impl mtx {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self {
            lock_object: lock_object::new(name, Class::SleepMutex),
            mtx_lock: AtomicPtr::new(ptr::null_mut()),
            turnstile: turnstile {
                ts_lockobj: AtomicPtr::new(ptr::null_mut()),
                ts_owner: AtomicPtr::new(ptr::null_mut()),
            },
        }
    }

    /// Takes it, and blocks until it is free. An owner that sleeps would make others sleep as long.
    #[unsafe(export_name = "__mtx_lock_sleep")]
    #[inline(never)]
    pub(crate) fn lock(&'static self) {
        let own = pcpu::curthread().expect("a thread locks");
        let me = ptr::from_ref(own).cast_mut();
        while let Err(owner) = self.mtx_lock.compare_exchange(
            ptr::null_mut(),
            me,
            Ordering::Acquire,
            Ordering::Acquire,
        ) {
            // SAFETY: threads live forever.
            propagate_priority(unsafe { &*owner });
            let lock = ptr::from_ref(&self.lock_object).cast_mut();
            self.turnstile.ts_lockobj.store(lock, Ordering::Relaxed);
            self.turnstile
                .ts_owner
                .store(owner.cast(), Ordering::Relaxed);
            sched::block(&self.turnstile, &self.lock_object);
        }
    }

    pub(crate) fn unlock(&self) {
        let me = pcpu::curthread().map_or(ptr::null_mut(), |own| ptr::from_ref(own).cast_mut());
        let owner = self.mtx_lock.swap(ptr::null_mut(), Ordering::Release);
        assert!(owner == me, "mutex {:?} not owned", self.lock_object.name());
    }
}

/// Where FreeBSD lends the owner its priority: one that sleeps cannot use it.
#[unsafe(no_mangle)]
#[inline(never)]
fn propagate_priority(owner: &thread) {
    if owner.is_sleeping() {
        printf!(
            "Sleeping thread (tid {}, pid {}) owns a non-sleepable lock\n",
            owner.td_tid,
            owner.td_proc.p_pid
        );
        panic!("sleeping thread");
    }
}
