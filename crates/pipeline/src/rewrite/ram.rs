//! What is RAM: by the kernel's `dump_avail` if it can be read, else what the file has.

use super::arch::ArchConversion;
use super::kernel::KernelMemory;
use vmcore::memory::Memory;
use vmcore_format::addr::{PhysAddr, PhysRange};
use vmcore_format::dump_avail;

/// The most bytes of `dump_avail` that are looked at; kernels have room for 64 pairs.
const DUMP_AVAIL_MAX: u64 = 4096;
/// How much RAM a kernel may name for each page that the file has, and in any case, in pages: memory
/// for the bitmap grows with it. Files that were cut hold a part of RAM only.
const RAM_PER_PAGE: u64 = 64;
const RAM_BASE_PAGES: u64 = 1 << 22;

/// The machine's RAM.
pub(super) struct Ram {
    /// Ascending, apart from each other.
    pub(super) ranges: Vec<PhysRange>,
    /// Whether the kernel says so, and its bitmap is numbered by it.
    pub(super) is_the_kernels: bool,
    /// Pages in none of the ranges, because the file ends before them.
    pub(super) missing_pages: u64,
}

/// The whole pages that the file has and the one that it ends in, and the number of those after it.
pub(super) fn present(memory: &Memory) -> Ram {
    let size = memory.page_size();
    let segments = memory.segments().map(|all| all.segments());
    let mut ranges: Vec<PhysRange> = Vec::new();
    let mut missing_pages = 0u64;
    for segment in segments.unwrap_or_default() {
        let start = segment.range.start;
        let mut end = PhysAddr(start.0.saturating_add(segment.present_bytes));
        if segment.present_bytes < segment.file_bytes {
            let all = start.0.saturating_add(segment.file_bytes);
            end = PhysAddr(size.round_up(end.0).unwrap_or(u64::MAX));
            missing_pages = missing_pages.saturating_add(size.pages(all.saturating_sub(end.0)));
        }
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => ranges.push(PhysRange { start, end }),
        }
    }
    for range in &mut ranges {
        let start = size.round_up(range.start.0).unwrap_or(u64::MAX);
        range.start = PhysAddr(start);
        range.end = size.base(size.pfn(range.end));
    }
    ranges.retain(|range| range.start < range.end);
    Ram {
        ranges,
        is_the_kernels: false,
        missing_pages,
    }
}

/// RAM as the kernel numbers it for its minidumps.
pub(super) fn of_kernel(memory: &Memory, arch: &ArchConversion, kernel: &KernelMemory<'_>) -> Ram {
    let own = present(memory);
    match dump_avail(arch, kernel, pages(memory, &own.ranges)) {
        Some(ranges) => Ram {
            ranges,
            is_the_kernels: true,
            // What the file lacks is seen when it is chosen.
            missing_pages: 0,
        },
        None => own,
    }
}

/// Of the kernel's RAM what the file has: a full dump has no way to say that a page is missing.
pub(super) fn of_full_dump(
    memory: &Memory,
    arch: &ArchConversion,
    kernel: Option<&KernelMemory<'_>>,
) -> Ram {
    let own = present(memory);
    let ranges = kernel.and_then(|kernel| dump_avail(arch, kernel, pages(memory, &own.ranges)));
    let Some(ranges) = ranges else {
        return own;
    };
    let size = memory.page_size();
    let mut both = Vec::new();
    for range in &ranges {
        let start = size.base(size.pfn(range.start));
        let end = PhysAddr(size.round_up(range.end.0).unwrap_or(u64::MAX));
        both.extend(own.ranges.iter().map(|own| PhysRange {
            start: start.max(own.start),
            end: end.min(own.end),
        }));
    }
    both.retain(|range| range.start < range.end);
    // Ranges of the kernel may meet inside a page.
    both.dedup_by(|next, last| {
        next.start = next.start.max(last.end);
        next.start >= next.end
    });
    Ram {
        ranges: both,
        is_the_kernels: true,
        missing_pages: own.missing_pages,
    }
}

fn pages(memory: &Memory, ranges: &[PhysRange]) -> u64 {
    let pages = |range: &PhysRange| memory.page_size().pages(range.len_bytes());
    ranges.iter().map(pages).fold(0, u64::saturating_add)
}

/// `dump_avail` of the kernel, if it is sound and names no more RAM than the file makes likely.
fn dump_avail(
    arch: &ArchConversion,
    kernel: &KernelMemory<'_>,
    present_pages: u64,
) -> Option<Vec<PhysRange>> {
    let symbol = kernel.symbol("dump_avail")?;
    let len = match symbol.size {
        0 => 1024,
        size => size.min(DUMP_AVAIL_MAX),
    };
    let mut raw = vec![0; usize::try_from(len).ok()?];
    let read = kernel.space.read(symbol.address, &mut raw).len;
    raw.truncate(read);
    let width = (arch.physical_address)(kernel);
    let endian = kernel.space.endian();
    let ranges: Vec<PhysRange> = dump_avail::decode(&raw, endian, width).collect();
    let is_sound = !ranges.is_empty()
        && ranges.iter().all(|range| range.start < range.end)
        && ranges.is_sorted_by(|a, b| a.end <= b.start);
    let size = kernel.space.memory().page_size();
    let named = ranges
        .iter()
        .map(|range| size.pages(range.len_bytes()).saturating_add(1))
        .fold(0, u64::saturating_add);
    let likely = present_pages
        .saturating_mul(RAM_PER_PAGE)
        .saturating_add(RAM_BASE_PAGES);
    (is_sound && named <= likely).then_some(ranges)
}
