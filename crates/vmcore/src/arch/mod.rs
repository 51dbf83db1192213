//! What reading a dump takes of each architecture.
//!
//! A new architecture is a file here and one line in the table below.
//!
//! ```
//! use vmcore::arch::{FullDumps, full_dumps};
//! use vmcore::format::arch::Arch;
//! assert!(matches!(full_dumps(Arch::Amd64), FullDumps::Physical(_)));
//! assert!(matches!(full_dumps(Arch::Arm64), FullDumps::None));
//! ```

use crate::dump::FullHeader;
use crate::dump::Warning;
use crate::memory::Memory;
use crate::process::Release;
use crate::registers::PcbLayout;
use crate::translation::root::RootError;
use crate::translation::{PagingMode, RootSymbols, Window, WindowKind, with_paging};
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::dump_avail::Numbering;
use vmcore_format::endian::Width;
use vmcore_format::header::{DirectMap, Header};
use vmcore_format::paging::{Paging as _, Radix, TableRef};

/// Finds the root of a full dump's page tables.
pub type Root = fn(&Memory, &FullHeader, &RootSymbols) -> Result<(PagingMode, Radix), RootError>;

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

/// What is particular to an architecture.
pub(crate) struct Facts {
    /// The windows of a minidump, in the order in which they are tried; some differ with what the
    /// kernel file says, if there is one.
    pub(crate) windows: fn(&Header, &Memory, Option<&RootSymbols>) -> Vec<Window>,
    /// Its full dumps.
    pub(crate) full_dumps: FullDumps,
    /// The paging of a minidump in words.
    pub(crate) paging: fn(&Header) -> String,
    /// Where the kernel image's ELF header may be mapped; given is a minidump's header.
    pub(crate) image_starts: fn(Option<&Header>) -> Vec<VirtAddr>,
    /// Where it certainly is, if every kernel has it at the same place.
    pub(crate) image: Option<Image>,
    /// What a minidump of a version starts its page-table section at a multiple of, in bytes.
    pub(crate) kernbase_unit: fn(u32) -> u64,
    /// What a minidump lacks that others have.
    pub(crate) lacks: Option<fn(&Header, &Numbering<'_>) -> Vec<Warning>>,
    /// Flags of a 32-bit kernel file (`e_flags`) that say that page-table entries have 64 bits.
    pub(crate) wide_entries: u32,
    /// Whether all kernels are in the upper half of a 64-bit address space.
    pub(crate) kernels_are_high: bool,
    /// The layout of `struct pcb`, whose size may tell which; no fields where none is known.
    pub(crate) pcb: fn(Option<u64>) -> PcbLayout,
    /// Kernels whose structures are known without their file.
    pub(crate) releases: &'static [Release],
}

/// Where the kernel image's ELF header is.
pub(crate) struct Image {
    /// Where it is mapped.
    pub(crate) va: VirtAddr,
    /// Where it is loaded, unless the kernel was moved.
    pub(crate) pa: PhysAddr,
}

impl Facts {
    /// One of which nothing is known: no dump, no register.
    const UNKNOWN: Self = Self {
        windows: |_, _, _| Vec::new(),
        full_dumps: FullDumps::None,
        paging: |_| "none".to_owned(),
        image_starts: |_| Vec::new(),
        image: None,
        // What the smallest page directory's entry covers.
        kernbase_unit: |_| 4 << 20,
        lacks: None,
        wide_entries: 0,
        kernels_are_high: false,
        pcb: |_| PcbLayout::new(&[], Width::W64, ["pc", "sp", "fp"]),
        releases: &[],
    };
}

macro_rules! architectures {
    ($($name:ident in $file:ident,)*) => {
        $(mod $file;)*

        /// What is particular to `arch`.
        pub(crate) const fn facts(arch: Arch) -> &'static Facts {
            match arch {
                $(Arch::$name => &$file::FACTS,)*
            }
        }
    };
}

architectures! {
    Amd64 in amd64,
    Arm in arm,
    Arm64 in arm64,
    I386 in i386,
    Mips in mips,
    Mips64 in mips64,
    Powerpc in powerpc,
    Powerpc64 in powerpc64,
    Riscv64 in riscv64,
    Sparc64 in sparc64,
}

/// The full dumps of an architecture.
#[must_use]
pub const fn full_dumps(arch: Arch) -> FullDumps {
    facts(arch).full_dumps
}

/// The window of a page-table section whose entries have `level`.
fn section(header: &Header, mode: PagingMode, level: u32) -> Window {
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

/// The page tables whose upper levels are a minidump's page-table section, and the level of its
/// entries, which name tables that are pages of the dump; `None` where they name no tables.
pub(crate) fn tables_in_section(header: &Header, memory: &Memory) -> Option<(PagingMode, u32)> {
    let windows = (facts(header.arch).windows)(header, memory, None);
    windows.iter().find_map(|window| match &window.kind {
        WindowKind::Radix { mode, radix } if radix.top == TableRef::Section && radix.level > 0 => {
            Some((*mode, radix.level))
        }
        _ => None,
    })
}

/// The window of the direct map, if the header has a sound one.
fn direct_map(header: &Header) -> Option<Window> {
    let map = header.direct_map.filter(|map| map.base < map.end)?;
    Some(Window {
        first: map.base,
        last: VirtAddr(map.end.0 - 1),
        kind: WindowKind::Linear(map),
    })
}

/// A window of `len` bytes at `base` that leads to physical memory from `phys` on.
fn linear(base: u64, len: u64, phys: u64) -> Window {
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
fn page_words(header: &Header) -> String {
    format!("{} KiB pages", header.page_size.bytes() / 1024)
}
