//! Where each architecture's `struct pcb` has which register: words in a row, `""` for those that hold
//! leftovers or nothing.
//!
//! Layouts: `sys/<arch>/include/pcb.h`. Of mips and sparc64 none is known.

use vmcore_format::arch::Arch;
use vmcore_format::endian::{Endian, Width};

const AMD64: &[&str] = &["r15", "r14", "r13", "r12", "rbp", "rsp", "rbx", "rip"];
const I386: &[&str] = &["edi", "esi", "ebp", "esp", "ebx", "eip"];
/// pc is inside the routine that saved them.
const ARM: &[&str] = &[
    "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr", "pc",
];
/// From osreldate 1400084 on.
const ARM64: &[&str] = &[
    "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "fp", "pc", "sp",
];
/// Before: x0 to x30 in a row, of which the caller-saved ones hold leftovers.
const ARM64_OLD: &[&str] = &[
    "", "", "", "", "", "", "", "", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16",
    "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "fp", "pc",
    "", "sp",
];
/// `sizeof(struct pcb)` before the change.
const ARM64_OLD_SIZE: u64 = 0x560;
/// r12 to r31, then cr, r1, r2, and lr, where the thread goes on.
const POWERPC: &[&str] = &[
    "r12", "r13", "r14", "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24",
    "r25", "r26", "r27", "r28", "r29", "r30", "r31", "cr", "r1", "r2", "pc",
];
/// FreeBSD 14 and later.
const RISCV64: &[&str] = &[
    "pc", "sp", "gp", "tp", "fp", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10",
    "s11",
];
/// FreeBSD 13 and before: seven temporary registers precede the saved ones.
const RISCV64_OLD: &[&str] = &[
    "pc", "sp", "gp", "tp", "", "", "", "", "", "", "", "fp", "s1", "s2", "s3", "s4", "s5", "s6",
    "s7", "s8", "s9", "s10", "s11",
];
/// `sizeof(struct pcb)` before the change: 15 registers more than since.
const RISCV64_OLD_SIZE: u64 = 0x298 + 15 * 8;

/// Where each register lies in a `struct pcb`.
#[derive(Clone, Copy, Debug)]
pub struct PcbLayout {
    names: &'static [&'static str],
    word: Width,
    endian: Endian,
    /// Name of the program counter.
    pub pc: &'static str,
    /// Name of the stack pointer.
    pub sp: &'static str,
    /// Name of the frame pointer.
    pub fp: &'static str,
}

impl PcbLayout {
    /// The layout of an architecture; `pcb_size` is the constant of that name, if known.
    #[must_use]
    pub const fn of(arch: Arch, pcb_size: Option<u64>) -> Self {
        let (names, [pc, sp, fp]) = match arch {
            Arch::Amd64 => (AMD64, ["rip", "rsp", "rbp"]),
            Arch::Arm => (ARM, ["pc", "sp", "r11"]),
            Arch::Arm64 => match pcb_size {
                Some(ARM64_OLD_SIZE) => (ARM64_OLD, ["pc", "sp", "fp"]),
                _ => (ARM64, ["pc", "sp", "fp"]),
            },
            Arch::I386 => (I386, ["eip", "esp", "ebp"]),
            Arch::Powerpc | Arch::Powerpc64 => (POWERPC, ["pc", "r1", "r31"]),
            Arch::Riscv64 => match pcb_size {
                Some(RISCV64_OLD_SIZE..) => (RISCV64_OLD, ["pc", "sp", "fp"]),
                _ => (RISCV64, ["pc", "sp", "fp"]),
            },
            Arch::Mips | Arch::Mips64 | Arch::Sparc64 => (&[] as &[_], ["pc", "sp", "fp"]),
        };
        Self {
            names,
            word: arch.word(),
            endian: Endian::Little,
            pc,
            sp,
            fp,
        }
    }

    /// The same in the kernel's byte order.
    #[must_use]
    pub const fn with_endian(self, endian: Endian) -> Self {
        Self { endian, ..self }
    }

    /// Whether it is known where the registers are; of mips and sparc64 it is not.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        !self.names.is_empty()
    }

    /// Bytes of a `struct pcb` that hold registers.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.names.len() * usize::try_from(self.word.bytes()).unwrap_or(8)
    }

    /// The registers in the bytes of a `struct pcb`, as far as those go.
    pub(super) fn values(&self, pcb: &[u8]) -> Vec<(&'static str, u64)> {
        let named = self.names.iter().enumerate();
        let named = named.filter(|(_, name)| !name.is_empty());
        named
            .filter_map(|(index, name)| Some((*name, self.word.item(self.endian, pcb, index)?)))
            .collect()
    }
}
