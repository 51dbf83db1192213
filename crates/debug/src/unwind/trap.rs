//! Trap frames: the registers that exception entries save before they call the kernel's handlers.
//!
//! Entries are assembly without call frame information; they are known by their symbols. Which, and
//! what they save, is the architecture's.

use super::{Registers, Unwinder};
use crate::arch::Machine;
use serde::Serialize;
use serde::ser::SerializeMap as _;
use vmcore::translation::Fault;
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

impl Cause {
    /// A refused access, if the address of one is known.
    pub(crate) fn of_access(fault_address: Option<VirtAddr>, access: Access) -> Self {
        fault_address.map_or(Self::Other, |_| Self::PageFault(access))
    }
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

/// What an exception entry saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrapFrame {
    /// Where it is.
    pub address: VirtAddr,
    /// Where the interrupted code goes on.
    pub pc: VirtAddr,
    /// Whether user code was interrupted.
    pub user: bool,
    /// The number of the trap (x86), or `scause` (riscv64), or `esr` (arm64).
    #[serde(serialize_with = "hex_option", skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The error code (x86).
    #[serde(serialize_with = "hex_option", skip_serializing_if = "Option::is_none")]
    pub error: Option<u64>,
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
    pub(crate) fn read<const N: usize>(&self, at: u64) -> Result<[u8; N], Fault> {
        let mut raw = [0; N];
        self.space.read_exact(VirtAddr(at), &mut raw)?;
        Ok(raw)
    }

    /// Words in the kernel's byte order.
    pub(crate) fn words<const N: usize>(&self, at: u64) -> Result<[u64; N], Fault> {
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
}
