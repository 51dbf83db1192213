//! Trap frames: the registers that exception entries save before they call the kernel's handlers.
//!
//! Entries are assembly without call frame information; they are known by their symbols. Which, and
//! what they save, is the architecture's.

use super::{Registers, Unwinder};
use crate::arch::machine::Machine;
use serde::Serialize;
use serde::ser::SerializeMap as _;
use vmcore::translation::TranslationError;
use vmcore_format::addr::VirtAddr;

/// What the processor refused, as far as a trap tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An access to memory that is not there, or not allowed.
    PageFault(Access),
    /// An instruction, or an address that none can have.
    ProtectionFault,
    /// The handling of another fault.
    DoubleFault,
    /// To go on with broken hardware.
    MachineCheck,
    /// Nothing: a non-maskable interrupt.
    Nmi,
    /// Something else; the trap's number says what.
    Other,
}

/// What the memory was accessed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To load from it.
    Read,
    /// To store to it.
    Write,
    /// To run it.
    Execute,
}

impl Access {
    /// In words, before an address.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Read => "read of",
            Self::Write => "write to",
            Self::Execute => "jump to",
        }
    }
}

/// What an exception entry saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrapFrame {
    /// Where it is.
    pub address: VirtAddr,
    /// Where the interrupted code goes on.
    pub pc: VirtAddr,
    /// Whether user code was interrupted.
    pub user: bool,
    /// The number of the trap (x86), or `scause` (riscv64), `esr` (arm64), or the vector (powerpc).
    #[serde(serialize_with = "hex_option", skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The error code (x86).
    #[serde(serialize_with = "hex_option", skip_serializing_if = "Option::is_none")]
    pub error: Option<u64>,
    /// The exception in words, as the processor's manual or the kernel calls it: `page fault`. `None` for
    /// interrupts and system calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
    /// What the processor refused.
    #[serde(skip)]
    pub cause: Cause,
    /// The address whose access faulted, if the trap was a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault_address: Option<VirtAddr>,
    /// Every field that is not a general register, by its name.
    #[serde(serialize_with = "as_map")]
    pub other: Vec<(&'static str, u64)>,
    /// The interrupted code's registers.
    #[serde(skip)]
    pub registers: Registers,
}

fn hex_option<S: serde::Serializer>(value: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => s.collect_str(&format_args!("{value:#x}")),
        None => s.serialize_none(),
    }
}

fn as_map<S: serde::Serializer>(fields: &[(&str, u64)], s: S) -> Result<S::Ok, S::Error> {
    let mut map = s.serialize_map(Some(fields.len()))?;
    for (name, value) in fields {
        map.serialize_entry(name, &format!("{value:#x}"))?;
    }
    map.end()
}

impl Unwinder<'_> {
    /// The bytes at an address.
    pub(crate) fn read<const N: usize>(&self, at: u64) -> Result<[u8; N], TranslationError> {
        let mut raw = [0; N];
        self.space.read_exact(VirtAddr(at), &mut raw)?;
        Ok(raw)
    }

    /// Words in the kernel's byte order.
    pub(crate) fn words<const N: usize>(&self, at: u64) -> Result<[u64; N], TranslationError> {
        let width = self.machine.word_bytes();
        let mut words = [0; N];
        for (word, number) in words.iter_mut().zip(0..) {
            let at = at.wrapping_add(width * number);
            *word = self.space.read_word(VirtAddr(at))?;
        }
        Ok(words)
    }
}

/// An unsigned little-endian field; 0 behind the end.
pub(crate) fn field(raw: &[u8], at: usize, len: usize) -> u64 {
    let mut bytes = [0; 8];
    if let (Some(from), Some(to)) = (raw.get(at..at + len), bytes.get_mut(..len)) {
        to.copy_from_slice(from);
    }
    u64::from_le_bytes(bytes)
}

/// The registers of these numbers at these offsets, of `len` bytes each.
pub(crate) fn registers_from(raw: &[u8], fields: &[(usize, usize)], len: usize) -> Registers {
    let mut registers = Registers::default();
    for (number, at) in fields {
        registers.set(*number, Some(field(raw, *at, len)));
    }
    registers
}

impl TrapFrame {
    /// The interrupted code's registers with their names.
    pub fn named(&self, machine: &Machine) -> Vec<(&'static str, u64)> {
        self.registers.named(machine).collect()
    }

    /// The exception with the registers that say so: `trap 12 (page fault), error 0x2`.
    #[must_use]
    pub fn in_words(&self, machine: &Machine) -> String {
        let exception = self.exception.as_deref().unwrap_or("interrupt");
        let number = self.number.map(|number| match number {
            0..100 => format!("{} {number}", machine.trap_number),
            _ => format!("{} {number:#x}", machine.trap_number),
        });
        let error = self.error.filter(|_| self.exception.is_some());
        let error = error.map_or_else(String::new, |error| format!(", error {error:#x}"));
        match number {
            Some(number) => format!("{number} ({exception}){error}"),
            None => format!("{exception}{error}"),
        }
    }

    /// The same with the address whose access faulted, for one line; `None` for interrupts, system calls
    /// and user code, which are no faults of the kernel.
    #[must_use]
    pub fn fault_in_words(&self, machine: &Machine) -> Option<String> {
        let is_fault = !self.user && self.cause != Cause::Nmi;
        self.exception.as_ref().filter(|_| is_fault)?;
        let words = self.in_words(machine);
        Some(match (self.fault_address, self.cause) {
            (Some(address), Cause::PageFault(access)) => {
                format!("{words}: {} {:#x}", access.in_words(), address.0)
            }
            (Some(address), _) => format!("{words}: address {:#x}", address.0),
            (None, _) => words,
        })
    }
}
