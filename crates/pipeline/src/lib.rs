//! Kernel crash dumps on the move.
//!
//! - [`elf`]: a dump of any kind becomes an ELF core for debuggers;
//! - [`rewrite`]: a full dump, or a hypervisor's memory file, becomes a minidump or a full dump by the
//!   code that dying kernels use;
//! - [`output`]: files that appear under their name only when they are whole;
//! - [`save`]: a dump on its device, or on an image of it, becomes `vmcore.N` and `info.N`.
#![forbid(unsafe_code)]

pub mod elf;
pub mod output;
pub mod rewrite;
pub mod save;
mod sparse;
