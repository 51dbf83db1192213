//! Which pages of the direct map a minidump has.

use super::arch::ArchConversion;
use super::kernel::KernelMemory;
use super::ram::Ram;
use serde::Serialize;
use vmcore_format::addr::{PageSize, Pfn, PhysRange};
use vmcore_format::bitmap::{Bitmap, WordOrder};
use vmcore_format::dump_avail::{NumberedRange, Numbering};
use vmcore_writer::DumpMap;

/// How the pages of a minidump were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// By the kernel's own bitmap and its page tables.
    KernelBitmap,
    /// All RAM: nothing told which pages only the direct map reaches.
    AllRam,
    /// By the page tables alone, of an architecture without a direct map.
    KernelMap,
}

impl Choice {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KernelBitmap => "the kernel's own choice, by its bitmap and its page tables",
            Self::AllRam => "all RAM: the kernel's bitmap was not found",
            Self::KernelMap => "what the kernel's page tables map",
        }
    }
}

/// Pages to be dumped although no page table of the kernel map has them.
pub(super) enum Marked {
    /// Bits of the kernel's bitmap.
    Bits {
        /// In memory order.
        bytes: Vec<u8>,
        /// In which order that is.
        order: WordOrder,
        /// What they number.
        ranges: Vec<NumberedRange>,
    },
    /// Every page.
    All,
    /// None.
    Nothing,
}

impl Marked {
    /// What the kernel has marked.
    pub(super) fn of(arch: &ArchConversion, ram: &Ram, kernel: Option<&KernelMemory<'_>>) -> Self {
        let bits = kernel.and_then(|kernel| bits(ram, kernel));
        match bits {
            Some(bits) => bits,
            None if arch.has_direct_map => Self::All,
            None => Self::Nothing,
        }
    }

    pub(super) const fn choice(&self) -> Choice {
        match self {
            Self::Bits { .. } => Choice::KernelBitmap,
            Self::All => Choice::AllRam,
            Self::Nothing => Choice::KernelMap,
        }
    }

    /// Adds the pages to the writer's map. Bits for what is not RAM are padding.
    pub(super) fn add_to(&self, map: &DumpMap<'_>) {
        let page_size = map.page_size();
        let add = |pfn| {
            let _ = map.add_page(page_size.base(pfn));
        };
        match self {
            Self::Nothing => {}
            Self::All => {
                for range in map.numbering().ranges() {
                    (range.first.0..range.end.0).map(Pfn).for_each(add);
                }
            }
            Self::Bits {
                bytes,
                order,
                ranges,
            } => {
                let (bitmap, numbering) = (Bitmap::new(bytes, *order), Numbering::new(ranges));
                let set = bitmap.ones(0..bitmap.len_bits());
                set.filter_map(|bit| numbering.pfn_of(bit)).for_each(add);
            }
        }
    }
}

/// The kernel's bitmap, if all of it can be read.
fn bits(ram: &Ram, kernel: &KernelMemory<'_>) -> Option<Marked> {
    // Kernels before `vm_page_dump_pages` numbered their pages from physical page 0.
    let is_numbered_by_ranges = kernel.symbol("vm_page_dump_pages").is_some();
    if !ram.is_the_kernels {
        return None;
    }
    let page_size = kernel.space.memory().page_size();
    let (ranges, len_bytes) = if is_numbered_by_ranges {
        let ranges = numbered(page_size, &ram.ranges);
        let pages = Numbering::new(&ranges).total_pages();
        (ranges, pages.div_ceil(64).checked_mul(8)?)
    } else {
        // All of it matters up to the end of RAM, which was checked to be likely.
        let len = u64::from(kernel.u32("vm_page_dump_size")?);
        let end = ram.ranges.last().map_or(0, |range| range.end.0);
        let len = len.min(page_size.pages(end).div_ceil(64).checked_mul(8)?);
        if len > kernel.space.memory().source().len() {
            return None;
        }
        (vec![NumberedRange::linear(len.checked_mul(8)?)], len)
    };
    let at = kernel
        .space
        .read_pointer(kernel.symbol("vm_page_dump")?.address)
        .ok()?;
    let mut bytes = vec![0; usize::try_from(len_bytes).ok()?];
    kernel.space.read_exact(at, &mut bytes).ok()?;
    let order = WordOrder::of(kernel.space.endian(), kernel.space.word());
    Some(Marked::Bits {
        bytes,
        order,
        ranges,
    })
}

fn numbered(page_size: PageSize, ranges: &[PhysRange]) -> Vec<NumberedRange> {
    let mut numbered = vec![NumberedRange::default(); ranges.len()];
    let count = NumberedRange::number(page_size, ranges.iter().copied(), &mut numbered);
    numbered.truncate(count.accepted);
    numbered
}
