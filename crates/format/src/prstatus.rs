//! `NT_PRSTATUS`: the note of an ELF core that holds a thread's registers, in Linux' style.
//!
//! It is the style that stock gdb, drgn and most other readers know; gdb takes the first note for
//! the thread that crashed. Source: the `elf_prstatus` structures of the Linux ABIs, whose register
//! order is that of `struct user_regs_struct` (amd64, i386), `user_pt_regs` (arm64) and
//! `user_regs_struct` (riscv64). Registers that a kernel did not save are written as 0: the format
//! cannot say "unavailable".
//!
//! ```
//! use vmcore_format::arch::Arch;
//! use vmcore_format::prstatus::Prstatus;
//! let layout = Prstatus::of(Arch::Amd64);
//! let mut note = [0; Prstatus::MAX_LEN];
//! let note = layout.encode(&mut note, 100670, 6, |name| (name == "rip").then_some(0x1234));
//! assert_eq!(note.len(), 336);
//! assert_eq!(note[240..248], 0x1234u64.to_le_bytes());
//! ```

use crate::arch::Arch;
use crate::endian::{Endian, Width};

/// `NT_PRSTATUS`.
pub const NT_PRSTATUS: u32 = 1;
/// Owner of the note in Linux' style, with its NUL.
pub const OWNER: &[u8; 5] = b"CORE\0";
/// Where a processor of arm64 signs addresses of 48 bits, of which bit 55 says the half of the address
/// space.
pub const ARM64_SIGNATURE: u64 = 0xff7f << 48;
/// The notes that tell debuggers of signed addresses, in the order in which they are written: owner,
/// type, contents. gdb believes `NT_ARM_PAC_MASK` only of a processor that says it signs.
pub const ARM64_SIGNED: [(&[u8], u32, [u64; 4], usize); 2] = [
    // `AT_HWCAP` with the bit for signed addresses, `AT_NULL`.
    (OWNER, NT_AUXV, [16, 1 << 30, 0, 0], 4),
    // Bits of signatures in addresses of data, and of code.
    (
        b"LINUX\0",
        NT_ARM_PAC_MASK,
        [ARM64_SIGNATURE, ARM64_SIGNATURE, 0, 0],
        2,
    ),
];
/// `NT_AUXV`.
const NT_AUXV: u32 = 6;
/// `NT_ARM_PAC_MASK`.
const NT_ARM_PAC_MASK: u32 = 0x406;

/// Where everything is in the note of one architecture.
#[derive(Clone, Copy, Debug)]
pub struct Prstatus {
    len_bytes: usize,
    pid_at: usize,
    registers_at: usize,
    word: Width,
    endian: Endian,
    registers: &'static [&'static str],
}

/// `pr_cursig`, in every architecture.
const CURSIG_AT: usize = 12;

impl Prstatus {
    /// Bytes that suffice forevery architecture.
    pub const MAX_LEN: usize = 504;

    /// The layout of an architecture; one that debuggers know no note of has one of no bytes.
    #[must_use]
    pub const fn of(arch: Arch) -> Self {
        let (len_bytes, registers) = contents(arch);
        let (pid_at, registers_at) = match arch.word() {
            Width::W32 => (24, 72),
            Width::W64 => (32, 112),
        };
        Self {
            len_bytes,
            pid_at,
            registers_at,
            word: arch.word(),
            endian: Endian::Little,
            registers,
        }
    }

    /// The same in the byte order of the kernel.
    #[must_use]
    pub const fn with_endian(self, endian: Endian) -> Self {
        Self { endian, ..self }
    }

    /// Bytes of the note's contents.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Writes the note's contents into `buf` and returns them. `register` gives the registers by
    /// the names that the kernel's structures use; the code and stack selectors of x86, which it
    /// saves nowhere, are those of kernel mode.
    pub fn encode<'b>(
        &self,
        buf: &'b mut [u8; Self::MAX_LEN],
        pid: i32,
        signal: i16,
        register: impl Fn(&str) -> Option<u64>,
    ) -> &'b [u8] {
        buf.fill(0);
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(field) = buf.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        };
        let endian = self.endian;
        put(0, &endian.bytes32(i32::from(signal).cast_unsigned()));
        match endian {
            Endian::Little => put(CURSIG_AT, &signal.to_le_bytes()),
            Endian::Big => put(CURSIG_AT, &signal.to_be_bytes()),
        }
        put(self.pid_at, &endian.bytes32(pid.cast_unsigned()));
        for (number, name) in self.registers.iter().enumerate() {
            let value = register(name).or(match *name {
                "cs" => Some(KERNEL_CS),
                "ss" => Some(KERNEL_SS),
                _ => None,
            });
            let value = value.unwrap_or(0);
            match self.word {
                Width::W32 => {
                    let low = u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0);
                    put(self.registers_at + 4 * number, &endian.bytes32(low));
                }
                Width::W64 => put(self.registers_at + 8 * number, &endian.bytes64(value)),
            }
        }
        buf.get(..self.len_bytes).unwrap_or_default()
    }
}

/// Bytes of an architecture's note, and its registers in the order of Linux' `elf_prstatus`; no bytes
/// if debuggers know no such note.
const fn contents(arch: Arch) -> (usize, &'static [&'static str]) {
    match arch {
        Arch::Amd64 => (336, AMD64),
        Arch::Arm => (148, ARM),
        Arch::Arm64 => (392, ARM64),
        Arch::I386 => (144, I386),
        Arch::Powerpc => (268, POWERPC),
        Arch::Powerpc64 => (504, POWERPC),
        Arch::Riscv64 => (376, RISCV64),
        Arch::Mips | Arch::Mips64 | Arch::Sparc64 => (0, &[]),
    }
}

const AMD64: &[&str] = &[
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs",
    "gs",
];
const ARM: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr",
    "pc", "cpsr", "orig_r0",
];
const ARM64: &[&str] = &[
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
    "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",
    "x28", "fp", "lr", "sp", "pc", "pstate",
];
const I386: &[&str] = &[
    "ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "orig_eax", "eip",
    "cs", "eflags", "esp", "ss",
];
const POWERPC: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27",
    "r28", "r29", "r30", "r31", "pc", "msr", "orig_r3", "ctr", "lr", "xer", "cr", "softe", "trap",
    "dar", "dsisr", "result", "", "", "", "",
];
const RISCV64: &[&str] = &[
    "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
    "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5",
    "t6",
];

/// FreeBSD's kernel code selector.
const KERNEL_CS: u64 = 0x20;
/// FreeBSD's kernel data selector.
const KERNEL_SS: u64 = 0x28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_fill_the_note_up_to_its_last_word() {
        for arch in Arch::ALL {
            let layout = Prstatus::of(arch);
            if layout.len_bytes == 0 {
                continue;
            }
            let (word, tail) = match arch.word() {
                Width::W32 => (4, 4),
                Width::W64 => (8, 8),
            };
            let registers_end = layout.registers_at + word * layout.registers.len();
            assert_eq!(registers_end + tail, layout.len_bytes, "{arch}");
        }
    }

    #[test]
    fn every_register_lies_where_the_abi_says() {
        let at = |arch: Arch, name: &str| {
            let mut buf = [0; Prstatus::MAX_LEN];
            let note = Prstatus::of(arch).encode(&mut buf, 1, 6, |asked| {
                (asked == name).then_some(0x0102_0304)
            });
            note.windows(4).position(|bytes| bytes == [4, 3, 2, 1])
        };
        assert_eq!(at(Arch::Amd64, "r15"), Some(112));
        assert_eq!(at(Arch::Amd64, "rbp"), Some(112 + 4 * 8));
        assert_eq!(at(Arch::Amd64, "rip"), Some(112 + 16 * 8));
        assert_eq!(at(Arch::Amd64, "rsp"), Some(112 + 19 * 8));
        assert_eq!(at(Arch::I386, "eip"), Some(72 + 12 * 4));
        assert_eq!(at(Arch::I386, "esp"), Some(72 + 15 * 4));
        assert_eq!(at(Arch::Arm64, "sp"), Some(112 + 31 * 8));
        assert_eq!(at(Arch::Arm64, "pc"), Some(112 + 32 * 8));
        assert_eq!(at(Arch::Riscv64, "pc"), Some(112));
        assert_eq!(at(Arch::Riscv64, "s1"), Some(112 + 9 * 8));
    }

    #[test]
    fn thread_and_signal_are_in_front() {
        let mut buf = [0xff; Prstatus::MAX_LEN];
        let note = Prstatus::of(Arch::Amd64).encode(&mut buf, 100_670, 6, |_| None);
        assert_eq!(note[0..4], [6, 0, 0, 0]);
        assert_eq!(note[12..14], [6, 0]);
        assert_eq!(note[32..36], 100_670u32.to_le_bytes());
        assert_eq!(note[112 + 17 * 8], 0x20);
        assert_eq!(note[112 + 20 * 8], 0x28);
        assert!(note[36..112].iter().all(|byte| *byte == 0));
    }
}
