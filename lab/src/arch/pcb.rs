//! `struct pcb` and `struct trapframe` with FreeBSD's layout (`sys/amd64/include/pcb.h`, `frame.h`).

use core::cell::UnsafeCell;
use core::mem::offset_of;

/// The registers of a thread that does not run.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct pcb {
    pub(crate) pcb_r15: u64,
    pub(crate) pcb_r14: u64,
    pub(crate) pcb_r13: u64,
    pub(crate) pcb_r12: u64,
    pub(crate) pcb_rbp: u64,
    pub(crate) pcb_rsp: u64,
    pub(crate) pcb_rbx: u64,
    pub(crate) pcb_rip: u64,
    pub(crate) pcb_fsbase: u64,
    pub(crate) pcb_gsbase: u64,
    pub(crate) pcb_kgsbase: u64,
    pub(crate) pcb_cr0: u64,
    pub(crate) pcb_cr2: u64,
    pub(crate) pcb_cr3: u64,
    pub(crate) pcb_cr4: u64,
    pub(crate) pcb_dr: [u64; 6],
    pub(crate) pcb_rest: [u8; 0x140 - 168],
}

const _: () = {
    assert!(size_of::<pcb>() == 0x140);
    assert!(offset_of!(pcb, pcb_rip) == 56);
    assert!(offset_of!(pcb, pcb_cr4) == 112);
};

impl pcb {
    pub(crate) const EMPTY: Self = Self {
        pcb_r15: 0,
        pcb_r14: 0,
        pcb_r13: 0,
        pcb_r12: 0,
        pcb_rbp: 0,
        pcb_rsp: 0,
        pcb_rbx: 0,
        pcb_rip: 0,
        pcb_fsbase: 0,
        pcb_gsbase: 0,
        pcb_kgsbase: 0,
        pcb_cr0: 0,
        pcb_cr2: 0,
        pcb_cr3: 0,
        pcb_cr4: 0,
        pcb_dr: [0; 6],
        pcb_rest: [0; 0x140 - 168],
    };
}

/// A PCB that one CPU at a time writes, by the rules of the scheduler or of the stop protocol.
#[repr(transparent)]
pub(crate) struct PcbCell(UnsafeCell<pcb>);

// SAFETY: only the CPU that owns the context writes it; others look after that CPU has stopped.
unsafe impl Sync for PcbCell {}

impl PcbCell {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(pcb::EMPTY))
    }

    pub(crate) const fn get(&self) -> *mut pcb {
        self.0.get()
    }

    /// A copy of what is there.
    pub(crate) fn read(&self) -> pcb {
        // SAFETY: any bytes are a `pcb`; see `Sync` for who writes.
        unsafe { self.get().read_volatile() }
    }
}

// `tf_trapno` of some traps.
pub(crate) const T_BPTFLT: u32 = 3;
pub(crate) const T_TRCTRAP: u32 = 10;
pub(crate) const T_PAGEFLT: u32 = 12;
pub(crate) const T_NMI: u32 = 19;
pub(crate) const T_DOUBLEFLT: u32 = 23;
pub(crate) const T_MCHK: u32 = 28;

/// What a trap leaves on the stack.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct trapframe {
    pub(crate) tf_rdi: u64,
    pub(crate) tf_rsi: u64,
    pub(crate) tf_rdx: u64,
    pub(crate) tf_rcx: u64,
    pub(crate) tf_r8: u64,
    pub(crate) tf_r9: u64,
    pub(crate) tf_rax: u64,
    pub(crate) tf_rbx: u64,
    pub(crate) tf_rbp: u64,
    pub(crate) tf_r10: u64,
    pub(crate) tf_r11: u64,
    pub(crate) tf_r12: u64,
    pub(crate) tf_r13: u64,
    pub(crate) tf_r14: u64,
    pub(crate) tf_r15: u64,
    pub(crate) tf_trapno: u32,
    pub(crate) tf_fs: u16,
    pub(crate) tf_gs: u16,
    pub(crate) tf_addr: u64,
    pub(crate) tf_flags: u32,
    pub(crate) tf_es: u16,
    pub(crate) tf_ds: u16,
    pub(crate) tf_err: u64,
    pub(crate) tf_rip: u64,
    pub(crate) tf_cs: u64,
    pub(crate) tf_rflags: u64,
    pub(crate) tf_rsp: u64,
    pub(crate) tf_ss: u64,
}

const _: () = {
    assert!(size_of::<trapframe>() == 192);
    assert!(offset_of!(trapframe, tf_trapno) == 120);
    assert!(offset_of!(trapframe, tf_err) == 144);
    assert!(offset_of!(trapframe, tf_rip) == 152);
};

unsafe extern "C" {
    /// Saves the caller's registers; it returns at once, and once more never.
    pub(crate) fn savectx(pcb: *mut pcb);
    /// Leaves the thread of `old` where it is, goes on where that of `new` was.
    pub(crate) fn cpu_switch(old: *mut pcb, new: *const pcb);
    /// Where a new thread begins.
    pub(crate) fn fork_trampoline();
}
