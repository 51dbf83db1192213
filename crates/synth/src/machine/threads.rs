//! Stacks and saved registers of threads.

use super::era::Era;
use super::image::{stop, system_call};
use super::memory::{Location, Memory};
use crate::Arch;
use crate::bytes::index;
use crate::elf::Kernel;

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Panicked in a system call, on the CPU that crashed.
    Crashed,
    /// Idle on a CPU.
    Idle(u32),
    /// Sleeps in a system call.
    SystemCall,
    /// A kernel thread that waits for work in this function.
    Waiting(&'static str),
    /// Was never scheduled.
    Fresh,
}

/// Registers as they are saved, and the frames that follow from them.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) pc: u64,
    pub(super) sp: u64,
    pub(super) fp: u64,
    pub(super) frames: Vec<u64>,
    /// The link register, where the program counter is in a function without a frame.
    pub(super) lr: u64,
}

/// User addresses, as they are in a user's frame pointer.
const USER_FP: u64 = 0x7fff_e9f0;
/// A user's program counter.
const USER_PC: u64 = 0x1000_2468;
/// Bytes between two frames.
const FRAME_LEN: u64 = 0x60;
/// The same where a trap frame is between them: powerpc.
const TRAP_FRAME_LEN: u64 = 0x1c0;
/// powerpc: words of a trap frame, where it has the stack pointer, the program counter and the
/// machine's state, and what that says of user code.
const POWERPC_SP: u64 = 1;
const POWERPC_PC: u64 = 36;
const POWERPC_STATE: u64 = 37;
const POWERPC_USER: u64 = 1 << 14;
/// Room for arguments between two frame pointers and a stack pointer.
const SCRATCH: u64 = 0x30;

/// The address that a call inside `function` returns to.
pub(super) fn inside(kernel: &Kernel, function: &str) -> u64 {
    let offset = 0x11 + function.len() as u64 % 0x20;
    // Instructions of arm64 and riscv64 have even addresses.
    (kernel.running_address_of(function).unwrap_or(0) + offset) & !3
}

/// The functions on the stack, innermost first, and the last saved frame pointer.
fn functions(arch: Arch, doing: Doing) -> (Vec<&'static str>, u64) {
    let kernel_thread = ["fork_exit", "fork_trampoline"];
    match doing {
        Doing::Crashed => {
            let panic = [
                "doadump",
                "kern_reboot",
                "vpanic",
                "panic",
                "kdb_sysctl_panic",
                "sysctl_root_handler_locked",
                "sysctl_root",
                "userland_sysctl",
                "sys___sysctl",
            ];
            ([&panic[..], &system_call(arch)].concat(), USER_FP)
        }
        Doing::Idle(_) => {
            let idle = ["cpu_idle", "sched_idletd"];
            (
                [&["cpustop_handler"], &stop(arch)[..], &idle, &kernel_thread].concat(),
                0,
            )
        }
        Doing::SystemCall => {
            let sleep = [
                "sched_switch",
                "mi_switch",
                "sleepq_catch_signals",
                "sleepq_wait_sig",
                "_sleep",
                "kern_kevent",
                "sys_kevent",
            ];
            ([&sleep[..], &system_call(arch)].concat(), USER_FP)
        }
        Doing::Waiting(function) => {
            let sleep = [
                "sched_switch",
                "mi_switch",
                "sleepq_wait",
                "_sleep",
                function,
            ];
            ([&sleep[..], &kernel_thread].concat(), 0)
        }
        Doing::Fresh => (Vec::new(), 0),
    }
}

/// Names of the functions that a panic's trace shows, with their addresses.
pub(super) fn panic_trace(arch: Arch, kernel: &Kernel) -> Vec<String> {
    let (names, _) = functions(arch, Doing::Crashed);
    let shown = ["kdb_backtrace"]
        .into_iter()
        .chain(names.into_iter().skip(2));
    let line = |name: &str| {
        let at = inside(kernel, name);
        let offset = at - kernel.running_address_of(name).unwrap_or(0);
        format!("{at:#x} at {name}+{offset:#x}")
    };
    shown.map(line).collect()
}

/// Writes the stack of a thread whose stack ends at `top`; gives the registers that lead into it.
pub(super) fn write_stack(
    memory: &mut Memory,
    kernel: &Kernel,
    doing: Doing,
    top: Location,
) -> Saved {
    let arch = kernel.arch;
    let word = arch.word_bytes();
    let (names, last_fp) = functions(arch, doing);
    let frames: Vec<u64> = names.iter().map(|name| inside(kernel, name)).collect();
    let is_arm = matches!(arch, Arch::Armv7 | Arch::Armeb);
    let Some((pc, callers)) = frames.split_first() else {
        let pc = kernel.running_address_of("fork_trampoline").unwrap_or(0);
        // Above it is the trap frame that the thread will return through.
        let exact = !matches!(arch, Arch::Amd64 | Arch::I386);
        let sp = top.va - 0x100 - if exact { 0 } else { word };
        return Saved {
            pc,
            sp,
            fp: 0,
            frames: vec![pc],
            lr: 0,
        };
    };
    // arm saves the program counter inside the routine that saves, which has no frame.
    let leaf = match doing {
        Doing::Crashed | Doing::Idle(_) => "savectx",
        _ => "cpu_switch",
    };
    let leaf = inside(kernel, leaf);
    let (leaf, frames, lr) = match is_arm {
        true => (leaf, [&[leaf][..], &frames].concat(), *pc),
        false => (*pc, frames.clone(), 0),
    };
    if arch.is_powerpc() {
        return write_chain(memory, arch, (&names[1..], &frames), last_fp, top);
    }
    let depth = callers.len() as u64;
    let start = Location {
        va: top.va - depth * FRAME_LEN,
        pa: top.pa - depth * FRAME_LEN,
    };
    // riscv64's frame pointer points past the saved words, the others' at them.
    let saved_at = |frame: Location| match arch {
        Arch::Riscv64 => (frame.pa - 16, frame.pa - 8),
        _ => (frame.pa, frame.pa + word),
    };
    for (number, caller) in (0..).zip(callers) {
        let frame = start.at(number * FRAME_LEN);
        let next_fp = if number + 1 == depth {
            last_fp
        } else {
            frame.at(FRAME_LEN).va
        };
        let (fp_at, return_at) = saved_at(frame);
        memory.write_word(arch, fp_at, next_fp);
        memory.write_word(arch, return_at, *caller);
    }
    let sp = start.va - SCRATCH;
    if matches!(arch, Arch::Amd64 | Arch::I386) {
        memory.write_word(arch, start.pa - SCRATCH, *pc);
    }
    Saved {
        pc: leaf,
        sp,
        fp: start.va,
        frames,
        lr,
    }
}

/// The same on powerpc: each stack pointer points at the next one, above which the return address is;
/// an entry has its trap frame above the head of its own frame.
fn write_chain(
    memory: &mut Memory,
    arch: Arch,
    (callers, frames): (&[&str], &[u64]),
    last_sp: u64,
    top: Location,
) -> Saved {
    let word = arch.word_bytes();
    let (return_at, trap_at) = if word == 8 { (16, 48) } else { (4, 8) };
    let mut lens: Vec<u64> = callers
        .iter()
        .map(|name| match *name {
            "trapagain" => TRAP_FRAME_LEN,
            _ => FRAME_LEN,
        })
        .collect();
    lens.insert(0, FRAME_LEN);
    let sp = Location {
        va: top.va - lens.iter().sum::<u64>(),
        pa: top.pa - lens.iter().sum::<u64>(),
    };
    let mut frame = sp;
    for (number, len) in lens.iter().enumerate() {
        let is_last = number + 1 == lens.len();
        let next = frame.at(*len);
        let next_sp = if is_last { last_sp } else { next.va };
        memory.write_word(arch, frame.pa, next_sp);
        if let Some(caller) = frames.get(number + 1) {
            memory.write_word(arch, next.pa + return_at, *caller);
        }
        if *len == TRAP_FRAME_LEN {
            let (pc, state) = match frames.get(number + 1) {
                Some(interrupted) => (*interrupted, 0),
                None => (USER_PC, POWERPC_USER),
            };
            for (field, value) in [
                (POWERPC_SP, next_sp),
                (POWERPC_PC, pc),
                (POWERPC_STATE, state),
            ] {
                memory.write_word(arch, frame.pa + trap_at + field * word, value);
            }
        }
        frame = next;
    }
    Saved {
        pc: frames.first().copied().unwrap_or(0),
        sp: sp.va,
        fp: sp.va,
        frames: frames.to_vec(),
        lr: 0,
    }
}

/// Writes a `struct pcb`.
pub(super) fn write_pcb(memory: &mut Memory, arch: Arch, era: &Era, at: u64, saved: &Saved) {
    let (pc_at, sp_at, fp_at, other_at) = match arch {
        Arch::Amd64 => (56, 40, 32, 48),
        Arch::I386 => (20, 12, 8, 16),
        Arch::Arm64 if era.offsets.pcb_size == 0x560 => (240, 256, 232, 152),
        Arch::Arm64 => (88, 96, 80, 0),
        Arch::Riscv64 => (0, 8, 32, 40),
        Arch::Armv7 | Arch::Armeb => (44, 36, 28, 0),
        Arch::Powerpc64 | Arch::Powerpc64le => (184, 168, 152, 16),
        Arch::Powerpc => (92, 84, 76, 8),
        // Their place is unknown: a reader that guesses finds these.
        Arch::Mips | Arch::Mipsel | Arch::Mips64 | Arch::Mips64el | Arch::Sparc64 => {
            let pcb = arch.word(OTHER).repeat(64);
            return memory.write(at, &pcb[..index(era.offsets.pcb_size.min(256))]);
        }
    };
    let fields = [
        (pc_at, saved.pc),
        (sp_at, saved.sp),
        (fp_at, saved.fp),
        (other_at, OTHER),
    ];
    if matches!(arch, Arch::Armv7 | Arch::Armeb) {
        memory.write_word(arch, at + 40, saved.lr);
    }
    for (offset, value) in fields {
        memory.write_word(arch, at + offset, value);
    }
}

/// The value of the other callee-saved register that is set: rbx, ebx, x19, s1, r4, r14.
pub const OTHER: u64 = 0x5ca1_ab1e;
