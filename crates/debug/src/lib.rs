//! A kernel crash dump as a kernel.
//!
//! The crate `vmcore` makes memory of a dump; this one finds the kernel in it. From the bottom up:
//!
//! - [`object_file`]: files with debug information: the kernel, its `.debug` file, modules;
//! - [`types`]: structures and variables, from DWARF or CTF;
//! - [`expr`] and [`show`]: expressions over them, and their values for people and machines;
//! - [`arch`]: what is particular to each architecture;
//! - [`unwind`]: stacks, through trap frames; [`lines`]: functions, files and lines;
//! - [`modules`]: kernel modules and their files;
//! - [`target`]: a dump with all of that, borrowed, and [`debugger`]: the same, owned; [`stack`]: the backtraces of its threads;
//! - [`instructions`]: machine code, decoded;
//! - [`variables`]: parameters and local variables of their frames;
//! - [`groups`]: threads with the same stack;
//! - [`details`] and [`locks`]: states of threads, and who waits for whom;
//! - [`whatis`]: what an address is; [`zones`]: which item of the kernel's allocator;
//! - [`usage`]: who has the kernel's memory;
//! - [`reason`]: why a thread crashed;
//! - [`report`]: all of it in one value; [`gdb`]: a remote stub, so that gdb and lldb open the dump.
//!
//! Everything returns values that print themselves and serialise; nothing here prints.
#![forbid(unsafe_code)]

pub mod arch;
mod budget;
mod debug_link;
pub mod debugger;
pub mod details;
mod dwarf;
pub mod expr;
mod fields;
pub mod gdb;
pub mod groups;
pub mod instructions;
pub mod lines;
mod lists;
pub mod locks;
pub mod modules;
pub mod object_file;
pub mod reason;
pub mod report;
pub mod show;
pub mod stack;
pub mod target;
pub mod types;
pub mod unwind;
pub mod usage;
pub mod variables;
pub mod whatis;
pub mod zones;

pub use debugger::Debugger;
pub use target::{DebugFiles, Target};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
