//! sparc64: its translation storage buffer, and the direct map beside it.

use super::{TranslationError, Window, WindowKind};
use crate::memory::{Memory, PageReadError};
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::Width;
use vmcore_format::header::DirectMap;
use vmcore_format::paging::{Leaf, Prot, TableRef, Tables as _};

/// Where sparc64's direct map starts: all physical memory is behind it.
const SPARC64_DIRECT: u64 = 0xffff_f800_0000_0000;

/// sparc64's translation storage buffer: an entry for each mapped page, at its number modulo the
/// buffer's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tsb {
    /// Physical address of the first entry.
    pub pa: PhysAddr,
    /// Entries, less one.
    pub mask: u64,
}

impl Tsb {
    /// log2 of the smallest page, and how much larger each further size is.
    const PAGE_SHIFT: u32 = 13;
    const SIZE_STEP: u32 = 3;
    /// Bytes of an entry; its words are a tag and the data.
    pub(crate) const ENTRY_LEN: u64 = 32;
    /// Data: valid, size, page number, may be written.
    const VALID: u64 = 1 << 63;
    const FRAME: u64 = 0x7ff_ffff_e000;
    const WRITE: u64 = 1 << 1;

    /// Where entry number `index` is.
    const fn entry(&self, index: u64) -> TableRef {
        TableRef::At(PhysAddr(
            self.pa.0.wrapping_add(index.wrapping_mul(Self::ENTRY_LEN)),
        ))
    }

    /// The first address of the page that an entry is for, and the page; nothing in an empty one.
    fn page(tag: u64, data: u64) -> Option<(VirtAddr, Leaf)> {
        let size = data >> 61 & 3;
        if data & Self::VALID == 0 || tag & 3 != size {
            return None;
        }
        let size_shift = match size {
            0 => Self::PAGE_SHIFT,
            1 => Self::PAGE_SHIFT + Self::SIZE_STEP,
            2 => Self::PAGE_SHIFT + 2 * Self::SIZE_STEP,
            _ => Self::PAGE_SHIFT + 3 * Self::SIZE_STEP,
        };
        let va = (tag >> 2) << size_shift;
        // Bits that no address has are no tag of one.
        (va >> size_shift == tag >> 2).then_some((
            VirtAddr(va),
            Leaf {
                pa: PhysAddr(data & Self::FRAME & (u64::MAX << size_shift)),
                size_shift,
                prot: Prot {
                    write: data & Self::WRITE != 0,
                    execute: true,
                },
            },
        ))
    }

    pub(super) fn lookup(&self, memory: &Memory, va: VirtAddr) -> Result<Leaf, TranslationError> {
        let entry = self.entry((va.0 >> Self::PAGE_SHIFT) & self.mask);
        let word = |number| {
            memory.entry(entry, number, Width::W64).map_err(|reason| {
                TranslationError::TableAbsent {
                    va,
                    entry: "TSB",
                    table: entry,
                    reason,
                }
            })
        };
        let found = Self::page(word(0)?, word(1)?);
        let is_inside = |first: VirtAddr, leaf: Leaf| va.0 ^ first.0 < leaf.len_bytes();
        match found {
            Some((first, leaf)) if is_inside(first, leaf) => Ok(Leaf {
                pa: PhysAddr(leaf.pa.0 | va.0 & (leaf.len_bytes() - 1)),
                ..leaf
            }),
            _ => Err(TranslationError::NoEntry { va, what: "TSB" }),
        }
    }

    /// What entry number `index` maps by itself: of a large page, which has an entry for each of its
    /// small ones, the small one.
    pub(crate) fn mapping(
        &self,
        memory: &Memory,
        index: u64,
    ) -> Result<Option<(VirtAddr, Leaf)>, PageReadError> {
        let entry = self.entry(index);
        let word = |number| memory.entry(entry, number, Width::W64);
        let Some((first, leaf)) = Self::page(word(0)?, word(1)?) else {
            return Ok(None);
        };
        let number = index.wrapping_sub(first.0 >> Self::PAGE_SHIFT) & self.mask;
        let inside = number << Self::PAGE_SHIFT;
        let is_home = number < leaf.len_bytes() >> Self::PAGE_SHIFT;
        let own = Leaf {
            pa: PhysAddr(leaf.pa.0 | inside),
            size_shift: Self::PAGE_SHIFT,
            ..leaf
        };
        let va = VirtAddr(first.0 | inside);
        Ok((is_home && va.0 < SPARC64_DIRECT).then_some((va, own)))
    }
}

/// sparc64's direct map, and everything else by its translation storage buffer.
pub(crate) fn windows(tsb: Option<Tsb>) -> Vec<Window> {
    let direct = DirectMap {
        base: VirtAddr(SPARC64_DIRECT),
        end: VirtAddr(u64::MAX),
        phys: PhysAddr(0),
    };
    let mut windows = vec![Window {
        first: direct.base,
        last: VirtAddr(u64::MAX),
        kind: WindowKind::Linear(direct),
    }];
    windows.extend(tsb.map(|tsb| Window {
        first: VirtAddr(0),
        last: VirtAddr(SPARC64_DIRECT - 1),
        kind: WindowKind::Tsb(tsb),
    }));
    windows
}
