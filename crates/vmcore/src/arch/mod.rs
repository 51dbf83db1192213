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
use crate::memory::Memory;
use crate::registers::PcbLayout;
use crate::translation::root::RootError;
use crate::translation::{PagingMode, RootSymbols, Window, WindowKind, with_paging};
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::endian::Width;
use vmcore_format::header::{DirectMap, Header};
use vmcore_format::paging::{Paging as _, Radix};

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
    /// Memory behind a header of its own, which names the kernel's translation storage buffer.
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
    /// The layout of `struct pcb`, whose size may tell which; no fields where none is known.
    pub(crate) pcb: fn(Option<u64>) -> PcbLayout,
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
    // Entries behind the last address of a 32-bit kernel map nothing.
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
