//! Kernel crash dumps on the move.
//!
//! - [`elf`]: a dump of any kind becomes an ELF core for debuggers;
//! - [`rewrite`]: a full dump, or a hypervisor's memory file, becomes a minidump or a full dump by the
//!   code that dying kernels use;
//! - [`check`]: whether a host is ready to dump;
//! - [`compress`]: a dump of any kind is compressed so that it can be read in place; [`plain`]: it is
//!   freed of compression, encryption, and what else is around it;
//! - [`redact`]: a small part of a minidump, for others;
//! - [`output`]: files that appear under their name only when they are whole;
//! - [`save`]: a dump on its device, or on an image of it, becomes `vmcore.N` and `info.N`;
//! - [`serve`]: a server that receives dumps over the network.
#![forbid(unsafe_code)]

mod changes;
pub mod check;
pub mod compress;
pub mod elf;
pub mod output;
pub mod plain;
pub mod redact;
pub mod rewrite;
pub mod save;
pub mod serve;
mod sparse;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
