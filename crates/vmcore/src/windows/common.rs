//! What a table of windows consists of, and the windows that several architectures have.

use crate::memory::Memory;
use crate::translation::root::{KernelDelta, RootError};
use crate::translation::{PagingMode, RootSymbols, Window, WindowKind, with_paging};
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::Width;
use vmcore_format::header::{DirectMap, Header};
use vmcore_format::paging::{Paging as _, Radix};

/// Finds the root of a full dump's page tables.
pub type Root =
    fn(&Memory, Option<KernelDelta>, &RootSymbols) -> Result<(PagingMode, Radix), RootError>;

/// What an architecture's full dumps are, and how their virtual addresses are translated.
#[derive(Clone, Copy, Debug)]
pub enum FullDumps {
    /// Nobody writes any that can be translated.
    None,
    /// ELF cores of physical memory: this finds the root of the page tables.
    Physical(Root),
    /// ELF cores of virtual memory, whose program headers translate.
    Virtual,
    /// Memory after a header of its own, which names the kernel's translation storage buffer.
    TranslationBuffer,
}

/// How the virtual addresses of an architecture's dumps are translated.
pub(crate) struct Windows {
    /// The windows of a minidump, in the order in which they are tried; some differ with what the
    /// kernel file says, if there is one.
    pub(crate) windows: fn(&Header, &Memory, Option<&RootSymbols>) -> Vec<Window>,
    /// Its full dumps.
    pub(crate) full_dumps: FullDumps,
    /// The paging of a minidump in words.
    pub(crate) paging: fn(&Header) -> String,
}

impl Windows {
    /// No minidump is known, and these full dumps.
    pub(super) const fn of_full_dumps(full_dumps: FullDumps) -> Self {
        Self {
            windows: |_, _, _| Vec::new(),
            full_dumps,
            paging: |_| "none".to_owned(),
        }
    }
}

/// The window of a page-table section whose entries have `level`.
pub(super) fn section(header: &Header, mode: PagingMode, level: u32) -> Window {
    let (width, shift) = with_paging!(mode, P => (P::ENTRY, P::shift(level)));
    let entries = u64::from(header.pmapsize) / Width::bytes(width);
    // Entries after the last address of a 32-bit kernel map nothing.
    let last = VirtAddr(header.arch.va_max());
    let reachable = last
        .checked_sub(header.kernbase)
        .map_or(0, |bytes| (bytes >> shift) + 1);
    Window {
        first: header.kernbase,
        last,
        kind: WindowKind::Radix {
            mode,
            radix: Radix::section(level, header.kernbase, entries.min(reachable)),
        },
    }
}

/// The window of the direct map, if the header has a sound one.
pub(super) fn direct_map(header: &Header) -> Option<Window> {
    let map = header.direct_map.filter(|map| map.base < map.end)?;
    Some(Window {
        first: map.base,
        last: VirtAddr(map.end.0 - 1),
        kind: WindowKind::Linear(map),
    })
}

/// A window of `len` bytes at `base` that leads to physical memory from `phys` on.
pub(super) fn linear(base: u64, len: u64, phys: u64) -> Window {
    Window {
        first: VirtAddr(base),
        last: VirtAddr(base + (len - 1)),
        kind: WindowKind::Linear(DirectMap {
            base: VirtAddr(base),
            end: VirtAddr((base + (len - 1)).saturating_add(1)),
            phys: PhysAddr(phys),
        }),
    }
}

/// The page size in words.
pub(super) fn page_words(header: &Header) -> String {
    format!("{} KiB pages", header.page_size.bytes() / 1024)
}
