//! What a person types: `./x demo`, `test`, `bench`, `fuzz`, `capi`, `lab`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it talks to the person who runs it"
)]

mod bench;
mod capi;
mod corpus;
mod demo;
mod fuzz;
mod house;
mod lab;
mod portability;
mod publish;
mod shell;
mod test;
mod tools;
mod verdict;

use std::path::Path;
use std::process::ExitCode;

/// What a command gives back: nothing, or one message for the person.
type Result<T = ()> = std::result::Result<T, String>;

/// A command: its name and arguments, what runs it, what it does.
type Command = (&'static str, fn(&[String]) -> Result, &'static str);

const COMMANDS: &[Command] = &[
    (
        "demo",
        demo::run,
        "show the tool at work on a crashed machine",
    ),
    (
        "test [--quick | STEP...]",
        test::run,
        "check everything that CI checks",
    ),
    (
        "bench [ARGS...]",
        bench::run,
        "measure against reference loops; --json for machines",
    ),
    (
        "fuzz [TARGET] [--seconds N]",
        fuzz::run,
        "fuzz every entry point, 60 seconds each",
    ),
    (
        "capi [--prefix DIR]",
        capi::run,
        "build and install the C library",
    ),
    (
        "lab [ARGS...]",
        lab::run,
        "boot the lab kernel in QEMU; see lab --help",
    ),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nxtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result {
    let Some((name, rest)) = args.split_first() else {
        print!("{}", help());
        return Ok(());
    };
    if ["help", "-h", "--help"].contains(&name.as_str()) {
        print!("{}", help());
        return Ok(());
    }
    let command = COMMANDS
        .iter()
        .find(|(usage, _, _)| usage.split(' ').next() == Some(name));
    let Some((_, run, _)) = command else {
        return Err(format!("unknown command {name:?}\n\n{}", help()));
    };
    // Every path in these commands starts at the workspace.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::set_current_dir(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    run(rest)
}

fn help() -> String {
    let mut text = String::from("./x COMMAND\n\n");
    for (usage, _, help) in COMMANDS {
        text += &format!("  {usage:<28} {help}\n");
    }
    text
}
