//! mips, 32-bit: KSEG0 and KSEG1 are not mapped by tables. Entries have 4 bytes, those of n32 kernels 8,
//! which only the kernel file gives.

use super::common::{FullDumps, Windows, linear, page_words, section};
use crate::memory::Memory;
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::header::Header;

/// The segments of the address space that reach the lowest 512 MiB.
const KSEG0: u64 = 0x8000_0000;
const KSEG1: u64 = 0xa000_0000;
const KSEG_LEN: u64 = 0x2000_0000;

pub(super) const WINDOWS: Windows = Windows {
    windows,
    full_dumps: FullDumps::None,
    paging: page_words,
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
