//! mips, 64-bit: XKPHYS, KSEG0 and KSEG1 are not mapped by tables.

use super::common::{FullDumps, Windows, linear, page_words, section};
use crate::memory::Memory;
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::header::Header;

/// All physical memory, once for each of eight ways to cache it; the kernel uses the fourth, which is
/// so the address of a page.
const XKPHYS: u64 = 0x8000_0000_0000_0000;
const XKPHYS_LEN: u64 = 1 << 40;
const XKPHYS_WAYS: [u64; 8] = [3, 0, 1, 2, 4, 5, 6, 7];
const XKPHYS_STEP: u64 = 1 << 59;
/// The segments that reach the lowest 512 MiB.
const KSEG0: u64 = 0xffff_ffff_8000_0000;
const KSEG1: u64 = 0xffff_ffff_a000_0000;
const KSEG_LEN: u64 = 0x2000_0000;

pub(super) const WINDOWS: Windows = Windows {
    windows,
    full_dumps: FullDumps::None,
    paging: page_words,
};

fn windows(header: &Header, _: &Memory, _: Option<&RootSymbols>) -> Vec<Window> {
    let physical = |way| linear(XKPHYS + way * XKPHYS_STEP, XKPHYS_LEN, 0);
    let mut windows = XKPHYS_WAYS.map(physical).to_vec();
    windows.push(linear(KSEG0, KSEG_LEN, 0));
    windows.push(linear(KSEG1, KSEG_LEN, 0));
    windows.push(section(header, PagingMode::Mips64, 0));
    windows
}
