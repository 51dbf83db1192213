//! One client's thread: datagrams from its socket to its reception, acks back, and the end.

use super::{Client, Ended, Event, Outcome, Reception, Shared, now};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vmcore_format::netdump::{Ack, Message, MessageType};

/// How long a client that is in the middle of a message must be quiet before acks are given that were
/// held back.
const QUIET: Duration = Duration::from_millis(20);
/// How often a session that waits for the next message looks whether it is to stop.
const IDLE: Duration = Duration::from_millis(200);
/// A herald without anything behind it is forgotten after this.
const EMPTY: Duration = Duration::from_secs(15);
/// How long the last message is answered again, in case its ack was lost.
const LINGER: Duration = Duration::from_secs(3);
/// No datagram is longer.
const DATAGRAM_MAX: usize = 64 << 10;

/// A client's dump and its socket.
pub(super) struct Session<'s, F> {
    shared: &'s Shared<'s, F>,
    client: Client,
    reception: Reception,
}

impl<'s, F: Fn(Event) + Sync> Session<'s, F> {
    pub(super) fn new(shared: &'s Shared<'s, F>, client: Client, reception: Reception) -> Self {
        Self {
            shared,
            client,
            reception,
        }
    }

    /// Receives the dump.
    pub(super) fn run(mut self) {
        let (silent, last) = self.receive();
        let directory = self.reception.directory().to_owned();
        let failure = self.reception.failure().map(str::to_owned);
        let socket = &self.client.socket;
        let ended = self.reception.end(silent, now(), || {
            for ack in last {
                let _ = socket.send(&Ack(ack).encode());
            }
        });
        let finished = ended.as_ref().is_some_and(|ended| {
            matches!(ended.record.outcome, Outcome::Complete | Outcome::Holes)
        });
        self.shared.forget(&self.client);
        let report = self.shared.report;
        match ended {
            None => report(match failure {
                Some(why) => Event::Failed(self.client.address, why),
                None => Event::Vanished(self.client.address),
            }),
            Some(Ended { record, info_file }) => {
                if let Some(script) = &self.shared.config.script {
                    let address = record.client.to_string();
                    let status = Command::new(script)
                        .args([record.outcome.reason(), &address, &address])
                        .args([&info_file, &record.core_file])
                        .current_dir(directory)
                        .env_clear()
                        .stdin(Stdio::null())
                        .status();
                    match status {
                        Ok(status) if status.success() => {}
                        Ok(status) => report(Event::Script(status.to_string())),
                        Err(error) => report(Event::Script(error.to_string())),
                    }
                }
                report(Event::Ended(Box::new(record)));
            }
        }
        if finished {
            self.client.linger(self.shared);
        }
    }

    /// Takes datagrams until the dump has ended. Returns the outcome if nothing else says it, and what
    /// is to be acked when everything is on disk.
    fn receive(&mut self) -> (Outcome, Vec<u32>) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut heard = Instant::now();
        let start = Instant::now();
        let mut received = 0u64;
        loop {
            if self.shared.stop.load(Ordering::Relaxed) {
                return (Outcome::Stopped, Vec::new());
            }
            let wait = if self.reception.is_waiting() {
                QUIET
            } else {
                IDLE
            };
            let _ = self.client.socket.set_read_timeout(Some(wait));
            let Ok(len) = self.client.socket.recv(&mut buffer) else {
                for ack in self.reception.tick() {
                    heard = Instant::now();
                    let _ = self.client.socket.send(&Ack(ack).encode());
                }
                let patience = match self.reception.has_data() {
                    true => self.shared.config.silence,
                    false => EMPTY.min(self.shared.config.silence),
                };
                if heard.elapsed() >= patience {
                    return (Outcome::TimedOut, Vec::new());
                }
                continue;
            };
            let reply = self
                .reception
                .datagram(buffer.get(..len).unwrap_or_default());
            if self.reception.has_data() {
                self.client.has_data.store(true, Ordering::Relaxed);
            }
            if reply.ended {
                return (Outcome::WriteError, reply.acks);
            }
            if !reply.acks.is_empty() {
                heard = Instant::now();
            }
            for ack in reply.acks {
                let _ = self.client.socket.send(&Ack(ack).encode());
            }
            received += len as u64;
            if let Some(rate) = self.shared.config.bytes_per_second {
                let due = Duration::from_millis(received.saturating_mul(1000) / rate.max(1));
                // What comes meanwhile waits in the socket, or is lost and sent again.
                while let early = due.saturating_sub(start.elapsed())
                    && !early.is_zero()
                    && !self.shared.stop.load(Ordering::Relaxed)
                {
                    std::thread::sleep(early.min(IDLE));
                }
            }
        }
    }
}

impl Client {
    /// Answers the last message again, if it is sent again.
    fn linger<F>(&self, shared: &Shared<'_, F>) {
        let mut buffer = [0; 64];
        let until = Instant::now() + LINGER;
        let _ = self.socket.set_read_timeout(Some(IDLE));
        while Instant::now() < until && !shared.stop.load(Ordering::Relaxed) {
            let Ok(len) = self.socket.recv(&mut buffer) else {
                continue;
            };
            if let Some(Ok(message)) = buffer.get(..len).map(Message::parse)
                && message.kind == MessageType::Finished
            {
                let _ = self.socket.send(&Ack(message.seqno).encode());
            }
        }
    }
}
