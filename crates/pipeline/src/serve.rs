//! A netdump server: receives the dumps of dying kernels over the network.
//!
//! **The protocol has no authentication.** Any host that can send datagrams to the server can fill its disk
//! up to the limits, and one that can forge addresses can spoil a client's dump, or keep others out with
//! many heralds; dumps that are under way go on. The server listens where it is told, takes heralds
//! from allowed networks only, and keeps every dump in its own file; it believes nothing else that
//! a datagram says. Dumps hold secrets: let kernels encrypt what they send.
//!
//! - [`Reception`]: one dump, without sockets and clocks;
//! - [`Record`]: who sent what and when, beside the dump as JSON;
//! - [`Server`]: sockets, one thread a client, limits.
//!
//! It speaks to FreeBSD's clients, whose bookkeeping of acks can lose datagrams without noticing:
//! acks that they would misread are held back, and a dump with a hole is never called complete.
//! Sources of the protocol: `sys/netinet/netdump/netdump_client.c`, `sys/net/debugnet.c`, netdumpd(8).
//!
//! ```
//! use vmcore_pipeline::serve::{ServeConfig, Server};
//! let directory = tempfile::tempdir()?;
//! let mut config = ServeConfig::new(directory.path());
//! config.addresses = vec!["127.0.0.1:0".parse()?];
//! let server = Server::bind(config)?;
//! assert!(server.addresses()[0].ip().is_loopback());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod acks;
mod error;
mod files;
mod network;
mod ranges;
mod reception;
mod record;
mod session;
#[cfg(unix)]
#[cfg(test)]
mod tests;

pub use error::ServeError;
pub use network::Network;
pub use reception::{Ended, Limits, Reception, Reply};
pub use record::{Gap, Outcome, Record};
pub use vmcore_format::netdump::SERVER_PORT;

use session::ClientSession;
use socket2::SockRef;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vmcore_format::netdump::{Ack, HEADER_LEN, Message, MessageType, PATH_MAX};

/// How often a listener looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes that the operating system keeps for a client while its thread does something else.
const RECEIVE_BUFFER: usize = 512 << 10;
/// Refusals are reported at most this often: any host can cause them.
const REFUSALS: Duration = Duration::from_secs(1);

/// How a server serves.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where it listens. Give each interface's own address: a server that listens on all of them may
    /// answer from an address that the client does not expect.
    pub addresses: Vec<SocketAddr>,
    /// Where dumps go.
    pub directory: PathBuf,
    /// A directory below that, which must exist, for clients that ask for none.
    pub path: Option<PathBuf>,
    /// Who may send; everybody if empty.
    pub allowed: Vec<Network>,
    /// What a dump may take.
    pub limits: Limits,
    /// The most clients at a time. A client counts until its thread and its script have ended.
    pub clients: usize,
    /// The most from one address.
    pub clients_per_host: usize,
    /// Stack of a client's thread, in bytes.
    pub stack_bytes: usize,
    /// The most bytes a second from a client.
    pub bytes_per_second: Option<u64>,
    /// After so long without a datagram a dump is over.
    pub silence: Duration,
    /// Run at the end of each dump: reason, address, host, info file, core file.
    pub script: Option<PathBuf>,
}

impl ServeConfig {
    /// The protocol's port on loopback, and limits that suit a host with large disks: 1 TiB a dump, 1 GiB
    /// kept free, 256 clients, 8 from an address, 600 seconds of silence.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            addresses: vec![(Ipv4Addr::LOCALHOST, SERVER_PORT).into()],
            directory: directory.to_owned(),
            path: None,
            allowed: Vec::new(),
            limits: Limits {
                dump_bytes: 1 << 40,
                free_bytes: 1 << 30,
            },
            clients: 256,
            clients_per_host: 8,
            stack_bytes: 512 << 10,
            bytes_per_second: None,
            silence: Duration::from_secs(600),
            script: None,
        }
    }

    /// Where the dumps of clients go that ask for no path.
    fn usual_directory(&self) -> PathBuf {
        match &self.path {
            Some(path) => self.directory.join(path),
            None => self.directory.clone(),
        }
    }
}

/// What happens while a server runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A file of a dump that an earlier server was killed in, under its new name.
    LeftOver(String),
    /// A client has begun.
    Began(SocketAddr),
    /// A herald was refused. At most one a second is reported.
    Refused {
        /// Who sent it.
        client: SocketAddr,
        /// Why.
        why: &'static str,
        /// Refusals since the last that was reported.
        unreported: u64,
    },
    /// A client that sent nothing but a herald has gone.
    Vanished(SocketAddr),
    /// There is not even a file for what a client sends: why.
    Failed(SocketAddr, String),
    /// A dump has ended.
    Ended(Box<Record>),
    /// The script could not be run, or failed.
    Script(String),
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    config: ServeConfig,
    sockets: Vec<UdpSocket>,
}

/// A client whose dump is being received.
#[derive(Clone, Debug)]
struct Client {
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    has_data: Arc<AtomicBool>,
}

/// What the threads share.
struct Shared<'s, F> {
    config: &'s ServeConfig,
    clients: Mutex<Vec<Client>>,
    /// When a refusal was last reported, and how many were not since.
    refusals: Mutex<(Option<Instant>, u64)>,
    stop: &'s AtomicBool,
    report: &'s F,
}

/// A client's place among those that are counted, until it is dropped.
struct Slot<'s, F> {
    shared: &'s Shared<'s, F>,
    client: Client,
}

impl<F> Drop for Slot<'_, F> {
    fn drop(&mut self) {
        let mut clients = lock(&self.shared.clients);
        clients.retain(|other| !Arc::ptr_eq(&other.socket, &self.client.socket));
    }
}

impl Server {
    /// Binds the sockets.
    ///
    /// # Errors
    /// Returns an error if an address cannot be listened on, or no file can be made in the directory.
    pub fn bind(config: ServeConfig) -> Result<Self, ServeError> {
        let path = config.usual_directory();
        let usable = files::probe(&path);
        usable.map_err(|source| ServeError::Directory { path, source })?;
        let mut sockets = Vec::new();
        for address in &config.addresses {
            let listen = || {
                let socket = UdpSocket::bind(address)?;
                socket.set_read_timeout(Some(LOOK))?;
                Ok(socket)
            };
            let address = *address;
            sockets.push(listen().map_err(|source| ServeError::Listen { address, source })?);
        }
        if sockets.is_empty() {
            return Err(ServeError::NoAddress);
        }
        Ok(Self { config, sockets })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.sockets.iter().map(UdpSocket::local_addr);
        addresses.filter_map(Result::ok).collect()
    }

    /// Serves until `stop` is set, and calls `report` with what happens. `report` must not block: clients
    /// wait meanwhile. Dumps that are in progress when it stops end as incomplete.
    ///
    /// # Errors
    /// Returns an error if there is no thread for one of the listeners; all have stopped then.
    pub fn run<F: Fn(Event) + Sync>(
        &self,
        stop: &AtomicBool,
        report: &F,
    ) -> Result<(), ServeError> {
        let usual = self.config.usual_directory();
        recover(&self.config, &self.config.directory, report);
        if usual != self.config.directory {
            recover(&self.config, &usual, report);
        }
        let shared = Shared {
            config: &self.config,
            clients: Mutex::new(Vec::new()),
            refusals: Mutex::new((None, 0)),
            stop,
            report,
        };
        std::thread::scope(|scope| {
            let shared = &shared;
            // The first one has this thread.
            let Some((own, others)) = self.sockets.split_first() else {
                return Ok(());
            };
            for socket in others {
                let listen = move || shared.listen(scope, socket);
                Builder::new()
                    .spawn_scoped(scope, listen)
                    .map_err(|source| {
                        stop.store(true, Ordering::Relaxed);
                        ServeError::Thread { source }
                    })?;
            }
            shared.listen(scope, own);
            Ok(())
        })
    }
}

impl<F: Fn(Event) + Sync> Shared<'_, F> {
    fn listen<'scope, 'env>(&'scope self, scope: &'scope Scope<'scope, 'env>, socket: &UdpSocket) {
        // One byte more than any herald has.
        let mut buffer = [0; HEADER_LEN + PATH_MAX + 1];
        while !self.stop.load(Ordering::Relaxed) {
            // Errors are timeouts, and messages of hosts that closed their port: neither matters.
            let Ok((len, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let Some(Ok(herald)) = buffer.get(..len).map(Message::parse) else {
                continue;
            };
            if herald.kind != MessageType::Herald {
                continue;
            }
            let begun = match self.accept(socket, from, &herald) {
                Ok(None) => continue,
                // Without a thread the session is dropped, and no longer counts.
                Ok(Some(session)) => Builder::new()
                    .stack_size(self.config.stack_bytes)
                    .spawn_scoped(scope, move || session.run(herald.seqno))
                    .map_err(|_| "no thread for it"),
                Err(why) => Err(why),
            };
            if let Err(why) = begun {
                self.refuse(from, why);
            }
        }
    }

    /// Reports a refusal, unless one was reported just now.
    fn refuse(&self, client: SocketAddr, why: &'static str) {
        let mut refusals = lock(&self.refusals);
        let (last, unreported) = *refusals;
        if last.is_some_and(|last| last.elapsed() < REFUSALS) {
            refusals.1 += 1;
            return;
        }
        *refusals = (Some(Instant::now()), 0);
        drop(refusals);
        (self.report)(Event::Refused {
            client,
            why,
            unreported,
        });
    }

    /// The session of a herald, `None` if there is one already.
    fn accept<'s>(
        &'s self,
        listener: &UdpSocket,
        from: SocketAddr,
        herald: &Message<'_>,
    ) -> Result<Option<ClientSession<'s, F>>, &'static str> {
        let allowed = &self.config.allowed;
        if !allowed.is_empty() && !allowed.iter().any(|network| network.contains(from.ip())) {
            return Err("the address is not allowed");
        }
        let mut clients = lock(&self.clients);
        let again = clients
            .iter()
            .find(|client| client.address == from && !client.has_data.load(Ordering::Relaxed));
        if let Some(client) = again {
            // Its ack was lost, or is on its way.
            let _ = client.socket.send(&Ack(herald.seqno).encode());
            return Ok(None);
        }
        if clients.len() >= self.config.clients {
            return Err("too many clients at a time");
        }
        let same = |client: &&Client| client.address.ip() == from.ip();
        if clients.iter().filter(same).count() >= self.config.clients_per_host {
            return Err("too many clients of this address at a time");
        }
        let socket = connect(listener, from).map_err(|_| "no socket for it")?;
        let client = Client {
            address: from,
            socket: Arc::new(socket),
            has_data: Arc::new(AtomicBool::new(false)),
        };
        clients.push(client.clone());
        drop(clients);
        let slot = Slot {
            shared: self,
            client,
        };
        let directory = self.directory(herald.path());
        // The usual ones were looked at when the server came up.
        if directory != self.config.directory && directory != self.config.usual_directory() {
            recover(self.config, &directory, self.report);
        }
        let began = now();
        let reception = Reception::new(directory, self.config.limits, from, herald, began);
        Ok(Some(ClientSession::new(slot, reception)))
    }

    /// The directory that a client asks for, if it is there; else the usual one.
    fn directory(&self, path: Option<&[u8]>) -> PathBuf {
        let asked = path.and_then(|path| std::str::from_utf8(path).ok());
        asked
            .and_then(|path| below(&self.config.directory, Path::new(path)))
            .unwrap_or_else(|| self.config.usual_directory())
    }
}

/// Locks; what a thread that panicked left is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names what a server that was killed left in `directory`, and tells of it.
fn recover<F: Fn(Event)>(config: &ServeConfig, directory: &Path, report: &F) {
    let below = directory.strip_prefix(&config.directory);
    let below = below.unwrap_or(directory);
    for name in files::recover(directory).unwrap_or_default() {
        report(Event::LeftOver(below.join(name).display().to_string()));
    }
}

/// `path` below `directory`: of names only, each an existing directory and no link to one.
fn below(directory: &Path, path: &Path) -> Option<PathBuf> {
    let mut at = directory.to_owned();
    for component in path.components() {
        match component {
            Component::Normal(name) => at.push(name),
            Component::CurDir => continue,
            _ => return None,
        }
        if !at.symlink_metadata().ok()?.is_dir() {
            return None;
        }
    }
    Some(at)
}

/// A socket for one client, which receives from no other address.
fn connect(listener: &UdpSocket, client: SocketAddr) -> std::io::Result<UdpSocket> {
    let ip: IpAddr = listener.local_addr()?.ip();
    let socket = UdpSocket::bind((ip, 0))?;
    // A smaller buffer than asked for loses datagrams, which are sent again.
    let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
    socket.connect(client)?;
    Ok(socket)
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
