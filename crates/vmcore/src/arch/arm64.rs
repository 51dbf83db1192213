//! arm64: pages of 4 or 16 KiB; its direct map lies above the kernel map and is tried first.

use super::{Facts, direct_map, page_words, section};
use crate::memory::Memory;
use crate::process::{Release, SINCE_13, SINCE_15};
use crate::registers::PcbLayout;
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::addr::PageSize;
use vmcore_format::endian::Width;
use vmcore_format::header::Header;

/// From osreldate 1400084 on.
const PCB: &[(&str, usize)] = &[
    ("x19", 0),
    ("x20", 8),
    ("x21", 16),
    ("x22", 24),
    ("x23", 32),
    ("x24", 40),
    ("x25", 48),
    ("x26", 56),
    ("x27", 64),
    ("x28", 72),
    ("fp", 80),
    ("pc", 88),
    ("sp", 96),
];
/// Before: x0 to x30 in a row, of which the caller-saved ones hold leftovers.
const PCB_OLD: &[(&str, usize)] = &[
    ("x8", 64),
    ("x9", 72),
    ("x10", 80),
    ("x11", 88),
    ("x12", 96),
    ("x13", 104),
    ("x14", 112),
    ("x15", 120),
    ("x16", 128),
    ("x17", 136),
    ("x18", 144),
    ("x19", 152),
    ("x20", 160),
    ("x21", 168),
    ("x22", 176),
    ("x23", 184),
    ("x24", 192),
    ("x25", 200),
    ("x26", 208),
    ("x27", 216),
    ("x28", 224),
    ("fp", 232),
    ("pc", 240),
    ("sp", 256),
];
/// `sizeof(struct pcb)` before the change.
const PCB_OLD_SIZE: u64 = 0x560;

pub(super) const FACTS: Facts = Facts {
    kernels_are_high: true,
    windows,
    paging: page_words,
    image_starts: |header| header.map(|header| header.kernbase).into_iter().collect(),
    pcb: |size| {
        let fields = match size {
            Some(PCB_OLD_SIZE) => PCB_OLD,
            _ => PCB,
        };
        PcbLayout::new(fields, Width::W64, ["pc", "sp", "fp"])
    },
    releases: &[
        Release::new(SINCE_15, [0x3e0, 0x2dc, 0x5f4, 0x480, 0x4e0]),
        Release::new(SINCE_13, [0x3d8, 0x2bc, 0x52c, 0x438, 0x560]),
    ],
    ..Facts::UNKNOWN
};

fn windows(header: &Header, _: &Memory, _: Option<&RootSymbols>) -> Vec<Window> {
    let mode = match header.page_size {
        PageSize::SIZE_16K => PagingMode::Arm64Granule16K,
        _ => PagingMode::Arm64Granule4K,
    };
    let tables = section(header, mode, 0);
    [direct_map(header), Some(tables)]
        .into_iter()
        .flatten()
        .collect()
}
