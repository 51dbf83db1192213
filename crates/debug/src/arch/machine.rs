//! What is told of an architecture: the fields that its file fills in.

use super::register::Register;
use crate::unwind::{Cause, Registers, TrapFrame, Unwinder};
use gimli::Vendor;
use vmcore::translation::TranslationError;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Width;

/// How the frames of a stack are chained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// The frame pointer leads to the caller's and to the return address behind it.
    Record,
    /// Both lie below the frame pointer.
    RecordBelow,
    /// The stack pointer leads to the caller's, above which the return address was saved.
    BackChain {
        /// How many bytes above.
        saved_lr: u64,
    },
    /// In no way that is known here.
    Unknown,
}

/// Finds the trap frame of an exception entry by its symbol and its registers; the flag says that
/// they are those of a thread that never ran. `None` if the symbol is no entry.
pub(crate) type FindTrapFrame =
    fn(&Unwinder<'_>, &str, &Registers, bool) -> Option<Result<TrapFrame, TranslationError>>;

/// What is particular to an architecture.
///
/// Registers are numbered as in DWARF. Where that gives the program counter no number, it has one
/// behind the others.
#[derive(Debug)]
pub struct Machine {
    /// The architecture.
    pub arch: Arch,
    /// Names of the registers, by number.
    pub names: &'static [&'static str],
    /// Number of the program counter.
    pub pc: usize,
    /// Number of the stack pointer.
    pub sp: usize,
    /// Number of the frame pointer.
    pub fp: usize,
    /// Number of the link register; `None` where a call pushes the return address.
    pub lr: Option<usize>,
    /// Numbers of those that a called function leaves as they are.
    pub callee_saved: &'static [usize],

    /// How its stacks are chained.
    pub chain: Chain,
    /// A function keeps its frame record anywhere in its frame: then what lies above the record is no
    /// caller's stack pointer, only a bound of it.
    pub(crate) record_is_anywhere: bool,
    /// The bit that is clear in every address of a user's, and in none of the kernel's; `None` where no
    /// bit says it.
    pub(crate) kernel_bit: Option<u32>,
    /// A code address without what the processor signs it with.
    pub(crate) strip: fn(u64) -> u64,
    /// How far above the stack pointer the return address lies, in bytes, if the instructions at the
    /// program counter tell; the flag says that they are the first of their function. On machines with
    /// a link register the answer 0 says that the return address is still in there.
    pub(crate) return_address: fn(&[u8], bool) -> Option<u64>,
    /// The PCB's program counter lies in the routine that saved the registers, which has no frame: the
    /// link register leads to its caller, whose frame pointer the registers hold.
    pub(crate) saves_in_routine: bool,
    /// Whose extensions call frame information has.
    pub(crate) vendor: Vendor,

    /// The trap frames; `None` if they are not known.
    pub(crate) trap_frame: Option<FindTrapFrame>,
    /// How the shorter trap frames of earlier kernels are told from those of later ones, if it had such.
    pub(crate) old_trap_frames: Option<OldTrapFrames>,
    /// Whether a symbol is an entry that leaves the frame pointer of what it interrupted alone.
    pub(crate) keeps_frame_pointer: fn(&str) -> bool,
    /// Labels that are returned to although nothing before them called: entries put them where the
    /// return address belongs, and so does what makes a thread.
    pub(crate) return_labels: &'static [&'static str],
    /// The copy that entries run from.
    pub(crate) entry_copy: Option<EntryCopy>,
    /// The register that the memory operand of an instruction is relative to, by its number; `None` if
    /// it is relative to none or to several, or if that is not known.
    pub(crate) base_register: fn(&[u8]) -> Option<usize>,
    /// What the number in a trap frame is.
    pub(crate) trap_number: &'static str,
    /// The handlers of exceptions, and the exception, where all entries leave the same label.
    pub(crate) exception_of_handler: &'static [(&'static str, Exception)],

    /// Pointers to counters of each CPU count from the value of this variable, if it is a pointer.
    pub(crate) counter_base: Option<&'static str>,
    /// What gdb and lldb are told.
    pub(crate) gdb: Gdb,
}

/// Kernels with shorter trap frames: by types, else by the release, else by the size of the PCB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OldTrapFrames {
    /// A member of `struct trapframe`, and its offset in those of such kernels.
    pub(crate) member: (&'static str, u64),
    /// `osreldate` of the first kernel with longer ones.
    pub(crate) before: i32,
    /// `pcb_size` of such kernels.
    pub(crate) pcb_size: i32,
}

/// An exception in words, and what the processor refused.
pub(crate) type Exception = (&'static str, Cause);

/// A copy of the exception entries, which runs instead of what was linked.
#[derive(Debug)]
pub(crate) struct EntryCopy {
    /// All addresses from here on are in it.
    pub(crate) from: u64,
    /// The variable that says how far it is from what was linked.
    pub(crate) displacement: &'static str,
}

/// An architecture in the words of gdb and lldb.
#[derive(Debug)]
pub(crate) struct Gdb {
    /// What gdb calls it.
    pub(crate) architecture: &'static str,
    /// The feature that its registers are.
    pub(crate) feature: &'static str,
    /// The names of its registers that kernels save, in the order of their numbers there.
    pub(crate) names: &'static [&'static str],
    /// Registers that have another name there: ours, gdb's.
    pub(crate) renamed: &'static [(&'static str, &'static str)],
    /// Registers of 32 bits on every machine.
    pub(crate) narrow: &'static [&'static str],
    /// The registers behind them.
    pub(crate) more: &'static [Register],
    /// The processor in a triple, if FreeBSD calls it something else.
    pub(crate) cpu: Option<&'static str>,
    /// Processors whose gdb knows it too, by Rust's names.
    pub(crate) native: &'static [&'static str],
    /// How many bits of an address are one, if the processor may sign it in the others.
    pub(crate) address_bits: Option<u32>,
    /// Entries to describe, as gdb does not see through their trap frames: of several kinds the first
    /// that a symbol is; the flag says that the kernel has the shorter trap frames of earlier ones.
    pub(crate) entries: fn(bool) -> &'static [Entries],
}

/// Exception entries that leave a trap frame on the stack.
#[derive(Debug)]
pub(crate) struct Entries {
    /// Whether a symbol is one.
    pub(crate) is_entry: fn(&str) -> bool,
    /// Bytes of the trap frame.
    pub(crate) len_bytes: usize,
    /// Where the trap frame ends.
    pub(crate) end: TrapFrameEnd,
    /// Number of each register, and its offset in the trap frame.
    pub(crate) fields: &'static [(usize, usize)],
}

/// How gdb finds the end of a trap frame.
#[derive(Debug)]
pub(crate) enum TrapFrameEnd {
    /// So many bytes above a register.
    Above(usize, usize),
    /// By a DWARF expression.
    Expression(&'static [u8]),
}

/// The registers of an architecture of which nothing is known.
pub(super) const PLACES: &[&str] = &["pc", "sp", "fp"];

impl Machine {
    /// One of which nothing is known: no register but these, no frame, no trap.
    pub(super) const fn unknown(arch: Arch, gdb: Gdb) -> Self {
        Self {
            arch,
            names: PLACES,
            pc: 0,
            sp: 1,
            fp: 2,
            lr: None,
            callee_saved: &[2],
            chain: Chain::Unknown,
            record_is_anywhere: false,
            kernel_bit: None,
            strip: |pc| pc,
            return_address: |_, at_start| at_start.then_some(0),
            saves_in_routine: false,
            vendor: Vendor::Default,
            trap_frame: None,
            old_trap_frames: None,
            keeps_frame_pointer: |_| false,
            return_labels: &[],
            entry_copy: None,
            base_register: |_| None,
            trap_number: "trap",
            exception_of_handler: &[],
            counter_base: None,
            gdb,
        }
    }

    /// Bytes of a register.
    #[must_use]
    pub const fn word_bytes(&self) -> u64 {
        self.arch.word().bytes()
    }

    /// Whether its trap frames are known.
    #[must_use]
    pub const fn has_trap_frames(&self) -> bool {
        self.trap_frame.is_some()
    }

    /// Whether gdb for a processor knows it too, by Rust's name of the processor: `x86_64`.
    #[must_use]
    pub fn has_gdb_of(&self, processor: &str) -> bool {
        self.gdb.native.contains(&processor)
    }

    /// Whether a call pushes the return address.
    pub(crate) const fn pushes_return_address(&self) -> bool {
        self.lr.is_none()
    }

    /// Whether an address is certainly the user's.
    pub(crate) fn is_user(&self, address: VirtAddr) -> bool {
        self.kernel_bit.is_some_and(|bit| address.0 >> bit == 0)
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
        registers.set(self.pc, pc.map(self.strip));
        registers
    }
}

impl Gdb {
    /// One whose registers are just these.
    pub(super) const fn new(
        architecture: &'static str,
        feature: &'static str,
        names: &'static [&'static str],
    ) -> Self {
        Self {
            architecture,
            feature,
            names,
            renamed: &[],
            narrow: &[],
            more: &[],
            cpu: None,
            native: &[],
            address_bits: None,
            entries: |_| &[],
        }
    }
}
