//! Writes the dump, the kernel file and the `info.0` of a machine with 8 GiB of RAM.
//!
//! `demo_machine FOLDER`: also `server` or `huge` after it, for a dump of 2 or 4 GiB.

#![expect(clippy::print_stderr, reason = "a command says what went wrong")]

use std::path::Path;
use std::process::ExitCode;
use vmcore_synth::big::{BigMachine, DEMO, HUGE, SERVER};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("demo_machine: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let folder = args
        .next()
        .ok_or("in which folder? demo_machine FOLDER [server|huge]")?;
    let size = match args.next().as_deref() {
        None => DEMO,
        Some("server") => SERVER,
        Some("huge") => HUGE,
        Some(other) => {
            return Err(format!(
                "what is {other:?}? demo_machine FOLDER [server|huge]"
            ));
        }
    };
    let write = BigMachine::new(size).write_into(Path::new(&folder));
    write.map_err(|error| format!("{folder}: {error}"))
}
