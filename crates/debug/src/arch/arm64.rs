//! arm64.

use super::esr;
use super::machine::{Chain, Entries, Gdb, Machine, OldTrapFrames, TrapFrameEnd};
use super::register::Register;
use crate::unwind::{Registers, TrapFrame, Unwinder, field, registers_from};
use gimli::Vendor;
use vmcore::translation::TranslationError;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::prstatus::ARM64_SIGNATURE;

const NAMES: &[&str] = &[
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
    "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",
    "x28", "fp", "lr", "sp", "pc",
];
const LR: usize = 30;

/// Bytes of `struct trapframe` (`sys/arm64/include/frame.h`), and before [`NEW_TRAP_FRAME`].
const LEN: usize = 288;
const OLD_LEN: usize = 272;
/// `__FreeBSD_version` since which the trap frame is longer.
const NEW_TRAP_FRAME: i32 = 1_400_084;
/// `sizeof(struct pcb)` before that.
const OLD_PCB: i32 = 0x560;

pub(super) const MACHINE: Machine = Machine {
    names: NAMES,
    pc: 32,
    sp: 31,
    fp: 29,
    lr: Some(LR),
    callee_saved: &[19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 31],
    chain: Chain::Record,
    record_is_anywhere: true,
    kernel_bit: Some(63),
    strip,
    // Functions that sign their return address say so by a rule of this vendor's.
    vendor: Vendor::AArch64,
    trap_frame: Some(trap_frame),
    old_trap_frames: Some(OldTrapFrames {
        member: ("tf_x", 32),
        before: NEW_TRAP_FRAME,
        pcb_size: OLD_PCB,
    }),
    trap_number: "esr",
    base_register,
    ..Machine::unknown(Arch::Arm64, GDB)
};

const fn mask(name: &'static str) -> Register {
    Register {
        fixed: Some(ARM64_SIGNATURE),
        feature: Some("org.gnu.gdb.aarch64.pauth_v2"),
        ..Register::plain(name, 64, None)
    }
}

const GDB: Gdb = Gdb {
    renamed: &[("fp", "x29"), ("lr", "x30")],
    // gdb takes signatures off return addresses by these, from release 14 on.
    more: &[
        Register::flags("cpsr"),
        mask("pauth_dmask"),
        mask("pauth_cmask"),
        mask("pauth_dmask_high"),
        mask("pauth_cmask_high"),
    ],
    native: &["aarch64"],
    address_bits: Some(48),
    entries: |old| if old { &[OLD_ENTRIES] } else { &[ENTRIES] },
    ..Gdb::new("aarch64", "org.gnu.gdb.aarch64.core", NAMES)
};

/// Where `tf_x` begins in `struct trapframe`, and in the shorter one.
const FIRST: usize = 48;
const OLD_FIRST: usize = 32;
const FIELDS: [(usize, usize); 33] = fields(FIRST);
const OLD_FIELDS: [(usize, usize); 33] = fields(OLD_FIRST);

/// Where each register is: `x0` to `x29` from `first` on; in front of them the others.
const fn fields(first: usize) -> [(usize, usize); 33] {
    let mut fields = [(0, 0); 33];
    let mut number = 0;
    while number < LR {
        fields[number] = (number, first + 8 * number);
        number += 1;
    }
    fields[LR] = (LR, 8);
    fields[LR + 1] = (MACHINE.sp, 0);
    fields[LR + 2] = (MACHINE.pc, 16);
    fields
}

const ENTRIES: Entries = Entries {
    is_entry,
    len_bytes: LEN,
    // The entry code leaves the frame pointer right above the trap frame.
    end: TrapFrameEnd::Above(MACHINE.fp, 0),
    fields: &FIELDS,
};
const OLD_ENTRIES: Entries = Entries {
    len_bytes: OLD_LEN,
    fields: &OLD_FIELDS,
    ..ENTRIES
};

/// A signature is in the top bits; bit 55 says which half of the address space it is.
const fn strip(pc: u64) -> u64 {
    match pc >> 55 & 1 {
        1 => pc | 0xffff << 48,
        _ => pc & !(0xffff << 48),
    }
}

/// Of loads and stores but those of literals and those with an index.
fn base_register(code: &[u8]) -> Option<usize> {
    let instruction = u32::from_le_bytes(*code.first_chunk()?);
    let is_access = instruction >> 25 & 0b101 == 0b100;
    let is_literal = instruction >> 27 & 0b111 == 0b011 && instruction >> 24 & 1 == 0;
    let has_index = instruction >> 27 & 0b111 == 0b111
        && instruction >> 24 & 1 == 0
        && instruction >> 21 & 1 == 1
        && instruction >> 10 & 0b11 == 0b10;
    (is_access && !is_literal && !has_index).then_some((instruction >> 5 & 31) as usize)
}

fn is_entry(name: &str) -> bool {
    matches!(
        name,
        "handle_el1h_sync"
            | "handle_el1h_irq"
            | "handle_el1h_fiq"
            | "handle_el1h_serror"
            | "handle_el0_sync"
            | "handle_el0_irq"
            | "handle_el0_fiq"
            | "handle_el0_error"
            | "handle_el0_serror"
            | "handle_serror"
            | "handle_empty_exception"
            | "fork_trampoline"
    )
}

fn trap_frame(
    unwinder: &Unwinder<'_>,
    symbol: &str,
    registers: &Registers,
    never_ran: bool,
) -> Option<Result<TrapFrame, TranslationError>> {
    if !is_entry(symbol) {
        return None;
    }
    let len = if unwinder.old_trap_frames {
        OLD_LEN
    } else {
        LEN
    };
    let at = if never_ran {
        registers.get(MACHINE.sp)?
    } else {
        // The entry code leaves the frame pointer right above the trap frame.
        let fp = registers.get(MACHINE.fp).filter(|fp| *fp != 0)?;
        fp.wrapping_sub(len as u64)
    };
    Some(read(unwinder, symbol, at))
}

fn read(unwinder: &Unwinder<'_>, symbol: &str, at: u64) -> Result<TrapFrame, TranslationError> {
    let old = unwinder.old_trap_frames;
    let mut raw = [0; LEN];
    let len = if old { OLD_LEN } else { LEN };
    if let Some(there) = raw.get_mut(..len) {
        unwinder.space.read_exact(VirtAddr(at), there)?;
    }
    let (fields, spsr, esr) = match old {
        true => (&OLD_FIELDS, field(&raw, 24, 4), field(&raw, 28, 4)),
        false => (&FIELDS, field(&raw, 24, 8), field(&raw, 32, 8)),
    };
    let registers = registers_from(&raw, fields, 8);
    let pc = field(&raw, 16, 8);
    let user = spsr & 0xf == 0;
    let mut other = vec![("spsr", spsr), ("esr", esr)];
    let far = (!old).then(|| field(&raw, 40, 8));
    if let Some(far) = far {
        other.push(("far", far));
    }
    let is_exception = !symbol.ends_with("_irq") && !symbol.ends_with("_fiq");
    let is_exception = is_exception && symbol != "fork_trampoline";
    let fault_address = far.filter(|_| esr::has_address(esr) && !user);
    Ok(TrapFrame {
        address: VirtAddr(at),
        pc: VirtAddr(pc),
        user,
        number: Some(esr),
        error: None,
        exception: is_exception.then(|| esr::in_words(esr)),
        cause: esr::cause(esr),
        fault_address: fault_address.map(VirtAddr),
        other,
        registers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_of_loads_and_stores_is_found() {
        for (instruction, expected) in [
            // ldr x0, [x19, #8]; str w1, [x2]; ldp x29, x30, [sp], #16; ldur x3, [x20, #-8]; ldxr x8, [x9]
            (0xf940_0660_u32, Some(19)),
            (0xb900_0041, Some(2)),
            (0xa8c1_7bfd, Some(31)),
            (0xf85f_8283, Some(20)),
            (0xc85f_7d28, Some(9)),
            // ldr x0, literal; ldr x0, [x1, x2]; add x0, x1, #8; ret
            (0x5800_0040, None),
            (0xf862_6820, None),
            (0x9100_2020, None),
            (0xd65f_03c0, None),
        ] {
            let found = base_register(&instruction.to_le_bytes());
            assert_eq!(found, expected, "{instruction:#x}");
        }
        assert_eq!(base_register(&[0; 3]), None);
    }

    #[test]
    fn signatures_are_stripped_from_return_addresses() {
        assert_eq!(strip(0x2f3f_0000_004b_6e78), 0x0000_0000_004b_6e78);
        assert_eq!(strip(0xb1bf_0000_004b_6e78), 0xffff_0000_004b_6e78);
    }

    #[test]
    fn the_return_address_is_in_the_link_register_at_the_start() {
        assert_eq!((MACHINE.return_address)(&[], true), Some(0));
        assert_eq!((MACHINE.return_address)(&[], false), None);
    }
}
