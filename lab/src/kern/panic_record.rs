//! What is known about the panic: message, cause, registers. The panic path writes it, the dump and
//! the debugger read it.

use crate::arch::pcb::{PcbCell, pcb, trapframe};
use crate::sys::kdb;
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use vmcore_format::identity::Trap;

/// No CPU has panicked.
const NOCPU: u32 = u32::MAX;
/// Bytes of the panic message, its NUL included.
const MESSAGE_MAX: usize = 256;

/// The panic message; null if there was no panic.
#[unsafe(no_mangle)]
static panicstr: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
/// The CPU that panicked first.
#[unsafe(no_mangle)]
static panic_cpu: AtomicU32 = AtomicU32::new(NOCPU);

struct Message(UnsafeCell<[u8; MESSAGE_MAX]>);
// SAFETY: only the CPU that panicked first writes it, once; readers go by `panicstr`.
unsafe impl Sync for Message {}
static MESSAGE: Message = Message(UnsafeCell::new([0; MESSAGE_MAX]));

/// Where the panic came from: the trap's registers, or those of the call.
struct Origin(UnsafeCell<Option<trapframe>>);
// SAFETY: as for `Message`.
unsafe impl Sync for Origin {}
static ORIGIN: Origin = Origin(UnsafeCell::new(None));
/// Number of the trap, as a dump's identity has it; 0 if the kernel called panic.
static CAUSE: AtomicU32 = AtomicU32::new(0);
static PANIC_PCB: PcbCell = PcbCell::new();

/// Writes into a fixed array, and leaves a NUL at its end.
struct Fixed<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Write for Fixed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes().take(self.bytes.len() - 1 - self.len) {
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// Makes a CPU the one that panics. Fails with the one that already does.
pub(crate) fn claim(cpu: u32) -> Result<(), u32> {
    let claimed = panic_cpu.compare_exchange(NOCPU, cpu, Ordering::AcqRel, Ordering::Acquire);
    claimed.map(|_| ())
}

/// Records the trap that a panic is about to come from, unless there is a panic.
pub(crate) fn set_origin(frame: &trapframe, cause: Trap) {
    if panic_cpu.load(Ordering::Acquire) == NOCPU {
        CAUSE.store(cause.number(), Ordering::Release);
        // SAFETY: it is not read before there is a panic; of two CPUs that panic at the same time
        // one writes for nothing, which at worst shows the other's registers.
        unsafe { *ORIGIN.0.get() = Some(*frame) }
    }
}

/// The registers of the call of panic; only the CPU that claimed the panic writes them.
pub(crate) const fn call_registers() -> *mut pcb {
    PANIC_PCB.get()
}

/// Records the message, cut where it is too long.
///
/// # Safety
/// Only the CPU that claimed the panic may call it, once.
pub(crate) unsafe fn set_message(text: fmt::Arguments<'_>) {
    // SAFETY: the caller's promise: no other writes, and nothing reads before `panicstr` is set.
    let bytes = unsafe { &mut *MESSAGE.0.get() };
    let _ = Fixed { bytes, len: 0 }.write_fmt(text);
    panicstr.store(MESSAGE.0.get().cast(), Ordering::Release);
}

/// The panic message.
pub(crate) fn message() -> Option<&'static str> {
    let at = panicstr.load(Ordering::Acquire);
    if at.is_null() {
        return None;
    }
    // SAFETY: it points to `MESSAGE`, which was complete before, and ends in a NUL.
    unsafe { core::ffi::CStr::from_ptr(at.cast::<core::ffi::c_char>()) }
        .to_str()
        .ok()
}

/// The registers that the panic is about, if it came from a trap.
fn trap_registers() -> Option<trapframe> {
    // SAFETY: written before the panic goes on; it is not written again.
    unsafe { *ORIGIN.0.get() }
}

/// Why this kernel dumps: a request, unless there was a panic.
pub(crate) fn cause() -> Trap {
    match (message(), CAUSE.load(Ordering::Acquire)) {
        (None, _) => Trap::Request,
        (Some(_), 0) => Trap::Panic,
        (Some(_), number) => Trap::from_number(number),
    }
}

/// The registers that the dump is about.
pub(crate) enum Registers {
    /// Those of the trap that led to the panic or to the debugger.
    Trap(trapframe),
    /// Those of the call of panic.
    Call(pcb),
}

/// Where the kernel was when it died, or when the dump was requested.
pub(crate) fn registers() -> Registers {
    let frame = match message() {
        Some(_) => trap_registers(),
        None => kdb::frame(),
    };
    frame.map_or_else(|| Registers::Call(PANIC_PCB.read()), Registers::Trap)
}
