//! amd64: four or five levels; version 1 of its minidumps holds PTEs, later ones PDEs.

use super::{Facts, FullDumps, direct_map, section};
use crate::memory::Memory;
use crate::registers::PcbLayout;
use crate::translation::root;
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;
use vmcore_format::header::Header;

/// Virtual start of the image: `KERNBASE` + 2 MiB.
const IMAGE: VirtAddr = VirtAddr(0xffff_ffff_8020_0000);

const PCB: &[(&str, usize)] = &[
    ("r15", 0),
    ("r14", 8),
    ("r13", 16),
    ("r12", 24),
    ("rbp", 32),
    ("rsp", 40),
    ("rbx", 48),
    ("rip", 56),
];

pub(super) const FACTS: Facts = Facts {
    windows,
    full_dumps: FullDumps::Physical(root::amd64),
    paging,
    image_starts: |_| vec![IMAGE],
    pcb: |_| PcbLayout::new(PCB, Width::W64, ["rip", "rsp", "rbp"]),
};

fn windows(header: &Header, _: &Memory, _: Option<&RootSymbols>) -> Vec<Window> {
    let level = u32::from(header.version > 1);
    let tables = section(header, PagingMode::Amd64, level);
    [Some(tables), direct_map(header)]
        .into_iter()
        .flatten()
        .collect()
}

fn paging(header: &Header) -> String {
    let is_la57 = header
        .direct_map
        .is_some_and(|map| map.base.0 >> 48 == 0xff01);
    match is_la57 {
        true => "5-level".to_owned(),
        false => "4-level (the dump holds the lower ones)".to_owned(),
    }
}
