//! Kernel crash dumps on the move.
//!
//! - [`elf`]: a dump of any kind becomes an ELF core for debuggers;
//! - [`output`]: files that appear under their name only when they are whole.
#![forbid(unsafe_code)]

pub mod elf;
pub mod output;
