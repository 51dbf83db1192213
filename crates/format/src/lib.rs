//! What is on disk in a kernel crash dump, described once for writer and reader.
//!
//! The crate uses `core` only, allocates nothing and does no input or output: it is given bytes
//! (or a trait that fetches them) and says what they mean. From the bottom up:
//!
//! - [`addr`]: typed addresses, page numbers, file offsets, page sizes;
//! - [`endian`]: the kernel's byte order, and integers read in it;
//! - [`header`]: the minidump header of each architecture and version;
//! - [`layout`]: where each section of a minidump is in the file;
//! - [`dump_avail`]: the RAM ranges, which number the bits of the bitmap;
//! - [`bitmap`]: which pages are in the dump, with constant-time rank;
//! - [`paging`]: page-table entries of each architecture, and the one descent through tables;
//! - [`msgbuf`]: the kernel's message buffer;
//! - [`kerneldump`]: the 512-byte header around a dump on a device, [`kerneldumpkey`]: the key
//!   block of an encrypted one;
//! - [`partition`]: tables of partitions, in one of which a device's dump is; [`zstd`] and [`gzip`]:
//!   what is around compressed bytes;
//! - [`inet`], [`netdump`]: the frames and datagrams that carry a dump over a network;
//! - [`elf`]: the ELF structures of full dumps and of cores that we write;
//! - [`sparc64`]: the header of dumps that are neither;
//! - [`prstatus`]: the note with a thread's registers in such a core;
//! - [`checksum`], [`identity`], [`extension`], [`registers`]: what our own writer adds to a dump.
//!
//! Naming: on-disk structures and their fields keep FreeBSD's names, so that a kernel developer
//! can search for them; everything of our own has a plain English name.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod addr;
pub mod arch;
pub mod bitmap;
pub mod checksum;
pub mod dump_avail;
pub mod elf;
pub mod endian;
pub mod extension;
pub mod gzip;
pub mod header;
pub mod identity;
pub mod inet;
pub mod kerneldump;
pub mod kerneldumpkey;
pub mod layout;
pub mod msgbuf;
pub mod netdump;
mod numbered;
pub mod paging;
pub mod partition;
pub mod prstatus;
pub mod registers;
pub mod sparc64;
pub mod tar;
pub mod zstd;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
