//! Which memory a dump changes by being written. All else is the same in two dumps of one crash, which
//! is how the tests compare them.

use crate::arch::layout;
use crate::arch::layout::{KERNBASE, PAGE_SIZE};
use crate::dev::{vtblk, vtnet};
use crate::dump::layers;
use crate::sys::console::print_unlogged_args;
use crate::sys::{msgbuf, pcpu};
use crate::vm::{phys, pmap};
use core::sync::atomic::Ordering;
use vmcore_format::addr::{PhysAddr, PhysRange, VirtAddr};

fn show_range(name: &str, range: PhysRange) {
    let PhysRange { start, end } = range;
    print_unlogged_args(format_args!("{name:<12} {start} {end}\n"));
}

/// Tells the physical memory, in whole pages.
pub(crate) fn show() {
    let image = layout::image();
    let variables = PhysRange {
        start: PhysAddr(image.data - KERNBASE.0),
        end: PhysAddr(image.end - KERNBASE.0),
    };
    show_range("variables", variables);
    show_range("writer", phys::dump_reserve());
    for range in layers::memory_ranges().into_iter().flatten() {
        show_range("layers", range);
    }
    if let Some(range) = vtblk::memory() {
        show_range("vtblk0", range);
    }
    for range in vtnet::memory().into_iter().flatten() {
        show_range("vtnet0", range);
    }
    // The ring, and what follows it.
    if let (Some(start), Some((_, len))) = (msgbuf::physical(), msgbuf::ring()) {
        let end = PhysAddr((start.0 + u64::from(len)).next_multiple_of(PAGE_SIZE) + PAGE_SIZE);
        show_range("messages", PhysRange { start, end });
    }
    let Some(thread) = pcpu::curthread() else {
        return;
    };
    let bottom = thread.td_kstack.load(Ordering::Relaxed);
    let pages = u64::from(thread.td_kstack_pages.load(Ordering::Relaxed));
    for va in (0..pages).map(|page| VirtAddr(bottom + page * PAGE_SIZE)) {
        if let Some(start) = pmap::kextract(va) {
            let end = PhysAddr(start.0 + PAGE_SIZE);
            show_range("stack", PhysRange { start, end });
        }
    }
}
