//! Bugs of values: a division by zero, a counter below zero, an assertion.

use crate::vm::uma::Zone;
use core::hint::black_box;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, Ordering};

/// A disk, as a driver announces it.
#[repr(C)]
struct g_provider {
    name: [u8; 16],
    mediasize: u64,
    /// Bytes of a sector, which a driver must set.
    sectorsize: NonZeroU32,
}

static PROVIDER_ZONE: Zone = Zone::new("g_provider", size_of::<g_provider>());

/// A driver announces its disk before it knows the size of a sector.
pub(super) fn divide(_: usize) {
    PROVIDER_ZONE.register();
    let pp = PROVIDER_ZONE.alloc().cast::<g_provider>().as_ptr();
    // SAFETY: none: this is the bug; the item is zeros.
    let sectors = unsafe {
        (*pp).mediasize = 64 << 20;
        g_part_sectors(pp)
    };
    black_box(sectors);
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn g_part_sectors(pp: *const g_provider) -> u64 {
    // SAFETY: none: this is the bug.
    let (mediasize, sectorsize) = unsafe { ((*pp).mediasize, (*pp).sectorsize) };
    mediasize / u64::from(sectorsize.get())
}

/// The owner of a process.
#[repr(C)]
struct ucred {
    cr_uid: u32,
    cr_ref: AtomicU32,
}

static KERNEL_CRED: ucred = ucred {
    cr_uid: 0,
    cr_ref: AtomicU32::new(1),
};

/// A credential is released by the process that ends and by its parent.
pub(super) fn refcount(_: usize) {
    for _ in 0..2 {
        crfree(&KERNEL_CRED);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
fn crfree(cr: &ucred) {
    if refcount_release(&cr.cr_ref) {
        black_box(cr.cr_uid);
    }
}

/// Drops a reference. True for the last one.
#[unsafe(no_mangle)]
#[inline(never)]
fn refcount_release(count: &AtomicU32) -> bool {
    let old = count.fetch_sub(1, Ordering::AcqRel);
    if old == 0 {
        refcount_update_saturated(count);
    }
    old == 1
}

#[unsafe(no_mangle)]
#[inline(never)]
fn refcount_update_saturated(count: &AtomicU32) -> ! {
    panic!("refcount {count:p} wraparound")
}

/// The data that waits in a socket.
#[repr(C)]
struct sockbuf {
    sb_ccc: u32,
    sb_lengths: [u32; 3],
}

/// Data was dropped, and the buffer's count was not.
pub(super) fn assertion(_: usize) {
    let mut sb = black_box(sockbuf {
        sb_ccc: 4096,
        sb_lengths: [1448, 1448, 1200],
    });
    sbdrop(&mut sb);
    sbcheck(&sb);
}

#[unsafe(no_mangle)]
#[inline(never)]
fn sbdrop(sb: &mut sockbuf) {
    sb.sb_lengths[0] = 0;
}

#[unsafe(no_mangle)]
#[inline(never)]
fn sbcheck(sb: &sockbuf) {
    let sum: u32 = sb.sb_lengths.iter().sum();
    let cc = sb.sb_ccc;
    assert!(
        cc == sum,
        "Assertion sb_ccc == sum of mbufs failed: cc {cc} != {sum}"
    );
}
