//! `vmcore serve` as a child: where it listens, and what it says of each dump.

use crate::{Result, shell};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A running server; it ends with the value.
pub(super) struct Server {
    child: Child,
    records: Receiver<String>,
    words: Receiver<String>,
    pub(super) directory: PathBuf,
}

/// The lines that come in, as they come.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(std::io::Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

impl Server {
    /// Starts one on loopback, at a port of its choice.
    pub(super) fn start(reader: &Path, directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut serve = Command::new(reader);
        serve.arg("serve").arg(directory);
        serve.args(["--listen", "127.0.0.1:0", "--keep-free", "0", "--json"]);
        serve.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = serve
            .spawn()
            .map_err(|error| shell::no_start(&serve, &error))?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("the server has no output".to_owned());
        };
        Ok(Self {
            child,
            records: lines(out),
            words: lines(err),
            directory: directory.to_owned(),
        })
    }

    /// The port that it listens on.
    pub(super) fn port(&self, limit: Duration) -> Result<String> {
        loop {
            let line = self.words.recv_timeout(limit);
            let line = line.map_err(|_| "the server does not say where it listens".to_owned())?;
            if let Some((_, port)) = line.split_once("listening on 127.0.0.1:") {
                return Ok(port.to_owned());
            }
        }
    }

    /// What it says of the next dump that ends.
    pub(super) fn record(&self, limit: Duration) -> Result<String> {
        let record = self.records.recv_timeout(limit);
        record.map_err(|_| "the server says nothing of the dump".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
