//! powerpc, 32-bit: its dumps are ELF cores of virtual memory.

use super::{Facts, FullDumps};
use crate::registers::PcbLayout;
use vmcore_format::endian::Width;

/// r12 to r31, then cr, r1, r2, and lr, where the thread goes on.
const PCB: &[(&str, usize)] = &[
    ("r12", 0),
    ("r13", 4),
    ("r14", 8),
    ("r15", 12),
    ("r16", 16),
    ("r17", 20),
    ("r18", 24),
    ("r19", 28),
    ("r20", 32),
    ("r21", 36),
    ("r22", 40),
    ("r23", 44),
    ("r24", 48),
    ("r25", 52),
    ("r26", 56),
    ("r27", 60),
    ("r28", 64),
    ("r29", 68),
    ("r30", 72),
    ("r31", 76),
    ("cr", 80),
    ("r1", 84),
    ("r2", 88),
    ("pc", 92),
];

pub(super) const FACTS: Facts = Facts {
    full_dumps: FullDumps::Virtual,
    pcb: |_| PcbLayout::new(PCB, Width::W32, ["pc", "r1", "r31"]),
    ..Facts::UNKNOWN
};
