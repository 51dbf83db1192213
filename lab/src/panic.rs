//! The panic path: one CPU panics, the others stop, the debugger, the dump, the reset.

use crate::arch::pcb::{savectx, trapframe};
use crate::arch::{cpu, reset, time};
use crate::kern::setting::{DEBUGGER_ON_PANIC, REBOOT_WAIT};
use crate::kern::{panic_record, watchdog};
use crate::sys::console::printf;
use crate::sys::{kdb, mp, pcpu, uart};
use crate::{ddb, dump};
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicI32, Ordering};
use vmcore_format::identity::Trap;

#[unsafe(no_mangle)]
static rebooting: AtomicI32 = AtomicI32::new(0);

/// Panics because of a trap.
pub(crate) fn panic_at(frame: &trapframe, cause: Trap, text: fmt::Arguments<'_>) -> ! {
    panic_record::set_origin(frame, cause);
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
    match panic_record::claim(me) {
        Ok(()) => {}
        Err(owner) if owner == me => recursive_panic(text),
        // Another CPU was faster: this one stops, and keeps its own story on its stack.
        Err(_) => loop {
            mp::stop_if_asked(None);
            core::hint::spin_loop();
        },
    }
    // SAFETY: the PCB is this CPU's alone; the context stays valid, for this function never returns.
    unsafe { savectx(panic_record::call_registers()) }
    let missing = if mp::in_debugger() {
        0
    } else {
        mp::stop_others()
    };
    // Nothing is printed before this: a CPU that stopped may hold the console.
    mp::set_panicked();
    report_missing_cpus(missing);
    // SAFETY: this CPU panicked first.
    unsafe { panic_record::set_message(text) }
    time::update();
    printf!("panic: {}\n", panic_record::message().unwrap_or("?"));
    printf!("cpuid = {me}\n");
    printf!("time = {}\n", time::seconds());
    printf!("KDB: stack backtrace:\n");
    ddb::trace::here();
    if DEBUGGER_ON_PANIC.get() != 0 {
        kdb::kdb_enter("panic");
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
    reset::reset()
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
        if uart::poll().is_some() {
            printf!(
                "--> Press a key on the console to reboot,\n--> or switch off the system now.\n"
            );
            while uart::poll().is_none() {}
            return;
        }
    }
}

/// A breakpoint: the other CPUs stop, the person decides, and they go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn kdb_trap(frame: &mut trapframe) {
    let stops_cpus = !mp::has_panicked();
    let missing = if stops_cpus { mp::stop_others() } else { 0 };
    mp::set_in_debugger(true);
    report_missing_cpus(missing);
    watchdog::suspend();
    kdb::with_frame(frame, ddb::run);
    watchdog::resume();
    mp::set_in_debugger(false);
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
    mp::scheduler_stopped()
}
