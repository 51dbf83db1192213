//! netdump from end to end: the writer's client, FreeBSD's as the specification describes it, and
//! clients that mean harm, against the server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

mod bare;
mod hostile;
mod link;
mod lossy;
mod many;
