//! The other CPUs: stopping them wherever they are, and restarting them.
//!
//! A CPU is stopped by a non-maskable interrupt, so that one that spins with interrupts off stops
//! as well. It saves its registers in `stoppcbs` first and then says so in `stopped_cpus`: a reader
//! of a dump believes the one because of the other. A CPU that does not answer has no registers.

use crate::arch::MAXCPU;
use crate::arch::pcb::{PcbCell, pcb, savectx, trapframe};
use crate::arch::time::Deadline;
use crate::arch::{apic, cpu};
use crate::sys::pcpu;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};

#[unsafe(no_mangle)]
static mp_ncpus: AtomicI32 = AtomicI32::new(1);
#[unsafe(no_mangle)]
static mp_maxid: AtomicI32 = AtomicI32::new(0);
#[unsafe(no_mangle)]
static mp_maxcpus: i32 = MAXCPU as i32;

static STOPPCBS: [PcbCell; MAXCPU] = [const { PcbCell::new() }; MAXCPU];
/// Registers of the stopped CPUs, by CPU number.
#[unsafe(no_mangle)]
static stoppcbs: AtomicPtr<pcb> = AtomicPtr::new(STOPPCBS[0].get());
/// The CPUs that have stopped and saved their registers.
#[unsafe(no_mangle)]
static stopped_cpus: AtomicU64 = AtomicU64::new(0);
/// Registers of the code that the stopping interrupt cut into; null if it was none.
static INTERRUPTED: [AtomicPtr<trapframe>; MAXCPU] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MAXCPU];
/// The CPUs that were told to stop.
static STOPPING: AtomicU64 = AtomicU64::new(0);
/// The CPUs that may go on.
static RESTARTED: AtomicU64 = AtomicU64::new(0);

/// A panic has stopped the other CPUs: they never go on.
static PANICKED: AtomicBool = AtomicBool::new(false);
/// The debugger has the machine.
#[unsafe(no_mangle)]
static kdb_active: AtomicBool = AtomicBool::new(false);

/// How long a CPU may take to stop.
const PATIENCE_US: u64 = 1_000_000;

/// Whether locks mean nothing any more: one CPU runs, the others are stopped.
pub(crate) fn scheduler_stopped() -> bool {
    has_panicked() || kdb_active.load(Ordering::Relaxed)
}

/// Whether the other CPUs are stopped for good.
pub(crate) fn has_panicked() -> bool {
    PANICKED.load(Ordering::Acquire)
}

/// A panic keeps the other CPUs stopped for good.
pub(crate) fn set_panicked() {
    PANICKED.store(true, Ordering::Release);
}

/// Whether the debugger has the machine.
pub(crate) fn in_debugger() -> bool {
    kdb_active.load(Ordering::Acquire)
}

/// The debugger takes the machine, or gives it back.
pub(crate) fn set_in_debugger(active: bool) {
    kdb_active.store(active, Ordering::Release);
}

/// Counts one more CPU, which has just started.
pub(crate) fn add_cpu(cpu: usize) {
    mp_ncpus.store(cpu as i32 + 1, Ordering::Relaxed);
    mp_maxid.store(cpu as i32, Ordering::Relaxed);
}

pub(crate) fn ncpus() -> usize {
    mp_ncpus.load(Ordering::Relaxed).unsigned_abs() as usize
}

fn all_but_me() -> u64 {
    ((1u64 << ncpus()) - 1) & !(1 << pcpu::cpuid())
}

/// Stops all other CPUs, and returns those that did not answer in time: they are left running.
pub(crate) fn stop_others() -> u64 {
    let others = all_but_me() & !stopped_cpus.load(Ordering::Acquire);
    STOPPING.fetch_or(others, Ordering::AcqRel);
    for cpu in (0..ncpus()).filter(|cpu| others >> cpu & 1 == 1) {
        apic::send_nmi(cpu as u32);
    }
    let deadline = Deadline::after_us(PATIENCE_US);
    loop {
        let missing = others & !stopped_cpus.load(Ordering::Acquire);
        if missing == 0 || deadline.has_passed() {
            return missing;
        }
        core::hint::spin_loop();
    }
}

/// Lets the stopped CPUs go on.
pub(crate) fn restart_others() {
    let stopped = stopped_cpus.load(Ordering::Acquire);
    STOPPING.fetch_and(!stopped, Ordering::AcqRel);
    RESTARTED.fetch_or(stopped, Ordering::AcqRel);
    while stopped_cpus.load(Ordering::Acquire) & stopped != 0 {
        core::hint::spin_loop();
    }
}

/// Whether a CPU has stopped: its registers are in [`registers`].
pub(crate) fn is_stopped(cpu: usize) -> bool {
    stopped_cpus.load(Ordering::Acquire) >> cpu & 1 == 1
}

/// The saved registers of a stopped CPU.
pub(crate) fn registers(cpu: usize) -> pcb {
    STOPPCBS[cpu].read()
}

/// What a stopped CPU was doing, if an interrupt stopped it.
pub(crate) fn interrupted(cpu: usize) -> Option<trapframe> {
    let frame = INTERRUPTED[cpu].load(Ordering::Acquire);
    // SAFETY: the frame is on the stack of the handler, which the stopped CPU does not leave.
    unsafe { frame.as_ref() }.copied()
}

/// Stops here if another CPU wants this one to stop; `frame` is the interrupt that told it.
pub(crate) fn stop_if_asked(frame: Option<&mut trapframe>) -> bool {
    let cpu = pcpu::cpuid();
    let asked = STOPPING.load(Ordering::Acquire) >> cpu & 1 == 1;
    if asked {
        let frame = frame.map_or(ptr::null_mut(), ptr::from_mut);
        INTERRUPTED[cpu].store(frame, Ordering::Release);
        cpustop_handler();
        INTERRUPTED[cpu].store(ptr::null_mut(), Ordering::Release);
    }
    asked
}

/// Saves the registers, and waits until this CPU may go on. After a panic it never may: it
/// sleeps then, and leaves a core of the host to the CPU that writes the dump.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cpustop_handler() {
    let me = pcpu::cpuid();
    let bit = 1u64 << me;
    // SAFETY: the slot belongs to this CPU. Its context is that of this very call, so the frame
    // stays as it is until the CPU goes on.
    unsafe { savectx(STOPPCBS[me].get()) }
    stopped_cpus.fetch_or(bit, Ordering::AcqRel);
    while RESTARTED.load(Ordering::Acquire) & bit == 0 {
        if has_panicked() {
            cpu::doze();
        }
        core::hint::spin_loop();
    }
    RESTARTED.fetch_and(!bit, Ordering::AcqRel);
    stopped_cpus.fetch_and(!bit, Ordering::AcqRel);
}
