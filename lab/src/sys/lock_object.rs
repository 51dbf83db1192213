//! What debuggers know of locks: their heads with names and classes, and what threads block on.

use core::ffi::{CStr, c_char};
use core::sync::atomic::AtomicPtr;

/// The head of every lock, and what kinds of locks there are, as debuggers look for them.
#[repr(C)]
pub(crate) struct lock_object {
    lo_name: *const c_char,
    lo_flags: u32,
    lo_data: u32,
    lo_witness: usize,
}

#[repr(C)]
struct lock_class {
    lc_name: *const c_char,
    lc_flags: u32,
}

// SAFETY: the names are constants.
unsafe impl Sync for lock_object {}
// SAFETY: as above.
unsafe impl Sync for lock_class {}

/// Index of its class in [`lock_classes`], in `lo_flags`.
const LO_CLASSSHIFT: u32 = 24;

/// Kinds of locks, by index.
#[derive(Clone, Copy)]
pub(crate) enum Class {
    SpinMutex,
    SleepMutex,
}

static MTX_SPIN: lock_class = lock_class {
    lc_name: c"spin mutex".as_ptr(),
    lc_flags: 0,
};
static MTX_SLEEP: lock_class = lock_class {
    lc_name: c"sleep mutex".as_ptr(),
    lc_flags: 0,
};

#[unsafe(no_mangle)]
#[used]
static lock_classes: [Option<&lock_class>; 16] = {
    let mut classes = [None; 16];
    classes[Class::SpinMutex as usize] = Some(&MTX_SPIN);
    classes[Class::SleepMutex as usize] = Some(&MTX_SLEEP);
    classes
};

/// What threads block on: it names the lock for them.
#[repr(C)]
pub(crate) struct turnstile {
    pub(crate) ts_lockobj: AtomicPtr<lock_object>,
    /// The thread that has it.
    pub(crate) ts_owner: AtomicPtr<()>,
}

impl lock_object {
    pub(crate) const fn new(name: &'static CStr, class: Class) -> Self {
        Self {
            lo_name: name.as_ptr(),
            lo_flags: (class as u32) << LO_CLASSSHIFT,
            lo_data: 0,
            lo_witness: 0,
        }
    }

    pub(crate) const fn c_name(&self) -> *const c_char {
        self.lo_name
    }

    pub(crate) fn name(&self) -> &'static str {
        // SAFETY: `new` took it from a C string.
        let name = unsafe { CStr::from_ptr(self.lo_name) };
        name.to_str().unwrap_or("?")
    }
}
