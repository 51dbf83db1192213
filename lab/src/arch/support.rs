//! Memory functions that the compiler calls, and two names that the precompiled `core` wants.
//!
//! The loops use whole words and inline assembly: plain loops would be compiled into calls of the
//! very functions that they make up, and `rep` has a high start cost in an emulator.

use core::arch::asm;

/// # Safety
/// As C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise: both are valid for `len` bytes; each piece ends within.
    unsafe { copy_forward(to, from, len) }
    to
}

/// # Safety
/// As C's `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: as for `memcpy`; going forward never overwrites what is still to be read.
        unsafe { copy_forward(to, from, len) }
    } else {
        let mut left = len;
        while left > 0 {
            let step = if left >= 8 { 8 } else { 1 };
            left -= step;
            // SAFETY: `left + step` is at most `len`, for which both are valid.
            unsafe { copy_piece(to.add(left), from.add(left), step) }
        }
    }
    to
}

/// # Safety
/// Both are valid for `len` bytes, and `to` is not within the `len` bytes after `from`.
unsafe fn copy_forward(to: *mut u8, from: *const u8, len: usize) {
    let mut done = 0;
    while done < len {
        let step = if len - done >= 8 { 8 } else { 1 };
        // SAFETY: `done + step` is at most `len`.
        unsafe { copy_piece(to.add(done), from.add(done), step) }
        done += step;
    }
}

/// # Safety
/// Both are valid for `step` bytes, which is 8 or 1.
unsafe fn copy_piece(to: *mut u8, from: *const u8, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if step == 8 {
            asm!("mov {t}, [{f}]", "mov [{o}], {t}", t = out(reg) _, f = in(reg) from, o = in(reg) to,
                options(nostack, preserves_flags));
        } else {
            asm!("mov {t}, [{f}]", "mov [{o}], {t}", t = out(reg_byte) _, f = in(reg) from, o = in(reg) to,
                options(nostack, preserves_flags));
        }
    }
}

/// # Safety
/// As C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let word = u64::from(byte as u8) * 0x0101_0101_0101_0101;
    let mut done = 0;
    while done < len {
        // SAFETY: `to` is valid for `len` bytes, and each store ends within.
        unsafe {
            let at = to.add(done);
            if len - done >= 8 {
                asm!("mov [{}], {}", in(reg) at, in(reg) word, options(nostack, preserves_flags));
                done += 8;
            } else {
                asm!("mov [{}], {}", in(reg) at, in(reg_byte) byte as u8, options(nostack, preserves_flags));
                done += 1;
            }
        }
    }
    to
}

/// # Safety
/// As C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut done = 0;
    while len - done >= 8 {
        // SAFETY: eight bytes from `done` on are within `len`.
        let (x, y) = unsafe {
            (
                a.add(done).cast::<u64>().read_unaligned(),
                b.add(done).cast::<u64>().read_unaligned(),
            )
        };
        if x != y {
            return if x.swap_bytes() < y.swap_bytes() {
                -1
            } else {
                1
            };
        }
        done += 8;
    }
    while done < len {
        // SAFETY: `done` is below `len`.
        let (x, y) = unsafe { (*a.add(done), *b.add(done)) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        done += 1;
    }
    0
}

/// # Safety
/// As C's `bcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, len) }
}

/// # Safety
/// As C's `strlen`.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the bytes before were not the end of the string.
    while unsafe { text.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}

/// Never called: panics abort. The precompiled `core` has its name in tables.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
