//! Operands of instructions, in the same words for every architecture.

use super::{Decoder, Flow};
use crate::arch::machine::Machine;
use capstone::RegId;
use capstone::arch::ArchOperand;
use capstone::arch::arm::ArmOperandType;
use capstone::arch::arm64::Arm64OperandType;
use capstone::arch::mips::MipsOperand;
use capstone::arch::ppc::PpcOperand;
use capstone::arch::riscv::RiscVOperand;
use capstone::arch::sparc::SparcOperand;
use capstone::arch::x86::X86OperandType;
use serde::Serialize;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

/// An operand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Operand {
    /// A register.
    Register {
        /// Its name.
        name: String,
        /// Its number in DWARF, if the debugger knows it.
        #[serde(skip)]
        number: Option<usize>,
    },
    /// A constant.
    Immediate {
        /// The constant.
        value: i64,
    },
    /// Memory.
    Memory(Memory),
}

impl Operand {
    /// The memory, if it is that.
    #[must_use]
    pub const fn memory(&self) -> Option<&Memory> {
        match self {
            Self::Memory(memory) => Some(memory),
            _ => None,
        }
    }
}

/// Memory that an instruction accesses: base + index × scale + displacement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Name of the base register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Name of the index register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// What the index is multiplied by.
    pub scale: i32,
    /// The displacement, in bytes.
    pub displacement: i64,
    /// Number of the base register in DWARF, if the debugger knows it.
    #[serde(skip)]
    pub base_number: Option<usize>,
    /// The same of the index register.
    #[serde(skip)]
    pub index_number: Option<usize>,
}

impl Decoder {
    fn name_of(&self, register: RegId) -> Option<String> {
        (register.0 != 0).then(|| self.capstone.reg_name(register))?
    }

    /// The number that a register has in DWARF.
    fn number_of(&self, name: &str) -> Option<usize> {
        let names = Machine::of(self.arch).names;
        let alias = ALIASES
            .iter()
            .find(|(arch, other, _)| *arch == self.arch && *other == name);
        let name = alias.map_or(name, |(_, _, name)| name);
        let whole = whole_register(self.arch, name);
        let name = whole.as_deref().unwrap_or(name);
        names.iter().position(|known| *known == name)
    }

    /// A general register by name.
    pub(super) fn register_named(&self, name: &str) -> Option<Operand> {
        let number = self.number_of(name)?;
        Some(Operand::Register {
            name: name.to_owned(),
            number: Some(number),
        })
    }

    fn register(&self, register: RegId) -> Option<Operand> {
        let name = self.name_of(register)?;
        let number = self.number_of(&name);
        Some(Operand::Register { name, number })
    }

    fn memory(&self, base: RegId, index: Option<(RegId, i32)>, displacement: i64) -> Operand {
        let base = self.name_of(base);
        let scale = index.map_or(1, |(_, scale)| scale);
        let index = index.and_then(|(index, _)| self.name_of(index));
        Operand::Memory(Memory {
            base_number: base.as_deref().and_then(|name| self.number_of(name)),
            base,
            index_number: index.as_deref().and_then(|name| self.number_of(name)),
            index,
            scale,
            displacement,
        })
    }

    /// An operand; `None` for the kinds that name neither a register, nor a number, nor memory.
    pub(super) fn operand(&self, operand: &ArchOperand) -> Option<Operand> {
        let immediate = |value: i64| Some(Operand::Immediate { value });
        match operand {
            ArchOperand::X86Operand(one) => match &one.op_type {
                X86OperandType::Reg(register) => self.register(*register),
                X86OperandType::Imm(value) => immediate(*value),
                X86OperandType::Mem(memory) => Some(self.memory(
                    memory.base(),
                    Some((memory.index(), memory.scale())),
                    memory.disp(),
                )),
                X86OperandType::Invalid => None,
            },
            ArchOperand::ArmOperand(one) => match &one.op_type {
                ArmOperandType::Reg(register) => self.register(*register),
                ArmOperandType::Imm(value) => immediate(i64::from(*value)),
                ArmOperandType::Mem(memory) => Some(self.memory(
                    memory.base(),
                    Some((memory.index(), memory.scale())),
                    i64::from(memory.disp()),
                )),
                _ => None,
            },
            ArchOperand::Arm64Operand(one) => match &one.op_type {
                Arm64OperandType::Reg(register) => self.register(*register),
                Arm64OperandType::Imm(value) => immediate(*value),
                Arm64OperandType::Mem(memory) => Some(self.memory(
                    memory.base(),
                    Some((memory.index(), 1)),
                    i64::from(memory.disp()),
                )),
                _ => None,
            },
            ArchOperand::MipsOperand(one) => match one {
                MipsOperand::Reg(register) => self.register(*register),
                MipsOperand::Imm(value) => immediate(*value),
                MipsOperand::Mem(memory) => Some(self.memory(memory.base(), None, memory.disp())),
                MipsOperand::Invalid => None,
            },
            ArchOperand::PpcOperand(one) => match one {
                PpcOperand::Reg(register) => self.register(*register),
                PpcOperand::Imm(value) => immediate(*value),
                PpcOperand::Mem(memory) => {
                    Some(self.memory(memory.base(), None, i64::from(memory.disp())))
                }
                _ => None,
            },
            ArchOperand::RiscVOperand(one) => match one {
                RiscVOperand::Reg(register) => self.register(*register),
                RiscVOperand::Imm(value) => immediate(*value),
                RiscVOperand::Mem(memory) => Some(self.memory(memory.base(), None, memory.disp())),
                RiscVOperand::Invalid => None,
            },
            ArchOperand::SparcOperand(one) => match one {
                SparcOperand::Reg(register) => self.register(*register),
                SparcOperand::Imm(value) => immediate(*value),
                SparcOperand::Mem(memory) => Some(self.memory(
                    memory.base(),
                    Some((memory.index(), 1)),
                    i64::from(memory.disp()),
                )),
                SparcOperand::Invalid => None,
            },
        }
    }

    /// The address that an instruction jumps to, calls, or names relative to the program counter.
    pub(super) fn target_of(
        &self,
        operands: &[Operand],
        flow: Flow,
        address: u64,
        after: u64,
    ) -> Option<VirtAddr> {
        let cut = |address: u64| VirtAddr(Machine::of(self.arch).cut(address));
        operands.iter().rev().find_map(|operand| match operand {
            Operand::Immediate { value } if matches!(flow, Flow::Jump | Flow::Call) => {
                // Capstone gives riscv's relative to the instruction, all others as addresses.
                let value = value.cast_unsigned();
                Some(cut(match self.arch {
                    Arch::Riscv64 => address.wrapping_add(value),
                    _ => value,
                }))
            }
            Operand::Memory(memory) if memory.base.as_deref() == Some("rip") => {
                Some(cut(after.wrapping_add(memory.displacement.cast_unsigned())))
            }
            // A variable at a fixed address.
            Operand::Memory(memory) if memory.base.is_none() && memory.index.is_none() => {
                Some(cut(memory.displacement.cast_unsigned()))
            }
            // An immediate that is a kernel address, as `mov $symbol` has.
            Operand::Immediate { value }
                if matches!(self.arch, Arch::Amd64) && *value < -0x1000 =>
            {
                let value = value.cast_unsigned();
                (value >> 32 == 0xffff_ffff).then_some(VirtAddr(value))
            }
            Operand::Immediate { value }
                if matches!(self.arch, Arch::Arm64) && *value >> 48 == -1 =>
            {
                Some(VirtAddr(value.cast_unsigned()))
            }
            _ => None,
        })
    }
}

/// The register of which another one is the lower half: an instruction that writes the half writes it all.
fn whole_register(arch: Arch, name: &str) -> Option<String> {
    match arch {
        Arch::Amd64 => match (name.strip_prefix('e'), name.strip_suffix('d')) {
            (Some(rest), _) => Some(format!("r{rest}")),
            (None, Some(rest)) if rest.starts_with('r') => Some(rest.to_owned()),
            _ => None,
        },
        Arch::Arm64 => Some(format!("x{}", name.strip_prefix('w')?)),
        _ => None,
    }
}

/// Names of registers that differ: the architecture, the decoder's name, the debugger's.
const ALIASES: [(Arch, &str, &str); 6] = [
    (Arch::Arm, "sb", "r9"),
    (Arch::Arm, "sl", "r10"),
    (Arch::Arm, "fp", "r11"),
    (Arch::Arm, "ip", "r12"),
    (Arch::Arm64, "fp", "x29"),
    (Arch::Arm64, "lr", "x30"),
];
