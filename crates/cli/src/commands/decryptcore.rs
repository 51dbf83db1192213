//! `decryptcore`: decryption by the name, the options and the exit statuses of FreeBSD's tool.

use super::tool;
use crate::text;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use vmcore::container::{self, ContainerOptions};
use vmcore_pipeline::plain;

/// FreeBSD's command line.
#[derive(Debug, Parser)]
#[command(
    name = "decryptcore",
    disable_version_flag = true,
    about = "Decrypts a kernel dump",
    override_usage = "decryptcore [-fLv] -p privatekeyfile -k keyfile -e encryptedcore -c core\n       \
                      decryptcore [-fLv] [-d crashdir] -p privatekeyfile -n dumpnr"
)]
struct Arguments {
    /// The file to write
    #[arg(short = 'c', value_name = "core", requires_all = ["key", "encrypted"])]
    core: Option<PathBuf>,
    /// Where the files of -n are
    #[arg(short = 'd', value_name = "crashdir", default_value = "/var/crash", conflicts_with_all = ["core", "key", "encrypted"])]
    directory: PathBuf,
    /// The encrypted dump
    #[arg(short = 'e', value_name = "encryptedcore")]
    encrypted: Option<PathBuf>,
    /// Overwrite the file
    #[arg(short = 'f')]
    force: bool,
    /// The dump's encrypted key
    #[arg(short = 'k', value_name = "keyfile")]
    key: Option<PathBuf>,
    /// Messages to syslog: they go to standard error, too
    #[arg(short = 'L')]
    syslog: bool,
    /// Number of the dump
    #[arg(short = 'n', value_name = "dumpnr", conflicts_with_all = ["core", "key", "encrypted"], required_unless_present = "core")]
    number: Option<u32>,
    /// The private key
    #[arg(short = 'p', value_name = "privatekeyfile")]
    private: PathBuf,
    /// Say more
    #[arg(short = 'v')]
    verbose: bool,
}

/// Runs by the name `decryptcore`.
pub(crate) fn main() -> ExitCode {
    tool::run("decryptcore", run)
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let in_directory =
        |name: &str, number: u32| arguments.directory.join(format!("{name}.{number}"));
    let (key, encrypted, core) = match (
        arguments.number,
        &arguments.key,
        &arguments.encrypted,
        &arguments.core,
    ) {
        (Some(number), ..) => (
            in_directory("key", number),
            in_directory("vmcore_encrypted", number),
            in_directory("vmcore", number),
        ),
        (None, Some(key), Some(encrypted), Some(core)) => {
            (key.clone(), encrypted.clone(), core.clone())
        }
        _ => anyhow::bail!("-n, or all of -k, -e and -c"),
    };
    let options = ContainerOptions {
        key: Some(arguments.private.clone()),
        key_block: Some(key),
        ..ContainerOptions::default()
    };
    let opened = container::open_decrypted(&encrypted, &options)?;
    let opened =
        opened.ok_or_else(|| anyhow::anyhow!("{} is not encrypted", encrypted.display()))?;
    let len_bytes = plain::copy(&opened.source, &core, arguments.force, |_, _| {})?;
    if arguments.verbose || arguments.syslog {
        let words = format!(
            "{} in {}",
            text::counted(len_bytes, "byte", "bytes"),
            text::path(&core)
        );
        tool::say("decryptcore", &words);
    }
    Ok(())
}
