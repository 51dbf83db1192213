//! Backtraces: frame pointers from frame to frame, and trap frames where an interrupt cut in.

use crate::arch::layout::KVA_MIN;
use crate::arch::pcb::{T_BPTFLT, pcb};
use crate::arch::probe;
use crate::arch::probe::is_canonical;
use crate::ddb::symbols;
use crate::kern::proc;
use crate::sys::console::printf;
use crate::sys::proc::{NOCPU, thread};
use crate::sys::{kdb, mp, pcpu};
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use vmcore_format::addr::VirtAddr;

/// The most frames that are shown.
const FRAMES_MAX: usize = 1000;
/// Where a trap frame keeps what the walk goes on with.
const TF_RBP: u64 = offset_of!(crate::arch::pcb::trapframe, tf_rbp) as u64;
const TF_TRAPNO: u64 = offset_of!(crate::arch::pcb::trapframe, tf_trapno) as u64;
const TF_RIP: u64 = offset_of!(crate::arch::pcb::trapframe, tf_rip) as u64;
const TF_RSP: u64 = offset_of!(crate::arch::pcb::trapframe, tf_rsp) as u64;

fn word(va: u64) -> Option<u64> {
    probe::read_u64(VirtAddr(va))
}

/// Functions whose callee's frame is followed by a trap frame.
fn is_trap_entry(name: &str) -> bool {
    [
        "calltrap",
        "nmi_calltrap",
        "mchk_calltrap",
        "Xdblfault",
        "Xtimerint",
    ]
    .contains(&name)
}

/// Stubs that build a trap frame or take one down: a frame pointer in them is still the interrupted one.
fn is_stub(name: &str) -> bool {
    is_trap_entry(name) || name.starts_with('X') || ["alltraps", "doreti"].contains(&name)
}

/// Where a stub that was itself interrupted has the interrupted instruction's address, seen from the
/// stack pointer: right there until the stub pushes an error code, above that until it makes room for
/// the frame, and in the frame from then on.
fn rip_in_stub(rip: u64, rsp: u64) -> Option<u64> {
    let code = word(rip)?.to_le_bytes();
    Some(match code {
        // push $0; iretq
        [0x6a, 0x00, ..] | [0x48, 0xcf, ..] => rsp,
        // sub $TF_ERR,%rsp
        [0x48, 0x81, 0xec, ..] => rsp + 8,
        _ => rsp + TF_RIP,
    })
}

/// Where the return address is, seen from the stack pointer, at an instruction before which the function
/// has no frame of its own yet, or after which it has none any more.
fn return_address(rip: u64, rsp: u64) -> Option<u64> {
    let code = word(rip)?.to_le_bytes();
    match code {
        // push %rbp, ret
        [0x55 | 0xc3, ..] => Some(rsp),
        // mov %rsp,%rbp
        [0x48, 0x89, 0xe5, ..] => Some(rsp + 8),
        _ => None,
    }
}

/// Shows the frames from an instruction and its frame pointer on. `exact` says that the instruction
/// is not a return address.
fn walk(rip: u64, rbp: u64, exact: bool) {
    let (mut rip, mut rbp, mut exact) = (rip, rbp, exact);
    let mut trap_rsp = None;
    for _ in 0..FRAMES_MAX {
        let name = symbols::print_frame(rip, exact, rbp);
        // A call of what is not code: it has no frame, and the return address is where it was put.
        let rsp = trap_rsp.take();
        if let Some(place) = rsp
            .filter(|_| symbols::with_name(rip, is_stub))
            .and_then(|rsp| rip_in_stub(rip, rsp))
        {
            let (Some(cut), Some(cut_rsp)) = (word(place), word(place + (TF_RSP - TF_RIP))) else {
                return;
            };
            (rip, exact) = (cut, true);
            trap_rsp = Some(cut_rsp);
            continue;
        }
        let top = match name {
            None => rsp,
            Some(_) => rsp.and_then(|rsp| return_address(rip, rsp)),
        };
        if let Some((top, return_to)) = top.and_then(|top| Some((top, word(top)?)))
            && symbols::with_name(return_to, |_| true)
        {
            (rip, exact) = (return_to, false);
            trap_rsp = symbols::with_name(return_to, is_stub).then_some(top + 8);
            continue;
        }
        if rbp < KVA_MIN.0 || !is_canonical(rbp) || !rbp.is_multiple_of(8) {
            return;
        }
        let (Some(next_rbp), Some(return_to)) = (word(rbp), word(rbp + 8)) else {
            return;
        };
        if name.is_none() && return_to == 0 {
            return;
        }
        let caller_is_trap =
            symbols::with_name(return_to - u64::from(return_to > 0), is_trap_entry);
        if caller_is_trap {
            symbols::print_frame(return_to, false, next_rbp);
            let frame = rbp + 16;
            let number = word(frame + TF_TRAPNO).unwrap_or(0) as u32;
            let (Some(trap_rip), Some(rsp), Some(trap_rbp)) = (
                word(frame + TF_RIP),
                word(frame + TF_RSP),
                word(frame + TF_RBP),
            ) else {
                return;
            };
            printf!(
                "--- trap {number:#x}, rip = {trap_rip:#x}, rsp = {rsp:#x}, rbp = {trap_rbp:#x} ---\n"
            );
            (rip, rbp, exact) = (trap_rip, trap_rbp, true);
            trap_rsp = Some(rsp);
            continue;
        }
        if next_rbp == 0 || return_to == 0 {
            if return_to != 0 {
                symbols::print_frame(return_to, false, next_rbp);
            }
            return;
        }
        (rip, rbp, exact) = (return_to, next_rbp, false);
    }
}

/// The caller's stack.
#[inline(never)]
pub(crate) fn here() {
    let rbp: u64;
    // SAFETY: reads the frame pointer, which the compiler keeps.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags))
    }
    if let (Some(next), Some(return_to)) = (word(rbp), word(rbp + 8)) {
        walk(return_to, next, false);
    }
}

/// A thread's stack.
pub(crate) fn of(thread: &thread) {
    printf!(
        "Tracing pid {} tid {} td {:#x}\n",
        thread.td_proc.p_pid,
        thread.td_tid,
        thread.address()
    );
    frames(thread);
}

fn frames(thread: &thread) {
    let is_here = pcpu::curthread().is_some_and(|own| own.address() == thread.address());
    if is_here && let Some(frame) = kdb::frame() {
        let exact = frame.tf_trapno != T_BPTFLT;
        return walk(frame.tf_rip, frame.tf_rbp, exact);
    }
    let cpu = thread.td_oncpu.load(Ordering::Relaxed);
    let context: pcb = if cpu != NOCPU && mp::is_stopped(cpu as usize) {
        mp::registers(cpu as usize)
    } else {
        // SAFETY: the PCB at the top of a thread's stack lives as long as the thread.
        unsafe { thread.td_pcb.load(Ordering::Relaxed).read_volatile() }
    };
    let never_ran = context.pcb_rip == crate::arch::pcb::fork_trampoline as *const () as u64;
    walk(context.pcb_rip, context.pcb_rbp, never_ran);
}

/// Every thread's stack.
pub(crate) fn all() {
    for process in proc::all() {
        for thread in process.threads() {
            printf!(
                "\nTracing command {} pid {} tid {} td {:#x}",
                process.comm(),
                process.p_pid,
                thread.td_tid,
                thread.address()
            );
            match thread.td_oncpu.load(Ordering::Relaxed) {
                NOCPU => printf!("\n"),
                cpu => printf!(" (CPU {cpu})\n"),
            }
            frames(thread);
        }
    }
}
