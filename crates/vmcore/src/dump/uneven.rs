//! Where the pages start after page tables that are not whole pages.
//!
//! arm's tables have 1 KiB, and its kernels write the pages right after the last one. Other writers
//! fill up the page first, as FreeBSD's libkvm expects now (`lib/libkvm/kvm_minidump_arm.c`; at first it
//! did not round either). The length of a whole dump tells which it was, by the dump header or the
//! file's; so does the extension. Where a file was cut, its contents do: the message buffer's section
//! is a copy of pages, the image starts with an ELF header, and the head of an empty list points to
//! itself.

use super::extension::Extension;
use super::warning::Warning;
use crate::container::{DeviceHeader, Layer};
use crate::memory::{Memory, SparseMemory, Store};
use crate::translation::Translation;
use crate::{image, windows};
use std::cmp::Ordering;
use vmcore_format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore_format::elf::ELF_MAGIC;
use vmcore_format::header::Header;
use vmcore_format::identity::Identity;
use vmcore_format::layout::Section;
use vmcore_format::msgbuf::Msgbuf;

/// The most mapped pages that are looked at for lists, and entries: as many as 4 GiB have.
const PAGES: u64 = 4096;
const ENTRIES: u64 = 1 << 20;

/// Chooses the layout of a dump whose page tables are not whole pages.
pub(super) fn settle(
    memory: Memory,
    header: &Header,
    layers: &[Layer],
    device: Option<&DeviceHeader>,
    block: Option<&Identity>,
    warnings: &mut Vec<Warning>,
) -> Memory {
    let Some(sparse) = memory.sparse().filter(|sparse| !sparse.layout().is_even()) else {
        return memory;
    };
    let Some(padded) = is_padded(&memory, sparse, header, layers, device, block) else {
        warnings.push(Warning::PagesUncertain {
            tables_bytes: header.pmapsize,
        });
        return memory;
    };
    let layout = sparse.layout().with_padding(padded);
    let Memory {
        source,
        store,
        page_size,
        endian,
    } = memory;
    let store = match store {
        Store::Sparse(sparse) => Store::Sparse(sparse.with_layout(layout)),
        store => store,
    };
    Memory {
        source,
        store,
        page_size,
        endian,
    }
}

/// Whether the pages start on the next page; `None` if that is unknown.
fn is_padded(
    memory: &Memory,
    sparse: &SparseMemory,
    header: &Header,
    layers: &[Layer],
    device: Option<&DeviceHeader>,
    block: Option<&Identity>,
) -> Option<bool> {
    let (source, page_size) = (memory.source(), memory.page_size());
    let set_bits = sparse.set_bits(source).ok()?;
    let of = |padded| sparse.layout().with_padding(padded);
    let ends = [of(false).end(set_bits)?.0, of(true).end(set_bits)?.0];
    let which = |value: u64, among: [u64; 2]| match among.map(|known| known == value) {
        [true, false] => Some(false),
        [false, true] => Some(true),
        _ => None,
    };
    let starts = [false, true].map(|padded| of(padded).section(Section::Pages).offset.0);
    let by_extension = || {
        let end = FileOffset(page_size.round_up(ends[0])?);
        let extension = Extension::read(source, page_size, end, Some(block?))?;
        which(extension.page_sums()?.offset.0, starts)
    };
    let by_header = || which(device?.dumplength, ends);
    // A file may have been filled up to whole pages later, or cut by as much as the two differ.
    let by_length = || which(source.len(), ends);
    // Pages that its writer lost are whole ones.
    let by_remainder = || {
        let is_packed = |layer: &Layer| matches!(layer, Layer::Zstd | Layer::Gzip);
        let len = source.len();
        let is_vouched = layers.iter().any(is_packed) && source.damage().is_none()
            || device.is_some_and(|device| device.dumplength == len);
        let inside = |at: u64| page_size.offset_in_page(at);
        match is_vouched && len < ends[0] {
            true => which(inside(len), ends.map(inside)),
            false => None,
        }
    };
    let contents = Contents {
        memory,
        sparse,
        header,
        translation: Translation::by((windows::of(header.arch).windows)(header, memory, None)),
    };
    // Each fact that is right in one layout only counts for it.
    let decide = |[packed, padded]: [u64; 2]| match packed.cmp(&padded) {
        Ordering::Equal => None,
        order => Some(order.is_lt()),
    };
    by_extension()
        .or_else(by_header)
        .or_else(|| decide(contents.log()))
        .or_else(|| decide(contents.image()))
        .or_else(by_remainder)
        .or_else(by_length)
        .or_else(|| decide(contents.lists()))
}

/// What can be compared in both layouts; each count is the one of pages that follow at once, and of
/// pages on the next page.
struct Contents<'a> {
    memory: &'a Memory,
    sparse: &'a SparseMemory,
    header: &'a Header,
    translation: Translation,
}

impl Contents<'_> {
    /// Reads a page of the dump in both layouts, as far as the file goes.
    fn page(&self, pa: PhysAddr) -> Option<[Vec<u8>; 2]> {
        let (source, size) = (self.memory.source(), self.memory.page_size());
        let offset = self.sparse.page_offset(source, size.pfn(pa)).ok()?.0;
        let now = self.sparse.layout().section(Section::Pages).offset.0;
        let read = |padded| {
            let layout = self.sparse.layout().with_padding(padded);
            let at = offset - now + layout.section(Section::Pages).offset.0;
            let mut bytes = vec![0; usize::try_from(size.bytes()).ok()?];
            let read = source.read_positional(at, &mut bytes).ok()?;
            bytes.truncate(read);
            Some(bytes)
        };
        Some([read(false)?, read(true)?])
    }

    fn page_at(&self, va: VirtAddr) -> Option<[Vec<u8>; 2]> {
        let found = self.translation.lookup(self.memory, va).ok()?;
        self.page(found.leaf.pa)
    }

    /// Pages of the message buffer that say what its section says.
    fn log(&self) -> [u64; 2] {
        let mut counts = [0; 2];
        let (source, size) = (self.memory.source(), self.memory.page_size());
        let extent = self.sparse.layout().section(Section::MessageBuffer);
        let page = usize::try_from(size.bytes()).unwrap_or(4096);
        let mut section = vec![0; usize::try_from(extent.stored_bytes).unwrap_or(0)];
        let read = source.read_positional(extent.offset.0, &mut section);
        let len = usize::try_from(extent.len_bytes).unwrap_or(0);
        let slack = section.get(len..).unwrap_or_default();
        let state = Msgbuf::parse(slack, self.header.endian, self.header.arch.word());
        let (Ok(_), Ok(state)) = (read, state) else {
            return counts;
        };
        for (at, ring) in (0..).step_by(page).zip(section.chunks(page)) {
            let pages = state
                .msg_ptr
                .checked_add(at)
                .and_then(|va| self.page_at(va));
            if ring.iter().all(|byte| *byte == 0) {
                continue;
            }
            for (count, found) in counts.iter_mut().zip(pages.into_iter().flatten()) {
                *count += u64::from(found == ring);
            }
        }
        counts
    }

    /// ELF headers where the image may start.
    fn image(&self) -> [u64; 2] {
        let mut counts = [0; 2];
        for va in image::starts(self.header.arch, Some(self.header)) {
            let pages = self.page_at(va).into_iter().flatten();
            for (count, page) in counts.iter_mut().zip(pages) {
                *count += u64::from(page.starts_with(ELF_MAGIC));
            }
        }
        counts
    }

    /// Empty lists: no first element, and after that word the address of that word (`TAILQ_INIT`,
    /// `STAILQ_INIT`).
    fn lists(&self) -> [u64; 2] {
        let mut counts = [0; 2];
        let word = self.header.arch.word();
        let len = usize::try_from(word.bytes()).unwrap_or(8);
        let size = self.memory.page_size();
        let entries = self.sparse.layout().section(Section::PageTables).len_bytes / 4;
        let entries = entries.min(ENTRIES);
        let mut left = PAGES;
        for number in 0..entries {
            let va = self.header.kernbase.checked_add(number << size.shift());
            let Some((va, pages)) = va.and_then(|va| Some((va, self.page_at(va)?))) else {
                continue;
            };
            for (count, page) in counts.iter_mut().zip(&pages) {
                let words = |index| word.item(self.header.endian, page, index);
                for index in 0..page.len() / len {
                    let at = va.0 + (index * len) as u64;
                    let is_empty = words(index) == Some(0) && words(index + 1) == Some(at);
                    *count += u64::from(is_empty);
                }
            }
            left -= 1;
            if left == 0 {
                break;
            }
        }
        counts
    }
}
