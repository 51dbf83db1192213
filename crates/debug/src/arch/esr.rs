//! arm64's exception syndrome register: what happened, by class, and by fault status for aborts
//! (Arm ARM, `ESR_EL1`; `sys/arm64/include/armreg.h`).

use crate::unwind::{Access, Cause};

/// Classes of exceptions, without those that only user code or a hypervisor meets.
const CLASSES: [(u64, &str); 26] = [
    (0x00, "undefined instruction"),
    (0x01, "trapped WFI or WFE"),
    (0x07, "floating-point access"),
    (0x09, "pointer authentication trap"),
    (0x0d, "branch target exception"),
    (0x0e, "illegal execution state"),
    (0x15, "SVC instruction"),
    (0x18, "trapped MSR, MRS or system instruction"),
    (0x19, "SVE access"),
    (0x1c, "pointer authentication failure"),
    (0x20, "instruction abort from a lower level"),
    (0x21, "instruction abort"),
    (0x22, "PC alignment fault"),
    (0x24, "data abort from a lower level"),
    (0x25, "data abort"),
    (0x26, "SP alignment fault"),
    (0x27, "memory operation exception"),
    (0x2c, "floating-point exception"),
    (0x2d, "guarded control stack exception"),
    (0x2f, "SError"),
    (0x31, "breakpoint"),
    (0x33, "software step"),
    (0x34, "watchpoint from a lower level"),
    (0x35, "watchpoint"),
    (0x38, "BKPT instruction"),
    (0x3c, "BRK instruction"),
];
const INSTRUCTION_ABORTS: [u64; 2] = [0x20, 0x21];
const DATA_ABORTS: [u64; 2] = [0x24, 0x25];
const PC_ALIGNMENT: u64 = 0x22;

/// Fault statuses of aborts that name a level of the tables in their two lowest bits.
const LEVELED: [(u64, &str); 6] = [
    (0x00, "address size fault"),
    (0x04, "translation fault"),
    (0x08, "access flag fault"),
    (0x0c, "permission fault"),
    (0x14, "external abort on a table walk"),
    (0x1c, "parity error on a table walk"),
];
/// The others.
const STATUSES: [(u64, &str); 9] = [
    (0x10, "external abort"),
    (0x11, "tag check fault"),
    (0x18, "parity error"),
    (0x21, "alignment fault"),
    (0x29, "address size fault, level -1"),
    (0x2b, "translation fault, level -1"),
    (0x30, "TLB conflict"),
    (0x31, "unsupported atomic update"),
    (0x35, "unsupported exclusive or atomic access"),
];
/// The last status of memory that is not there, or not allowed.
const LAST_OF_MEMORY: u64 = 0x0f;

const fn class(esr: u64) -> u64 {
    esr >> 26 & 0x3f
}

const fn status(esr: u64) -> u64 {
    esr & 0x3f
}

fn is_abort(esr: u64) -> bool {
    INSTRUCTION_ABORTS.contains(&class(esr)) || DATA_ABORTS.contains(&class(esr))
}

/// Bit 6 of a data abort: a write.
const fn is_write(esr: u64) -> bool {
    esr >> 6 & 1 == 1
}

/// Whether `far` is the address of the fault. Bit 10 of an abort says that it is not.
pub(super) fn has_address(esr: u64) -> bool {
    is_abort(esr) && esr >> 10 & 1 == 0 || class(esr) == PC_ALIGNMENT
}

pub(super) fn cause(esr: u64) -> Cause {
    let is_memory = status(esr) <= LAST_OF_MEMORY || matches!(status(esr), 0x29 | 0x2b);
    match class(esr) {
        class if INSTRUCTION_ABORTS.contains(&class) && is_memory => {
            Cause::PageFault(Access::Execute)
        }
        class if DATA_ABORTS.contains(&class) && is_memory => Cause::PageFault(if is_write(esr) {
            Access::Write
        } else {
            Access::Read
        }),
        PC_ALIGNMENT => Cause::PageFault(Access::Execute),
        _ => Cause::Other,
    }
}

/// What happened: `data abort: translation fault, level 1`.
pub(super) fn in_words(esr: u64) -> String {
    let known = CLASSES.iter().find(|(known, _)| *known == class(esr));
    let class = match known {
        Some((_, name)) => (*name).to_owned(),
        None => format!("unknown exception class {:#x}", class(esr)),
    };
    if !is_abort(esr) {
        return class;
    }
    let status = status(esr);
    let find = |table: &[(u64, &'static str)], status: u64| {
        let found = table.iter().find(|(known, _)| *known == status);
        found.map(|(_, name)| *name)
    };
    match (find(&STATUSES, status), find(&LEVELED, status & !3)) {
        (Some(name), _) => format!("{class}: {name}"),
        (None, Some(name)) => format!("{class}: {name}, level {}", status & 3),
        (None, None) => format!("{class}: fault status {status:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_esr_says_class_status_and_level() {
        for (esr, words, expected) in [
            (
                0x8600_0005,
                "instruction abort: translation fault, level 1",
                Cause::PageFault(Access::Execute),
            ),
            (
                0x9600_0004,
                "data abort: translation fault, level 0",
                Cause::PageFault(Access::Read),
            ),
            (
                0x9600_0047,
                "data abort: translation fault, level 3",
                Cause::PageFault(Access::Write),
            ),
            (
                0x9600_004f,
                "data abort: permission fault, level 3",
                Cause::PageFault(Access::Write),
            ),
            (
                0x9200_000b,
                "data abort from a lower level: access flag fault, level 3",
                Cause::PageFault(Access::Read),
            ),
            (0x9600_0010, "data abort: external abort", Cause::Other),
            (0x9600_0021, "data abort: alignment fault", Cause::Other),
            (
                0x9600_0015,
                "data abort: external abort on a table walk, level 1",
                Cause::Other,
            ),
            (0x9600_003f, "data abort: fault status 0x3f", Cause::Other),
            (
                0x8a00_0000,
                "PC alignment fault",
                Cause::PageFault(Access::Execute),
            ),
            (0x0200_0000, "undefined instruction", Cause::Other),
            (0xf200_0001, "BRK instruction", Cause::Other),
            (0xbe00_0011, "SError", Cause::Other),
            (0x0800_0000, "unknown exception class 0x2", Cause::Other),
        ] {
            assert_eq!(in_words(esr), words, "{esr:#x}");
            assert_eq!(cause(esr), expected, "{esr:#x}");
        }
        assert!(has_address(0x9600_0004) && !has_address(0x9600_0410));
        assert!(has_address(0x8a00_0000) && !has_address(0xf200_0001));
    }
}
