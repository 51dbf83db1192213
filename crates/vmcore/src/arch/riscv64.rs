//! riscv64: its direct map lies above the kernel map and is tried first.

use super::{Facts, direct_map, page_words, section};
use crate::memory::Memory;
use crate::process::{Release, SINCE_15};
use crate::registers::PcbLayout;
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::endian::Width;
use vmcore_format::header::Header;

/// FreeBSD 14 and later.
const PCB: &[(&str, usize)] = &[
    ("pc", 0),
    ("sp", 8),
    ("gp", 16),
    ("tp", 24),
    ("fp", 32),
    ("s1", 40),
    ("s2", 48),
    ("s3", 56),
    ("s4", 64),
    ("s5", 72),
    ("s6", 80),
    ("s7", 88),
    ("s8", 96),
    ("s9", 104),
    ("s10", 112),
    ("s11", 120),
];

/// FreeBSD 13 and before: seven temporary registers precede the saved ones.
const PCB_OLD: &[(&str, usize)] = &[
    ("pc", 0),
    ("sp", 8),
    ("gp", 16),
    ("tp", 24),
    ("fp", 88),
    ("s1", 96),
    ("s2", 104),
    ("s3", 112),
    ("s4", 120),
    ("s5", 128),
    ("s6", 136),
    ("s7", 144),
    ("s8", 152),
    ("s9", 160),
    ("s10", 168),
    ("s11", 176),
];
/// `sizeof(struct pcb)` since the change; before, it had 15 registers more.
const PCB_SIZE: u64 = 0x298;
const PCB_OLD_SIZE: u64 = PCB_SIZE + 15 * 8;

pub(super) const FACTS: Facts = Facts {
    kernels_are_high: true,
    windows,
    paging: page_words,
    image_starts: |header| header.map(|header| header.kernbase).into_iter().collect(),
    pcb: |size| {
        let fields = match size {
            Some(PCB_OLD_SIZE..) => PCB_OLD,
            _ => PCB,
        };
        PcbLayout::new(fields, Width::W64, ["pc", "sp", "fp"])
    },
    releases: &[Release::new(SINCE_15, [0x3e0, 0x2dc, 0x56c, 0x480, 0x298])],
    ..Facts::UNKNOWN
};

fn windows(header: &Header, _: &Memory, _: Option<&RootSymbols>) -> Vec<Window> {
    let tables = section(header, PagingMode::Riscv64, 0);
    [direct_map(header), Some(tables)]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::Registers;
    use vmcore_format::arch::Arch;

    #[test]
    fn the_size_tells_where_the_saved_registers_are() {
        let mut pcb = [0; 192];
        for (place, number) in pcb.iter_mut().step_by(8).zip(0..) {
            *place = number;
        }
        for (size, fp) in [(Some(0x298), 4), (Some(0x310), 11), (None, 4)] {
            let layout = PcbLayout::of(Arch::Riscv64, size);
            let registers = Registers::from_pcb(&layout, &pcb);
            assert_eq!(registers.get("fp"), Some(fp));
            assert_eq!(registers.get("s11"), Some(fp + 11));
            assert_eq!(registers.get("pc"), Some(0));
        }
    }
}
