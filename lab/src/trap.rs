//! What traps do: resume a probing read, stop this CPU, enter the debugger, or panic.

use crate::arch::apic;
use crate::arch::pcb::{T_BPTFLT, T_DOUBLEFLT, T_MCHK, T_NMI, T_PAGEFLT, T_TRCTRAP, trapframe};
use crate::kern::{crash, sched, watchdog};
use crate::panic;
use crate::sys::console::printf;
use crate::sys::{mp, pcpu};
use core::sync::atomic::Ordering;
use vmcore_format::identity::Trap;

/// What a trap is called.
fn message(trapno: u32) -> &'static str {
    match trapno {
        1 => "privileged instruction fault",
        T_BPTFLT => "breakpoint instruction fault",
        6 => "arithmetic trap",
        9 => "general protection fault",
        T_TRCTRAP => "debug exception",
        T_PAGEFLT => "page fault",
        14 => "alignment fault",
        18 => "integer divide fault",
        T_NMI => "non-maskable interrupt trap",
        20 => "FPU bounds check fault",
        21 => "overflow trap",
        22 => "FPU device not available",
        T_DOUBLEFLT => "double fault",
        25 => "invalid TSS fault",
        26 => "segment not present fault",
        27 => "stack fault",
        T_MCHK => "machine check trap",
        29 => "SIMD floating-point exception",
        30 => "reserved (unknown) fault",
        _ => "unknown/reserved trap",
    }
}

/// Every trap but the double fault. It has the name of a function that debuggers know as a handler.
#[unsafe(no_mangle)]
extern "C" fn trap_check(frame: &mut trapframe) {
    let trapno = frame.tf_trapno;
    match trapno {
        T_PAGEFLT if resume_probe(frame) => {}
        T_BPTFLT | T_TRCTRAP => panic::kdb_trap(frame),
        T_NMI => nmi_handle_intr(frame),
        _ => trap_fatal(frame),
    }
}

/// A probing read hit memory that is not there: it goes on where it wants to hear of that.
fn resume_probe(frame: &mut trapframe) -> bool {
    match pcpu::current().pc_onfault.load(Ordering::Relaxed) {
        0 => false,
        resume => {
            frame.tf_rip = resume;
            true
        }
    }
}

/// A non-maskable interrupt: another CPU wants this one to stop; or the watchdog, or a person's
/// button, wants a panic.
#[unsafe(no_mangle)]
#[inline(never)]
fn nmi_handle_intr(frame: &mut trapframe) {
    crash::stay_if_deaf();
    if mp::stop_if_asked(Some(frame)) || panic::note_nmi() {
        return;
    }
    if watchdog::has_expired() {
        panic::panic_at(frame, Trap::Watchdog, format_args!("watchdog timeout"));
    }
    panic::panic_at(frame, Trap::Nmi, format_args!("NMI"));
}

/// Tells about a trap that nothing can be done about, and panics.
#[unsafe(no_mangle)]
extern "C" fn trap_fatal(frame: &mut trapframe) -> ! {
    let trapno = frame.tf_trapno;
    printf!(
        "\n\nFatal trap {trapno}: {} while in kernel mode\n",
        message(trapno)
    );
    printf!("cpuid = {}\n", pcpu::cpuid());
    if trapno == T_PAGEFLT {
        let code = frame.tf_err;
        printf!("fault virtual address\t= {:#x}\n", frame.tf_addr);
        printf!(
            "fault code\t\t= supervisor {} {}, {}\n",
            if code & 2 != 0 { "write" } else { "read" },
            if code & 16 != 0 {
                "instruction"
            } else {
                "data"
            },
            if code & 1 != 0 {
                "protection violation"
            } else {
                "page not present"
            }
        );
    }
    print_state(frame);
    let cause = match trapno {
        T_PAGEFLT => Trap::PageFault,
        1 | 22 => Trap::Instruction,
        9 | 14 => Trap::Protection,
        T_MCHK => Trap::MachineCheck,
        _ => Trap::Unknown,
    };
    panic::panic_at(frame, cause, format_args!("{}", message(trapno)))
}

fn print_state(frame: &trapframe) {
    printf!(
        "instruction pointer\t= {:#x}:{:#x}\n",
        frame.tf_cs & 0xffff,
        frame.tf_rip
    );
    printf!(
        "stack pointer\t        = {:#x}:{:#x}\n",
        frame.tf_ss & 0xffff,
        frame.tf_rsp
    );
    printf!(
        "frame pointer\t        = {:#x}:{:#x}\n",
        frame.tf_ss & 0xffff,
        frame.tf_rbp
    );
    printf!("processor eflags\t= {:#x}\n", frame.tf_rflags);
    if let Some(thread) = pcpu::curthread() {
        printf!(
            "current process\t\t= {} ({})\n",
            thread.td_proc.p_pid,
            thread.name()
        );
    }
    printf!("trap number\t\t= {}\n", frame.tf_trapno);
}

/// A double fault, usually a stack that ran into its guard page. It has its own stack, and
/// nothing to go back to.
#[unsafe(no_mangle)]
extern "C" fn dblfault_handler(frame: &mut trapframe) -> ! {
    printf!("\nFatal double fault\n");
    printf!(
        "rip {:#x} rsp {:#x} rbp {:#x}\n",
        frame.tf_rip,
        frame.tf_rsp,
        frame.tf_rbp
    );
    printf!("cpuid = {}\n", pcpu::cpuid());
    panic::panic_at(frame, Trap::DoubleFault, format_args!("double fault"))
}

/// The timer: time goes on, and perhaps another thread.
#[unsafe(no_mangle)]
extern "C" fn timer_handler(_frame: &mut trapframe) {
    sched::hardclock();
    apic::end_of_interrupt();
    sched::preempt();
}
