//! The layers: what they make of a dump's bytes is what stock decoders make the same bytes of again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

mod device;
mod encryption;
mod gzip_stream;
mod memory;
mod zstd_frames;
