//! One client's thread: datagrams from its socket to its reception, acks back, and the end.

use super::{Client, Ended, Event, Outcome, Reception, Record, Slot, now};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vmcore_format::netdump::{Ack, Message, MessageType};

/// How long a client that is in the middle of a message must be quiet before acks are given that were
/// held back.
const QUIET: Duration = Duration::from_millis(20);
/// How often a session that waits for the next message looks whether it is to stop.
const IDLE: Duration = Duration::from_millis(200);
/// A herald that nothing follows is forgotten after this long.
const EMPTY: Duration = Duration::from_secs(15);
/// How long the last message is answered again, in case its ack was lost. No client takes less time:
/// so no host can end more clients a second than are allowed at a time.
const LINGER: Duration = Duration::from_secs(3);
/// How long a script may go on when the server is to stop.
const SCRIPT_AT_STOP: Duration = Duration::from_secs(10);
/// No datagram is longer.
const DATAGRAM_MAX: usize = 64 << 10;

/// A client's dump and its socket.
pub(super) struct ClientSession<'s, F> {
    slot: Slot<'s, F>,
    reception: Reception,
}

impl<'s, F: Fn(Event) + Sync> ClientSession<'s, F> {
    pub(super) fn new(slot: Slot<'s, F>, reception: Reception) -> Self {
        Self { slot, reception }
    }

    /// Answers the herald, and receives the dump. The client counts until all of this has ended.
    pub(super) fn run(mut self, herald: u32) {
        let Client {
            address, socket, ..
        } = self.slot.client.clone();
        let (report, stop) = (self.slot.shared.report, self.slot.shared.stop);
        report(Event::Began(address));
        let _ = socket.send(&Ack(herald).encode());
        let (silent, last) = self.receive();
        let directory = self.reception.directory().to_owned();
        let failure = self.reception.failure().map(str::to_owned);
        let ended = self.reception.end(silent, now(), || {
            for ack in last {
                let _ = socket.send(&Ack(ack).encode());
            }
        });
        let until = Instant::now() + LINGER;
        let is_finished = ended.as_ref().is_some_and(is_finished);
        match (ended, failure) {
            (None, None) => return report(Event::Vanished(address)),
            (None, Some(why)) => report(Event::Failed(address, why)),
            (Some(ended), _) => {
                if let Some(script) = &self.slot.shared.config.script
                    && let Err(why) = self.slot.run_script(script, &directory, &ended)
                {
                    report(Event::Script(why));
                }
                report(Event::Ended(Box::new(ended.record)));
            }
        }
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            self.slot.client.answer_again(is_finished);
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
            if self.slot.shared.stop.load(Ordering::Relaxed) {
                return (Outcome::Stopped, Vec::new());
            }
            let wait = if self.reception.is_waiting() {
                QUIET
            } else {
                IDLE
            };
            let _ = self.slot.client.socket.set_read_timeout(Some(wait));
            let Ok(len) = self.slot.client.socket.recv(&mut buffer) else {
                for ack in self.reception.tick() {
                    heard = Instant::now();
                    let _ = self.slot.client.socket.send(&Ack(ack).encode());
                }
                let patience = match self.reception.has_data() {
                    true => self.slot.shared.config.silence,
                    false => EMPTY.min(self.slot.shared.config.silence),
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
                self.slot.client.has_data.store(true, Ordering::Relaxed);
            }
            if reply.ended {
                return (Outcome::WriteError, reply.acks);
            }
            if !reply.acks.is_empty() {
                heard = Instant::now();
            }
            for ack in reply.acks {
                let _ = self.slot.client.socket.send(&Ack(ack).encode());
            }
            received += len as u64;
            if let Some(rate) = self.slot.shared.config.bytes_per_second {
                let due = Duration::from_millis(received.saturating_mul(1000) / rate.max(1));
                // What comes meanwhile waits in the socket, or is lost and sent again.
                while let early = due.saturating_sub(start.elapsed())
                    && !early.is_zero()
                    && !self.slot.shared.stop.load(Ordering::Relaxed)
                {
                    std::thread::sleep(early.min(IDLE));
                }
            }
        }
    }
}

impl<F> Slot<'_, F> {
    /// Runs the script to its end, and answers the client meanwhile. A server that is to stop waits
    /// for some seconds only; the script goes on then.
    fn run_script(&self, script: &Path, directory: &Path, ended: &Ended) -> Result<(), String> {
        let Ended { record, info_file } = ended;
        let Record {
            outcome, core_file, ..
        } = record;
        let address = record.client.to_string();
        let mut child = Command::new(script)
            .args([outcome.reason(), &address, &address, info_file, core_file])
            .current_dir(directory)
            .env_clear()
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut stopping: Option<Instant> = None;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(status.to_string()),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            if self.shared.stop.load(Ordering::Relaxed) {
                let since = *stopping.get_or_insert_with(Instant::now);
                if since.elapsed() >= SCRIPT_AT_STOP {
                    return Err("still running, and the server stops".to_owned());
                }
            }
            self.client.answer_again(is_finished(ended));
        }
    }
}

/// Whether the client said that it had sent all, and was answered.
fn is_finished(ended: &Ended) -> bool {
    matches!(ended.record.outcome, Outcome::Complete | Outcome::Holes)
}

impl Client {
    /// Waits for a moment. Answers the last message if it was answered before and is sent again.
    fn answer_again(&self, is_finished: bool) {
        let mut buffer = [0; 64];
        let _ = self.socket.set_read_timeout(Some(QUIET));
        if let Ok(len) = self.socket.recv(&mut buffer)
            && let Some(Ok(message)) = buffer.get(..len).map(Message::parse)
            && message.kind == MessageType::Finished
            && is_finished
        {
            let _ = self.socket.send(&Ack(message.seqno).encode());
        }
    }
}
