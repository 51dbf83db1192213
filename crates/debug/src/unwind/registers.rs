//! Registers by their DWARF numbers, and what each architecture calls them.

use vmcore_format::arch::Arch;
use vmcore_format::endian::Width;

/// The most registers of an architecture.
const MAX: usize = 67;

/// The registers of a frame, by DWARF number; what is not known is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    values: [Option<u64>; MAX],
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            values: [None; MAX],
        }
    }
}

impl Registers {
    /// A register by its number.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<u64> {
        self.values.get(number).copied().flatten()
    }

    /// Sets or forgets a register; a number that no register has is ignored.
    pub fn set(&mut self, number: usize, value: Option<u64>) {
        if let Some(place) = self.values.get_mut(number) {
            *place = value;
        }
    }

    /// Only those that a called function leaves as they are.
    #[must_use]
    pub fn callee_saved(&self, machine: &Machine) -> Self {
        let mut kept = Self::default();
        for number in machine.callee_saved {
            kept.set(*number, self.get(*number));
        }
        kept
    }

    /// The known registers with their names.
    pub fn named(&self, machine: &Machine) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let names = machine.names.iter().enumerate();
        names.filter_map(|(number, name)| Some((*name, self.get(number)?)))
    }
}

/// How the frames of a stack are chained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// The frame pointer leads to the caller's and to the return address behind it.
    Record,
    /// Both lie below the frame pointer.
    RecordBelow,
    /// The stack pointer leads to the caller's, above which the return address was saved.
    BackChain,
    /// In no way that is known here.
    Unknown,
}

/// How an architecture uses its registers.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// The architecture.
    pub arch: Arch,
    /// Names by number.
    pub names: &'static [&'static str],
    /// Number of the program counter. Where DWARF gives it none, one behind the others.
    pub pc: usize,
    /// Number of the stack pointer.
    pub sp: usize,
    /// Number of the frame pointer.
    pub fp: usize,
    /// Number of the link register, where calls use one.
    pub lr: Option<usize>,
    /// How its stacks are chained.
    pub chain: Chain,
    /// Numbers of those that a called function leaves as they are.
    pub callee_saved: &'static [usize],
}

const AMD64: Machine = Machine {
    arch: Arch::Amd64,
    names: &[
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15", "rip",
    ],
    pc: 16,
    sp: 7,
    fp: 6,
    lr: None,
    chain: Chain::Record,
    callee_saved: &[3, 6, 12, 13, 14, 15],
};
const I386: Machine = Machine {
    arch: Arch::I386,
    names: &[
        "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip",
    ],
    pc: 8,
    sp: 4,
    fp: 5,
    lr: None,
    chain: Chain::Record,
    callee_saved: &[3, 5, 6, 7],
};
const ARM64: Machine = Machine {
    arch: Arch::Arm64,
    names: &[
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
        "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26",
        "x27", "x28", "fp", "lr", "sp", "pc",
    ],
    pc: 32,
    sp: 31,
    fp: 29,
    lr: Some(30),
    chain: Chain::Record,
    callee_saved: &[19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 31],
};
const RISCV64: Machine = Machine {
    arch: Arch::Riscv64,
    names: &[
        "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4",
        "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
        "t5", "t6", "pc",
    ],
    pc: 32,
    sp: 2,
    fp: 8,
    lr: Some(1),
    chain: Chain::RecordBelow,
    callee_saved: &[2, 3, 4, 8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27],
};

/// r7 is the frame pointer of Thumb code, which kernels are not.
const ARM: Machine = Machine {
    arch: Arch::Arm,
    names: &[
        "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp",
        "lr", "pc",
    ],
    pc: 15,
    sp: 13,
    fp: 11,
    lr: Some(14),
    chain: Chain::Record,
    callee_saved: &[4, 5, 6, 7, 8, 9, 10, 11, 13],
};
/// Stacks are chained by the stack pointer. DWARF counts 32 floating-point registers from 32 on.
const POWERPC64: Machine = powerpc(Arch::Powerpc64);
const POWERPC: Machine = powerpc(Arch::Powerpc);

const fn powerpc(arch: Arch) -> Machine {
    Machine {
        arch,
        names: &[
            "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13",
            "r14", "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25",
            "r26", "r27", "r28", "r29", "r30", "r31", "f0", "f1", "f2", "f3", "f4", "f5", "f6",
            "f7", "f8", "f9", "f10", "f11", "f12", "f13", "f14", "f15", "f16", "f17", "f18", "f19",
            "f20", "f21", "f22", "f23", "f24", "f25", "f26", "f27", "f28", "f29", "f30", "f31",
            "cr", "lr", "pc",
        ],
        pc: 66,
        sp: 1,
        fp: 1,
        lr: Some(65),
        chain: Chain::BackChain,
        callee_saved: &[
            1, 2, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
        ],
    }
}
/// Nothing tells how its stacks are chained: no register, no frame.
const fn unknown(arch: Arch) -> Machine {
    Machine {
        arch,
        names: &["pc", "sp", "fp"],
        pc: 0,
        sp: 1,
        fp: 2,
        lr: None,
        chain: Chain::Unknown,
        callee_saved: &[2],
    }
}

impl Machine {
    /// The registers of an architecture.
    #[must_use]
    pub const fn of(arch: Arch) -> Self {
        match arch {
            Arch::Amd64 => AMD64,
            Arch::Arm64 => ARM64,
            Arch::I386 => I386,
            Arch::Riscv64 => RISCV64,
            Arch::Arm => ARM,
            Arch::Powerpc64 => POWERPC64,
            Arch::Powerpc => POWERPC,
            Arch::Mips | Arch::Mips64 | Arch::Sparc64 => unknown(arch),
        }
    }

    /// Bytes of a register.
    #[must_use]
    pub const fn word_bytes(&self) -> u64 {
        self.arch.word().bytes()
    }

    /// Whether a call pushes the return address.
    pub(crate) const fn pushes_return_address(&self) -> bool {
        self.lr.is_none()
    }

    /// Whether a function keeps its frame record anywhere in its frame: then what lies above the
    /// record is no caller's stack pointer, only a bound of it.
    pub(crate) const fn record_is_anywhere(&self) -> bool {
        matches!(self.arch, Arch::Arm64 | Arch::Arm)
    }

    /// A return address without the signature that arm64 puts into its top bits.
    pub(crate) const fn strip(&self, pc: u64) -> u64 {
        match self.arch {
            Arch::Arm64 if pc >> 55 & 1 == 1 => pc | 0xffff << 48,
            Arch::Arm64 => pc & !(0xffff << 48),
            _ => pc,
        }
    }

    /// The value cut to the width of a register.
    pub(crate) const fn cut(&self, value: u64) -> u64 {
        match self.arch.word() {
            Width::W32 => value & 0xffff_ffff,
            Width::W64 => value,
        }
    }

    /// Registers as a kernel saved them in a PCB.
    #[must_use]
    pub fn from_pcb(&self, saved: &vmcore::registers::Registers) -> Registers {
        let mut registers = Registers::default();
        for (name, value) in saved.iter() {
            if let Some(number) = self.names.iter().position(|known| *known == name) {
                registers.set(number, Some(value));
            }
        }
        let pc = registers.get(self.pc);
        registers.set(self.pc, pc.map(|pc| self.strip(pc)));
        registers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_stripped_from_return_addresses() {
        let arm64 = Machine::of(Arch::Arm64);
        assert_eq!(arm64.strip(0x2f3f_0000_004b_6e78), 0x0000_0000_004b_6e78);
        assert_eq!(arm64.strip(0xb1bf_0000_004b_6e78), 0xffff_0000_004b_6e78);
        assert_eq!(Machine::of(Arch::Amd64).strip(7 << 55), 7 << 55);
    }

    #[test]
    fn every_register_number_has_a_name() {
        for arch in Arch::ALL {
            let machine = Machine::of(arch);
            for number in [machine.pc, machine.sp, machine.fp] {
                assert!(machine.names.get(number).is_some());
            }
            assert!(machine.callee_saved.contains(&machine.fp));
            assert!(machine.names.len() <= MAX);
        }
    }
}
