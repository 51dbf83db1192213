//! The other CPUs: starting them, and stopping them wherever they are.
//!
//! A CPU is stopped by a non-maskable interrupt, so that one that spins with interrupts off stops
//! as well. It saves its registers in `stoppcbs` first and then says so in `stopped_cpus`: a reader
//! of a dump believes the one because of the other. A CPU that does not answer has no registers.

use crate::arch::cpu;
use crate::arch::pcb::{PcbCell, pcb, savectx, trapframe};
use crate::arch::pcpu::{self, MAXCPU};
use crate::arch::time::Deadline;
use crate::arch::{apic, segments};
use crate::kern::console::printf;
use crate::kern::{panic, proc, sched};
use crate::vm::layout;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use vmcore_format::addr::PhysAddr;

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

/// Where an application processor finds its stack and its number.
#[unsafe(no_mangle)]
static mp_boot_stack: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static mp_boot_cpu: AtomicU32 = AtomicU32::new(0);
static MP_STARTED: AtomicU32 = AtomicU32::new(0);

/// Physical page of the real-mode code.
const TRAMPOLINE: u64 = 0x8000;
/// How long a CPU may take to start, or to stop.
const PATIENCE_US: u64 = 1_000_000;

unsafe extern "C" {
    static mp_trampoline: u8;
    static mp_trampoline_end: u8;
}

/// How many CPUs QEMU's firmware interface counts.
fn count_cpus() -> usize {
    const SELECT: u16 = 0x510;
    const DATA: u16 = 0x511;
    const SIGNATURE: u16 = 0;
    const NB_CPUS: u16 = 5;
    cpu::outw(SELECT, SIGNATURE);
    if [(); 4].map(|()| cpu::inb(DATA)) != *b"QEMU" {
        return 1;
    }
    cpu::outw(SELECT, NB_CPUS);
    usize::from(cpu::inb(DATA)) | usize::from(cpu::inb(DATA)) << 8
}

pub(crate) fn ncpus() -> usize {
    mp_ncpus.load(Ordering::Relaxed).unsigned_abs() as usize
}

/// Starts all CPUs but the one that runs.
pub(crate) fn start_all() {
    let count = count_cpus().clamp(1, MAXCPU);
    // SAFETY: both symbols are in the image, one after the other.
    let code = unsafe {
        let start = &raw const mp_trampoline;
        let len = (&raw const mp_trampoline_end).addr() - start.addr();
        core::slice::from_raw_parts(start, len)
    };
    // SAFETY: the page allocator never gives away the first megabyte.
    unsafe { layout::dmap(PhysAddr(TRAMPOLINE)).copy_from(code.as_ptr(), code.len()) }
    for cpu in 1..count {
        let idle = proc::create_idle(cpu);
        mp_boot_stack.store(idle.td_frame.load(Ordering::Relaxed), Ordering::Relaxed);
        mp_boot_cpu.store(cpu as u32, Ordering::Relaxed);
        MP_STARTED.store(0, Ordering::Release);
        apic::start_cpu(cpu as u32, (TRAMPOLINE >> 12) as u32);
        let deadline = Deadline::after_us(PATIENCE_US);
        while MP_STARTED.load(Ordering::Acquire) == 0 {
            if deadline.has_passed() {
                printf!("cpu{cpu}: does not start\n");
                return;
            }
            core::hint::spin_loop();
        }
        mp_ncpus.store(cpu as i32 + 1, Ordering::Relaxed);
        mp_maxid.store(cpu as i32, Ordering::Relaxed);
    }
}

/// Where an application processor arrives, on the stack of its idle thread.
#[unsafe(no_mangle)]
extern "C" fn init_secondary(cpu: u32) -> ! {
    pcpu::init(cpu as usize);
    proc::adopt_idle(cpu as usize);
    segments::init_cpu(cpu as usize);
    apic::init_cpu();
    MP_STARTED.store(1, Ordering::Release);
    sched::idle_loop()
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
        if panic::has_stopped_cpus() {
            cpu::doze();
        }
        core::hint::spin_loop();
    }
    RESTARTED.fetch_and(!bit, Ordering::AcqRel);
    stopped_cpus.fetch_and(!bit, Ordering::AcqRel);
}
