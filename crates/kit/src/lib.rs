//! Parts for a kernel that links `vmcore-writer`, each of them optional.
//!
//! - [`ranges`]: RAM ranges from what the firmware tells, sorted and merged;
//! - [`ring`]: the message buffer, a `core::fmt::Write` that takes no lock;
//! - [`dumper`]: dump map, reserve, latch, writer and disk in one static;
//! - [`build_id`]: the kernel's own, from the linker's note;
//! - `x86`: registers, ports, physical memory through a direct map;
//! - `ata`: a disk that is written by polling, without interrupts and DMA.
//!
//! `examples/adopting` is a kernel made with them, and `docs/adopting.md` tells how.
//!
//! ```
//! use vmcore_kit::ranges::RamRanges;
//! use vmcore_writer::format::addr::PhysAddr;
//! let mut ranges = RamRanges::<8>::new();
//! ranges.add(PhysAddr(0x10_0000), 0x700_0000)?;
//! ranges.add(PhysAddr(0), 0x9_f000)?;
//! assert_eq!(ranges.as_slice()[0].end, PhysAddr(0x9_f000));
//! # Ok::<(), vmcore_kit::ranges::TooMany>(())
//! ```
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(target_arch = "x86_64")]
pub mod ata;
pub mod build_id;
pub mod dumper;
pub mod ranges;
pub mod ring;
#[cfg(target_arch = "x86_64")]
pub mod x86;

pub use dumper::Dumper;
pub use ranges::RamRanges;
pub use ring::MessageRing;
pub use vmcore_writer as writer;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
