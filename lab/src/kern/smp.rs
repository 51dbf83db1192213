//! Starting the other CPUs.

use crate::arch::MAXCPU;
use crate::arch::time::Deadline;
use crate::arch::{apic, cpu, layout, segments};
use crate::kern::{proc, sched};
use crate::sys::console::printf;
use crate::sys::{mp, pcpu};
use crate::vm::kmem;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vmcore_format::addr::PhysAddr;

/// Where an application processor finds its stack and its number.
#[unsafe(no_mangle)]
static mp_boot_stack: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static mp_boot_cpu: AtomicU32 = AtomicU32::new(0);
static MP_STARTED: AtomicU32 = AtomicU32::new(0);

/// Physical page of the real-mode code.
const TRAMPOLINE: u64 = 0x8000;
/// How long a CPU may take to start.
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
        mp::add_cpu(cpu);
    }
}

/// Where an application processor arrives, on the stack of its idle thread.
#[unsafe(no_mangle)]
extern "C" fn init_secondary(cpu: u32) -> ! {
    pcpu::init(cpu as usize);
    proc::adopt_idle(cpu as usize);
    segments::init_cpu(cpu as usize, kmem::stack_top);
    apic::init_cpu();
    MP_STARTED.store(1, Ordering::Release);
    sched::idle_loop()
}
