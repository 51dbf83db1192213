//! `vmcore serve`: receives dumps over the network.

use crate::advice::{Advice, Result, Run};
use crate::context::Context;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::text;
use clap::Args;
use std::io::{self, ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use vmcore_pipeline::save::free_bytes;
use vmcore_pipeline::serve::{
    Event, Network, Outcome, Record, SERVER_PORT, ServeConfig, ServeError, Server,
};

/// Netdump server: receive dumps over the network
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore serve [DIR] [OPTIONS]",
    after_help = "\
THE PROTOCOL HAS NO AUTHENTICATION AND NO SECRECY. Whoever reaches the server can send dumps up to
the limits; forged datagrams can spoil a dump, and many forged heralds keep others out. Listen on a
network that you trust, allow the hosts that may send, and have kernels encrypt their dumps. Without --listen only this host can send; give
each interface's own address, because kernels expect answers from the one that they send to.

A dump becomes DIR/vmcore.HOST.N when it is whole, with info.HOST.N and record.HOST.N.json (who sent
what and when) beside it; one that is not becomes vmcore.HOST.N.incomplete. --script is run at the
end of each dump: reason, address, host, info file, core file.

By the name netdumpd the command takes FreeBSD's options:
netdumpd [-D] [-a ADDRESS] [-d DIR] [-i SCRIPT] [-P PIDFILE] [-p PATH]."
)]
pub(crate) struct Serve {
    /// Where dumps go
    #[arg(value_name = "DIR", default_value = "/var/crash")]
    place: PathBuf,
    /// Listen on an address, or address and port; may be repeated [else 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Vec<SocketAddr>,
    /// Take dumps of this host or network only, as 192.0.2.0/24; may be repeated
    #[arg(long, value_name = "NETWORK")]
    allow: Vec<Network>,
    /// The most bytes of a dump, as 64G
    #[arg(long, value_name = "SIZE", default_value = "1T", value_parser = size)]
    max_size: u64,
    /// The most bytes a second from a client
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_rate: Option<u64>,
    /// The most clients at a time; one counts until its script has ended
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_clients: usize,
    /// The most clients at a time from one address
    #[arg(long, value_name = "N", default_value_t = 8)]
    max_per_host: usize,
    /// Bytes that stay free on the disk
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size)]
    keep_free: u64,
    /// A dump is over when its client was silent for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    silence: u64,
    /// Run at the end of each dump
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// End after so many dumps
    #[arg(long, value_name = "N")]
    count: Option<usize>,
}

/// An address with or without a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>();
    with_port
        .or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, SERVER_PORT).into()))
        .map_err(|_| "write an IP address, or one and a port as 192.0.2.1:20023".to_owned())
}

/// Bytes as people write them: `64G`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default() {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return Err("units are K, M, G and T".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too large".to_owned())
}

impl Run for Serve {
    fn run(&self, context: &Context) -> Result<Status> {
        let mut config = ServeConfig::new(&self.place);
        if !self.listen.is_empty() {
            config.addresses.clone_from(&self.listen);
        }
        config.allowed.clone_from(&self.allow);
        config.limits.dump_bytes = self.max_size;
        config.limits.free_bytes = self.keep_free;
        config.bytes_per_second = self.max_rate;
        config.clients = self.max_clients;
        config.clients_per_host = self.max_per_host;
        config.silence = Duration::from_secs(self.silence);
        config.script = self
            .script
            .as_deref()
            .map(std::path::absolute)
            .transpose()?;
        let is_open = self.allow.is_empty();
        let server = Server::bind(config)?;
        for address in server.addresses() {
            context.note(&format!("vmcore: listening on {address}"));
            if address.ip().is_unspecified() {
                context.note(
                "vmcore: warning: answers may come from another address than clients expect: give the interface's own",
            );
            }
            if address.ip().is_loopback() {
                context.note("vmcore: only this host can send: --listen ADDRESS listens elsewhere");
            } else {
                context.note(
                "vmcore: warning: netdump has NO AUTHENTICATION: whoever reaches this address can send dumps",
            );
                if is_open {
                    context.note(
                        "vmcore: warning: every host is allowed: --allow NETWORK limits that",
                    );
                }
            }
        }
        if let Some(words) = short_of_room(&self.place, self.keep_free) {
            context.note(&format!("vmcore: warning: {words}"));
        }
        let stop = stop_on_signals()?;
        // If the reader of our output has closed it, the dumps are received all the same.
        let show = |record: &Record| drop(show(context, record));
        let say = |words: &str| context.note(&format!("vmcore: {words}"));
        serve(&server, &stop, self.count, say, show)?;
        Ok(Status::Done)
    }
}

/// Events that wait to be shown. What does not fit is dropped and counted: a terminal that is stopped
/// must stop neither the server nor make it grow.
const EVENTS_WAITING: usize = 1024;

/// Runs a server until `stop` is set or `count` dumps have ended. Calls `say` with what happens, and
/// `show` with each dump that has ended.
pub(super) fn serve(
    server: &Server,
    stop: &AtomicBool,
    count: Option<usize>,
    say: impl Fn(&str),
    show: impl Fn(&Record),
) -> Result<(), ServeError> {
    let (sender, events) = sync_channel(EVENTS_WAITING);
    let (ended, dropped) = (&AtomicUsize::new(0), &AtomicU64::new(0));
    let report = move |event: Event| {
        if matches!(event, Event::Ended(_)) {
            let ended = ended.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_some_and(|most| ended >= most) {
                stop.store(true, Ordering::Relaxed);
            }
        }
        if sender.try_send(event).is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        // The sender goes with the server's thread: then the events end.
        let running = std::thread::Builder::new()
            .spawn_scoped(scope, move || server.run(stop, &report))
            .map_err(|source| ServeError::Thread { source })?;
        for event in events {
            if let Some(words) = words(&event) {
                say(&words);
            }
            if let Event::Ended(record) = &event {
                show(record);
            }
            match dropped.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => {
                    let lost = text::counted(lost, "message", "messages");
                    say(&format!("warning: {lost} not shown"));
                }
            }
        }
        running.join().unwrap_or(Ok(()))
    })
}

/// What is to be said of a disk that is too full for any dump.
pub(super) fn short_of_room(directory: &Path, keep_free: u64) -> Option<String> {
    let free = free_bytes(directory).ok().flatten()?;
    (free <= keep_free).then(|| {
        format!(
            "no dump can be taken: {} has {} free, and {} must stay so",
            text::escape(directory.as_os_str().as_encoded_bytes()),
            text::size(free),
            text::size(keep_free)
        )
    })
}

/// Set by the first signal that asks us to end; the second ends the process.
pub(super) fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Why there is no server, and what to do.
impl Advice for ServeError {
    fn advice(&self, _: &Context) -> Failure {
        let next = match self {
            ServeError::Directory { path, source } if source.kind() == ErrorKind::NotFound => {
                return Failure::new(self.to_string()).next(format!(
                    "mkdir -p {0} && vmcore serve {0}",
                    text::escape(path.as_os_str().as_encoded_bytes())
                ));
            }
            ServeError::Directory { .. } => "vmcore serve DIR",
            _ => "vmcore serve DIR --listen ADDRESS:PORT",
        };
        Failure::new(self.to_string()).next(next)
    }
}

fn show(context: &Context, record: &Record) -> io::Result<()> {
    let mut out = context.out();
    if context.common().json {
        // A line for each, as they come.
        writeln!(out, "{}", serde_json::to_string(record)?)?;
    } else {
        let (style, words) = outcome(record);
        let file = text::escape(record.core_file.as_bytes());
        let file = out.paint(Style::Strong, &file);
        let words = out.paint(style, &words);
        let len = text::size(record.received_bytes);
        writeln!(out, "{file}: {len} from {}, {words}", record.client)?;
    }
    out.finish()
}

/// What to say beside the answers.
pub(super) fn words(event: &Event) -> Option<String> {
    match event {
        Event::LeftOver(name) => Some(format!(
            "{}: a dump that an earlier server was stopped in",
            text::escape(name.as_bytes())
        )),
        Event::Began(client) => Some(format!("{client} begins")),
        Event::Refused {
            client,
            why,
            unreported,
        } => Some(match unreported {
            0 => format!("refused {client}: {why}"),
            others => format!("refused {client}: {why} (and {others} before it)"),
        }),
        Event::Vanished(client) => Some(format!("{client} sent nothing but a herald")),
        Event::Failed(client, why) => Some(format!(
            "warning: {client}: nothing could be kept: {}",
            text::escape(why.as_bytes())
        )),
        Event::Script(why) => Some(format!("warning: the script: {why}")),
        _ => None,
    }
}

/// How a dump ended.
pub(super) fn outcome(record: &Record) -> (Style, String) {
    let missing: u64 = record.gaps.iter().map(|gap| gap.len).sum();
    let error = record.error.as_deref().unwrap_or_default();
    let error = text::escape(error.as_bytes());
    match record.outcome {
        Outcome::Complete => (Style::Good, "complete".to_owned()),
        Outcome::Receiving => (Style::Warning, "being received".to_owned()),
        Outcome::Holes if missing == 0 => (Style::Bad, format!("incomplete: {error}")),
        Outcome::Holes => {
            let missing = format!("incomplete: {} missing {error}", text::size(missing));
            (Style::Bad, missing.trim_end().to_owned())
        }
        Outcome::TimedOut => (Style::Bad, "incomplete: the client fell silent".to_owned()),
        Outcome::Stopped => (
            Style::Warning,
            "incomplete: the server was stopped".to_owned(),
        ),
        Outcome::WriteError => (Style::Bad, format!("not written: {error}")),
        Outcome::LimitExceeded => (Style::Bad, format!("refused: {error}")),
    }
}
