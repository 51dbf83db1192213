//! The options that every command takes.

use clap::{ArgAction, Args, ValueEnum};
use std::path::PathBuf;

/// The heading of the common options in the help of each command.
const COMMON: &str = "Options of every command";

/// Options that every command takes, before or after its name.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Kernel file of the dump [default: found by build id]
    #[arg(short, long, global = true, value_name = "FILE", help_heading = COMMON)]
    pub(crate) kernel: Option<PathBuf>,
    /// Without FILE: dump N of the directory [default: the newest]
    #[arg(short, long, global = true, value_name = "N", help_heading = COMMON)]
    pub(crate) number: Option<u64>,
    /// Without FILE: directory of the dumps [default: /var/crash]
    #[arg(short, long, global = true, value_name = "DIR", help_heading = COMMON)]
    pub(crate) directory: Option<PathBuf>,
    /// RSA private key of an encrypted dump
    #[arg(long, global = true, value_name = "PEM", help_heading = COMMON)]
    pub(crate) key: Option<PathBuf>,
    /// key.N of an encrypted dump [default: next to the dump]
    #[arg(long, global = true, value_name = "FILE", help_heading = COMMON)]
    pub(crate) key_block: Option<PathBuf>,
    /// Partition of a disk with several dumps, such as p3
    #[arg(long, global = true, value_name = "NAME", help_heading = COMMON)]
    pub(crate) partition: Option<String>,
    /// Answer in JSON
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    /// Accept a kernel file that does not match; overwrite output files
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) force: bool,
    /// Colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = COMMON)]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub(crate) color: ColorChoice,
    /// Print only answers and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = COMMON)]
    pub(crate) quiet: bool,
    /// Print more: the paths searched for the kernel
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
