//! The kernel's page tables: the image, the direct map, the kernel map.
//!
//! The kernel counts what it maps; the dump's size is predicted from these counters alone.

use crate::arch::layout::{DMAP_MIN, KERNBASE, KVA_MIN, PAGE, PAGE_1G, PAGE_2M, PAGE_SIZE, dmap};
use crate::arch::{cpu, layout};
use crate::sys::lock::SpinLock;
use crate::vm::{kmem, phys};
use core::sync::atomic::{AtomicU64, Ordering};
use vmcore_format::addr::{PhysAddr, VirtAddr};

pub(crate) const PG_V: u64 = 1;
pub(crate) const PG_RW: u64 = 2;
const PG_WT: u64 = 1 << 3;
const PG_CD: u64 = 1 << 4;
const PG_A: u64 = 1 << 5;
const PG_M: u64 = 1 << 6;
pub(crate) const PG_PS: u64 = 1 << 7;
const PG_G: u64 = 1 << 8;
pub(crate) const PG_NX: u64 = 1 << 63;
const PG_FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Physical address of the root: with it, and `kernbase`, a debugger translates a full dump.
#[unsafe(no_mangle)]
static KPML4phys: AtomicU64 = AtomicU64::new(0);
/// Five levels are never on.
#[unsafe(no_mangle)]
static KPML5phys: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static la57: i32 = 0;
/// Where the image was loaded.
#[unsafe(no_mangle)]
static kernphys: u64 = layout::KERNLOAD;
/// The end of the direct map.
#[unsafe(no_mangle)]
static dmaplimit: AtomicU64 = AtomicU64::new(0);

static LOCK: SpinLock<()> = SpinLock::new(c"pmap", ());
/// Pages of RAM that the kernel map and the image map.
static MAPPED_PAGES: AtomicU64 = AtomicU64::new(0);
/// How many of these must not be dumped.
static MAPPED_NO_DUMP: AtomicU64 = AtomicU64::new(0);
/// Page-table pages of the kernel map, by the level of their entries; the root is not counted.
static TABLE_PAGES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
/// Whether the direct map is made of pages of 1 GiB.
static USES_1G: AtomicU64 = AtomicU64::new(0);

type Table = [AtomicU64; 512];

/// What a mapping allows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Constant,
    Code,
    Data,
    Device,
}

impl Access {
    const fn bits(self) -> u64 {
        match self {
            Self::Constant => PG_V | PG_A | PG_NX | PG_G,
            Self::Code => PG_V | PG_A | PG_G,
            Self::Data => PG_V | PG_RW | PG_A | PG_M | PG_NX | PG_G,
            Self::Device => PG_V | PG_RW | PG_A | PG_M | PG_NX | PG_CD | PG_WT | PG_G,
        }
    }
}

/// A table page as its 512 entries.
fn table(pa: PhysAddr) -> &'static Table {
    // SAFETY: table pages are never given back, and nothing else is ever in them; the direct map
    // covers them. The processor reads them as we do, word by word.
    unsafe { &*dmap(pa).cast::<Table>() }
}

const fn index(va: u64, level: u32) -> usize {
    (va >> (12 + 9 * level)) as usize & 511
}

/// Makes the kernel's tables and changes to them.
pub(crate) fn bootstrap() {
    let root = phys::alloc_table_page();
    KPML4phys.store(root.0, Ordering::Release);
    let image = layout::image();
    let parts = [
        (image.start, image.text, Access::Constant),
        (
            image.text,
            image.text_end.next_multiple_of(PAGE_SIZE),
            Access::Code,
        ),
        (image.data, image.end, Access::Data),
    ];
    for (start, end, access) in parts {
        for va in (start..end).step_by(PAGE_SIZE as usize) {
            enter(VirtAddr(va), PhysAddr(va - KERNBASE.0), 0, access);
        }
    }
    let top = phys::top().0.next_multiple_of(PAGE_1G);
    let has_1g = cpu::cpuid(0x8000_0001).edx & 1 << 26 != 0;
    USES_1G.store(u64::from(has_1g), Ordering::Relaxed);
    let (step, level) = if has_1g { (PAGE_1G, 2) } else { (PAGE_2M, 1) };
    for pa in (0..top).step_by(step as usize) {
        enter(VirtAddr(DMAP_MIN.0 + pa), PhysAddr(pa), level, Access::Data);
    }
    dmaplimit.store(top, Ordering::Relaxed);
    // SAFETY: the image, the stack in it, and all RAM in the direct map are mapped as before.
    unsafe { cpu::load_cr3(root.0) }
}

pub(crate) fn uses_1g_pages() -> bool {
    USES_1G.load(Ordering::Relaxed) != 0
}

pub(crate) fn dmap_limit() -> u64 {
    dmaplimit.load(Ordering::Relaxed)
}

/// The root of the tables.
pub(crate) fn root() -> PhysAddr {
    PhysAddr(KPML4phys.load(Ordering::Acquire))
}

/// Enters a mapping whose entry has this level: 0 for 4 KiB, 1 for 2 MiB, 2 for 1 GiB.
fn enter(va: VirtAddr, pa: PhysAddr, level: u32, access: Access) {
    let _lock = LOCK.lock();
    let counts = va >= KVA_MIN;
    let mut at = table(root());
    for upper in (level + 1..4).rev() {
        let entry = &at[index(va.0, upper)];
        let mut raw = entry.load(Ordering::Acquire);
        if raw & PG_V == 0 {
            raw = phys::alloc_table_page().0 | PG_V | PG_RW | PG_A;
            entry.store(raw, Ordering::Release);
            if counts {
                TABLE_PAGES[upper as usize - 1].fetch_add(1, Ordering::Relaxed);
            }
        }
        assert!(raw & PG_PS == 0, "{va} is in a larger page");
        at = table(PhysAddr(raw & PG_FRAME));
    }
    let large = if level > 0 { PG_PS } else { 0 };
    let old = at[index(va.0, level)].swap(pa.0 | access.bits() | large, Ordering::AcqRel);
    assert!(old & PG_V == 0, "{va} is mapped already");
    if counts && phys::is_ram(pa) {
        MAPPED_PAGES.fetch_add(1 << (9 * level), Ordering::Relaxed);
        // Only pages of 4 KiB are ever marked, and they are before they are mapped.
        if !phys::is_dumpable(PAGE.pfn(pa)) {
            MAPPED_NO_DUMP.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Maps a page of 4 KiB in the kernel map.
pub(crate) fn kenter(va: VirtAddr, pa: PhysAddr) {
    enter(va, pa, 0, Access::Data);
}

/// Maps a page of 2 MiB in the kernel map.
pub(crate) fn kenter_2m(va: VirtAddr, pa: PhysAddr) {
    enter(va, pa, 1, Access::Data);
}

/// The entry that maps `va`, and its level.
fn find(va: VirtAddr) -> Option<(&'static AtomicU64, u32)> {
    let mut at = table(root());
    for level in (0..4).rev() {
        let entry = &at[index(va.0, level)];
        let raw = entry.load(Ordering::Acquire);
        if raw & PG_V == 0 {
            return None;
        }
        if level == 0 || (level < 3 && raw & PG_PS != 0) {
            return Some((entry, level));
        }
        at = table(PhysAddr(raw & PG_FRAME));
    }
    None
}

/// Unmaps the page at `va`, of whatever size, and tells what it was. Other CPUs may remember it
/// for a while: addresses of the kernel map are never used again.
pub(crate) fn kremove(va: VirtAddr) -> Option<(PhysAddr, u64)> {
    let _lock = LOCK.lock();
    let (entry, level) = find(va)?;
    let raw = entry.swap(0, Ordering::AcqRel);
    cpu::invlpg(va.0);
    let pages = 1 << (9 * level);
    let pa = PhysAddr(raw & PG_FRAME & !(pages * PAGE_SIZE - 1));
    if va >= KVA_MIN && phys::is_ram(pa) {
        MAPPED_PAGES.fetch_sub(pages, Ordering::Relaxed);
        if !phys::is_dumpable(PAGE.pfn(pa)) {
            MAPPED_NO_DUMP.fetch_sub(1, Ordering::Relaxed);
        }
    }
    Some((pa, pages))
}

/// The physical address of a virtual one.
pub(crate) fn kextract(va: VirtAddr) -> Option<PhysAddr> {
    let (entry, level) = find(va)?;
    let inside = (PAGE_SIZE << (9 * level)) - 1;
    let raw = entry.load(Ordering::Acquire);
    Some(PhysAddr(raw & PG_FRAME & !inside | va.0 & inside))
}

/// Maps registers of a device, uncached. Never unmapped.
pub(crate) fn map_device(pa: PhysAddr, len_bytes: u64) -> VirtAddr {
    let first = pa.0 & !(PAGE_SIZE - 1);
    let pages = (pa.0 + len_bytes - first).div_ceil(PAGE_SIZE);
    let va = kmem::reserve(pages * PAGE_SIZE, PAGE_SIZE);
    for page in 0..pages {
        let offset = page * PAGE_SIZE;
        enter(
            VirtAddr(va.0 + offset),
            PhysAddr(first + offset),
            0,
            Access::Device,
        );
    }
    VirtAddr(va.0 + pa.0 - first)
}

/// Takes one page of 4 KiB out of the direct map: reading it faults. This is what broken
/// memory looks like to a dump.
pub(crate) fn poison(pa: PhysAddr) {
    let va = VirtAddr(DMAP_MIN.0 + (pa.0 & !(PAGE_SIZE - 1)));
    let _lock = LOCK.lock();
    while let Some((entry, level)) = find(va).filter(|(_, level)| *level > 0) {
        let raw = entry.load(Ordering::Acquire);
        let next = phys::alloc_table_page();
        let step = PAGE_SIZE << (9 * (level - 1));
        let large = if level > 1 { PG_PS } else { 0 };
        for (slot, offset) in table(next).iter().zip((0..).step_by(step as usize)) {
            slot.store(raw & !PG_PS | offset | large, Ordering::Relaxed);
        }
        entry.store(next.0 | PG_V | PG_RW | PG_A, Ordering::Release);
    }
    if let Some((entry, 0)) = find(va) {
        entry.store(0, Ordering::Release);
    }
    flush_all();
}

/// Forgets all translations of this CPU, global ones too: rewriting the root would keep those.
fn flush_all() {
    const CR4_PGE: u64 = 1 << 7;
    // SAFETY: turning global pages off and on changes what is cached, not what is mapped.
    unsafe {
        let cr4: u64;
        core::arch::asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack));
        core::arch::asm!("mov cr4, {}", in(reg) cr4 ^ CR4_PGE, options(nostack));
        core::arch::asm!("mov cr4, {}", in(reg) cr4, options(nostack));
    }
}

/// Lets this CPU go on with a copy of the root, and returns the root that everybody knows of.
pub(crate) fn move_to_copy_of_root() -> &'static [AtomicU64; 512] {
    let (known, copy) = (table(root()), phys::alloc_table_page());
    for (to, from) in table(copy).iter().zip(known) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    // SAFETY: the copy maps the same.
    unsafe { cpu::load_cr3(copy.0) }
    known
}

/// The kernel's own count of what a dump of the kernel map holds.
#[derive(Clone, Copy)]
pub(crate) struct Counters {
    /// Pages of RAM that are mapped.
    pub(crate) mapped_pages: u64,
    /// How many of these must not be dumped.
    pub(crate) mapped_no_dump_pages: u64,
    /// Table pages by the level of their entries: 4 KiB, 2 MiB, 1 GiB.
    pub(crate) table_pages: [u64; 3],
}

pub(crate) fn counters() -> Counters {
    Counters {
        mapped_pages: MAPPED_PAGES.load(Ordering::Relaxed),
        mapped_no_dump_pages: MAPPED_NO_DUMP.load(Ordering::Relaxed),
        table_pages: [0, 1, 2].map(|level: usize| TABLE_PAGES[level].load(Ordering::Relaxed)),
    }
}

/// One step of a walk, for the debugger.
pub(crate) struct Step {
    pub(crate) level: u32,
    pub(crate) at: PhysAddr,
    pub(crate) raw: u64,
}

/// Walks the tables and shows every entry on the way. Reads by probing: the tables may be damaged.
pub(crate) fn walk(va: VirtAddr, mut show: impl FnMut(Step)) {
    let mut base = root();
    for level in (0..4).rev() {
        let at = PhysAddr(base.0 + 8 * index(va.0, level) as u64);
        let Some(raw) = crate::arch::probe::read_u64(layout::dmap_address(at)) else {
            return;
        };
        show(Step { level, at, raw });
        if raw & PG_V == 0 || level < 3 && raw & PG_PS != 0 {
            return;
        }
        base = PhysAddr(raw & PG_FRAME);
    }
}

/// Where an entry is that maps `va` at some level, to damage it.
pub(crate) fn entry_at(va: VirtAddr, wanted: u32) -> Option<&'static AtomicU64> {
    let mut at = table(root());
    for level in (0..4).rev() {
        let entry = &at[index(va.0, level)];
        if level == wanted {
            return Some(entry);
        }
        let raw = entry.load(Ordering::Acquire);
        if raw & PG_V == 0 || raw & PG_PS != 0 || !phys::is_ram(PhysAddr(raw & PG_FRAME)) {
            return None;
        }
        at = table(PhysAddr(raw & PG_FRAME));
    }
    None
}
