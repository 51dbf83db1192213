//! A limit on memory: what a file makes us allocate is in proportion to the file.

use cap::Cap;
use std::alloc::System;
use std::sync::Once;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes that any input may cost: buffers for reading in large pieces, and the addresses that are
/// kept for a dump of any size.
const BASE: usize = 12 << 20;
/// Bytes for each byte of the input, what the targets keep themselves included.
const FACTOR: usize = 8;

/// Runs `work` on an input of `len_bytes`; allocations beyond the limit end the process.
pub fn memory<R>(len_bytes: usize, work: impl FnOnce() -> R) -> R {
    static LIFT_ON_PANIC: Once = Once::new();
    LIFT_ON_PANIC.call_once(|| {
        // To say where it happened takes more.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            lift();
            hook(info);
        }));
    });
    let allowed = BASE + FACTOR * len_bytes;
    ALLOCATOR
        .set_limit(ALLOCATOR.allocated() + allowed)
        .expect("above what is allocated");
    let result = work();
    lift();
    result
}

fn lift() {
    ALLOCATOR.set_limit(usize::MAX).expect("the highest limit");
}
