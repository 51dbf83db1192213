//! Instructions: decoded, with the symbols that they refer to and the memory that they access.
//!
//! Bytes come from the dump; where it lacks them, from the kernel file. Where both have them and they
//! differ, the kernel was patched while it ran, or its memory was overwritten: both are there.
//!
//! ```no_run
//! use vmcore_debug::Target;
//! use vmcore_format::addr::VirtAddr;
//! # fn show(target: &Target<'_>) {
//! for instruction in target.instructions_of(VirtAddr(0xffff_ffff_8020_0000), 64).list {
//!     println!("{} {}", instruction.address, instruction.text);
//! }
//! # }
//! ```

mod operands;
#[cfg(test)]
mod tests;

use crate::lines::demangled;
use crate::target::{Target, linked_address};
use crate::unwind::Code as _;
use capstone::arch::ArchOperand;
use capstone::{Capstone, CsResult, Endian, ExtraMode, InsnGroupType, Mode, Syntax};
pub use operands::{Memory, Operand};
use serde::Serialize;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::endian;

/// The most bytes that are decoded at once.
pub const MAX_BYTES: u64 = 1 << 20;

/// Decoded instructions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instructions {
    /// By ascending address.
    pub list: Vec<Instruction>,
    /// Where the first byte is that neither the dump nor the kernel file has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<VirtAddr>,
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instruction {
    /// Its address.
    pub address: VirtAddr,
    /// Its bytes, in hexadecimal.
    #[serde(serialize_with = "as_hex")]
    pub bytes: Vec<u8>,
    /// Its name and its operands, as FreeBSD's debuggers write them.
    pub text: String,
    /// The address that it jumps to, calls, or names in another way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refers_to: Option<Reference>,
    /// How control goes on.
    pub flow: Flow,
    /// The operands that it loads from, stores to, or names.
    pub operands: Vec<Operand>,
    /// What the kernel file has in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_file: Option<String>,
}

/// An address with its symbol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// The address.
    pub address: VirtAddr,
    /// The symbol there: `name+0x10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
}

/// How control goes on after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// To the next one.
    Next,
    /// Elsewhere, perhaps.
    Jump,
    /// To a function, and back.
    Call,
    /// Back to the caller.
    Return,
}

fn as_hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&hex(bytes))
}

/// Bytes as debuggers write them: `48 8b 43 18`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

/// Instructions of arm64 with operands that name registers of the system, operations on them, or barriers:
/// the library makes enumerations of whatever numbers they have, known or not.
const SYSTEM: [&str; 23] = [
    "at", "cfp", "cpp", "dc", "dmb", "dsb", "dvp", "hint", "ic", "isb", "mrs", "msr", "prfb",
    "prfd", "prfh", "prfm", "prfum", "prfw", "smstart", "smstop", "sys", "sysl", "tlbi",
];

/// The instructions of some bytes, those of a machine in a byte order. What is no instruction is a `.byte`.
///
/// ```
/// use vmcore::format::addr::VirtAddr;
/// use vmcore::format::arch::Arch;
/// use vmcore::format::endian::Endian;
/// use vmcore_debug::instructions::decode;
/// let list = decode(Arch::Amd64, Endian::Little, &[0x90, 0x0f, 0x0b], VirtAddr(0x1000));
/// assert_eq!(list[1].text, "ud2");
/// ```
#[must_use]
pub fn decode(
    arch: Arch,
    order: endian::Endian,
    bytes: &[u8],
    start: VirtAddr,
) -> Vec<Instruction> {
    let decoder = Decoder::new(arch, order);
    decoder.map_or_else(
        |_| Vec::new(),
        |decoder| decoder.decode(bytes, start, &|_| None),
    )
}

/// Decodes the instructions of a machine.
#[derive(Debug)]
pub(crate) struct Decoder {
    capstone: Capstone,
    arch: Arch,
}

impl Decoder {
    pub(crate) fn new(arch: Arch, order: endian::Endian) -> CsResult<Self> {
        use capstone::Arch::{ARM, ARM64, MIPS, PPC, RISCV, SPARC, X86};
        let order = match order {
            endian::Endian::Little => Endian::Little,
            endian::Endian::Big => Endian::Big,
        };
        let (kind, mode, extra) = match arch {
            Arch::Amd64 => (X86, Mode::Mode64, None),
            Arch::I386 => (X86, Mode::Mode32, None),
            Arch::Arm => (ARM, Mode::Arm, None),
            Arch::Arm64 => (ARM64, Mode::Arm, None),
            Arch::Mips => (MIPS, Mode::Mips32, None),
            Arch::Mips64 => (MIPS, Mode::Mips64, None),
            Arch::Powerpc => (PPC, Mode::Mode32, None),
            Arch::Powerpc64 => (PPC, Mode::Mode64, None),
            Arch::Riscv64 => (RISCV, Mode::RiscV64, Some(ExtraMode::RiscVC)),
            Arch::Sparc64 => (SPARC, Mode::V9, None),
        };
        let mut capstone = Capstone::new_raw(kind, mode, extra.into_iter(), Some(order))?;
        if kind == X86 {
            capstone.set_syntax(Syntax::Att)?;
        }
        capstone.set_detail(true)?;
        Ok(Self { capstone, arch })
    }

    /// Bytes of what is no instruction.
    const fn unit(&self) -> usize {
        match self.arch {
            Arch::Amd64 | Arch::I386 => 1,
            Arch::Riscv64 => 2,
            _ => 4,
        }
    }

    /// Calls and returns that the decoder puts into no group.
    const fn names_of_flow(&self) -> (&'static [&'static str], &'static [&'static str]) {
        match self.arch {
            Arch::Mips | Arch::Mips64 => (&["jal", "jalr", "bal", "bgezal", "bltzal"], &["eret"]),
            Arch::Powerpc | Arch::Powerpc64 => (
                &["bl", "bla", "bctrl", "blrl"],
                &["blr", "rfi", "rfid", "hrfid"],
            ),
            Arch::Riscv64 => (&["jal", "jalr", "c.jalr"], &["ret", "sret", "mret"]),
            Arch::Arm | Arch::Arm64 => (&["bl", "blx", "blr"], &["ret", "eret"]),
            Arch::Sparc64 => (&["call"], &["ret", "retl", "return", "retry", "done"]),
            Arch::Amd64 | Arch::I386 => (&[], &[]),
        }
    }

    /// Decodes bytes; `name_at` names the addresses that they refer to.
    pub(crate) fn decode(
        &self,
        bytes: &[u8],
        start: VirtAddr,
        name_at: &dyn Fn(VirtAddr) -> Option<String>,
    ) -> Vec<Instruction> {
        let mut list = Vec::new();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && !rest.is_empty()
        {
            let address = start.0.wrapping_add(at as u64);
            if let Ok(decoded) = self.capstone.disasm_all(rest, address) {
                for one in decoded.iter() {
                    at += one.len();
                    list.push(self.instruction(one, name_at));
                }
            }
            // What stopped it is no instruction.
            let rest = bytes.get(at..).unwrap_or_default();
            let data = rest.get(..self.unit().min(rest.len())).unwrap_or_default();
            if !data.is_empty() {
                list.push(Instruction {
                    address: VirtAddr(start.0.wrapping_add(at as u64)),
                    bytes: data.to_vec(),
                    text: format!(".byte {}", hex(data)),
                    refers_to: None,
                    flow: Flow::Next,
                    operands: Vec::new(),
                    in_file: None,
                });
                at += data.len();
            }
        }
        list
    }

    fn instruction(
        &self,
        one: &capstone::Insn<'_>,
        name_at: &dyn Fn(VirtAddr) -> Option<String>,
    ) -> Instruction {
        let mnemonic = one.mnemonic().unwrap_or("?");
        let operands = one.op_str().unwrap_or_default();
        let detail = self.capstone.insn_detail(one).ok();
        let is_in = |group: u32| {
            let groups = detail.as_ref().map(|detail| detail.groups());
            groups.is_some_and(|groups| groups.iter().any(|one| u32::from(one.0) == group))
        };
        let (calls, returns) = self.names_of_flow();
        let flow = if is_in(InsnGroupType::CS_GRP_CALL) || calls.contains(&mnemonic) {
            Flow::Call
        } else if is_in(InsnGroupType::CS_GRP_RET)
            || is_in(InsnGroupType::CS_GRP_IRET)
            || returns.contains(&mnemonic)
        {
            Flow::Return
        } else if is_in(InsnGroupType::CS_GRP_JUMP) {
            Flow::Jump
        } else {
            Flow::Next
        };
        let parsed: Vec<Operand> = match self.arch {
            Arch::Arm64 if SYSTEM.contains(&mnemonic) => {
                let first = operands.split(',').next().unwrap_or_default();
                self.register_named(first).into_iter().collect()
            }
            _ => {
                let detail = detail
                    .as_ref()
                    .map(|detail| detail.arch_detail().operands());
                let raw: Vec<ArchOperand> = detail.unwrap_or_default();
                raw.iter().filter_map(|one| self.operand(one)).collect()
            }
        };
        let after = one.address().wrapping_add(one.len() as u64);
        let refers_to = self.target_of(&parsed, flow, one.address(), after);
        let refers_to = refers_to.map(|address| Reference {
            symbol: name_at(address),
            address,
        });
        let text = match operands.is_empty() {
            true => mnemonic.to_owned(),
            false => format!("{mnemonic} {operands}"),
        };
        Instruction {
            address: VirtAddr(one.address()),
            bytes: one.bytes().to_vec(),
            text,
            refers_to,
            flow,
            operands: parsed,
            in_file: None,
        }
    }
}

impl Target<'_> {
    /// The instructions in so many bytes from an address on, at most [`MAX_BYTES`].
    #[must_use]
    pub fn instructions_of(&self, start: VirtAddr, len_bytes: u64) -> Instructions {
        let len = usize::try_from(len_bytes.min(MAX_BYTES)).unwrap_or(0);
        let mut bytes = vec![0; len];
        let read = self.space.read(start, &mut bytes).len;
        let stored = self.stored_code(start, len as u64);
        let mut known = read;
        // What the dump lacks, the file has.
        if let Some(stored) = stored
            && let (Some(to), Some(from)) = (bytes.get_mut(read..), stored.get(read..))
        {
            let both = to.len().min(from.len());
            if let (Some(to), Some(from)) = (to.get_mut(..both), from.get(..both)) {
                to.copy_from_slice(from);
            }
            known += both;
        }
        bytes.truncate(known);
        let order = self.space.endian();
        let Ok(decoder) = Decoder::new(self.arch(), order) else {
            return Instructions {
                list: Vec::new(),
                missing: None,
            };
        };
        let name_at = |address: VirtAddr| self.function_at(address);
        let mut list = decoder.decode(&bytes, start, &name_at);
        if let Some(stored) = stored {
            for instruction in &mut list {
                let at = usize::try_from(instruction.address.0.wrapping_sub(start.0)).unwrap_or(0);
                let original = stored.get(at..at.saturating_add(instruction.bytes.len()));
                if let Some(original) = original
                    && original != instruction.bytes
                {
                    let decoded = decoder.decode(original, instruction.address, &name_at);
                    let words: Vec<String> = decoded.into_iter().map(|one| one.text).collect();
                    instruction.in_file = Some(words.join("; "));
                }
            }
        }
        Instructions {
            list,
            missing: (known < len).then(|| VirtAddr(start.0.wrapping_add(known as u64))),
        }
    }

    /// The symbol at an address as its source has it, with the distance from it.
    #[must_use]
    pub fn function_at(&self, address: VirtAddr) -> Option<String> {
        let name = self.name_at(address)?;
        Some(match name.rsplit_once("+0x") {
            Some((name, offset)) => format!("{}+0x{offset}", demangled(name)),
            None => demangled(&name),
        })
    }

    /// The bytes that the kernel file has for an address, as far as its section goes.
    fn stored_code(&self, start: VirtAddr, len: u64) -> Option<&[u8]> {
        if self.loaded(start)?.module.is_some() {
            return None;
        }
        let kernel = self.session.kernel()?;
        let linked = linked_address(self.session, start);
        kernel
            .contents(linked, len)
            .or_else(|| kernel.contents(linked, 16))
    }

    /// The function around an address: where it starts, and how many bytes it has. Of one whose size is
    /// not known, as far as the next symbol.
    #[must_use]
    pub fn function_around(&self, address: VirtAddr) -> Option<(VirtAddr, u64)> {
        let start = self.symbol(address)?.start;
        if let Some(size) = self.size_of_symbol(start)
            && address.0.wrapping_sub(start.0) < size
        {
            return Some((start, size.min(MAX_BYTES)));
        }
        // The last address that still belongs to it.
        let (mut inside, mut outside) = (address.0, start.0.checked_add(MAX_BYTES)?);
        while inside.checked_add(1)? < outside {
            let middle = inside + (outside - inside) / 2;
            match self.symbol(VirtAddr(middle)) {
                Some(near) if near.start == start => inside = middle,
                _ => outside = middle,
            }
        }
        Some((start, inside.checked_sub(start.0)?.checked_add(1)?))
    }

    /// Bytes of the symbol that starts there, if it gives them.
    fn size_of_symbol(&self, start: VirtAddr) -> Option<u64> {
        let module = self.loaded(start).and_then(|loaded| loaded.module);
        let size = match module {
            Some(module) => module.symbol_at(start)?.2,
            None => self.symbols.nearest(start)?.symbol.size,
        };
        (size > 0).then_some(size)
    }
}
