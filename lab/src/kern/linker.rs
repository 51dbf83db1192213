//! `struct linker_file`: the list of kernel and modules, which here is the kernel alone.

use crate::arch::layout;
use crate::sys::boot_cell::BootCell;
use crate::sys::debug_constants;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Up to its size it has been the same for many releases.
#[repr(C)]
struct linker_file {
    ops: usize,
    refs: i32,
    userrefs: i32,
    flags: i32,
    to_link: i32,
    next: AtomicPtr<linker_file>,
    previous: AtomicPtr<AtomicPtr<linker_file>>,
    filename: *const u8,
    pathname: *const u8,
    id: i32,
    to_address: i32,
    address: u64,
    size: u64,
}

// SAFETY: the strings are constants.
unsafe impl Send for linker_file {}
// SAFETY: as above; nothing changes once it is on the list.
unsafe impl Sync for linker_file {}

debug_constants! {
    kld_off_address = offset_of!(linker_file, address);
    kld_off_filename = offset_of!(linker_file, filename);
    kld_off_pathname = offset_of!(linker_file, pathname);
    kld_off_next = offset_of!(linker_file, next);
}

static KERNEL: BootCell<linker_file> = BootCell::new();
#[unsafe(no_mangle)]
static linker_files: AtomicPtr<linker_file> = AtomicPtr::new(ptr::null_mut());
#[unsafe(no_mangle)]
static linker_kernel_file: AtomicPtr<linker_file> = AtomicPtr::new(ptr::null_mut());
/// Where modules would be looked for.
#[unsafe(no_mangle)]
static linker_path: [u8; 27] = *b"/boot/kernel;/boot/modules\0";

/// Puts the kernel on the list.
pub(crate) fn init() {
    let image = layout::image();
    KERNEL.set(linker_file {
        ops: 0,
        refs: 1,
        userrefs: 1,
        flags: 1,
        to_link: 0,
        next: AtomicPtr::new(ptr::null_mut()),
        previous: AtomicPtr::new(ptr::from_ref(&linker_files).cast_mut()),
        filename: c"kernel".as_ptr().cast(),
        pathname: c"/boot/kernel/kernel".as_ptr().cast(),
        id: 1,
        to_address: 0,
        address: image.start,
        size: image.end - image.start,
    });
    let at = ptr::from_ref(KERNEL.get()).cast_mut();
    linker_kernel_file.store(at, Ordering::Release);
    linker_files.store(at, Ordering::Release);
}
