//! A sink that keeps what it gets, and bytes that look like memory.

use proptest::prelude::*;
use vmcore_format::kerneldump::{Compression, DumpHeader, HeaderKind};
use vmcore_writer::Sink;
use vmcore_writer::device::DeviceError;
use vmcore_writer::sink::{Durability, SinkError};

/// What a sink was given.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) compression: Option<Compression>,
    pub(crate) announced: u64,
    pub(crate) key: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
    /// Its length when it was finished.
    pub(crate) len: Option<u64>,
    pub(crate) chunk: usize,
    in_flight: Option<Vec<u8>>,
    /// Number of the submission that fails.
    pub(crate) fails_at: Option<usize>,
    submissions: usize,
}

impl Memory {
    pub(crate) fn new(chunk: usize) -> Self {
        Self {
            chunk,
            ..Self::default()
        }
    }

    /// The dump, without its padding, which must be zeros.
    pub(crate) fn dump(&self) -> &[u8] {
        let (dump, padding) = self.bytes.split_at(self.len.unwrap() as usize);
        assert!(padding.len() < 4096 && padding.iter().all(|byte| *byte == 0));
        dump
    }
}

impl Sink for Memory {
    fn begin(&mut self, header: &DumpHeader<'_>, key: &[u8]) -> Result<(), SinkError> {
        *self = Self {
            compression: Some(header.compression),
            announced: header.dumplength,
            key: key.to_vec(),
            chunk: self.chunk,
            fails_at: self.fails_at,
            ..Self::default()
        };
        Ok(())
    }

    fn chunk_bytes(&self) -> usize {
        self.chunk
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        assert!(self.in_flight.is_none() && !bytes.is_empty());
        assert!(bytes.len().is_multiple_of(4096), "not whole blocks");
        self.submissions += 1;
        if self.fails_at == Some(self.submissions) {
            let (offset, attempts, error) = (0, 1, DeviceError::Io(5));
            return Err(SinkError::Write {
                offset,
                attempts,
                error,
            });
        }
        self.in_flight = Some(bytes.to_vec());
        Ok(())
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let sent = self.in_flight.take().expect("nothing is under way");
        assert_eq!(sent, bytes, "the buffer was changed too early");
        self.bytes.extend(sent);
        Ok(())
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        assert!(self.in_flight.is_none());
        assert!(len_bytes <= self.announced, "more than announced");
        self.len = Some(len_bytes);
        Ok(Durability::Flushed)
    }

    fn cancel(&mut self) {
        self.in_flight = None;
    }
}

pub(crate) fn header(len_bytes: u64) -> DumpHeader<'static> {
    DumpHeader {
        kind: HeaderKind::Kernel,
        architecture: b"amd64",
        version: 4,
        architectureversion: 2,
        dumplength: len_bytes,
        dumptime: 1_700_000_000,
        dumpkeysize: 0,
        blocksize: 0,
        hostname: b"testhost",
        versionstring: b"FreeBSD 15.1-RELEASE GENERIC\n",
        panicstring: b"page fault",
        compression: Compression::None,
        dumpextent: len_bytes,
    }
}

/// Sends `bytes` to a sink as the writer does, in pieces of `piece` bytes.
pub(crate) fn send<S: Sink>(sink: &mut S, bytes: &[u8], piece: usize) -> Result<(), SinkError> {
    sink.begin(&header(bytes.len() as u64), &[])?;
    for piece in bytes.chunks(piece) {
        let mut buffer = piece.to_vec();
        sink.submit(&buffer)?;
        sink.complete(&buffer)?;
        buffer.fill(0xdd);
    }
    sink.finish(bytes.len() as u64)?;
    Ok(())
}

/// A stretch of memory: how it is filled, and for how many pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stretch {
    Zeros,
    Byte(u8),
    Noise(u64),
    /// Pointers into one region.
    Pointers(u64),
    /// Words of few letters.
    Text(u64, u8),
    /// A record of so many bytes, again and again, with a counter in it.
    Records(u16, u64),
    /// What was so many bytes before.
    Again(u32),
}

pub(crate) fn stretches() -> impl Strategy<Value = Vec<(Stretch, u16)>> {
    let stretch = prop_oneof![
        Just(Stretch::Zeros),
        any::<u8>().prop_map(Stretch::Byte),
        any::<u64>().prop_map(Stretch::Noise),
        any::<u64>().prop_map(Stretch::Pointers),
        (any::<u64>(), 2..255u8).prop_map(|(seed, letters)| Stretch::Text(seed, letters)),
        (1..3000u16, any::<u64>()).prop_map(|(len, seed)| Stretch::Records(len, seed)),
        (1..2_000_000u32).prop_map(Stretch::Again),
    ];
    proptest::collection::vec((stretch, 1..20_000u16), 1..40)
}

fn noise(seed: &mut u64) -> u64 {
    *seed = seed
        .wrapping_mul(0x5851_f42d_4c95_7f2d)
        .wrapping_add(0x1405_7b7e_f767_814f);
    let word = *seed ^ (*seed >> 33);
    word.wrapping_mul(0xff51_afd7_ed55_8ccd)
}

/// The memory that stretches describe, in whole pages.
pub(crate) fn fill(stretches: &[(Stretch, u16)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (stretch, len) in stretches {
        let end = bytes.len() + usize::from(*len);
        match stretch {
            Stretch::Zeros => bytes.resize(end, 0),
            Stretch::Byte(byte) => bytes.resize(end, *byte),
            Stretch::Noise(seed) => {
                let mut seed = *seed;
                while bytes.len() < end {
                    bytes.extend(noise(&mut seed).to_le_bytes());
                }
            }
            Stretch::Pointers(seed) => {
                let mut seed = *seed;
                while bytes.len() < end {
                    let at = 0xffff_f800_0000_0000 | noise(&mut seed) & 0xf_fff8;
                    bytes.extend(at.to_le_bytes());
                }
            }
            Stretch::Text(seed, letters) => {
                let mut seed = *seed;
                while bytes.len() < end {
                    let (a, b) = (noise(&mut seed), noise(&mut seed));
                    bytes.push((a.min(b) % u64::from(*letters)) as u8);
                }
            }
            Stretch::Records(len, seed) => {
                let mut record: Vec<u8> = Vec::new();
                let mut seed = *seed;
                while record.len() < usize::from(*len) {
                    record.extend(noise(&mut seed).to_le_bytes());
                }
                for counter in 0u64.. {
                    if bytes.len() >= end {
                        break;
                    }
                    record[..8].copy_from_slice(&counter.to_le_bytes());
                    bytes.extend_from_slice(&record);
                }
            }
            Stretch::Again(back) => {
                for _ in 0..*len {
                    let at = bytes.len().checked_sub(*back as usize);
                    bytes.push(at.map_or(7, |at| bytes[at]));
                }
            }
        }
        bytes.truncate(end);
    }
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes
}
