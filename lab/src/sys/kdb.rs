//! The door to the debugger: a breakpoint, whose trap frame the debugger works on.

use crate::arch::cpu;
use crate::arch::pcb::trapframe;
use crate::sys::console::printf;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// The trap that led to the debugger; null while that does not run.
static FRAME: AtomicPtr<trapframe> = AtomicPtr::new(ptr::null_mut());

/// Enters the debugger.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn kdb_enter(text: &str) {
    printf!("KDB: enter: {text}\n");
    cpu::breakpoint();
}

/// The trap that led to the debugger.
pub(crate) fn frame() -> Option<trapframe> {
    let frame = FRAME.load(Ordering::Acquire);
    // SAFETY: not null only while `with_frame` borrows the frame.
    unsafe { frame.as_ref() }.copied()
}

/// Runs the debugger on a trap.
pub(crate) fn with_frame(frame: &mut trapframe, debugger: fn(&trapframe)) {
    FRAME.store(frame, Ordering::Release);
    debugger(frame);
    FRAME.store(ptr::null_mut(), Ordering::Release);
}
