//! The command `vmcore`: arguments, printing, exit status. All knowledge is in the libraries.
//!
//! From the bottom up: [`outcome`], [`options`], [`output`]; the [`context`] of a run, which opens
//! dumps; [`advice`] of errors; one file a command in [`commands`], with the table of them. Data goes to standard output,
//! everything else to standard error. Exit status: 0 done, 1 failed, 2 usage, 3 answered, but the
//! dump is incomplete for this answer. A reader that closes the pipe early is not a failure.
#![forbid(unsafe_code)]

mod advice;
mod commands;
mod context;
mod debug_files;
mod files;
mod help;
mod hex;
mod options;
mod outcome;
mod output;
mod place;
mod progress;
mod signals;
mod spool;
mod text;

use clap::error::{ContextKind, ContextValue};
use outcome::Status;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    signals::survive_file_limits();
    if let Some(main) = commands::by_name(std::env::args_os().next()) {
        return main();
    }
    let matches = match commands::command_line().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    if let Some(directory) = context::kernel_cache() {
        vmcore::kernel::keep_expanded_in(directory);
    }
    let Some((context, result)) = commands::run(&matches) else {
        return ExitCode::from(2);
    };
    match result {
        Ok(Status::Done) if !context.is_guess() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            let failure = error.explain(&context);
            context.print_failure(&failure);
            ExitCode::from(failure.status())
        }
    }
}

/// Prints the help that was asked for, or what is wrong with the arguments.
fn refuse(error: &clap::Error) -> ExitCode {
    // `vmcore vmcore.0`: a file where the command should be.
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && Path::new(word).exists()
    {
        let word = text::shell_word(Path::new(word));
        let mut stderr = io::stderr();
        let _ = writeln!(stderr, "vmcore: missing COMMAND before {word}");
        let _ = writeln!(stderr, "  try: vmcore info {word}");
        return ExitCode::from(2);
    }
    // Nothing can be done if this fails.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}
