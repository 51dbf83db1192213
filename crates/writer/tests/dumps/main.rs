//! Whole dumps of simulated machines: written by the writer, predicted by an independent model, read
//! by a naive reader and by the `vmcore` library.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "all of it is tests, on numbers of their own"
)]

mod damage;
mod described;
mod faults;
mod golden;
mod identity_and_extension;
mod naive;
mod panic_path;
mod restart;
mod round_trip;
