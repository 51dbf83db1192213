//! The classic bugs of kernels: `panic KIND` runs into one of them, in a thread of the running system.
//!
//! Each is real: nothing calls panic for it, the processor or a check of the kernel finds it. The code
//! around them is what such bugs are found in, cut down: packets, interfaces, lists, locks.

mod locks;
mod memory;
mod values;

use crate::kern::{crash, panic_record, proc, sched};
use crate::sys::console::printf;
use core::sync::atomic::{AtomicUsize, Ordering};

struct Bug {
    name: &'static str,
    about: &'static str,
    run: proc::Start,
}

const fn bug(name: &'static str, about: &'static str, run: proc::Start) -> Bug {
    Bug { name, about, run }
}

static BUGS: [Bug; 12] = [
    bug(
        "null-member",
        "a packet without its interface, used two calls later",
        memory::null_member,
    ),
    bug(
        "use-after-free",
        "a timer of a connection that was freed",
        memory::use_after_free,
    ),
    bug(
        "double-free",
        "a packet freed by its error path and by its caller",
        memory::double_free,
    ),
    bug(
        "list-corruption",
        "an element removed from its list twice",
        memory::list_corruption,
    ),
    bug(
        "recursion",
        "two symbolic links that name each other",
        memory::recursion,
    ),
    bug(
        "wild-jump",
        "a driver registered with two arguments swapped",
        memory::wild_jump,
    ),
    bug(
        "lock-order",
        "two threads that take two mutexes in opposite order",
        locks::lock_order,
    ),
    bug(
        "spin-lock",
        "an error path that keeps a spin lock",
        locks::spin_lock,
    ),
    bug(
        "sleeping-thread",
        "a thread that sleeps with a mutex",
        locks::sleeping_thread,
    ),
    bug(
        "divide",
        "a disk whose sectors have no size",
        values::divide,
    ),
    bug(
        "refcount",
        "a credential released once more than it was held",
        values::refcount,
    ),
    bug(
        "assertion",
        "a socket buffer that counts wrong",
        values::assertion,
    ),
];

/// Nothing is requested.
const NONE: usize = usize::MAX;
/// The requested one, until it runs.
static REQUESTED: AtomicUsize = AtomicUsize::new(NONE);

/// The debugger's `panic KIND`. True if the system is to go on, and to run into the bug.
pub(super) fn command(name: &str) -> bool {
    if panic_record::message().is_some() {
        printf!("the kernel has panicked\n");
        return false;
    }
    match BUGS.iter().position(|bug| bug.name == name) {
        Some(index) => REQUESTED.store(index, Ordering::Release),
        None => {
            for bug in &BUGS {
                printf!("panic {:<16} {}\n", bug.name, bug.about);
            }
            return false;
        }
    }
    true
}

/// Runs into the requested bug, if there is one.
pub(crate) fn run_requested() {
    let index = REQUESTED.swap(NONE, Ordering::AcqRel);
    if let Some(bug) = BUGS.get(index) {
        crash::on_crash_cpu(bug.run);
        // The slowest takes some seconds; no prompt comes before its panic.
        sched::sleep(c"bug", 6000);
    }
}
