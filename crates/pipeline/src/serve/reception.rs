//! One dump on its way in: datagrams to files, answers to datagrams. It knows no socket and no clock.

use super::acks::Acks;
use super::files::Files;
use super::ranges::Ranges;
use super::record::{Gap, Outcome, Record};
use crate::changes::Changes;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use vmcore_format::kerneldump::{Compression, DumpHeader, HEADER_LEN};
use vmcore_format::netdump::{Message, MessageType};

/// The most bytes of a key block: `K` of the largest key, in blocks of 4096 bytes.
const KEY_MAX: u64 = 4096;

/// What a dump may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes of a dump.
    pub dump_bytes: u64,
    /// Bytes that stay free in the file system.
    pub free_bytes: u64,
}

/// What to do after a datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Numbers to ack.
    pub acks: Vec<u32>,
    /// Whether the dump has ended; the acks are to be sent first.
    pub ended: bool,
}

/// A dump that is being received.
#[derive(Debug)]
pub struct Reception {
    changes: Changes<'static>,
    directory: PathBuf,
    limits: Limits,
    acks: Acks,
    files: Option<Files>,
    have: Ranges,
    key_have: Ranges,
    header: Option<Box<[u8; HEADER_LEN]>>,
    record: Record,
    /// Bytes written since the last check of the free space.
    unchecked: u64,
}

/// Free space is looked at after so many bytes; a datagram may take a whole block.
const CHECK_BYTES: u64 = 4 << 20;
const BLOCK: u64 = 4096;

impl Reception {
    /// A reception that began with this herald at second `began`. There are no files before there are
    /// data: a herald alone costs nothing.
    #[must_use]
    pub fn new(
        directory: PathBuf,
        limits: Limits,
        client: SocketAddr,
        herald: &Message<'_>,
        began: u64,
    ) -> Self {
        let path = herald.path();
        Self {
            changes: Changes::unwatched(),
            directory,
            limits,
            acks: Acks::new(herald.seqno),
            files: None,
            have: Ranges::default(),
            key_have: Ranges::default(),
            header: None,
            record: Record {
                schema: "vmcore.serve/1",
                tool_version: env!("CARGO_PKG_VERSION"),
                outcome: Outcome::Receiving,
                error: None,
                client: client.ip(),
                client_port: client.port(),
                path: path.map(|path| String::from_utf8_lossy(path).into_owned()),
                number: 0,
                began,
                ended: None,
                received_bytes: 0,
                datagrams: 0,
                duplicates: 0,
                ignored: 0,
                gaps: Vec::new(),
                core_file: String::new(),
                key_file: None,
                header: None,
                parity_ok: None,
                dump_id: None,
            },
            unchecked: 0,
        }
    }

    /// The same, making its changes by `changes`.
    #[cfg(test)]
    pub(super) const fn with_changes(mut self, changes: Changes<'static>) -> Self {
        self.changes = changes;
        self
    }

    /// Whether anything but heralds has come.
    #[must_use]
    pub const fn has_data(&self) -> bool {
        self.files.is_some()
    }

    /// Why there are no files, if something was to be written.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        let error = self.record.error.as_deref();
        error.filter(|_| self.files.is_none())
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether [`Reception::tick`] should be called when nothing comes for a moment.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.acks.is_waiting()
    }

    /// Takes a datagram.
    pub fn datagram(&mut self, bytes: &[u8]) -> Reply {
        let Ok(message) = Message::parse(bytes) else {
            self.record.ignored += 1;
            return Reply::default();
        };
        if message.kind != MessageType::Herald && !self.acks.expects(message.seqno) {
            self.record.ignored += 1;
            return Reply::default();
        }
        match self.take(&message) {
            Ok(Some(reply)) => {
                self.record.datagrams += 1;
                reply
            }
            Ok(None) => {
                self.record.ignored += 1;
                Reply::default()
            }
            Err((outcome, error)) => {
                self.record.error = Some(error);
                self.record.outcome = outcome;
                Reply {
                    acks: Vec::new(),
                    ended: true,
                }
            }
        }
    }

    /// Nothing has come for a moment.
    pub fn tick(&mut self) -> Vec<u32> {
        self.acks.tick()
    }

    fn take(&mut self, message: &Message<'_>) -> Result<Option<Reply>, (Outcome, String)> {
        let seqno = message.seqno;
        let alone = |acks: &mut Acks| {
            let acks = vec![acks.arrived_alone(seqno)];
            Ok(Some(Reply { acks, ended: false }))
        };
        match message.kind {
            // One that came twice; a client that starts over gets its own reception.
            MessageType::Herald => Ok((!self.has_data()).then(|| Reply {
                acks: vec![seqno],
                ended: false,
            })),
            MessageType::Vmcore | MessageType::Key => self.data(message),
            MessageType::DumpHeader => {
                let Ok(header) = <&[u8; HEADER_LEN]>::try_from(message.payload) else {
                    return Ok(None);
                };
                self.open()?;
                if self.header.is_none() {
                    self.record.set_header(header);
                    self.header = Some(Box::new(*header));
                }
                alone(&mut self.acks)
            }
            MessageType::Finished => {
                if !message.payload.is_empty() || !self.has_data() {
                    return Ok(None);
                }
                self.record.outcome = self.judge();
                let mut reply = alone(&mut self.acks)?;
                if let Some(reply) = &mut reply {
                    reply.ended = true;
                }
                Ok(reply)
            }
        }
    }

    /// Bytes of the dump or of its key.
    fn data(&mut self, message: &Message<'_>) -> Result<Option<Reply>, (Outcome, String)> {
        let len = message.payload.len();
        let Some(end) = message.offset.checked_add(len as u64).filter(|_| len > 0) else {
            return Ok(None);
        };
        let is_key = message.kind == MessageType::Key;
        if is_key && end > KEY_MAX {
            return Ok(None);
        }
        if end > self.limits.dump_bytes {
            let most = self.limits.dump_bytes;
            let error = format!("more than the {most} bytes that are allowed");
            return Err((Outcome::LimitExceeded, error));
        }
        self.open()?;
        let have = if is_key { &self.key_have } else { &self.have };
        if have.contains(message.offset, end) {
            // The first that came is kept.
            self.record.duplicates += 1;
        } else {
            self.check_space(len as u64)?;
            let files = self.files.as_mut();
            let files = files.ok_or((Outcome::WriteError, "no file".to_owned()))?;
            let written = if is_key {
                files.write_key(message.offset, message.payload)
            } else {
                files.write(message.offset, message.payload)
            };
            let offset = message.offset;
            written.map_err(|error| {
                let what = format!("@ offset {offset:08x}: {error}");
                (Outcome::WriteError, what)
            })?;
            // What was not written does not count.
            let have = if is_key {
                &mut self.key_have
            } else {
                &mut self.have
            };
            if !have.add(message.offset, end) {
                return Ok(None);
            }
            if !is_key {
                self.record.received_bytes += len as u64;
            }
        }
        let acks = self.acks.arrived(message.seqno, len);
        Ok(Some(Reply { acks, ended: false }))
    }

    /// Makes the files, when the first data have come.
    fn open(&mut self) -> Result<(), (Outcome, String)> {
        if self.files.is_some() {
            return Ok(());
        }
        self.unchecked = CHECK_BYTES;
        self.check_space(0)?;
        let failed = |error: io::Error| (Outcome::WriteError, error.to_string());
        let host = self.record.client.to_string();
        let files = Files::create(self.changes, &self.directory, &host).map_err(failed)?;
        self.record.number = files.number();
        self.record.core_file = files.partial_name();
        files.write_record(&self.record).map_err(failed)?;
        self.files = Some(files);
        Ok(())
    }

    fn check_space(&mut self, len: u64) -> Result<(), (Outcome, String)> {
        self.unchecked += len.max(BLOCK);
        if self.unchecked < CHECK_BYTES {
            return Ok(());
        }
        self.unchecked = 0;
        let free = crate::save::space::Free::of(&self.directory);
        let free = free.map_err(|error| (Outcome::WriteError, error.to_string()))?;
        match free {
            Some(free) if free.user < self.limits.free_bytes.saturating_add(CHECK_BYTES) => {
                let (free, kept) = (free.user, self.limits.free_bytes);
                let error = format!("only {free} bytes are free; {kept} must stay free");
                Err((Outcome::LimitExceeded, error))
            }
            _ => Ok(()),
        }
    }

    /// Whether what has come is the dump that the header announces.
    fn judge(&mut self) -> Outcome {
        let raw = self.header.as_deref();
        let Some(header) = raw.and_then(|raw| DumpHeader::parse(raw).ok()) else {
            self.record.error = Some("its header is missing or damaged".to_owned());
            return Outcome::Holes;
        };
        let key_bytes = u64::from(header.dumpkeysize);
        if !self.key_have.contains(0, key_bytes) {
            self.record.error = Some("its key is incomplete".to_owned());
            return Outcome::Holes;
        }
        match self.have.contains(0, header.dumplength) {
            true => Outcome::Complete,
            false => Outcome::Holes,
        }
    }

    /// Ends the reception: files get their names, the record is written. `silent` is the outcome if
    /// there is none yet. `answer` is called as soon as the dump itself is safe, or is known to be
    /// lost: the client waits. Returns `None` if there is nothing to keep; [`Reception::failure`] says
    /// before whether there should have been.
    pub fn end(mut self, silent: Outcome, ended: u64, answer: impl FnOnce()) -> Option<Ended> {
        let mut files = self.files.take()?;
        if self.record.outcome == Outcome::Receiving {
            self.record.outcome = silent;
        }
        let raw = self.header.as_deref();
        let header = raw.and_then(|raw| DumpHeader::parse(raw).ok());
        let length = header.map_or(self.have.end(), |header| header.dumplength);
        let gaps = self.have.gaps(length).into_iter();
        self.record.gaps = gaps
            .map(|(start, end)| Gap {
                start,
                len: end - start,
            })
            .collect();
        self.record.ended = Some(ended);
        let is_complete = self.record.outcome == Outcome::Complete;
        let compression = header.map_or(Compression::None, |header| header.compression);
        let is_encrypted = header.is_some_and(|header| header.dumpkeysize > 0);
        let finished = if is_complete {
            files.finish(length, compression, is_encrypted)
        } else {
            files.give_up(self.have.end())
        };
        match finished {
            Ok(()) => answer(),
            Err(error) => {
                self.record.outcome = Outcome::WriteError;
                self.record.failed(&error);
            }
        }
        self.record.core_file = files.core_name().to_owned();
        self.record.key_file = files.key_name().map(str::to_owned);
        if is_complete && !is_encrypted && compression == Compression::None {
            let path = self.directory.join(files.core_name());
            let contents = crate::save::info::Contents::of(&path);
            self.record.dump_id = contents.and_then(|contents| contents.dump_id);
        }
        let info = files.info_name();
        let told = files.write_info(&self.record.info_text());
        if let Err(error) = told.and(files.write_record(&self.record)) {
            self.record.failed(&error);
        }
        if is_complete {
            files.link_last();
        }
        Some(Ended {
            record: self.record,
            info_file: info,
        })
    }
}

/// A reception that has ended.
#[derive(Debug)]
pub struct Ended {
    /// What is known of it.
    pub record: Record,
    /// Name of the file with netdumpd's text.
    pub info_file: String,
}
