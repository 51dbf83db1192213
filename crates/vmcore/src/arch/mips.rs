//! mips, 32-bit: KSEG0 and KSEG1 are not mapped by tables. Entries have 4 bytes, those of n32 kernels 8,
//! which only the kernel file gives.

use super::{Facts, linear, page_words, section};
use crate::memory::Memory;
use crate::registers::PcbLayout;
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;
use vmcore_format::header::Header;

/// The segments of the address space that reach the lowest 512 MiB.
const KSEG0: u64 = 0x8000_0000;
const KSEG1: u64 = 0xa000_0000;
const KSEG_LEN: u64 = 0x2000_0000;

/// `e_flags` of kernels that follow the n32 convention.
const EF_MIPS_ABI2: u32 = 0x20;

/// Where boards load the kernel (`KERNLOADADDR` in `sys/mips/conf`).
pub(super) const LOADED_AT: [u64; 3] = [0x10_0000, 0x5_0000, 0x1000];

pub(super) const FACTS: Facts = Facts {
    windows,
    paging: page_words,
    image_starts: |_| LOADED_AT.map(|pa| VirtAddr(KSEG0 + pa)).to_vec(),
    pcb: |_| PcbLayout::new(&[], Width::W32, ["pc", "sp", "fp"]),
    wide_entries: EF_MIPS_ABI2,
    ..Facts::UNKNOWN
};

fn windows(header: &Header, _: &Memory, symbols: Option<&RootSymbols>) -> Vec<Window> {
    let mode = match symbols.is_some_and(|symbols| symbols.has_wide_entries) {
        true => PagingMode::Mips64,
        false => PagingMode::Mips32,
    };
    vec![
        linear(KSEG0, KSEG_LEN, 0),
        linear(KSEG1, KSEG_LEN, 0),
        section(header, mode, 0),
    ]
}
