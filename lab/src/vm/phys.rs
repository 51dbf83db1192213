//! Physical pages: which RAM there is, which pages are in use, which must never be dumped.
//!
//! Pages are numbered as the dump's bitmap numbers them, range after range, so holes cost
//! nothing. Page-table pages come from the bottom, everything else from the top: on a machine with
//! more than the hole below 4 GiB leaves room for, data is on both sides of it.

use crate::arch::layout;
use crate::arch::layout::{PAGE, PAGE_SIZE};
use crate::sys::boot_cell::BootCell;
use crate::sys::lock::SpinLock;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use vmcore_format::addr::{Pfn, PhysAddr, PhysRange};
use vmcore_format::dump_avail::{NumberedRange, Numbering};

/// The most ranges of RAM.
pub(crate) const RANGES_MAX: usize = 31;
/// The first megabyte belongs to firmware and to the start of other CPUs.
const RESERVED_LOW: PhysAddr = PhysAddr(0x10_0000);

/// RAM as pairs of start and end, ended by zeros: this is what numbers the pages of a dump.
#[unsafe(no_mangle)]
static dump_avail: [AtomicU64; 2 * (RANGES_MAX + 1)] =
    [const { AtomicU64::new(0) }; 2 * (RANGES_MAX + 1)];
/// Pages of RAM.
#[unsafe(no_mangle)]
static physmem: AtomicI32 = AtomicI32::new(0);

static PHYS: BootCell<Phys> = BootCell::new();
static SEARCH: SpinLock<Search> = SpinLock::new(c"page allocator", Search { low: 0, high: 0 });
static FREE: AtomicU64 = AtomicU64::new(0);

struct Phys {
    ranges: [PhysRange; RANGES_MAX],
    numbered: [NumberedRange; RANGES_MAX],
    count: usize,
    in_use: &'static [AtomicU64],
    no_dump: &'static [AtomicU64],
    /// Memory that was set aside at boot for the dump.
    dump_reserve: PhysRange,
}

/// Words of the bitmap between which free pages may be.
struct Search {
    low: usize,
    high: usize,
}

impl Phys {
    fn numbering(&self) -> Numbering<'_> {
        Numbering::new(&self.numbered[..self.count])
    }
}

/// Memory after the image that is handed out before there is an allocator.
struct Early(PhysAddr);

impl Early {
    /// Zeroed pages with room for `len_bytes`.
    fn take(&mut self, len_bytes: u64) -> PhysRange {
        let start = self.0;
        let end = PhysAddr(start.0 + PAGE.pages(len_bytes) * PAGE_SIZE);
        self.0 = end;
        // SAFETY: unused RAM after the image; the boot tables map the first gigabyte.
        unsafe { ptr::write_bytes(layout::dmap(start), 0, (end.0 - start.0) as usize) }
        PhysRange { start, end }
    }

    fn words(&mut self, len: usize) -> (&'static [AtomicU64], PhysRange) {
        let range = self.take(len as u64 * 8);
        // SAFETY: zeroed, aligned, and from now on used as nothing else.
        let words = unsafe {
            core::slice::from_raw_parts(layout::dmap(range.start).cast::<AtomicU64>(), len)
        };
        (words, range)
    }
}

/// Takes over the RAM of the machine, up to `limit` bytes. `reserve_bytes` says how much memory the
/// dump needs for this RAM.
pub(crate) fn init(
    ram: &[PhysRange],
    module: Option<PhysRange>,
    limit: Option<u64>,
    reserve_bytes: impl FnOnce(&[PhysRange]) -> u64,
) {
    let mut ranges = [PhysRange {
        start: PhysAddr(0),
        end: PhysAddr(0),
    }; RANGES_MAX];
    let mut count = 0;
    let mut room = limit.unwrap_or(u64::MAX) & !(PAGE_SIZE - 1);
    for range in ram {
        let start = range.start.0.next_multiple_of(PAGE_SIZE);
        let end = (range.end.0 & !(PAGE_SIZE - 1)).min(start.saturating_add(room));
        if start >= end || count == RANGES_MAX {
            continue;
        }
        room -= end - start;
        ranges[count] = PhysRange {
            start: PhysAddr(start),
            end: PhysAddr(end),
        };
        count += 1;
    }
    ranges[..count].sort_unstable_by_key(|range| range.start);
    for (index, range) in ranges[..count].iter().enumerate() {
        dump_avail[2 * index].store(range.start.0, Ordering::Relaxed);
        dump_avail[2 * index + 1].store(range.end.0, Ordering::Relaxed);
    }
    let mut numbered = [NumberedRange::default(); RANGES_MAX];
    NumberedRange::number(PAGE, ranges[..count].iter().copied(), &mut numbered);
    let total = Numbering::new(&numbered[..count]).total_pages();
    physmem.store(total as i32, Ordering::Relaxed);

    let image = layout::image_range();
    let mut early = Early(image.end);
    let words = total.div_ceil(64) as usize;
    let (in_use, in_use_at) = early.words(words);
    let (no_dump, no_dump_at) = early.words(words);
    let dump_reserve = early.take(reserve_bytes(&ranges[..count]));
    let phys = Phys {
        ranges,
        numbered,
        count,
        in_use,
        no_dump,
        dump_reserve,
    };
    FREE.store(total, Ordering::Relaxed);
    // Bits after the last page are never free.
    for bit in total..words as u64 * 64 {
        set(in_use, bit);
    }
    PHYS.set(phys);
    *SEARCH.lock() = Search {
        low: 0,
        high: words - 1,
    };
    let low = PhysRange {
        start: PhysAddr(0),
        end: RESERVED_LOW,
    };
    let boot = PhysRange {
        start: image.start,
        end: early.0,
    };
    for range in [Some(low), Some(boot), module].into_iter().flatten() {
        reserve(range);
    }
    EARLY.set([in_use_at, no_dump_at]);
}

/// The allocator's own bitmaps.
static EARLY: BootCell<[PhysRange; 2]> = BootCell::new();

/// The allocator's own memory, which is reached through the direct map only.
pub(crate) fn own_memory() -> &'static [PhysRange] {
    EARLY.get()
}

/// What was set aside for the dump.
pub(crate) fn dump_reserve() -> PhysRange {
    PHYS.get().dump_reserve
}

/// RAM, in ascending order.
pub(crate) fn ranges() -> &'static [PhysRange] {
    let phys = PHYS.get();
    &phys.ranges[..phys.count]
}

/// The end of RAM.
pub(crate) fn top() -> PhysAddr {
    ranges().last().map_or(PhysAddr(0), |range| range.end)
}

pub(crate) fn total_pages() -> u64 {
    PHYS.get().numbering().total_pages()
}

pub(crate) fn free_pages() -> u64 {
    FREE.load(Ordering::Relaxed)
}

fn set(words: &[AtomicU64], bit: u64) -> bool {
    let mask = 1 << (bit % 64);
    words[bit as usize / 64].fetch_or(mask, Ordering::AcqRel) & mask != 0
}

fn clear(words: &[AtomicU64], bit: u64) -> bool {
    let mask = 1 << (bit % 64);
    words[bit as usize / 64].fetch_and(!mask, Ordering::AcqRel) & mask != 0
}

fn is_set(words: &[AtomicU64], bit: u64) -> bool {
    words[bit as usize / 64].load(Ordering::Acquire) >> (bit % 64) & 1 == 1
}

fn bit_of(pa: PhysAddr) -> Option<u64> {
    PHYS.get().numbering().bit_of(PAGE.pfn(pa))
}

fn page_of(bit: u64) -> PhysAddr {
    let pfn = PHYS.get().numbering().pfn_of(bit);
    PAGE.base(pfn.expect("every bit that is free has a page"))
}

/// Takes whatever pages of `range` are RAM and free.
fn reserve(range: PhysRange) {
    let mut pa = range.start;
    while pa < range.end {
        if bit_of(pa).is_some_and(|bit| !set(PHYS.get().in_use, bit)) {
            FREE.fetch_sub(1, Ordering::Relaxed);
        }
        pa = PhysAddr(pa.0 + PAGE_SIZE);
    }
}

/// Fills a page with zeros.
fn zero(pa: PhysAddr) {
    // SAFETY: the page was free a moment ago and is ours now; the direct map covers all RAM.
    unsafe { ptr::write_bytes(layout::dmap(pa), 0, PAGE_SIZE as usize) }
}

/// A page for a page table: zeroed, from the bottom of RAM, which even the boot tables map.
pub(crate) fn alloc_table_page() -> PhysAddr {
    let mut search = SEARCH.lock();
    let words = PHYS.get().in_use;
    while search.low < words.len() {
        let free = !words[search.low].load(Ordering::Acquire);
        if free != 0 {
            let bit = search.low as u64 * 64 + u64::from(free.trailing_zeros());
            set(words, bit);
            FREE.fetch_sub(1, Ordering::Relaxed);
            let pa = page_of(bit);
            zero(pa);
            return pa;
        }
        search.low += 1;
    }
    panic!("out of memory: no page for a page table");
}

/// A zeroed page from the top of RAM. One that is not to be dumped stays out of every dump, however
/// it is mapped.
pub(crate) fn alloc_page(no_dump: bool) -> PhysAddr {
    let mut search = SEARCH.lock();
    let words = PHYS.get().in_use;
    loop {
        let free = !words[search.high].load(Ordering::Acquire);
        if free != 0 {
            let bit = search.high as u64 * 64 + 63 - u64::from(free.leading_zeros());
            set(words, bit);
            FREE.fetch_sub(1, Ordering::Relaxed);
            if no_dump {
                set(PHYS.get().no_dump, bit);
            }
            let pa = page_of(bit);
            drop(search);
            zero(pa);
            return pa;
        }
        assert!(search.high > 0, "out of memory");
        search.high -= 1;
    }
}

/// Pages in one piece, zeroed, aligned to `align_bytes`; from the top of RAM.
pub(crate) fn alloc_contiguous(len_bytes: u64, align_bytes: u64) -> PhysRange {
    let pages = PAGE.pages(len_bytes);
    let _search = SEARCH.lock();
    let words = PHYS.get().in_use;
    for range in ranges().iter().rev() {
        let mut end = range.end.0;
        while let Some(start) = end.checked_sub(pages * PAGE_SIZE) {
            let start = start & !(align_bytes - 1);
            if start < range.start.0 {
                break;
            }
            let first = bit_of(PhysAddr(start)).expect("it is in a range");
            // The highest page in use: go on below it.
            if let Some(used) = (first..first + pages).rev().find(|bit| is_set(words, *bit)) {
                end = start + (used - first) * PAGE_SIZE;
                continue;
            }
            for bit in first..first + pages {
                set(words, bit);
                zero(page_of(bit));
            }
            FREE.fetch_sub(pages, Ordering::Relaxed);
            return PhysRange {
                start: PhysAddr(start),
                end: PhysAddr(start + pages * PAGE_SIZE),
            };
        }
    }
    panic!("out of memory: no {len_bytes} bytes in one piece");
}

/// Gives a page back. The caller has dropped it from the dump map.
pub(crate) fn free_page(pa: PhysAddr) {
    let phys = PHYS.get();
    let bit = bit_of(pa).expect("only RAM is given back");
    let mut search = SEARCH.lock();
    clear(phys.no_dump, bit);
    assert!(clear(phys.in_use, bit), "page {pa} is freed twice");
    FREE.fetch_add(1, Ordering::Relaxed);
    search.low = search.low.min(bit as usize / 64);
    search.high = search.high.max(bit as usize / 64);
}

/// Keeps pages out of every dump.
pub(crate) fn mark_no_dump(range: PhysRange) {
    for pa in (range.start.0..range.end.0).step_by(PAGE_SIZE as usize) {
        let bit = bit_of(PhysAddr(pa)).expect("only RAM is marked");
        set(PHYS.get().no_dump, bit);
    }
}

/// Whether a page may be in a dump: RAM that is not marked.
pub(crate) fn is_dumpable(pfn: Pfn) -> bool {
    let phys = PHYS.get();
    let bit = phys.numbering().bit_of(pfn);
    bit.is_some_and(|bit| !is_set(phys.no_dump, bit))
}

/// Whether an address is RAM.
pub(crate) fn is_ram(pa: PhysAddr) -> bool {
    bit_of(pa).is_some()
}
