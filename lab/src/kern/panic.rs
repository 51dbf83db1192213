//! The panic path: one CPU panics, the others stop, the debugger, the dump, the reset.

use crate::arch::pcb::{PcbCell, pcb, savectx, trapframe};
use crate::arch::{cpu, mp, pcpu, time, trap};
use crate::ddb;
use crate::dump;
use crate::kern::console::{print_unlogged, printf};
use crate::kern::sysctl::{DEBUGGER_ON_PANIC, REBOOT_WAIT};
use crate::kern::{msgbuf, watchdog};
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};
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
#[unsafe(no_mangle)]
static rebooting: AtomicI32 = AtomicI32::new(0);
/// The debugger has the machine.
#[unsafe(no_mangle)]
static kdb_active: AtomicBool = AtomicBool::new(false);

static STOPPED: AtomicBool = AtomicBool::new(false);

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

/// Whether a panic has stopped the other CPUs: they never go on.
pub(crate) fn has_stopped_cpus() -> bool {
    STOPPED.load(Ordering::Acquire)
}

/// Whether locks mean nothing any more: one CPU runs, the others are stopped.
pub(crate) fn scheduler_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed) || kdb_active.load(Ordering::Relaxed)
}

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
        None => ddb::frame(),
    };
    frame.map_or_else(|| Registers::Call(PANIC_PCB.read()), Registers::Trap)
}

/// Panics because of a trap.
pub(crate) fn panic_at(frame: &trapframe, cause: Trap, text: fmt::Arguments<'_>) -> ! {
    if panic_cpu.load(Ordering::Acquire) == NOCPU {
        CAUSE.store(cause.number(), Ordering::Release);
        // SAFETY: it is not read before there is a panic; of two CPUs that panic at the same time
        // one writes for nothing, which at worst shows the other's registers.
        unsafe { *ORIGIN.0.get() = Some(*frame) }
    }
    vpanic(text)
}

/// Rust's own panics: failed assertions, overflows, indices out of bounds.
#[panic_handler]
fn rust_panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => vpanic(format_args!(
            "{} @ {}:{}",
            info.message(),
            at.file(),
            at.line()
        )),
        None => vpanic(format_args!("{}", info.message())),
    }
}

/// Panics.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn vpanic(text: fmt::Arguments<'_>) -> ! {
    cpu::disable_interrupts();
    let me = pcpu::cpuid() as u32;
    let first = match panic_cpu.compare_exchange(NOCPU, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => true,
        Err(owner) if owner == me => false,
        // Another CPU was faster: this one stops, and keeps its own story on its stack.
        Err(_) => loop {
            mp::stop_if_asked(None);
            core::hint::spin_loop();
        },
    };
    if !first {
        recursive_panic(text);
    }
    // SAFETY: the PCB is this CPU's alone; the context stays valid, for this function never returns.
    unsafe { savectx(PANIC_PCB.get()) }
    let missing = if kdb_active.load(Ordering::Acquire) {
        0
    } else {
        mp::stop_others()
    };
    // Nothing is printed before this: a CPU that stopped may hold the console.
    STOPPED.store(true, Ordering::Release);
    report_missing_cpus(missing);
    // SAFETY: this CPU panicked first: no other writes.
    let buffer = unsafe { &mut *MESSAGE.0.get() };
    let mut out = Fixed {
        bytes: buffer,
        len: 0,
    };
    // It is cut where it is too long.
    let _ = out.write_fmt(text);
    panicstr.store(MESSAGE.0.get().cast(), Ordering::Release);
    time::update();
    printf!("panic: {}\n", message().unwrap_or("?"));
    printf!("cpuid = {me}\n");
    printf!("time = {}\n", time::seconds());
    printf!("KDB: stack backtrace:\n");
    ddb::trace::here();
    if DEBUGGER_ON_PANIC.get() != 0 {
        kdb_enter("panic", "panic");
    }
    kern_reboot(true)
}

/// Tells of CPUs that did not stop.
fn report_missing_cpus(missing: u64) {
    if missing != 0 {
        printf!("timeout stopping cpus: mask {missing:#x} did not answer\n");
    }
}

/// A panic of the CPU that has panicked already: no debugger, only the reset; and no second dump,
/// unless it was a layer of the first one that panicked.
fn recursive_panic(text: fmt::Arguments<'_>) -> ! {
    printf!("\npanic: {text}\n");
    printf!("cpuid = {}\n", pcpu::cpuid());
    if dump::is_dumping() {
        // It says itself what comes of it.
        let _ = dump::doadump();
    }
    kern_reboot(false)
}

/// Prints the time since boot as FreeBSD does.
fn print_uptime() {
    let seconds = time::uptime_us() / 1_000_000;
    printf!("Uptime: ");
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        printf!("{days}d");
    }
    if days + hours > 0 {
        printf!("{hours}h");
    }
    if days + hours + minutes > 0 {
        printf!("{minutes}m");
    }
    printf!("{}s\n", seconds % 60);
}

/// Dumps, if that is wanted, and resets the machine.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn kern_reboot(with_dump: bool) -> ! {
    rebooting.store(1, Ordering::Relaxed);
    print_uptime();
    if with_dump {
        // What went wrong is on the console; a reset comes next in any case.
        let _ = dump::doadump();
        wait_for_key();
    }
    printf!("Rebooting...\n");
    reset()
}

/// After a panic a person may want to read the screen.
fn wait_for_key() {
    let seconds = REBOOT_WAIT.get();
    if seconds == 0 {
        return;
    }
    printf!("Automatic reboot in {seconds} seconds - press a key on the console to abort\n");
    let deadline = time::Deadline::after_us(seconds * 1_000_000);
    while !deadline.has_passed() {
        if crate::dev::uart::poll().is_some() {
            printf!(
                "--> Press a key on the console to reboot,\n--> or switch off the system now.\n"
            );
            while crate::dev::uart::poll().is_none() {}
            return;
        }
    }
}

/// Resets the machine.
pub(crate) fn reset() -> ! {
    cpu::disable_interrupts();
    cpu::outb(0xcf9, 2);
    cpu::outb(0xcf9, 6);
    time::delay_us(100_000);
    cpu::outb(0x64, 0xfe); // the keyboard controller's way
    cpu::halt()
}

/// Switches the machine off.
pub(crate) fn poweroff() -> ! {
    cpu::disable_interrupts();
    cpu::outw(0x604, 0x2000); // the power management of both of QEMU's PC machines
    cpu::halt()
}

/// Enters the debugger.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn kdb_enter(why: &'static str, text: &str) {
    printf!("KDB: enter: {text}\n");
    ddb::set_reason(why);
    trap::breakpoint();
}

/// A breakpoint: the other CPUs stop, the person decides, and they go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn kdb_trap(frame: &mut trapframe) {
    let stops_cpus = !STOPPED.load(Ordering::Acquire);
    let missing = if stops_cpus { mp::stop_others() } else { 0 };
    kdb_active.store(true, Ordering::Release);
    report_missing_cpus(missing);
    watchdog::suspend();
    ddb::run(frame);
    watchdog::resume();
    kdb_active.store(false, Ordering::Release);
    if stops_cpus {
        mp::restart_others();
    }
}

/// A non-maskable interrupt that this kernel did not send. True if it changes nothing: the machine is
/// in the debugger anyway. During a dump it ends the dump, for its sender has lost patience.
pub(crate) fn note_nmi() -> bool {
    if dump::is_dumping() {
        dump::note_reentry();
        printf!("\nNMI while dumping\n");
        kern_reboot(false);
    }
    scheduler_stopped()
}

/// Shows the message buffer to the person, without adding to it.
pub(crate) fn show_msgbuf() {
    let mut line = [0u8; 128];
    let mut len = 0;
    let flush = |bytes: &[u8]| print_unlogged(core::str::from_utf8(bytes).unwrap_or("?"));
    msgbuf::for_each_byte(|byte| {
        line[len] = if byte.is_ascii() { byte } else { b'?' };
        len += 1;
        if len == line.len() || byte == b'\n' {
            flush(&line[..len]);
            len = 0;
        }
    });
    flush(&line[..len]);
}
