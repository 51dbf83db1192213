//! arm64: pages of 4 or 16 KiB; its direct map lies above the kernel map and is tried first.

use super::common::{FullDumps, Windows, direct_map, page_words, section};
use crate::memory::Memory;
use crate::translation::{PagingMode, RootSymbols, Window};
use vmcore_format::addr::PageSize;
use vmcore_format::header::Header;

pub(super) const WINDOWS: Windows = Windows {
    windows,
    full_dumps: FullDumps::None,
    paging: page_words,
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
