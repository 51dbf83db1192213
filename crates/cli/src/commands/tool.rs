//! Shared by the tools that run under FreeBSD's names: they parse their own options, print errors as
//! `NAME: message`, and exit with 0 or 1, also for a usage error.

use crate::text;
use clap::Parser;
use std::io::Write as _;
use std::process::ExitCode;

/// Runs a tool with its own options.
pub(super) fn run<A: Parser>(
    name: &'static str,
    run: impl FnOnce(&A) -> anyhow::Result<()>,
) -> ExitCode {
    match parse::<A>() {
        Err(status) => status,
        Ok(arguments) => match run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Each error includes its cause.
                say(name, &error.to_string());
                ExitCode::FAILURE
            }
        },
    }
}

/// The options; or, once the help or what is wrong with them is printed, how to exit.
pub(super) fn parse<A: Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        // Nothing can be done if this fails.
        let _ = error.print();
        match error.use_stderr() {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        }
    })
}

/// Says something on standard error.
pub(super) fn say(name: &str, words: &str) {
    let words = text::escape(words.as_bytes());
    // Nothing can be done if this fails.
    let _ = writeln!(std::io::stderr(), "{name}: {words}");
}
