//! How large the dump would be, from the kernel's own counters: nothing is walked.

use crate::arch::layout::{KVA_MIN, PAGE_1G, PAGE_SIZE};
use crate::dump::machine;
use crate::kern::setting::MINIDUMP;
use crate::sys::console::printf;
use crate::sys::{mp, msgbuf};
use crate::vm::{dump_map, phys, pmap};

/// What a minidump consists of, in pages.
struct Minidump {
    message_buffer: u64,
    bitmap: u64,
    page_tables: u64,
    mapped: u64,
    added: u64,
    tables: u64,
    excluded: u64,
}

fn minidump() -> Minidump {
    let pages = |bytes: u64| bytes.div_ceil(PAGE_SIZE);
    let counters = pmap::counters();
    Minidump {
        message_buffer: pages(msgbuf::ring().map_or(0, |(_, len)| u64::from(len))),
        bitmap: pages(phys::total_pages().div_ceil(64) * 8),
        page_tables: (machine::kernel_end().0 - KVA_MIN.0).div_ceil(PAGE_1G),
        mapped: counters.mapped_pages,
        added: dump_map::added_pages(),
        tables: counters.table_pages[0],
        excluded: counters.mapped_no_dump_pages,
    }
}

impl Minidump {
    /// Header and ranges are a page each.
    fn pages(&self) -> u64 {
        2 + self.message_buffer + self.bitmap + self.page_tables + self.chosen()
    }

    fn chosen(&self) -> u64 {
        self.mapped - self.excluded + self.added + self.tables
    }
}

/// Tells what a dump would hold.
pub(crate) fn show() {
    let plan = minidump();
    let full = phys::total_pages();
    printf!(
        "debug.minidump = {}, {} CPUs\n",
        MINIDUMP.get(),
        mp::ncpus()
    );
    printf!("header and RAM ranges    {:>8} pages\n", 2);
    printf!("message buffer           {:>8}\n", plan.message_buffer);
    printf!("bitmap                   {:>8}\n", plan.bitmap);
    printf!("page directories         {:>8}\n", plan.page_tables);
    printf!("mapped in the kernel map {:>8}\n", plan.mapped);
    printf!("  of these not dumpable  {:>8}\n", plan.excluded);
    printf!("added from the direct map{:>8}\n", plan.added);
    printf!("page-table pages         {:>8}\n", plan.tables);
    printf!(
        "predicted: {} pages chosen, {} bytes and the extension\n",
        plan.chosen(),
        plan.pages() * PAGE_SIZE
    );
    printf!("a full dump: {full} pages, {} bytes\n", full * PAGE_SIZE);
}
