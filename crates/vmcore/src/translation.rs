//! Virtual addresses: an ordered list of windows, in each format's own order.
//!
//! A window is a part of the kernel's address space that is translated in one way: linear (the
//! direct map), by page tables, or by the segments of an ELF core. The first window that covers an
//! address decides. Minidumps carry all that is needed; a full dump needs the kernel file, because
//! only a symbol says where the root of the page tables is.
//!
//! ```no_run
//! use vmcore::format::addr::VirtAddr;
//! use vmcore::translation::Translation;
//! use vmcore::{Dump, OpenOptions};
//! let dump = Dump::open("vmcore.0".as_ref(), &OpenOptions::default())?;
//! let translation = dump.translation(None)?;
//! let found = translation.lookup(dump.memory(), VirtAddr(0xffff_ffff_81cd_4c0c))?;
//! println!("physical {}", found.leaf.pa);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod root;
pub(crate) mod tsb;

pub use root::{KernelDelta, RootError, RootSymbols};
pub use tsb::Tsb;

use crate::memory::{Memory, PageReadError};
use serde::Serialize;
use thiserror::Error;
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::elf::Segment;
use vmcore_format::extension::kernel::TableKind;
use vmcore_format::header::DirectMap;
use vmcore_format::paging::{
    self, Hashed, HashedError, Leaf, Paging, Prot, Radix, Step, TableRef, WalkError,
};

/// The kinds of page tables: one line for each.
macro_rules! paging_modes {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Which architecture's page-table entries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum PagingMode {
            $($(#[$doc])* $name,)*
        }

        /// Runs `$body` with the type `$P` of a paging mode: one dispatch, then monomorphic code.
        macro_rules! with_paging {
            ($mode:expr, $P:ident => $body:expr) => {
                match $mode {
                    $($crate::translation::PagingMode::$name => {
                        type $P = vmcore_format::paging::$name;
                        $body
                    })*
                }
            };
        }
    };
}

paging_modes! {
    /// amd64.
    Amd64,
    /// arm64, 4 KiB pages.
    Arm64Granule4K,
    /// arm64, 16 KiB pages.
    Arm64Granule16K,
    /// i386 without PAE.
    I386,
    /// i386 with PAE.
    I386Pae,
    /// riscv64.
    Riscv64,
    /// arm before version 6 of the architecture.
    ArmV4,
    /// arm since then.
    ArmV6,
    /// mips with 4-byte entries.
    Mips32,
    /// mips with 8-byte entries.
    Mips64,
    /// powerpc64's radix tables, read by a big-endian kernel.
    Powerpc64Radix,
    /// The same, read by a little-endian kernel.
    Powerpc64RadixSwapped,
}
pub(crate) use with_paging;

impl PagingMode {
    /// The entries that a dump's record names; `None` for those of a later version.
    #[must_use]
    pub const fn of(tables: TableKind) -> Option<Self> {
        Some(match tables {
            TableKind::Amd64 => Self::Amd64,
            TableKind::Arm64Granule4K => Self::Arm64Granule4K,
            TableKind::Arm64Granule16K => Self::Arm64Granule16K,
            TableKind::I386 => Self::I386,
            TableKind::I386Pae => Self::I386Pae,
            TableKind::Riscv64 => Self::Riscv64,
            TableKind::ArmV6 => Self::ArmV6,
            TableKind::Powerpc64Radix => Self::Powerpc64Radix,
            TableKind::Powerpc64RadixSwapped => Self::Powerpc64RadixSwapped,
            TableKind::Other(_) => return None,
        })
    }

    /// What people call an entry of `level`.
    #[must_use]
    pub fn entry_name(self, level: u32) -> &'static str {
        let names = with_paging!(self, P => P::ENTRY_NAMES);
        usize::try_from(level)
            .ok()
            .and_then(|level| names.get(level))
            .copied()
            .unwrap_or("entry")
    }

    /// Where page tables with such entries lead.
    ///
    /// # Errors
    /// Returns why they lead nowhere.
    #[inline(always)]
    pub fn lookup(
        self,
        radix: &Radix,
        memory: &Memory,
        va: VirtAddr,
    ) -> Result<Leaf, TranslationError> {
        with_paging!(self, P => paging::lookup::<P, _>(radix, memory, va))
            .map_err(|error| walk_error(self, va, error))
    }
}

/// How a window translates.
#[derive(Clone, Debug)]
pub enum WindowKind {
    /// Physical = virtual − base + start of physical memory.
    Linear(DirectMap),
    /// By page tables.
    Radix {
        /// Format of the entries.
        mode: PagingMode,
        /// Where the descent starts.
        radix: Radix,
    },
    /// By powerpc64's hashed page table; what it has no entry for, by the first of these linear maps
    /// that leads to a page of the dump.
    Hashed(Hashed, Vec<DirectMap>),
    /// By sparc64's translation storage buffer.
    Tsb(Tsb),
    /// By the program headers of an ELF core, ascending by virtual address.
    Segments(Vec<Segment>),
}

/// A part of the address space.
#[derive(Clone, Debug)]
pub struct Window {
    /// First address.
    pub first: VirtAddr,
    /// Last address, inclusive: the last window ends at the end of the address space.
    pub last: VirtAddr,
    /// How it translates.
    pub kind: WindowKind,
}

/// All windows of a dump, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct Translation {
    windows: Vec<Window>,
}

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated {
    /// The physical address, and the size and protection of its mapping. The direct map counts as
    /// one page of the dump's page size, writable and not executable.
    pub leaf: Leaf,
    /// Which kind of window.
    pub via: Via,
}

/// Which kind of window translated an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The direct map.
    DirectMap,
    /// Page tables.
    PageTables,
    /// A segment of an ELF core.
    Segment,
}

/// Why a virtual address does not lead to physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TranslationError {
    /// In no window: a user address, or a part of the kernel's space that dumps do not describe.
    #[error(
        "{va} is in no part of the address space that this dump describes (user space, or not kernel memory)"
    )]
    NoWindow {
        /// The address.
        va: VirtAddr,
    },
    /// Behind the end of the page tables.
    #[error("{va} is past the end of the kernel map: the page tables do not cover it")]
    Outside {
        /// The address.
        va: VirtAddr,
    },
    /// An entry is not valid.
    #[error("{va} is not mapped: {entry} {index} of {table} is {raw:#x}, not valid")]
    NotMapped {
        /// The address.
        va: VirtAddr,
        /// Name of the entry, which gives the level.
        entry: &'static str,
        /// Level, from the bottom.
        level: u32,
        /// The table.
        table: TableRef,
        /// Number of the entry.
        index: u64,
        /// Its value.
        raw: u64,
    },
    /// A table that is searched has no entry for the address.
    #[error("{va} is not mapped: no entry of the {what} is for it")]
    NoEntry {
        /// The address.
        va: VirtAddr,
        /// What was searched.
        what: &'static str,
    },
    /// A page-table page is not there.
    #[error("{va}: its page table ({entry} level, {table}) cannot be read: {reason}")]
    TableAbsent {
        /// The address.
        va: VirtAddr,
        /// Name of the entries of that table.
        entry: &'static str,
        /// The table.
        table: TableRef,
        /// Why.
        reason: PageReadError,
    },
    /// The address is mapped, but its page is not there.
    #[error("{va} is not in the dump: {reason}")]
    PageAbsent {
        /// The address.
        va: VirtAddr,
        /// Where it is mapped.
        pa: PhysAddr,
        /// Why the page is absent.
        reason: PageReadError,
    },
}

impl TranslationError {
    /// Whether the memory may exist and only the file lacks it: a loss, not a hole.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::TableAbsent {
                reason,
                ..
            } | Self::PageAbsent {
                reason,
                ..
            } if reason.is_loss()
        )
    }
}

impl Translation {
    /// By these windows, the first of which that covers an address decides: for memory that is not
    /// a dump, such as a running guest's.
    #[must_use]
    pub const fn by(windows: Vec<Window>) -> Self {
        Self { windows }
    }

    /// The windows, in the order in which they are tried.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Finds where `va` leads. The page itself may still be absent.
    ///
    /// # Errors
    /// Returns why it leads nowhere.
    #[inline(always)]
    pub fn lookup(&self, memory: &Memory, va: VirtAddr) -> Result<Translated, TranslationError> {
        let Some(window) = self.window(va) else {
            return Err(TranslationError::NoWindow { va });
        };
        match &window.kind {
            WindowKind::Linear(map) => linear(map, memory, va),
            WindowKind::Radix { mode, radix } => {
                mode.lookup(radix, memory, va).map(|leaf| Translated {
                    leaf,
                    via: Via::PageTables,
                })
            }
            WindowKind::Hashed(table, fallback) => hashed(table, fallback, memory, va),
            WindowKind::Tsb(tsb) => tsb.lookup(memory, va).map(|leaf| Translated {
                leaf,
                via: Via::PageTables,
            }),
            WindowKind::Segments(segments) => in_segments(segments, memory, va),
        }
    }

    /// Whether all of the page from `first` to `last` leads to one page, if a part of it does: no
    /// window starts or ends inside it.
    pub(crate) fn maps_whole_page(&self, first: VirtAddr, last: VirtAddr) -> bool {
        let mut windows = self.windows.iter();
        let window = windows.find(|window| window.first <= last && first <= window.last);
        window.is_some_and(|window| {
            let is_whole = window.first <= first && last <= window.last;
            is_whole && !matches!(window.kind, WindowKind::Segments(_))
        })
    }

    /// As [`Translation::lookup`], and shows every entry on the way.
    ///
    /// # Errors
    /// As [`Translation::lookup`].
    pub fn trace(
        &self,
        memory: &Memory,
        va: VirtAddr,
        mut on_step: impl FnMut(PagingMode, Step),
    ) -> Result<Translated, TranslationError> {
        match self.window(va).map(|window| &window.kind) {
            Some(WindowKind::Radix { mode, radix }) => {
                with_paging!(*mode, P => paging::lookup_with::<P, _>(radix, memory, va, |step| on_step(*mode, step)))
                    .map(|leaf| Translated { leaf, via: Via::PageTables })
                    .map_err(|error| walk_error(*mode, va, error))
            }
            _ => self.lookup(memory, va),
        }
    }

    /// The window that translates `va`: the first one that covers it.
    #[inline]
    #[must_use]
    pub fn window(&self, va: VirtAddr) -> Option<&Window> {
        self.windows
            .iter()
            .find(|window| window.first <= va && va <= window.last)
    }
}

/// The direct map has no entries: a page at a time, as the dump holds it.
#[inline]
fn linear(map: &DirectMap, memory: &Memory, va: VirtAddr) -> Result<Translated, TranslationError> {
    let pa = map.phys_of(va).ok_or(TranslationError::NoWindow { va })?;
    let leaf = Leaf {
        pa,
        size_shift: memory.page_size().shift(),
        prot: Prot {
            write: true,
            execute: false,
        },
    };
    Ok(Translated {
        leaf,
        via: Via::DirectMap,
    })
}

/// powerpc64's hashed page table, and the linear maps after it.
fn hashed(
    table: &Hashed,
    fallback: &[DirectMap],
    memory: &Memory,
    va: VirtAddr,
) -> Result<Translated, TranslationError> {
    match table.lookup(memory, va) {
        Ok(leaf) => Ok(Translated {
            leaf,
            via: Via::PageTables,
        }),
        Err(HashedError::Absent { .. }) => {
            let leads = |map: &&DirectMap| map.phys_of(va).is_some_and(|pa| memory.is_dumped(pa));
            match fallback.iter().find(leads) {
                Some(map) => linear(map, memory, va),
                None if va > table.last => Err(TranslationError::Outside { va }),
                None => Err(TranslationError::NoEntry {
                    va,
                    what: "hashed page table",
                }),
            }
        }
        Err(HashedError::Table(reason)) => Err(TranslationError::TableAbsent {
            va,
            entry: "PTE",
            table: TableRef::Section,
            reason,
        }),
    }
}

/// The last segment that starts at or before `va`.
fn in_segments(
    segments: &[Segment],
    memory: &Memory,
    va: VirtAddr,
) -> Result<Translated, TranslationError> {
    let after = segments.partition_point(|segment| segment.p_vaddr <= va.0);
    let segment = after.checked_sub(1).and_then(|index| segments.get(index));
    let (segment, inside) = segment
        .and_then(|segment| Some((segment, va.0.checked_sub(segment.p_vaddr)?)))
        .filter(|(segment, inside)| *inside < segment.p_memsz)
        .ok_or(TranslationError::NoWindow { va })?;
    let pa = PhysAddr(
        segment
            .p_paddr
            .checked_add(inside)
            .ok_or(TranslationError::NoWindow { va })?,
    );
    let prot = Prot {
        write: segment.p_flags & vmcore_format::elf::PF_W != 0,
        execute: segment.p_flags & vmcore_format::elf::PF_X != 0,
    };
    Ok(Translated {
        leaf: Leaf {
            pa,
            size_shift: memory.page_size().shift(),
            prot,
        },
        via: Via::Segment,
    })
}

/// Attaches the address and the level's name to a failed walk.
#[cold]
fn walk_error(mode: PagingMode, va: VirtAddr, error: WalkError<PageReadError>) -> TranslationError {
    match error {
        WalkError::Outside => TranslationError::Outside { va },
        WalkError::Absent {
            level,
            table,
            index,
            raw,
        } => TranslationError::NotMapped {
            va,
            entry: mode.entry_name(level),
            level,
            table,
            index,
            raw,
        },
        WalkError::Table {
            level,
            table,
            source,
        } => TranslationError::TableAbsent {
            va,
            entry: mode.entry_name(level),
            table,
            reason: source,
        },
    }
}
