//! The registers of each architecture as debuggers number them, and the target description.
//!
//! gdb refuses an x86 description without the x87 registers; they are never known here. Names and
//! order are those of gdb's features.

use crate::unwind::{Machine, Registers};
use std::fmt::Write as _;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Width;

/// A register of a target description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its name.
    pub name: &'static str,
    /// Its size in bits.
    pub bits: u32,
    /// Its type in gdb's words.
    pub type_: &'static str,
    /// What lldb calls it by its use: `pc`, `sp`, `fp`, `ra`, `flags`; nothing for most.
    pub generic: &'static str,
    /// Its DWARF number.
    pub dwarf: Option<usize>,
    /// The value in kernel mode, where no kernel saves it.
    pub fixed: Option<u64>,
}

const fn plain(name: &'static str, bits: u32, dwarf: Option<usize>) -> Register {
    Register {
        name,
        bits,
        type_: if bits == 32 { "int32" } else { "int64" },
        generic: "",
        dwarf,
        fixed: None,
    }
}

/// The kernel's code and stack segments on amd64 and i386.
const KERNEL_CS: u64 = 0x20;
const KERNEL_DS: u64 = 0x28;
/// x87: eight registers of 80 bits, eight of 32.
const X87: [&str; 16] = [
    "st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7", "fctrl", "fstat", "ftag", "fiseg",
    "fioff", "foseg", "fooff", "fop",
];

/// powerpc's, in gdb's order.
const POWERPC: [&str; 38] = [
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27",
    "r28", "r29", "r30", "r31", "pc", "msr", "cr", "lr", "ctr", "xer",
];

/// The registers of an architecture, by their numbers in the protocol.
#[must_use]
pub fn of(arch: Arch) -> Vec<Register> {
    let machine = Machine::of(arch);
    let bits = match arch.word() {
        Width::W32 => 32,
        Width::W64 => 64,
    };
    let named = |name: &'static str| {
        let known = match (arch, name) {
            (Arch::Arm64, "x29") => "fp",
            (Arch::Arm64, "x30") => "lr",
            _ => name,
        };
        let dwarf = machine.names.iter().position(|other| *other == known);
        let mut register = plain(name, bits, dwarf);
        if dwarf == Some(machine.pc) {
            (register.type_, register.generic) = ("code_ptr", "pc");
        } else if dwarf == Some(machine.sp) {
            (register.type_, register.generic) = ("data_ptr", "sp");
        } else if dwarf == Some(machine.fp) {
            (register.type_, register.generic) = ("data_ptr", "fp");
        } else if dwarf.is_some() && dwarf == machine.lr {
            register.generic = "ra";
        }
        register
    };
    let names: &[&'static str] = match arch {
        Arch::Amd64 => &[
            "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15", "rip",
        ],
        Arch::I386 => &[
            "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip",
        ],
        Arch::Arm64 => &[
            "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
            "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25",
            "x26", "x27", "x28", "x29", "x30", "sp", "pc",
        ],
        Arch::Powerpc | Arch::Powerpc64 => &POWERPC,
        _ => machine.names,
    };
    let mut registers: Vec<Register> = names.iter().map(|name| named(name)).collect();
    match arch {
        Arch::Amd64 | Arch::I386 => {
            let mut flags = plain("eflags", 32, None);
            flags.generic = "flags";
            registers.push(flags);
            for name in ["cs", "ss", "ds", "es", "fs", "gs"] {
                let mut segment = plain(name, 32, None);
                segment.fixed = match name {
                    "cs" => Some(KERNEL_CS),
                    "ss" => Some(KERNEL_DS),
                    _ => None,
                };
                registers.push(segment);
            }
            for name in X87 {
                let mut register = plain(name, 32, None);
                if name.starts_with("st") {
                    (register.bits, register.type_) = (80, "i387_ext");
                }
                registers.push(register);
            }
            for register in &mut registers {
                // fstat is a status word, not a stack register.
                if register.name == "fstat" {
                    (register.bits, register.type_) = (32, "int32");
                }
            }
        }
        Arch::Arm64 => {
            let mut flags = plain("cpsr", 32, None);
            flags.generic = "flags";
            registers.push(flags);
        }
        _ => {}
    }
    registers
}

impl Register {
    /// Its value as the protocol writes it: hexadecimal, lowest byte first, `x` if it is unknown.
    #[must_use]
    pub fn value(&self, registers: &Registers) -> Vec<u8> {
        let len = usize::try_from(self.bits / 8).unwrap_or(0);
        let value = match self.dwarf {
            Some(number) => registers.get(number),
            None => self.fixed,
        };
        match value {
            Some(value) => {
                let bytes = value.to_le_bytes();
                super::packet::hex(bytes.get(..len).unwrap_or(&bytes))
            }
            None => vec![b'x'; 2 * len],
        }
    }
}

/// `target.xml` for these registers, whose numbers are their positions.
#[must_use]
pub fn description(arch: Arch, registers: &[Register]) -> String {
    let (architecture, feature) = match arch {
        Arch::Amd64 => ("i386:x86-64", "org.gnu.gdb.i386.core"),
        Arch::I386 => ("i386", "org.gnu.gdb.i386.core"),
        Arch::Arm64 => ("aarch64", "org.gnu.gdb.aarch64.core"),
        Arch::Riscv64 => ("riscv:rv64", "org.gnu.gdb.riscv.cpu"),
        Arch::Arm => ("arm", "org.gnu.gdb.arm.core"),
        Arch::Mips => ("mips", "org.gnu.gdb.mips.cpu"),
        Arch::Mips64 => ("mips:isa64", "org.gnu.gdb.mips.cpu"),
        Arch::Powerpc => ("powerpc:common", "org.gnu.gdb.power.core"),
        Arch::Powerpc64 => ("powerpc:common64", "org.gnu.gdb.power.core"),
        Arch::Sparc64 => ("sparc:v9", "org.gnu.gdb.sparc.cpu"),
    };
    let mut xml = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>\
         <architecture>{architecture}</architecture><feature name=\"{feature}\">"
    );
    for (number, register) in registers.iter().enumerate() {
        let Register {
            name, bits, type_, ..
        } = register;
        let _ = write!(
            xml,
            "<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{type_}\" regnum=\"{number}\""
        );
        if let Some(dwarf) = register.dwarf {
            let _ = write!(xml, " dwarf_regnum=\"{dwarf}\" ehframe_regnum=\"{dwarf}\"");
        }
        if !register.generic.is_empty() {
            let _ = write!(xml, " generic=\"{}\"", register.generic);
        }
        xml += " encoding=\"uint\" format=\"hex\"/>";
    }
    xml += "</feature></target>";
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_gdb() {
        let number =
            |arch: Arch, name: &str| of(arch).iter().position(|register| register.name == name);
        assert_eq!(number(Arch::Amd64, "rip"), Some(16));
        assert_eq!(number(Arch::Amd64, "gs"), Some(23));
        assert_eq!(number(Arch::Amd64, "fop"), Some(39));
        assert_eq!(number(Arch::I386, "eip"), Some(8));
        assert_eq!(number(Arch::I386, "fop"), Some(31));
        assert_eq!(number(Arch::Arm64, "cpsr"), Some(33));
        assert_eq!(number(Arch::Riscv64, "pc"), Some(32));
        let bits: u32 = of(Arch::Amd64).iter().map(|register| register.bits).sum();
        assert_eq!(bits, 17 * 64 + 7 * 32 + 8 * 80 + 8 * 32);
    }

    #[test]
    fn an_unknown_register_is_no_zero() {
        let registers = of(Arch::Amd64);
        let mut known = Registers::default();
        known.set(16, Some(0xffff_ffff_80c0_9ade));
        assert_eq!(registers[16].value(&known), b"de9ac080ffffffff");
        assert_eq!(registers[0].value(&known), [b'x'; 16]);
        assert_eq!(registers[18].value(&known), b"20000000");
        assert_eq!(registers[24].value(&known), [b'x'; 20]);
    }
}
