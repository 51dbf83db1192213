//! The kernel side of vmcore: a minidump or a full dump from a dying kernel.
//!
//! A kernel links this crate, gives it memory at boot, and calls it from its panic path with nothing
//! but polled writes left. It uses `core` only; at dump time it allocates nothing, takes no lock,
//! does not panic, and waits for nothing without a bound. The kernel it runs in is assumed to be
//! broken: page tables may be damaged, memory unreadable, the device failing.
//!
//! From boot to the dump on the device:
//!
//! - [`map`]: the dump map, where allocators register pages that only the direct map reaches;
//! - [`reserve`]: how much memory the writer needs, and its parts;
//! - [`settings`]: minidump or full dump, which version, how patient;
//! - [`latch`]: the one owner of a dump; the second caller resets the machine;
//! - [`machine`]: what the kernel tells the writer, and does for it;
//! - [`arch`]: what is particular to an architecture's minidumps;
//! - [`writer`]: the dump itself: select, plan, emit;
//! - [`sink`], [`device`], [`disk`]: where it goes;
//! - [`netdump`]: or a server on the network;
//! - [`zstd`], `gzip`, `encrypt`: layers in between.
//!
//! `docs/adopting.md` tells how to link it into a kernel.
//!
//! ```
//! use vmcore_format::addr::{PageSize, PhysAddr, PhysRange};
//! use vmcore_writer::reserve::reserve_size;
//! // 512 MiB of RAM with the hole below 1 MiB
//! let ranges = [(0, 0x9_f000), (0x10_0000, 0x2000_0000)]
//!     .map(|(start, end)| PhysRange { start: PhysAddr(start), end: PhysAddr(end) });
//! let reserve = reserve_size(PageSize::SIZE_4K, &ranges).ok_or("too large")?;
//! assert_eq!((reserve.len_bytes, reserve.align_bytes), (0x8a000, 0x1000)); // 552 KiB
//! # Ok::<(), &str>(())
//! ```
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod arch;
/// The atomics of the dump map.
mod atomic {
    pub(crate) use core::sync::atomic::{AtomicU64, Ordering};
}
mod bits;
mod damage;
pub mod device;
pub mod disk;
mod emit;
#[cfg(feature = "encryption")]
pub mod encrypt;
pub mod error;
mod extension;
mod full;
#[cfg(feature = "gzip")]
pub mod gzip;
pub mod latch;
pub mod machine;
pub mod map;
pub mod netdump;
mod outlet;
mod plan;
pub mod reserve;
mod select;
pub mod settings;
pub mod sink;
mod stream;
pub mod writer;
pub mod zstd;

pub use error::DumpError;
pub use latch::Latch;
pub use machine::Machine;
pub use map::DumpMap;
pub use settings::Settings;
pub use sink::Sink;
pub use vmcore_format as format;
pub use writer::Writer;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
