//! The table of commands, and the command line that is made of it. A command is a file of its own,
//! a `mod` line and a line of the table.

mod beside;
mod bt;
mod check;
mod convert;
mod convert_bytes;
mod convert_dump;
mod convert_out;
mod crashinfo;
mod decrypt;
mod decryptcore;
mod dis;
mod gdb;
mod info;
mod list;
mod locks;
mod log;
mod map;
mod map_svg;
mod mods;
mod netdumpd;
mod print;
mod ps;
mod read;
mod redact;
mod report;
mod report_html;
mod save;
mod savecore;
mod search;
mod serve;
mod sym;
mod textdump;
mod tool;
mod translate;
mod verify;
mod whatis;
mod why;

use crate::advice::{Result, Run};
use crate::context::Context;
use crate::help;
use crate::options::Common;
use crate::outcome::Status;
use clap::{ArgMatches, Args as _, FromArgMatches as _};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The commands in the groups of the help.
const TABLE: [(&str, &[Entry]); 3] = [
    (
        "What happened?",
        &[
            entry::<report::ReportArgs>("report", &[]),
            entry::<why::Why>("why", &[]),
            entry::<list::List>("list", &[]),
            entry::<info::Info>("info", &[]),
            entry::<log::Log>("log", &["dmesg"]),
            entry::<ps::Ps>("ps", &[]),
            entry::<bt::Bt>("bt", &[]),
            entry::<locks::LocksArgs>("locks", &[]),
            entry::<mods::Mods>("mods", &[]),
            entry::<gdb::Gdb>("gdb", &[]),
        ],
    ),
    (
        "Memory",
        &[
            entry::<read::Read>("read", &[]),
            entry::<translate::Translate>("translate", &["vtop"]),
            entry::<sym::Sym>("sym", &[]),
            entry::<search::Search>("search", &[]),
            entry::<print::Print>("print", &[]),
            entry::<dis::Dis>("dis", &[]),
            entry::<whatis::WhatIs>("whatis", &[]),
        ],
    ),
    (
        "The file",
        &[
            entry::<map::Map>("map", &[]),
            entry::<verify::Verify>("verify", &[]),
            entry::<convert::Convert>("convert", &[]),
            entry::<save::Save>("save", &[]),
            entry::<decrypt::Decrypt>("decrypt", &[]),
            entry::<serve::Serve>("serve", &[]),
            entry::<redact::Redact>("redact", &[]),
            entry::<check::Check>("check", &[]),
        ],
    ),
];

/// A command of the table.
struct Entry {
    name: &'static str,
    aliases: &'static [&'static str],
    define: fn(clap::Command) -> clap::Command,
    run: fn(&ArgMatches, &Context) -> Result<Status>,
}

const fn entry<R: Run>(name: &'static str, aliases: &'static [&'static str]) -> Entry {
    Entry {
        name,
        aliases,
        define: R::augment_args,
        run: |matches, context| R::from_arg_matches(matches)?.run(context),
    }
}

/// The whole command line.
pub(crate) fn command_line() -> clap::Command {
    let mut groups = String::new();
    let mut line = Common::augment_args(clap::Command::new("vmcore"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Reads FreeBSD kernel crash dumps, on any system")
        .subcommand_required(true)
        .arg_required_else_help(true);
    for (group, entries) in TABLE {
        groups += &format!("\n{group}\n");
        for entry in entries {
            let command = (entry.define)(clap::Command::new(entry.name));
            let about = command.get_about().map(ToString::to_string);
            groups += &format!("  {:<11} {}", entry.name, about.unwrap_or_default());
            for alias in entry.aliases {
                groups += &format!(" (also: {alias})");
            }
            groups.push('\n');
            let more = command.get_after_help().map(ToString::to_string);
            let more = help::unbroken(&more.unwrap_or_default());
            let command = command.after_help(more).visible_aliases(entry.aliases);
            line = line.subcommand(command);
        }
    }
    line.override_help(format!("{START}{groups}{END}"))
}

/// Runs the command that `matches` names.
pub(crate) fn run(matches: &ArgMatches) -> Option<(Context, Result<Status>)> {
    let (name, arguments) = matches.subcommand()?;
    let mut entries = TABLE.iter().flat_map(|(_, entries)| *entries);
    let entry = entries.find(|entry| entry.name == name)?;
    let context = Context::new(Common::from_arg_matches(matches).ok()?, entry.name);
    let result = (entry.run)(arguments, &context);
    Some((context, result))
}

/// The tool of FreeBSD's that the command is called by the name of: it has its own options and exit
/// statuses.
pub(crate) fn by_name(program: Option<OsString>) -> Option<fn() -> ExitCode> {
    let program = program?;
    let name = Path::new(&program).file_stem()?;
    match name.to_str()? {
        "decryptcore" => Some(decryptcore::main),
        "savecore" => Some(savecore::main),
        "crashinfo" => Some(crashinfo::main),
        "netdumpd" => Some(netdumpd::main),
        _ => None,
    }
}

/// The help of `vmcore` before the commands.
const START: &str = "\
Reads FreeBSD kernel crash dumps, on any system.

usage: vmcore COMMAND [FILE] [ARGUMENTS] [OPTIONS]

FILE is a vmcore (also compressed or encrypted), a dump device or a disk; a
kernel file may follow it. Default: the newest dump in /var/crash.
";

/// And after them.
const END: &str = "
Example: vmcore report vmcore.0 -k kernel.debug

Options of every command
  -k FILE    kernel file [default: found by the dump's build id]
  -n N       dump N of the directory      -d DIR    another directory
  --key PEM  private key of the dump      --partition NAME   of a disk
  --json     answer in JSON               --force   accept any kernel, overwrite
  -q, -v     say less, more               --color   auto, always, never

vmcore COMMAND --help describes a command.
Exit status: 0 done, 1 failed, 2 usage, 3 answered from an incomplete dump.
";

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_sound() {
        super::command_line().debug_assert();
    }
}
