//! The interface of FreeBSD's kvm(3) over kernel crash dumps, for programs in C.
//!
//! `include/kvm.h` declares it, the pages in `man/` describe it. What is the same as FreeBSD's and
//! what is better is said there; in short:
//!
//! - dumps only: there is no live kernel here, and nothing is ever written;
//! - the file is read by position, never mapped, so that one that shrinks gives an error instead of
//!   a signal;
//! - a read that meets a hole returns what came before it, and [`kvm_geterr`] says why it ended;
//! - every page of the dump is walked, exactly once for each of its addresses.
//!
//! No panic crosses the boundary: each function catches it and fails. A handle may be used by one
//! thread while other threads use others; nothing is shared between handles.

mod handle;
mod kinfo;
mod nlist;
mod open;
mod processes;
mod read;
mod sets;
mod walk;

pub use handle::{Kvm, Resolver, kvm_close, kvm_geterr, kvm_kerndisp, kvm_native};
pub use kinfo::KinfoProc;
pub use nlist::{KvmNlist, Nlist, kvm_nlist, kvm_nlist2};
pub use open::{kvm_open, kvm_open2, kvm_openfiles};
pub use processes::kvm_getprocs;
pub use read::{kvm_read, kvm_read2};
pub use walk::{KvmPage, PageCallback, kvm_walk_pages};
