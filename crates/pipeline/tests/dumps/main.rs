//! Whole dumps from the writer to the reader: through every layer to a disk or a server, and netdump by
//! the writer's client, by FreeBSD's as the specification describes it, and by hostile clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stderr
)]

mod bare;
mod combinations;
mod hostile;
mod link;
mod lossy;
mod many;
