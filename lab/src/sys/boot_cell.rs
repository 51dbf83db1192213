//! A value that is set once while the kernel starts, and only read afterwards.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, Ordering};

const EMPTY: u8 = 0;
const BUSY: u8 = 1;
const SET: u8 = 2;

pub(crate) struct BootCell<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is written once, before it is visible, and is then only read.
unsafe impl<T: Send + Sync> Sync for BootCell<T> {}

impl<T> BootCell<T> {
    pub(crate) const fn new() -> Self {
        Self {
            state: AtomicU8::new(EMPTY),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Sets it; twice is a mistake.
    pub(crate) fn set(&self, value: T) {
        let first = self
            .state
            .compare_exchange(EMPTY, BUSY, Ordering::Acquire, Ordering::Relaxed);
        assert!(first.is_ok(), "a boot value is set twice");
        // SAFETY: `BUSY` is ours alone, and it is not read before `SET`.
        unsafe { (*self.value.get()).write(value) };
        self.state.store(SET, Ordering::Release);
    }

    pub(crate) fn try_get(&self) -> Option<&T> {
        let is_set = self.state.load(Ordering::Acquire) == SET;
        // SAFETY: it was written before it became `SET`, and is never written again.
        is_set.then(|| unsafe { (*self.value.get()).assume_init_ref() })
    }

    /// The value; too early is a mistake.
    pub(crate) fn get(&self) -> &T {
        match self.try_get() {
            Some(value) => value,
            None => panic!("a boot value is used before it is set"),
        }
    }
}
