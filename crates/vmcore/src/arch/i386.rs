//! i386: with PAE and without; no direct map.

use super::{Facts, FullDumps, section};
use crate::memory::Memory;
use crate::registers::PcbLayout;
use crate::translation::root;
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;
use vmcore_format::header::Header;

const PCB: &[(&str, usize)] = &[
    ("edi", 0),
    ("esi", 4),
    ("ebp", 8),
    ("esp", 12),
    ("ebx", 16),
    ("eip", 20),
];

pub(super) const FACTS: Facts = Facts {
    windows,
    full_dumps: FullDumps::Physical(root::i386),
    paging: |header| match header.is_pae() {
        true => "PAE".to_owned(),
        false => "two-level (no PAE)".to_owned(),
    },
    image_starts,
    pcb: |_| PcbLayout::new(PCB, Width::W32, ["eip", "esp", "ebp"]),
};

fn windows(header: &Header, _: &Memory, _: Option<&RootSymbols>) -> Vec<Window> {
    let mode = match header.is_pae() {
        true => PagingMode::I386Pae,
        false => PagingMode::I386,
    };
    vec![section(header, mode, 0)]
}

/// 0x00800000 + a page directory's room (4/4 GB split), or 0xc0000000 + KERNLOAD: a full dump does not
/// say which.
fn image_starts(header: Option<&Header>) -> Vec<VirtAddr> {
    let bases = header.map_or(vec![0, 0xc000_0000], |header| vec![header.kernbase.0]);
    let offsets = [0, 0x1000, 0x40_0000, 0x80_0000, 0x100_0000];
    bases
        .iter()
        .flat_map(|base| {
            offsets
                .iter()
                .filter_map(|offset| base.checked_add(*offset))
        })
        .map(VirtAddr)
        .collect()
}
