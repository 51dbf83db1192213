//! A sink that keeps what it gets, and memory to send through it.

use crate::input::Input;
use vmcore_format::kerneldump::{Compression, DumpHeader, HeaderKind};
use vmcore_writer::Sink;
use vmcore_writer::sink::{Durability, SinkError};

/// What a layer has put out.
#[derive(Debug, Default)]
pub struct Kept {
    /// The key block.
    pub key: Vec<u8>,
    /// The dump; with its padding until it is finished.
    pub bytes: Vec<u8>,
    announced: u64,
    chunk: usize,
    granule: usize,
    under_way: Option<Vec<u8>>,
}

impl Kept {
    /// A sink that likes `chunk` bytes at a time.
    pub fn new(chunk: usize) -> Self {
        Self {
            chunk,
            granule: 1,
            ..Self::default()
        }
    }
}

impl Sink for Kept {
    fn begin(&mut self, header: &DumpHeader<'_>, key: &[u8]) -> Result<(), SinkError> {
        self.announced = header.dumplength;
        self.key = key.to_vec();
        Ok(())
    }

    fn chunk_bytes(&self) -> usize {
        self.chunk
    }

    fn granule_bytes(&self) -> usize {
        self.granule
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        assert!(self.under_way.is_none() && !bytes.is_empty());
        assert!(bytes.len().is_multiple_of(4096), "not whole blocks");
        self.under_way = Some(bytes.to_vec());
        Ok(())
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let sent = self.under_way.take().expect("something is under way");
        assert!(sent == bytes, "the buffer was changed too early");
        self.bytes.extend(sent);
        Ok(())
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        assert!(self.under_way.is_none());
        assert!(len_bytes <= self.announced, "more than announced");
        let len = usize::try_from(len_bytes).expect("it is in memory");
        assert!((self.bytes.len() - len) < 4096, "too much padding");
        self.bytes.truncate(len);
        Ok(Durability::Flushed)
    }

    fn cancel(&mut self) {
        self.under_way = None;
    }
}

/// Sends `bytes` as the writer does, `piece` at a time, which is spoilt when it was taken.
pub fn send<S: Sink>(sink: &mut S, bytes: &[u8], piece: usize) {
    let len = bytes.len() as u64;
    let header = DumpHeader {
        kind: HeaderKind::Kernel,
        architecture: b"amd64",
        version: 4,
        architectureversion: 2,
        dumplength: len,
        dumptime: 1_700_000_000,
        dumpkeysize: 0,
        blocksize: 0,
        hostname: b"",
        versionstring: b"",
        panicstring: b"",
        compression: Compression::None,
        dumpextent: len,
    };
    sink.begin(&header, &[]).expect("there is room");
    for piece in bytes.chunks(piece) {
        let mut buffer = piece.to_vec();
        sink.submit(&buffer).expect("there is room");
        sink.complete(&buffer).expect("there is room");
        buffer.fill(0xdd);
    }
    sink.finish(len).expect("all of it was sent");
}

/// Memory that an input describes, at most `most` bytes: stretches of noise, of one byte, of what was
/// before, and the input's own bytes.
pub fn memory(input: &mut Input<'_>, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !input.0.is_empty() && bytes.len() < most {
        let kind = input.byte();
        let len = usize::from(u16::from_le_bytes(input.array()));
        // Long stretches too: frames are a mebibyte, blocks an eighth of one.
        let len = if kind & 0x80 == 0 { len % 700 } else { len * 3 };
        let end = (bytes.len() + len).min(most);
        match kind % 4 {
            0 => {
                let byte = input.byte();
                bytes.resize(end, byte);
            }
            1 => {
                let mut seed = u64::from(input.u32());
                // Few letters or all of them.
                let letters = u64::from(input.byte()) + 1;
                while bytes.len() < end {
                    seed = seed
                        .wrapping_mul(0x5851_f42d_4c95_7f2d)
                        .wrapping_add(0x1405);
                    let letter = (seed >> 33) % letters;
                    bytes.push(u8::try_from(letter).expect("below 256"));
                }
            }
            2 => {
                let back = usize::try_from(input.u32() % (1 << 21)).expect("small") + 1;
                while bytes.len() < end {
                    let at = bytes.len().checked_sub(back);
                    bytes.push(at.map_or(7, |at| bytes[at]));
                }
            }
            _ => {
                let len = (end - bytes.len()).min(input.0.len());
                let (own, rest) = input.0.split_at(len);
                bytes.extend_from_slice(own);
                input.0 = rest;
            }
        }
    }
    bytes
}
