//! The bytes of a kernel crash dump, whatever is around them.
//!
//! From the bytes up:
//!
//! - [`Source`]: bytes with random access: a file, read by position and through its mapping, or what
//!   a compressed or encrypted file expands to;
//! - [`crypt`]: the key of an encrypted dump, and its ciphers;
//! - [`locate`]: where the dump is on a disk, a dump device, or an image of either;
//! - [`container`]: all of it at once: [`container::open`] takes off what is around a dump.
//!
//! Nothing here looks into the dump itself.
#![deny(unsafe_code)]

mod bytes;
mod cache;
mod chunks;
pub mod container;
pub mod crypt;
mod device_header;
mod disk;
mod error;
mod file;
mod frames;
mod gzip;
mod input;
pub mod locate;
mod map;
mod open;
mod points;
mod positional;
mod recorder;
mod sequences;
mod source;
mod stream;
mod time;
mod zstd;
mod zstd_block;

pub use bytes::{Access, Bytes, ReadAt};
pub use error::ContainerError;
pub use frames::DamagedFrame;
pub use open::{OpenFile, open_file, read_small};
pub use recorder::Recorder;
pub use source::Source;
pub use stream::Damage;
pub use time::utc;
pub use vmcore_format as format;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
