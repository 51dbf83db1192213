//! Files of every format: sound ones, read as the format says, and malformed ones.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod conformance;
mod kinds;
mod malformed;
