//! Trap frames: the registers that exception entries save before they call the kernel's handlers.
//!
//! Entries are assembly without call frame information; they are known by their symbols. Layouts:
//! `sys/<arch>/include/frame.h`.

mod arm;
mod powerpc;

use super::{Machine, Registers, Unwinder};
use serde::Serialize;
use serde::ser::SerializeMap as _;
use vmcore::translation::Fault;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Width;

/// Bytes of an arm64 trap frame, from osreldate 1400084 on and before.
pub(super) const ARM64_LEN: u64 = 288;
pub(super) const ARM64_OLD_LEN: u64 = 272;
/// Bytes of an amd64 trap frame.
pub(crate) const AMD64_LEN: usize = 192;
/// amd64: DWARF number of each register, and its offset in a trap frame.
pub(crate) const AMD64_FIELDS: [(usize, usize); 17] = [
    (5, 0),
    (4, 8),
    (1, 16),
    (2, 24),
    (8, 32),
    (9, 40),
    (0, 48),
    (3, 56),
    (6, 64),
    (10, 72),
    (11, 80),
    (12, 88),
    (13, 96),
    (14, 104),
    (15, 112),
    (16, 152),
    (7, 176),
];
const I386_LEN: usize = 72;
const RISCV64_LEN: usize = 280;
/// i386: the entry code runs from a copy at or above this address.
const I386_TRAMPOLINE: u64 = 0xffc0_0000;

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

/// Whether the trap frames of an architecture are known.
#[must_use]
pub const fn has_trap_frames(arch: Arch) -> bool {
    !matches!(arch, Arch::Mips | Arch::Mips64 | Arch::Sparc64)
}

/// Whether an address is in the i386 kernel's copy of its entry code.
pub(super) const fn in_trampoline(arch: Arch, address: VirtAddr) -> bool {
    matches!(arch, Arch::I386) && address.0 >= I386_TRAMPOLINE
}

/// Whether an address is certainly the user's: in the lower half of a 64-bit address space, or of
/// arm's. On i386 nothing is certain.
pub(super) const fn is_user(arch: Arch, address: VirtAddr) -> bool {
    match (arch, arch.word()) {
        (Arch::Arm, _) => address.0 >> 31 == 0,
        (_, Width::W64) => address.0 >> 63 == 0,
        (_, Width::W32) => false,
    }
}

/// An x86 entry for interrupts and the like: `X` and a name that does not begin with `_`.
fn is_x86_entry(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next() == Some('X') && letters.next().is_some_and(|letter| letter != '_')
}

/// Whether the code segment that a trap frame names is one of the kernel's or of user mode.
fn has_x86_selector(found: &TrapFrame) -> bool {
    /// `GSEL(GCODE_SEL, SEL_KPL)` of both architectures.
    const KERNEL: u64 = 0x20;
    let mut fields = found.other.iter();
    let cs = fields.find(|(name, _)| *name == "cs");
    found.user || cs.is_some_and(|(_, cs)| *cs == KERNEL)
}

fn is_amd64_entry(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "calltrap",
        "nmi_calltrap",
        "mchk_calltrap",
        "dbg_calltrap",
        "fast_syscall_common",
        "int0x80_syscall_common",
        "doreti_ast",
        "fork_trampoline",
    ];
    NAMES.contains(&name) || is_x86_entry(name)
}

fn is_arm64_entry(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "handle_el1h_sync",
        "handle_el1h_irq",
        "handle_el0_sync",
        "handle_el0_irq",
        "handle_el0_error",
        "handle_serror",
        "handle_empty_exception",
    ];
    NAMES.contains(&name) || name == "fork_trampoline"
}

fn is_riscv64_entry(name: &str) -> bool {
    matches!(
        name,
        "cpu_exception_handler_supervisor" | "cpu_exception_handler_user" | "fork_trampoline"
    )
}

/// Whether a symbol is an exception entry on a machine whose entries keep the frame pointer.
pub(super) fn is_entry(arch: Arch, symbol: &str) -> bool {
    match arch {
        Arch::Amd64 => is_amd64_entry(symbol),
        Arch::I386 => symbol == "calltrap" || is_x86_entry(symbol),
        _ => false,
    }
}

impl Unwinder<'_> {
    /// The trap frame of an exception entry with these registers; `None` if the symbol is none.
    pub(super) fn trap_frame(
        &self,
        symbol: &str,
        registers: &Registers,
        never_ran: bool,
    ) -> Option<Result<TrapFrame, Fault>> {
        let sp = registers.get(self.machine.sp);
        let fp = registers.get(self.machine.fp);
        // Memory that is no trap frame names no code segment. Functions have names like entries too:
        // `XXH64_update`. What a new thread starts from may be all zeros.
        let plausible = |found: &Result<TrapFrame, Fault>| match found {
            Ok(found) => symbol == "fork_trampoline" || has_x86_selector(found),
            Err(_) => true,
        };
        match self.machine.arch {
            Arch::Amd64 if is_amd64_entry(symbol) => Some(self.amd64(sp?)).filter(plausible),
            Arch::I386 => {
                let at = self.i386_at(symbol, sp?, never_ran)?;
                Some(self.i386(at)).filter(plausible)
            }
            Arch::Arm64 if is_arm64_entry(symbol) => {
                let at = if never_ran {
                    sp?
                } else {
                    // The entry code leaves the frame pointer right above the trap frame.
                    fp.filter(|fp| *fp != 0)?.wrapping_sub(self.arm64_trap_len)
                };
                Some(self.arm64(at))
            }
            Arch::Riscv64 if is_riscv64_entry(symbol) => Some(self.riscv64(sp?)),
            Arch::Arm if arm::is_entry(symbol) => Some(arm::frame(self, sp?)),
            Arch::Powerpc | Arch::Powerpc64 if powerpc::is_entry(symbol) => {
                Some(powerpc::frame(self, sp?))
            }
            _ => None,
        }
    }

    fn read<const N: usize>(&self, at: u64) -> Result<[u8; N], Fault> {
        let mut raw = [0; N];
        self.space.read_exact(VirtAddr(at), &mut raw)?;
        Ok(raw)
    }

    /// Words in the kernel's byte order.
    fn words<const N: usize>(&self, at: u64) -> Result<[u64; N], Fault> {
        let width = self.machine.word_bytes();
        let mut words = [0; N];
        for (word, number) in words.iter_mut().zip(0..) {
            let at = at.wrapping_add(width * number);
            *word = self.space.read_word(VirtAddr(at))?;
        }
        Ok(words)
    }

    fn amd64(&self, at: u64) -> Result<TrapFrame, Fault> {
        const PAGE_FAULT: u64 = 12;
        const GENERAL_PROTECTION: u64 = 9;
        let raw: [u8; AMD64_LEN] = self.read(at)?;
        let registers = registers_from(&raw, &AMD64_FIELDS, 8);
        let number = field(&raw, 120, 4);
        let (cs, ss) = (field(&raw, 160, 2), field(&raw, 184, 2));
        let address = field(&raw, 128, 8);
        let user = cs & 3 == 3;
        Ok(TrapFrame {
            address: VirtAddr(at),
            pc: VirtAddr(field(&raw, 152, 8)),
            user,
            number: Some(number),
            error: Some(field(&raw, 144, 8)),
            fault_address: (matches!(number, PAGE_FAULT | GENERAL_PROTECTION) && !user)
                .then_some(VirtAddr(address)),
            other: vec![
                ("addr", address),
                ("flags", field(&raw, 136, 4)),
                ("cs", cs),
                ("rflags", field(&raw, 168, 8)),
                ("ss", ss),
                ("fs", field(&raw, 124, 2)),
                ("gs", field(&raw, 126, 2)),
                ("es", field(&raw, 140, 2)),
                ("ds", field(&raw, 142, 2)),
            ],
            registers,
        })
    }

    /// Where an i386 entry keeps its trap frame. Handlers of kernels with an address space of
    /// their own get a pointer to it: the word on top of the stack.
    fn i386_at(&self, symbol: &str, sp: u64, never_ran: bool) -> Option<u64> {
        let cut = |value: u64| self.machine.cut(value);
        let pointed = || {
            let at = cut(sp.wrapping_add(4));
            let word = self.space.read_word(VirtAddr(sp)).ok()?;
            (word == at).then_some(at)
        };
        match symbol {
            "calltrap" | "Xlcall_syscall" | "Xint0x80_syscall" | "Xtimerint" | "doreti_ast" => {
                Some(pointed().unwrap_or(sp))
            }
            "Xcpustop" | "Xrendezvous" | "Xipi_intr_bitmap_handler" | "Xlazypmap" => {
                Some(pointed().unwrap_or(sp))
            }
            "fork_trampoline" if never_ran => Some(cut(sp.wrapping_add(4))),
            "fork_trampoline" => Some(cut(sp.wrapping_add(12))),
            name if is_x86_entry(name) => {
                Some(pointed().unwrap_or_else(|| cut(sp.wrapping_add(4))))
            }
            _ => None,
        }
    }

    fn i386(&self, at: u64) -> Result<TrapFrame, Fault> {
        const FIELDS: [(usize, usize); 8] = [
            (7, 12),
            (6, 16),
            (5, 20),
            (3, 28),
            (2, 32),
            (1, 36),
            (0, 40),
            (8, 52),
        ];
        // The last two words are there only if user code was interrupted.
        let mut raw = [0; I386_LEN];
        let (kernel, user_part) = raw.split_at_mut(64);
        self.space.read_exact(VirtAddr(at), kernel)?;
        // Code in the processor's 8086 mode is the user's, whatever its segments.
        let user = field(kernel, 56, 2) & 3 != 0 || field(kernel, 60, 4) >> 17 & 1 == 1;
        if user {
            self.space
                .read_exact(VirtAddr(at.wrapping_add(64)), user_part)?;
        }
        let mut registers = registers_from(&raw, &FIELDS, 4);
        let sp = if user {
            field(&raw, 64, 4)
        } else {
            self.machine.cut(at.wrapping_add(64))
        };
        registers.set(self.machine.sp, Some(sp));
        Ok(TrapFrame {
            address: VirtAddr(at),
            pc: VirtAddr(field(&raw, 52, 4)),
            user,
            number: Some(field(&raw, 44, 4)),
            error: Some(field(&raw, 48, 4)),
            fault_address: None,
            other: vec![
                ("cs", field(&raw, 56, 2)),
                ("eflags", field(&raw, 60, 4)),
                ("fs", field(&raw, 0, 2)),
                ("es", field(&raw, 4, 2)),
                ("ds", field(&raw, 8, 2)),
            ],
            registers,
        })
    }

    fn arm64(&self, at: u64) -> Result<TrapFrame, Fault> {
        let raw: [u8; 288] = if self.arm64_trap_len == ARM64_LEN {
            self.read(at)?
        } else {
            let old: [u8; 272] = self.read(at)?;
            let mut raw = [0; 288];
            if let Some(start) = raw.get_mut(..old.len()) {
                start.copy_from_slice(&old);
            }
            raw
        };
        let new = self.arm64_trap_len == ARM64_LEN;
        let (first, spsr_len) = if new { (48, 8) } else { (32, 4) };
        let mut registers = Registers::default();
        for number in 0..30 {
            registers.set(number, Some(field(&raw, first + 8 * number, 8)));
        }
        registers.set(self.machine.sp, Some(field(&raw, 0, 8)));
        registers.set(30, Some(field(&raw, 8, 8)));
        let pc = field(&raw, 16, 8);
        registers.set(self.machine.pc, Some(pc));
        let spsr = field(&raw, 24, spsr_len);
        let esr = if new {
            field(&raw, 32, 8)
        } else {
            field(&raw, 28, 4)
        };
        let user = spsr & 0xf == 0;
        let mut other = vec![("spsr", spsr), ("esr", esr)];
        let far = new.then(|| field(&raw, 40, 8));
        if let Some(far) = far {
            other.push(("far", far));
        }
        // Exception classes of aborts: instruction and data, from a lower level and the same one.
        let is_abort = matches!(esr >> 26 & 0x3f, 0x20 | 0x21 | 0x24 | 0x25);
        Ok(TrapFrame {
            address: VirtAddr(at),
            pc: VirtAddr(pc),
            user,
            number: Some(esr),
            error: None,
            fault_address: far.filter(|_| is_abort && !user).map(VirtAddr),
            other,
            registers,
        })
    }

    fn riscv64(&self, at: u64) -> Result<TrapFrame, Fault> {
        /// DWARF number and offset of each register.
        const FIELDS: [(usize, usize); 32] = [
            (1, 0),
            (2, 8),
            (3, 16),
            (4, 24),
            (5, 32),
            (6, 40),
            (7, 48),
            (28, 56),
            (29, 64),
            (30, 72),
            (31, 80),
            (8, 88),
            (9, 96),
            (18, 104),
            (19, 112),
            (20, 120),
            (21, 128),
            (22, 136),
            (23, 144),
            (24, 152),
            (25, 160),
            (26, 168),
            (27, 176),
            (10, 184),
            (11, 192),
            (12, 200),
            (13, 208),
            (14, 216),
            (15, 224),
            (16, 232),
            (17, 240),
            (32, 248),
        ];
        let raw: [u8; RISCV64_LEN] = self.read(at)?;
        let (status, value, cause) = (
            field(&raw, 256, 8),
            field(&raw, 264, 8),
            field(&raw, 272, 8),
        );
        let user = status >> 8 & 1 == 0;
        // Page faults: of an instruction, a load, a store.
        let is_fault = matches!(cause, 12 | 13 | 15);
        Ok(TrapFrame {
            address: VirtAddr(at),
            pc: VirtAddr(field(&raw, 248, 8)),
            user,
            number: Some(cause),
            error: None,
            fault_address: (is_fault && !user).then_some(VirtAddr(value)),
            other: vec![("sstatus", status), ("stval", value), ("scause", cause)],
            registers: registers_from(&raw, &FIELDS, 8),
        })
    }
}

/// An unsigned field; 0 behind the end.
fn field(raw: &[u8], at: usize, len: usize) -> u64 {
    let mut bytes = [0; 8];
    if let (Some(from), Some(to)) = (raw.get(at..at + len), bytes.get_mut(..len)) {
        to.copy_from_slice(from);
    }
    u64::from_le_bytes(bytes)
}

fn registers_from(raw: &[u8], fields: &[(usize, usize)], len: usize) -> Registers {
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
