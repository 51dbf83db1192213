//! The registers that the extension holds for each CPU, in the order of the record.
//!
//! They are ours, not FreeBSD's `struct reg`: general registers in the order of their numbers, then
//! program counter and flags, then what tells where the CPU stood: segments, page-table root, the
//! address of the last fault. 32-bit registers are zero-extended.
//!
//! ```
//! use vmcore_format::arch::Arch;
//! use vmcore_format::registers::names;
//! assert_eq!(names(Arch::Amd64)[16], "rip");
//! ```

use crate::arch::Arch;

/// The most registers that any architecture has here.
pub const MAX_REGISTERS: usize = 40;

const _: () = {
    let mut at = 0;
    while at < Arch::ALL.len() {
        assert!(names(Arch::ALL[at]).len() <= MAX_REGISTERS);
        at += 1;
    }
};

/// Number on disk and names of an architecture's registers; `None` if the extension has none of it.
const fn layout(arch: Arch) -> Option<(u32, &'static [&'static str])> {
    match arch {
        Arch::Amd64 => Some((1, AMD64)),
        Arch::Arm => Some((5, ARM)),
        Arch::Arm64 => Some((2, ARM64)),
        Arch::I386 => Some((3, I386)),
        Arch::Powerpc64 => Some((6, POWERPC64)),
        Arch::Riscv64 => Some((4, RISCV64)),
        Arch::Mips | Arch::Mips64 | Arch::Powerpc | Arch::Sparc64 => None,
    }
}

const AMD64: &[&str] = &[
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rsp",
    "rbp",
    "rsi",
    "rdi",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "rip",
    "rflags",
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
    "fs_base",
    "gs_base",
    "kernel_gs_base",
    "cr0",
    "cr2",
    "cr3",
    "cr4",
];
const ARM: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr",
    "pc", "cpsr", "ttbr0", "ttbr1", "dfsr", "dfar", "ifsr", "ifar",
];
const ARM64: &[&str] = &[
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
    "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",
    "x28", "x29", "lr", "sp", "pc", "pstate", "ttbr0", "ttbr1", "tpidr", "esr", "far",
];
const I386: &[&str] = &[
    "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags", "cs", "ss", "ds",
    "es", "fs", "gs", "cr0", "cr2", "cr3", "cr4",
];
const POWERPC64: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27",
    "r28", "r29", "r30", "r31", "pc", "msr", "cr", "lr", "ctr", "xer", "dar", "dsisr",
];
const RISCV64: &[&str] = &[
    "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6",
    "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
    "pc", "sstatus", "scause", "stval", "satp",
];

/// The names of an architecture's registers, in the order of their values; none for one that nothing
/// writes registers of.
#[must_use]
pub const fn names(arch: Arch) -> &'static [&'static str] {
    match layout(arch) {
        Some((_, names)) => names,
        None => &[],
    }
}

/// The number on disk of an architecture's registers; 0 for one that nothing writes registers of.
#[must_use]
pub const fn layout_number(arch: Arch) -> u32 {
    match layout(arch) {
        Some((number, _)) => number,
        None => 0,
    }
}

/// The architecture of a register layout, or `None` for one of a later version.
#[must_use]
pub fn layout_arch(number: u32) -> Option<Arch> {
    Arch::ALL
        .into_iter()
        .find(|arch| layout(*arch).is_some_and(|(known, _)| known == number))
}
