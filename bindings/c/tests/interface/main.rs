//! The C interface as C programs see it: compiled against the header, linked against the shared
//! library, run on synthetic and real dumps, and compared with what the Rust library says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod built;
mod manual;
mod programs;
mod real;

/// The functions that the library has, as its version script lists them.
fn functions() -> Vec<String> {
    let script = include_str!("../../kvmcore.map");
    let names = script
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'));
    names
        .filter(|name| name.starts_with("kvm_"))
        .map(str::to_owned)
        .collect()
}
