//! `struct pcpu`: what each CPU has for itself, found through its GS base.

use crate::arch::{MAXCPU, cpu};
use crate::sys::proc::thread;
use core::arch::asm;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The model-specific register of the GS base.
const MSR_GSBASE: u32 = 0xc000_0101;

/// A CPU.
#[repr(C)]
pub(crate) struct pcpu {
    /// The thread that runs; always first, for debuggers.
    pub(crate) pc_curthread: AtomicPtr<thread>,
    pub(crate) pc_idlethread: AtomicPtr<thread>,
    /// Where the page-fault handler goes on while memory is probed; 0 if it is not.
    pub(crate) pc_onfault: AtomicU64,
    pc_prvspace: AtomicPtr<pcpu>,
    pub(crate) pc_cpuid: AtomicU32,
    pub(crate) pc_apic_id: AtomicU32,
    /// Ticks spent: user, nice, system, interrupt, idle.
    pub(crate) pc_cp_time: [AtomicU64; 5],
    pub(crate) pc_switches: AtomicU64,
}

// The assembler knows this one.
const _: () = assert!(offset_of!(pcpu, pc_onfault) == 16);

impl pcpu {
    /// The thread that runs on it.
    pub(crate) fn thread(&self) -> Option<&'static thread> {
        // SAFETY: threads live forever.
        unsafe { self.pc_curthread.load(Ordering::Acquire).as_ref() }
    }

    const fn new() -> Self {
        Self {
            pc_curthread: AtomicPtr::new(ptr::null_mut()),
            pc_idlethread: AtomicPtr::new(ptr::null_mut()),
            pc_onfault: AtomicU64::new(0),
            pc_prvspace: AtomicPtr::new(ptr::null_mut()),
            pc_cpuid: AtomicU32::new(0),
            pc_apic_id: AtomicU32::new(0),
            pc_cp_time: [const { AtomicU64::new(0) }; 5],
            pc_switches: AtomicU64::new(0),
        }
    }
}

static PCPU: [pcpu; MAXCPU] = [const { pcpu::new() }; MAXCPU];

/// By CPU number; null for those that are not there.
#[unsafe(no_mangle)]
static cpuid_to_pcpu: [AtomicPtr<pcpu>; MAXCPU] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MAXCPU];

/// Gives the running CPU its structure.
pub(crate) fn init(cpu: usize) {
    let own = &PCPU[cpu];
    let address = ptr::from_ref(own).cast_mut();
    own.pc_cpuid.store(cpu as u32, Ordering::Relaxed);
    own.pc_apic_id.store(cpu as u32, Ordering::Relaxed);
    own.pc_prvspace.store(address, Ordering::Relaxed);
    cpuid_to_pcpu[cpu].store(address, Ordering::Release);
    // SAFETY: the GS base belongs to this structure, which lives forever.
    unsafe { cpu::wrmsr(MSR_GSBASE, address.addr() as u64) }
}

/// The running CPU's structure.
pub(crate) fn current() -> &'static pcpu {
    let address: *const pcpu;
    // SAFETY: `init` has set the GS base before anything else ran on this CPU.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) address, const offset_of!(pcpu, pc_prvspace),
            options(nostack, readonly, preserves_flags));
        &*address
    }
}

/// The running CPU's number.
pub(crate) fn cpuid() -> usize {
    current().pc_cpuid.load(Ordering::Relaxed) as usize
}

/// The structure of a CPU, if it is there.
pub(crate) fn find(cpu: usize) -> Option<&'static pcpu> {
    let address = cpuid_to_pcpu.get(cpu)?.load(Ordering::Acquire);
    // SAFETY: what is not null points into `PCPU`.
    unsafe { address.as_ref() }
}

/// The thread that runs here. One load, so that being moved to another CPU does not matter.
pub(crate) fn curthread() -> Option<&'static thread> {
    let address: *const thread;
    // SAFETY: the first word of this CPU's structure; threads live forever.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) address, options(nostack, readonly, preserves_flags));
        address.as_ref()
    }
}
