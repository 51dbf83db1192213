//! The registers of an architecture as debuggers number them, and the target description.
//!
//! Names and order are those of gdb's features.

pub use crate::arch::register::Register;

use crate::arch::machine::Machine;
use crate::unwind::Registers;
use std::fmt::Write as _;
use vmcore_format::endian::{Endian, Width};

/// The registers of an architecture, by their numbers in the protocol.
#[must_use]
pub fn of(machine: &Machine) -> Vec<Register> {
    let bits = match machine.arch.word() {
        Width::W32 => 32,
        Width::W64 => 64,
    };
    let saved = machine.gdb.names.iter().map(|name| {
        let dwarf = machine.names.iter().position(|other| other == name);
        let mut renamed = machine.gdb.renamed.iter();
        let renamed = renamed.find(|(ours, _)| ours == name);
        let bits = match machine.gdb.narrow.contains(name) {
            true => 32,
            false => bits,
        };
        let mut register = Register::plain(renamed.map_or(name, |(_, gdb)| gdb), bits, dwarf);
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
    });
    saved.chain(machine.gdb.more.iter().copied()).collect()
}

impl Register {
    /// Its value as the protocol writes it: hexadecimal, in the byte order of the kernel, `x` if it is
    /// unknown.
    #[must_use]
    pub fn value(&self, registers: &Registers, endian: Endian) -> Vec<u8> {
        let len = usize::try_from(self.bits / 8).unwrap_or(0);
        let value = match self.dwarf {
            Some(number) => registers.get(number),
            None => self.fixed,
        };
        match value {
            Some(value) => {
                let mut bytes = value.to_le_bytes();
                let bytes = bytes.get_mut(..len).unwrap_or_default();
                if endian == Endian::Big {
                    bytes.reverse();
                }
                super::packet::hex(bytes)
            }
            None => vec![b'x'; 2 * len],
        }
    }
}

/// `target.xml` for these registers, whose numbers are their positions.
#[must_use]
pub fn description(machine: &Machine, registers: &[Register]) -> String {
    let architecture = machine.gdb.architecture;
    let mut xml = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>\
         <architecture>{architecture}</architecture>"
    );
    let mut open = None;
    for (number, register) in registers.iter().enumerate() {
        let feature = register.feature.unwrap_or(machine.gdb.feature);
        if open != Some(feature) {
            if open.is_some() {
                xml += "</feature>";
            }
            let _ = write!(xml, "<feature name=\"{feature}\">");
            open = Some(feature);
        }
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
    use vmcore_format::arch::Arch;

    #[test]
    fn numbers_are_those_of_gdb() {
        let number = |arch: Arch, name: &str| {
            let registers = of(Machine::of(arch));
            registers.iter().position(|register| register.name == name)
        };
        assert_eq!(number(Arch::Amd64, "rip"), Some(16));
        assert_eq!(number(Arch::Amd64, "gs"), Some(23));
        assert_eq!(number(Arch::Amd64, "fop"), Some(39));
        assert_eq!(number(Arch::I386, "eip"), Some(8));
        assert_eq!(number(Arch::I386, "fop"), Some(31));
        assert_eq!(number(Arch::Arm64, "cpsr"), Some(33));
        assert_eq!(number(Arch::Riscv64, "pc"), Some(32));
        let amd64 = of(Machine::of(Arch::Amd64));
        let bits: u32 = amd64.iter().map(|register| register.bits).sum();
        assert_eq!(bits, 17 * 64 + 7 * 32 + 8 * 80 + 8 * 32);
    }

    /// From release 14 on gdb takes signatures off by these; without them a stack ends at the first.
    #[test]
    fn gdb_is_told_which_bits_of_an_arm64_address_are_its_signature() {
        let machine = Machine::of(Arch::Arm64);
        let registers = of(machine);
        let xml = description(machine, &registers);
        let (own, pauth) = xml
            .split_once("</feature><feature name=\"org.gnu.gdb.aarch64.pauth_v2\">")
            .unwrap();
        assert!(own.contains("<feature name=\"org.gnu.gdb.aarch64.core\"><reg name=\"x0\""));
        assert!(pauth.ends_with("/></feature></target>"));
        for name in ["dmask", "cmask", "dmask_high", "cmask_high"] {
            let name = format!("pauth_{name}");
            assert!(pauth.contains(&format!("<reg name=\"{name}\" bitsize=\"64\"")));
            let register = registers.iter().find(|register| register.name == name);
            let value = register
                .unwrap()
                .value(&Registers::default(), Endian::Little);
            assert_eq!(value, b"0000000000007fff", "{name}");
        }
    }

    #[test]
    fn an_unknown_register_is_no_zero() {
        let registers = of(Machine::of(Arch::Amd64));
        let mut known = Registers::default();
        known.set(16, Some(0xffff_ffff_80c0_9ade));
        assert_eq!(
            registers[16].value(&known, Endian::Little),
            b"de9ac080ffffffff"
        );
        assert_eq!(registers[0].value(&known, Endian::Little), [b'x'; 16]);
        assert_eq!(registers[18].value(&known, Endian::Little), b"20000000");
        assert_eq!(registers[24].value(&known, Endian::Little), [b'x'; 20]);
    }
}
