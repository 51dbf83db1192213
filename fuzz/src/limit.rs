//! A limit on memory: what a file makes us allocate is in proportion to the file.

use cap::Cap;
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes that any input may cost: buffers for reading in large pieces, and the tables that are as
/// large for a small dump as for a medium one.
const BASE: usize = 16 << 20;
/// Bytes for each byte of the input. A bit of a bitmap may stand for a page of which a dozen bytes
/// must be known.
const FACTOR: usize = 128;

/// Runs `work` on an input of `len_bytes`; allocations beyond the limit end the process.
pub fn memory<R>(len_bytes: usize, work: impl FnOnce() -> R) -> R {
    let allowed = BASE + FACTOR * len_bytes;
    ALLOCATOR
        .set_limit(ALLOCATOR.allocated() + allowed)
        .expect("above what is allocated");
    let result = work();
    ALLOCATOR.set_limit(usize::MAX).expect("the highest limit");
    result
}
