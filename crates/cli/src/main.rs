//! The command `vmcore`: arguments, printing, exit status. What it knows, the libraries know.
//!
//! One file a command in [`commands`]; what they share lies beside it. Data goes to standard
//! output, words to standard error. Exit status: 0 done, 1 failed, 2 wrong arguments, 3 answered,
//! but the dump is incomplete for this answer. A reader that goes away early is no failure.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod context;
mod explain;
mod files;
mod help;
mod hex;
mod output;
mod place;
mod progress;
mod text;

use arguments::{Cli, Command};
use clap::Parser as _;
use context::Context;
use std::io;
use std::process::ExitCode;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// All of it was given.
    Done,
    /// It was given as far as the dump goes.
    Incomplete,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = Context::new(cli.common, cli.command.name());
    match run(&context, &cli.command) {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::Incomplete) => ExitCode::from(3),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let failure = explain::explain(&error, &context);
            context.complain(&failure);
            ExitCode::from(failure.status())
        }
    }
}

fn run(context: &Context, command: &Command) -> anyhow::Result<Status> {
    match command {
        Command::List(args) => commands::list::run(context, args),
        Command::Info(args) => commands::info::run(context, args),
        Command::Log(args) => commands::log::run(context, args),
        Command::Read(args) => commands::read::run(context, args),
        Command::Translate(args) => commands::translate::run(context, args),
        Command::Sym(args) => commands::sym::run(context, args),
        Command::Search(args) => commands::search::run(context, args),
        Command::Ps(args) => commands::ps::run(context, args),
        Command::Map(args) => commands::map::run(context, args),
        Command::Verify(args) => commands::verify::run(context, args),
        Command::Convert(args) => commands::convert::run(context, args),
    }
}

/// Whether whoever reads our output has gone away.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    })
}
