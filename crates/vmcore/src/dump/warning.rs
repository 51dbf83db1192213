//! What is unusual about a dump that can be read all the same.

use crate::source::Damage;
use serde::Serialize;
use thiserror::Error;
use vmcore_format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore_format::extension::ExtensionError;
use vmcore_format::identity::IdentityError;

/// Something unusual about a dump that opens all the same.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
#[serde(rename_all = "snake_case", tag = "warning")]
#[non_exhaustive]
pub enum Warning {
    /// Ranges were left out.
    #[error("{count} RAM ranges are reversed, out of order or overlapping, and were left out")]
    RangesRefused {
        /// How many.
        count: usize,
    },
    /// `dump_avail` has no terminating pair.
    #[error("dump_avail has no terminator; its end was taken as one")]
    NoTerminator,
    /// The bitmap has fewer bits than the ranges have pages.
    #[error(
        "the bitmap has {bits} bits for {pages} pages of RAM; the pages beyond are not in the dump"
    )]
    BitmapShort {
        /// Bits of the bitmap.
        bits: u64,
        /// Pages in all ranges.
        pages: u64,
    },
    /// The direct map's end is before its start.
    #[error("the direct map ends at {end} before it starts at {base}; it is taken as empty")]
    DirectMapReversed {
        /// Start.
        base: VirtAddr,
        /// End.
        end: VirtAddr,
    },
    /// The bitmap is empty.
    #[error("the bitmap has no bytes: no page is in the dump")]
    NoBitmap,
    /// Program headers were left out.
    #[error(
        "{count} program headers overflow, or claim the same bytes over and over, and were left out"
    )]
    SegmentsRefused {
        /// How many.
        count: usize,
    },
    /// A core of virtual memory: powerpc writes such.
    #[error("this core has only virtual addresses; they stand for the physical ones, too")]
    NoPhysicalAddresses,
    /// powerpc64 leaves its kernel image out of RAM, and so out of the dump.
    #[error(
        "the kernel image, {start} to {end}, is not in the dump: variables cannot be read, only what \
         is reached from known addresses"
    )]
    NoKernelImage {
        /// Where the kernel starts.
        start: VirtAddr,
        /// Where it ends.
        end: VirtAddr,
    },
    /// powerpc64 with radix tables: kernels up to 15.1 do not write them.
    #[error("there are no page tables in the dump: only the direct map can be read")]
    NoPageTables,
    /// The identity block is not what the writer wrote.
    #[error("{reason}")]
    IdentityDamaged {
        /// What is wrong.
        #[serde(serialize_with = "crate::serialize_display")]
        reason: IdentityError,
    },
    /// The extension has a copy of the identity block that should be in the header page.
    #[error("the identity block is not in the header page; its copy in the extension is used")]
    IdentityLost,
    /// A dump with an identity block has an extension, and this one has none.
    #[error("the extension is missing: nothing tells whether what was read is what was written")]
    ExtensionMissing,
    /// The file ends before the extension's locator.
    #[error("the file ends inside the extension")]
    ExtensionCut,
    /// The locator at the end of the extension is damaged.
    #[error("the end of the extension is damaged: {reason}")]
    LocatorLost {
        /// What is wrong.
        #[serde(serialize_with = "crate::serialize_display")]
        reason: ExtensionError,
    },
    /// A record of the extension is damaged.
    #[error("{reason}")]
    ExtensionDamaged {
        /// What is wrong.
        #[serde(serialize_with = "crate::serialize_display")]
        reason: ExtensionError,
    },
    /// The bitmap or the headers do not lead to the extension.
    #[error(
        "the extension starts at {start}, but by the dump's headers the pages end at {pages_end}"
    )]
    ExtensionElsewhere {
        /// Where its locator says that it starts.
        start: FileOffset,
        /// Where the pages end.
        pages_end: FileOffset,
    },
    /// Header, extension and locator do not name the same dump.
    #[error("the extension is that of another dump")]
    ExtensionOfAnother,
    /// The dump is compressed, and its stream breaks off.
    #[error("{damage}")]
    StreamBroken {
        /// Where.
        #[serde(flatten)]
        damage: Damage,
    },
    /// The writer lost pages on the way: the file is whole, and too short.
    #[error("{}", lost(*pages, *places))]
    PagesLost {
        /// How many.
        pages: u64,
        /// Between which addresses the first is missing, and what follows is found all the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        places: Option<(PhysAddr, PhysAddr)>,
    },
    /// Where the pages start is a guess: see [`vmcore_format::layout`].
    #[error(
        "the page tables have {tables_bytes} bytes, which are not whole pages, and nothing shows whether \
         the pages follow at once or on the next page boundary: pages may be read wrong by up to a page"
    )]
    PagesUncertain {
        /// Bytes of the page tables.
        tables_bytes: u32,
    },
    /// The dump lies on a device, and early swapping may have reached it.
    #[error(
        "the dump headers before and after the dump differ: swapping may have overwritten the start"
    )]
    HeadersDiffer,
    /// A record of a later version, without which the rest cannot be trusted.
    #[error(
        "a later version wrote record {kind} of the extension, and what is read here cannot be \
         trusted without it"
    )]
    MustUnderstand {
        /// Its kind.
        kind: u32,
    },
}

/// What is said of pages that the writer lost.
fn lost(pages: u64, places: Option<(PhysAddr, PhysAddr)>) -> String {
    let lost = match pages {
        1 => "a page that the bitmap names".to_owned(),
        pages => format!("{pages} pages that the bitmap names"),
    };
    match places {
        Some((from, to)) => format!(
            "its writer left out {lost}, as happens while the system runs on; by the page tables \
             between {from} and {to}. Later pages were put back to their places; between the two, \
             pages may be wrong"
        ),
        None => format!(
            "its writer left out {lost}, as happens while the system runs on, and it cannot be \
             told where: later pages may be shifted, and what they say wrong"
        ),
    }
}

/// What a [`Warning`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningSubject {
    /// The headers, or what they name.
    Header,
    /// The identity block.
    Identity,
    /// The extension after the last page.
    Extension,
    /// What is around the dump.
    Container,
}

impl Warning {
    /// What it is about.
    #[must_use]
    pub const fn subject(&self) -> WarningSubject {
        match self {
            Self::IdentityDamaged { .. } | Self::IdentityLost => WarningSubject::Identity,
            Self::ExtensionMissing
            | Self::ExtensionCut
            | Self::LocatorLost { .. }
            | Self::ExtensionDamaged { .. }
            | Self::ExtensionElsewhere { .. }
            | Self::ExtensionOfAnother
            | Self::MustUnderstand { .. } => WarningSubject::Extension,
            Self::RangesRefused { .. }
            | Self::NoTerminator
            | Self::BitmapShort { .. }
            | Self::DirectMapReversed { .. }
            | Self::NoBitmap
            | Self::SegmentsRefused { .. }
            | Self::NoPhysicalAddresses
            | Self::NoKernelImage { .. }
            | Self::NoPageTables
            | Self::PagesUncertain { .. } => WarningSubject::Header,
            Self::StreamBroken { .. } | Self::HeadersDiffer | Self::PagesLost { .. } => {
                WarningSubject::Container
            }
        }
    }
}
