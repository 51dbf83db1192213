//! The standard load: memory with a known pattern in the kernel map and in zones, secrets that must
//! not be dumped, processes and threads that come and go.
//!
//! Every word of the pattern is a function of its own address, so that a reader of the dump can
//! check each without a list.

use crate::arch::layout::{PAGE_2M, PAGE_SIZE};
use crate::kern::setting::LOAD_MIB;
use crate::kern::{proc, sched};
use crate::sys::boot_cell::BootCell;
use crate::sys::console::{print_unlogged_args, printf};
use crate::sys::lock::SpinLock;
use crate::sys::proc::NOCPU;
use crate::vm::kmem;
use crate::vm::uma::Zone;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use vmcore_format::addr::VirtAddr;

/// What a secret is filled with: it must be in no dump.
pub(crate) const SECRET: u64 = 0x5ec2_e7ed_5ec2_e7ed;
/// What is left in slabs that were given back: it must be in no dump either.
const STALE: u64 = 0x57a1_ed00_57a1_ed00;
/// Objects that are kept, and objects that are given back.
const KEPT: usize = 4000;
const GIVEN_BACK: usize = 2000;
/// Bytes of memory that is mapped, and not to be dumped.
const SECRET_BYTES: u64 = 1 << 20;
/// Threads that allocate and release all the time.
const WORKERS: usize = 6;

static SMALL: Zone = Zone::new("lab small", 128);
static LARGE: Zone = Zone::new("lab large", 1024);
static SECRETS: Zone = Zone::no_dump("lab secret", 256);
static STALES: Zone = Zone::new("lab stale", 512);
static CHURN: Zone = Zone::new("lab churn", 192);

/// Kernel map with the pattern, in pages of 2 MiB and of 4 KiB; memory not to be dumped.
struct Regions {
    large: Range<VirtAddr>,
    small: Range<VirtAddr>,
    secret: Range<VirtAddr>,
    freed: Range<VirtAddr>,
}

static REGIONS: BootCell<Regions> = BootCell::new();
/// Items of the zones, for tests to read.
static ITEMS: SpinLock<Items> = SpinLock::new(c"lab items", Items::new());
/// How often a worker has gone round.
static ROUNDS: AtomicU64 = AtomicU64::new(0);

/// Addresses of items: those with the pattern are all there.
struct Items {
    small: [u64; KEPT],
    large: [u64; KEPT / 8],
    /// The last one with a secret, and one that was given back.
    secret: u64,
    stale: u64,
}

impl Items {
    const fn new() -> Self {
        Self {
            small: [0; KEPT],
            large: [0; KEPT / 8],
            secret: 0,
            stale: 0,
        }
    }
}

/// The word at an address.
const fn pattern(va: u64) -> u64 {
    va.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0076_6d63_6f72_6500
}

/// Fills memory with a function of each word's address.
fn fill(range: Range<u64>, word: impl Fn(u64) -> u64) {
    for va in range.step_by(8) {
        // SAFETY: callers pass memory that they have just allocated.
        unsafe { (va as *mut u64).write(word(va)) }
    }
}

fn bytes(range: &Range<VirtAddr>) -> Range<u64> {
    range.start.0..range.end.0
}

fn fill_item(item: NonNull<u8>, size: u64, word: impl Fn(u64) -> u64) {
    let start = item.as_ptr().addr() as u64;
    fill(start..start + size, word);
}

/// Starts it.
pub(crate) fn start() {
    for zone in [&SMALL, &LARGE, &SECRETS, &STALES, &CHURN] {
        zone.register();
    }
    let mib = LOAD_MIB.get();
    let large = kmem::alloc_2m(mib / 4);
    let small = kmem::alloc((mib << 20) - mib / 4 * PAGE_2M, false);
    let secret = kmem::alloc(SECRET_BYTES, true);
    let freed = kmem::alloc(SECRET_BYTES, false);
    fill(bytes(&large), pattern);
    fill(bytes(&small), pattern);
    fill(bytes(&secret), |_| SECRET);
    fill(bytes(&freed), |_| STALE);
    kmem::free(freed.clone());
    REGIONS.set(Regions {
        large,
        small,
        secret,
        freed,
    });
    fill_zones();
    for name in ["pagedaemon", "bufdaemon", "syncer", "vnlru"] {
        proc::kproc_create(name, |_| sched::sleep_forever(), 0);
    }
    let process = proc::kproc_create("worker", |_| sched::sleep_forever(), 0);
    for number in 0..WORKERS {
        let name = [
            "worker 0", "worker 1", "worker 2", "worker 3", "worker 4", "worker 5",
        ][number];
        proc::kthread_add(process, name, NOCPU, work, number);
    }
    proc::create_zombie("defunct");
}

fn fill_zones() {
    let address = |item: NonNull<u8>| item.as_ptr().addr() as u64;
    for index in 0..KEPT {
        let small = SMALL.alloc();
        fill_item(small, 128, pattern);
        ITEMS.lock().small[index] = address(small);
        if index % 8 == 0 {
            let large = LARGE.alloc();
            fill_item(large, 1024, pattern);
            ITEMS.lock().large[index / 8] = address(large);
        }
        if index % 16 == 0 {
            let secret = SECRETS.alloc();
            fill_item(secret, 256, |_| SECRET);
            ITEMS.lock().secret = address(secret);
        }
    }
    let mut stale: [Option<NonNull<u8>>; GIVEN_BACK / 50] = [None; GIVEN_BACK / 50];
    for _ in 0..50 {
        for slot in &mut stale {
            let item = STALES.alloc();
            fill_item(item, 512, |_| STALE);
            ITEMS.lock().stale = address(item);
            *slot = Some(item);
        }
        for item in stale.iter_mut().filter_map(Option::take) {
            // SAFETY: it came from this zone a moment ago, and has no other reference.
            unsafe { STALES.free(item) }
        }
    }
}

/// Allocates and releases, and sleeps a little.
fn work(number: usize) {
    loop {
        let mut held = [None; 32];
        for slot in &mut held {
            let item = CHURN.alloc();
            fill_item(item, 192, pattern);
            *slot = Some(item);
        }
        ROUNDS.fetch_add(1, Ordering::Relaxed);
        sched::sleep(c"work", 3 + number as u64);
        for item in held.into_iter().flatten() {
            // SAFETY: it came from this zone, and this thread alone held it.
            unsafe { CHURN.free(item) }
        }
    }
}

/// Tells where everything is.
pub(crate) fn show() {
    let Some(regions) = REGIONS.try_get() else {
        printf!("no load is running\n");
        return;
    };
    let rows = [
        ("pattern-2m", &regions.large),
        ("pattern-4k", &regions.small),
        ("secret", &regions.secret),
        ("freed", &regions.freed),
    ];
    for (name, range) in rows {
        printf!("{name:<12} {} {}\n", range.start, range.end);
    }
    let items = ITEMS.lock();
    for (name, at, size) in [
        ("item-secret", items.secret, 256),
        ("item-freed", items.stale, 512),
    ] {
        printf!("{name:<12} {} {}\n", VirtAddr(at), VirtAddr(at + size));
    }
    printf!("rounds       {}\n", ROUNDS.load(Ordering::Relaxed));
}

/// Tells where each item with the pattern is: too much for the message buffer.
pub(crate) fn show_items() {
    let items = ITEMS.lock();
    let show = |name: &str, at: u64, size: u64| {
        let (start, end) = (VirtAddr(at), VirtAddr(at + size));
        print_unlogged_args(format_args!("{name:<12} {start} {end}\n"));
    };
    for at in &items.small {
        show("item-small", *at, 128);
    }
    for at in &items.large {
        show("item-large", *at, 1024);
    }
}

/// The first address with the pattern.
pub(crate) fn first_page() -> Option<VirtAddr> {
    REGIONS.try_get().map(|regions| regions.large.start)
}

/// The pages of 4 KiB with the pattern.
pub(crate) fn for_each_page(mut show: impl FnMut(VirtAddr)) {
    if let Some(regions) = REGIONS.try_get() {
        let range = bytes(&regions.small);
        range
            .step_by(PAGE_SIZE as usize)
            .for_each(|va| show(VirtAddr(va)));
    }
}
