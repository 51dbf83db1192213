//! The options that every command takes.

use clap::{ArgAction, Args, ValueEnum};
use std::path::PathBuf;

/// The heading of the common options in the help of each command.
const COMMON: &str = "Options of every command";

/// Options that every command takes, before or after its name.
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
