//! Mutexes on which threads block, shaped like FreeBSD's `struct mtx`.

use crate::kern::sched;
use crate::sys::console::printf;
use crate::sys::pcpu;
use crate::sys::proc::thread;
use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

#[repr(C)]
struct lock_object {
    lo_name: *const u8,
    lo_flags: u32,
    lo_data: u32,
    lo_witness: usize,
}

#[repr(C)]
pub(crate) struct mtx {
    lock_object: lock_object,
    /// The owner; null if there is none.
    mtx_lock: AtomicPtr<thread>,
}

// SAFETY: the name is a constant.
unsafe impl Sync for mtx {}

impl mtx {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self {
            lock_object: lock_object {
                lo_name: name.as_ptr().cast(),
                lo_flags: 0,
                lo_data: 0,
                lo_witness: 0,
            },
            mtx_lock: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn name(&self) -> &'static CStr {
        // SAFETY: `new` took it from a C string.
        unsafe { CStr::from_ptr(self.lock_object.lo_name.cast()) }
    }

    /// Takes it, and blocks until it is free. An owner that sleeps would make others sleep as long.
    #[inline(never)]
    pub(crate) fn lock(&self) {
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
            sched::block(self.name());
        }
    }

    pub(crate) fn unlock(&self) {
        let me = pcpu::curthread().map_or(ptr::null_mut(), |own| ptr::from_ref(own).cast_mut());
        let owner = self.mtx_lock.swap(ptr::null_mut(), Ordering::Release);
        assert!(owner == me, "mutex {:?} not owned", self.name());
    }
}

/// Where FreeBSD lends the owner its priority: one that sleeps cannot use it.
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
