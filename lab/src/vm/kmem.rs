//! The kernel map's addresses: pages of 4 KiB or 2 MiB, with unmapped pages in between.
//!
//! Addresses are never used twice: there are two terabytes of them, and a use after release is a
//! fault instead of a riddle.

use crate::arch::layout::{KERNBASE, KVA_MIN, PAGE_2M, PAGE_SIZE};
use crate::vm::{phys, pmap};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use vmcore_format::addr::{PhysAddr, VirtAddr};

/// The next free address.
static NEXT: AtomicU64 = AtomicU64::new(KVA_MIN.0 + PAGE_2M);

/// Sets addresses aside, with a hole of a page in front.
pub(crate) fn reserve(len_bytes: u64, align_bytes: u64) -> VirtAddr {
    let place = |next: u64| (next + PAGE_SIZE).next_multiple_of(align_bytes);
    let next = NEXT.update(Ordering::AcqRel, Ordering::Acquire, |next| {
        place(next) + len_bytes
    });
    let start = place(next);
    assert!(start + len_bytes <= KERNBASE.0, "the kernel map is full");
    VirtAddr(start)
}

/// Zeroed memory of 4 KiB pages.
pub(crate) fn alloc(len_bytes: u64, no_dump: bool) -> Range<VirtAddr> {
    let len_bytes = len_bytes.next_multiple_of(PAGE_SIZE);
    let start = reserve(len_bytes, PAGE_SIZE);
    for offset in (0..len_bytes).step_by(PAGE_SIZE as usize) {
        pmap::kenter(VirtAddr(start.0 + offset), phys::alloc_page(no_dump));
    }
    start..VirtAddr(start.0 + len_bytes)
}

/// Zeroed memory of 2 MiB pages.
pub(crate) fn alloc_2m(count: u64) -> Range<VirtAddr> {
    let start = reserve(count * PAGE_2M, PAGE_2M);
    for offset in (0..count * PAGE_2M).step_by(PAGE_2M as usize) {
        let pages = phys::alloc_contiguous(PAGE_2M, PAGE_2M);
        pmap::kenter_2m(VirtAddr(start.0 + offset), pages.start);
    }
    start..VirtAddr(start.0 + count * PAGE_2M)
}

/// A stack; below it is a page that is not there.
pub(crate) fn alloc_stack(pages: usize) -> Range<VirtAddr> {
    alloc(pages as u64 * PAGE_SIZE, false)
}

/// A stack, by its end.
pub(crate) fn stack_top(pages: usize) -> u64 {
    alloc_stack(pages).end.0
}

/// Gives memory back, of pages of either size.
pub(crate) fn free(range: Range<VirtAddr>) {
    let mut va = range.start;
    while va < range.end {
        let (pa, pages) = pmap::kremove(va).expect("what is freed is mapped");
        for page in 0..pages {
            phys::free_page(PhysAddr(pa.0 + page * PAGE_SIZE));
        }
        va = VirtAddr(va.0 + pages * PAGE_SIZE);
    }
}

/// How far the kernel map is used.
pub(crate) fn end_of_use() -> VirtAddr {
    VirtAddr(NEXT.load(Ordering::Acquire))
}
