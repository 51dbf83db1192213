//! The arguments: commands, and the options that all of them take.

use crate::commands;
use crate::help;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The heading of the common options in the help of each command.
const COMMON: &str = "Options of every command";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "vmcore",
    version,
    about = "Reads FreeBSD kernel crash dumps, anywhere",
    override_help = help::TOP,
    disable_help_subcommand = false,
    infer_subcommands = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes, before or behind its name.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Kernel file of the dump [else found by its build id]
    #[arg(short, long, global = true, value_name = "FILE", help_heading = COMMON)]
    pub(crate) kernel: Option<PathBuf>,
    /// Without FILE: dump N of the directory [else the newest]
    #[arg(short, long, global = true, value_name = "N", help_heading = COMMON)]
    pub(crate) number: Option<u64>,
    /// Without FILE: where the dumps are [else /var/crash]
    #[arg(short, long, global = true, value_name = "DIR", help_heading = COMMON)]
    pub(crate) directory: Option<PathBuf>,
    /// Of an encrypted dump: the RSA private key
    #[arg(long, global = true, value_name = "PEM", help_heading = COMMON)]
    pub(crate) key: Option<PathBuf>,
    /// Of an encrypted dump: its key.N [else found beside it]
    #[arg(long, global = true, value_name = "FILE", help_heading = COMMON)]
    pub(crate) key_block: Option<PathBuf>,
    /// Of a disk with several dumps: the partition, such as p3
    #[arg(long, global = true, value_name = "NAME", help_heading = COMMON)]
    pub(crate) partition: Option<String>,
    /// Answer in JSON
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    /// Use a kernel file that is another kernel's; overwrite output files
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) force: bool,
    /// Colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = COMMON)]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub(crate) color: ColorChoice,
    /// Say nothing but answers and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = COMMON)]
    pub(crate) quiet: bool,
    /// Say more: where the kernel was looked for
    #[arg(short, long, global = true, action = ArgAction::SetTrue, help_heading = COMMON)]
    pub(crate) verbose: bool,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(commands::list::List),
    Info(commands::info::Info),
    #[command(visible_alias = "dmesg")]
    Log(commands::log::Log),
    Read(commands::read::Read),
    #[command(visible_alias = "vtop")]
    Translate(commands::translate::Translate),
    Sym(commands::sym::Sym),
    Search(commands::search::Search),
    Report(commands::report::ReportArgs),
    Why(commands::why::Why),
    Ps(commands::ps::Ps),
    Bt(commands::bt::Bt),
    Print(commands::print::Print),
    Locks(commands::locks::LocksArgs),
    Mods(commands::mods::Mods),
    #[command(name = "whatis")]
    WhatIs(commands::whatis::WhatIs),
    Dis(commands::dis::Dis),
    Gdb(commands::gdb::Gdb),
    Map(commands::map::Map),
    Verify(commands::verify::Verify),
    Convert(commands::convert::Convert),
    Save(commands::save::Save),
    Decrypt(commands::decrypt::Decrypt),
    Redact(commands::redact::Redact),
    Check(commands::check::Check),
    Serve(commands::serve::Serve),
}

impl Command {
    /// The command's name.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Info(_) => "info",
            Self::Log(_) => "log",
            Self::Read(_) => "read",
            Self::Translate(_) => "translate",
            Self::Sym(_) => "sym",
            Self::Search(_) => "search",
            Self::Report(_) => "report",
            Self::Why(_) => "why",
            Self::Ps(_) => "ps",
            Self::Bt(_) => "bt",
            Self::Print(_) => "print",
            Self::Locks(_) => "locks",
            Self::Mods(_) => "mods",
            Self::WhatIs(_) => "whatis",
            Self::Dis(_) => "dis",
            Self::Gdb(_) => "gdb",
            Self::Map(_) => "map",
            Self::Verify(_) => "verify",
            Self::Convert(_) => "convert",
            Self::Save(_) => "save",
            Self::Decrypt(_) => "decrypt",
            Self::Redact(_) => "redact",
            Self::Check(_) => "check",
            Self::Serve(_) => "serve",
        }
    }

    /// Whether it may make a file that is unfinished for a while.
    pub(crate) const fn writes_a_file(&self) -> bool {
        matches!(
            self,
            Self::Report(_) | Self::Map(_) | Self::Convert(_) | Self::Decrypt(_) | Self::Redact(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_short_help_names_every_command() {
        for command in Cli::command().get_subcommands() {
            let name = format!("\n  {} ", command.get_name());
            assert!(help::TOP.contains(&name), "{name} is missing");
        }
    }
}
