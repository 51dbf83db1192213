//! A kernel crash dump as memory.
//!
//! From the bytes up, in the order of the modules:
//!
//! - [`source`]: the bytes of a file, and what may be around a dump in it ([`container`]: disk, device,
//!   encryption, compression), which are a crate of their own;
//! - [`dump`]: which kind of dump it is ([`Dump::open`] is cheap on a machine of any size);
//! - [`memory`]: physical memory: which page is in the dump and where, and why one is not;
//! - [`translation`]: virtual addresses: windows in each format's own order, and in [`windows`] those of
//!   each architecture;
//! - [`space`]: reading virtual memory: partial, exact, tolerant of holes;
//! - [`kernel`]: the kernel's ELF file: symbols, build id, and how it is found;
//! - [`session`]: dump, kernel file and translation together;
//! - on top of that [`pages`] (every page with its addresses), [`log`], [`process`], [`search`],
//!   [`info`], [`verify`], [`map`] and [`list`]; [`text`] for numbers.
//!
//! Two kinds of facts are kept apart throughout: a page that is *not in the dump* is data, not
//! failure ([`memory::PageReadError`] says why); a file that is not what it claims is an error.
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session};
//! let kernel = KernelChoice::Given("kernel".as_ref());
//! let session = Session::open("vmcore.0".as_ref(), kernel, &OpenOptions::default())?;
//! let hz = session.space()?.read_u32(session.symbol("hz")?.address)?;
//! println!("hz = {hz}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod around;
pub mod dump;
mod image;
pub mod info;
pub mod kernel;
pub mod kinds;
pub mod list;
pub mod log;
pub mod map;
pub mod memory;
mod message_buffer;
mod names;
pub mod pages;
pub mod process;
pub mod registers;
pub mod search;
pub mod session;
pub mod space;
pub mod text;
mod text_archive;
pub mod textdump;
pub mod translation;
pub mod verify;
pub mod windows;

pub use dump::{Dump, OpenError, OpenOptions};
pub use session::{Session, SessionError};
pub use vmcore_format as format;
pub use vmcore_source as source;
pub use vmcore_source::{container, crypt, locate};

/// Serialises a path as text; bytes that are not UTF-8 become replacement characters.
fn serialize_path<S: serde::Serializer>(
    path: &std::path::Path,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Serialises a value as it prints itself.
fn serialize_display<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
