//! The dump map: pages of the direct map that are to be dumped, as their allocators say.

use crate::arch::layout::{PAGE, PAGE_SIZE, dmap};
use crate::sys::boot_cell::BootCell;
use crate::vm::phys;
use core::slice;
use core::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, Ordering};
use vmcore_format::addr::{PhysAddr, PhysRange};
use vmcore_format::dump_avail::NumberedRange;
use vmcore_writer::DumpMap;
use vmcore_writer::reserve::reserve_size;

static MAP: BootCell<DumpMap<'static>> = BootCell::new();
/// Pages that were added and not dropped.
static ADDED: AtomicU64 = AtomicU64::new(0);

/// The map's words, for debuggers.
#[unsafe(no_mangle)]
static vm_page_dump: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());
#[unsafe(no_mangle)]
static vm_page_dump_pages: AtomicI64 = AtomicI64::new(0);

/// How the memory that is set aside at boot is divided, in bytes.
struct Parts {
    words: u64,
    numbered: u64,
    workspace: u64,
}

impl Parts {
    fn of(ranges: &[PhysRange]) -> Self {
        let words = DumpMap::words_needed(PAGE, ranges).expect("RAM can be counted");
        let reserve = reserve_size(PAGE, ranges).expect("RAM can be counted");
        assert!(reserve.align_bytes <= PAGE_SIZE);
        let pages = |bytes: u64| bytes.next_multiple_of(PAGE_SIZE);
        Self {
            words: pages(words as u64 * 8),
            numbered: pages((ranges.len() * size_of::<NumberedRange>()) as u64),
            workspace: pages(reserve.len_bytes),
        }
    }
}

/// Bytes that must be set aside for a machine with this RAM, in one piece, page aligned.
pub(crate) fn reserve_bytes(ranges: &[PhysRange]) -> u64 {
    let parts = Parts::of(ranges);
    parts.words + parts.numbered + parts.workspace
}

/// Makes the map, and returns the writer's memory. That memory is in no dump: it changes while the
/// dump is written.
pub(crate) fn init() -> &'static mut [u8] {
    let ranges = phys::ranges();
    let parts = Parts::of(ranges);
    let start = phys::dump_reserve().start;
    let words = dmap(start).cast::<AtomicU64>();
    let numbered = dmap(PhysAddr(start.0 + parts.words)).cast::<NumberedRange>();
    let workspace = PhysAddr(start.0 + parts.words + parts.numbered);
    // SAFETY: the memory was set aside for exactly this, is zero (which all three types take), and
    // is asked for once.
    let (words, numbered, memory) = unsafe {
        (
            slice::from_raw_parts(words, parts.words as usize / 8),
            slice::from_raw_parts_mut(numbered, ranges.len()),
            slice::from_raw_parts_mut(dmap(workspace), parts.workspace as usize),
        )
    };
    let map = match DumpMap::new(PAGE, ranges, numbered, words) {
        Ok(map) => map,
        Err(error) => panic!("the dump map: {error}"),
    };
    vm_page_dump.store(words.as_ptr().cast_mut(), Ordering::Relaxed);
    vm_page_dump_pages.store(map.numbering().total_pages() as i64, Ordering::Relaxed);
    MAP.set(map);
    let own = PhysRange {
        start,
        end: workspace,
    };
    for range in phys::own_memory().iter().chain([&own]) {
        add_range(*range);
    }
    phys::mark_no_dump(PhysRange {
        start: workspace,
        end: PhysAddr(workspace.0 + parts.workspace),
    });
    memory
}

pub(crate) fn get() -> &'static DumpMap<'static> {
    MAP.get()
}

/// Has a page dumped.
pub(crate) fn add_page(pa: PhysAddr) {
    let was_there = MAP.get().contains(pa);
    MAP.get().add_page(pa).expect("only RAM is added");
    if !was_there {
        ADDED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Memory in one piece, zeroed, that is dumped.
pub(crate) fn alloc_dumped(len_bytes: u64) -> PhysRange {
    let memory = phys::alloc_contiguous(len_bytes, PAGE_SIZE);
    add_range(memory);
    memory
}

fn add_range(range: PhysRange) {
    for pa in (range.start.0..range.end.0).step_by(PAGE_SIZE as usize) {
        add_page(PhysAddr(pa));
    }
}

/// Has a page not dumped any more. Allocators call it forevery page they give back.
pub(crate) fn drop_page(pa: PhysAddr) {
    let was_there = MAP.get().contains(pa);
    MAP.get().drop_page(pa).expect("only RAM is dropped");
    if was_there {
        ADDED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Pages that were added and not dropped.
pub(crate) fn added_pages() -> u64 {
    ADDED.load(Ordering::Relaxed)
}
