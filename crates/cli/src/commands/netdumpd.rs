//! `netdumpd`: the server by the name and the options of FreeBSD's. It stays in the foreground, and
//! listens on loopback unless -a says where.

use super::serve::{address, outcome, serve, short_of_room, stop_on_signals};
use super::tool;
use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use vmcore_pipeline::serve::{ServeConfig, Server};

/// FreeBSD's command line.
#[derive(Debug, Parser)]
#[command(
    name = "netdumpd",
    disable_version_flag = true,
    about = "Receives kernel dumps over the network; the protocol has NO AUTHENTICATION",
    override_usage = "netdumpd [-D] [-a address] [-d dumpdir] [-i script] [-P pidfile] [-p path]"
)]
struct Arguments {
    /// Listen on this address; may be repeated
    #[arg(short = 'a', value_name = "address", value_parser = address)]
    addresses: Vec<SocketAddr>,
    /// Where dumps go
    #[arg(short = 'd', value_name = "dumpdir", default_value = "/var/crash")]
    directory: PathBuf,
    /// Stay in the foreground, as it does anyway
    #[arg(short = 'D')]
    foreground: bool,
    /// Run at the end of each dump
    #[arg(short = 'i', value_name = "script")]
    script: Option<PathBuf>,
    /// Write the process's number to this file
    #[arg(short = 'P', value_name = "pidfile")]
    pid_file: Option<PathBuf>,
    /// Below the directory, for clients that ask for no path
    #[arg(short = 'p', value_name = "path")]
    path: Option<PathBuf>,
}

/// Runs by the name `netdumpd`.
pub(crate) fn main() -> ExitCode {
    tool::run("netdumpd", run)
}

fn say(words: &str) {
    tool::say("netdumpd", words);
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut config = ServeConfig::new(&arguments.directory);
    if !arguments.addresses.is_empty() {
        config.addresses.clone_from(&arguments.addresses);
    }
    let script = arguments.script.as_deref().map(std::path::absolute);
    config.script = script.transpose()?;
    config.path.clone_from(&arguments.path);
    let keep_free = config.limits.free_bytes;
    let server = Server::bind(config)?;
    if let Some(words) = short_of_room(&arguments.directory, keep_free) {
        say(&format!("warning: {words}"));
    }
    for address in server.addresses() {
        say(&format!("listening on {address}"));
        if address.ip().is_loopback() {
            say("only this host can send: netdumpd -a ADDRESS listens elsewhere");
        } else {
            say(
                "warning: netdump has NO AUTHENTICATION: whoever reaches this address can send dumps",
            );
        }
    }
    if let Some(file) = &arguments.pid_file {
        std::fs::write(file, format!("{}\n", std::process::id()))
            .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    }
    let stop = stop_on_signals()?;
    serve(&server, &stop, None, say, |record| {
        let (_, words) = outcome(record);
        say(&format!("{}: {words}", record.core_file));
    })?;
    if let Some(file) = &arguments.pid_file {
        let _ = std::fs::remove_file(file);
    }
    Ok(())
}
