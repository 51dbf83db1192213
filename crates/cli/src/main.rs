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
mod signals;
mod spool;
mod text;

use arguments::{Cli, Command};
use clap::Parser as _;
use clap::error::{ContextKind, ContextValue};
use context::Context;
use std::io::{self, Write as _};
use std::path::Path;
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
    signals::survive_file_limits();
    if let Some(main) = commands::by_name(std::env::args_os().next()) {
        return main();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    if let Some(directory) = context::kernel_cache() {
        vmcore::kernel::keep_expanded_in(directory);
    }
    let context = Context::new(cli.common, cli.command.name());
    match run(&context, &cli.command) {
        Ok(Status::Done) if !context.is_guess() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let failure = explain::explain(&error, &context);
            context.complain(&failure);
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
    // Nobody is left to be told if this fails.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

fn run(context: &Context, command: &Command) -> anyhow::Result<Status> {
    if command.writes_a_file() {
        signals::clean_up_when_ended();
    }
    match command {
        Command::List(args) => commands::list::run(context, args),
        Command::Info(args) => commands::info::run(context, args),
        Command::Log(args) => commands::log::run(context, args),
        Command::Read(args) => commands::read::run(context, args),
        Command::Translate(args) => commands::translate::run(context, args),
        Command::Sym(args) => commands::sym::run(context, args),
        Command::Search(args) => commands::search::run(context, args),
        Command::Report(args) => commands::report::run(context, args),
        Command::Why(args) => commands::why::run(context, args),
        Command::Ps(args) => commands::ps::run(context, args),
        Command::Bt(args) => commands::bt::run(context, args),
        Command::Print(args) => commands::print::run(context, args),
        Command::Locks(args) => commands::locks::run(context, args),
        Command::Mods(args) => commands::mods::run(context, args),
        Command::WhatIs(args) => commands::whatis::run(context, args),
        Command::Dis(args) => commands::dis::run(context, args),
        Command::Gdb(args) => commands::gdb::run(context, args),
        Command::Map(args) => commands::map::run(context, args),
        Command::Verify(args) => commands::verify::run(context, args),
        Command::Convert(args) => commands::convert::run(context, args),
        Command::Save(args) => commands::save::run(context, args),
        Command::Decrypt(args) => commands::decrypt::run(context, args),
        Command::Redact(args) => commands::redact::run(context, args),
        Command::Check(args) => commands::check::run(context, args),
        Command::Serve(args) => commands::serve::run(context, args),
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
