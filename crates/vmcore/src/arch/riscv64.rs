//! riscv64: its direct map lies above the kernel map and is tried first.

use super::{Facts, direct_map, page_words, section};
use crate::memory::Memory;
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

pub(super) const FACTS: Facts = Facts {
    windows,
    root: None,
    paging: page_words,
    image_starts: |kernbase| kernbase.into_iter().collect(),
    pcb: |_| PcbLayout::new(PCB, Width::W64, ["pc", "sp", "fp"]),
};

fn windows(header: &Header, _: &Memory, _: Option<&RootSymbols>) -> Vec<Window> {
    let tables = section(header, PagingMode::Riscv64, 0);
    [direct_map(header), Some(tables)].into_iter().flatten().collect()
}
