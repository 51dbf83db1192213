//! A file as the place of a dump, with holes for zeros and without the headers of a device.

use crate::sparse::SparseWriter;
use std::fs::File;
use std::io;
use vmcore_format::kerneldump::DumpHeader;
use vmcore_writer::Sink;
use vmcore_writer::device::DeviceError;
use vmcore_writer::sink::{Durability, SinkError};

/// Bytes that are written at once; the writer's own buffers are smaller.
const CHUNK: usize = 1 << 20;

/// A file that a dump goes to.
pub(super) struct FileSink<'f> {
    file: &'f File,
    writer: SparseWriter<&'f File>,
    announced: u64,
    written: u64,
    /// What the operating system said: the writer's errors have no room for it.
    error: Option<io::Error>,
}

impl<'f> FileSink<'f> {
    /// A sink that leaves out pages of `page` bytes that are full of zeros.
    pub(super) fn new(file: &'f File, page: usize) -> Self {
        Self {
            file,
            writer: SparseWriter::new(file, page),
            announced: 0,
            written: 0,
            error: None,
        }
    }

    /// Why writing failed.
    pub(super) fn into_error(self) -> Option<io::Error> {
        self.error
    }

    fn check(&mut self, result: io::Result<()>) -> Result<(), SinkError> {
        result.map_err(|error| {
            let number = error.raw_os_error().unwrap_or(0).unsigned_abs();
            self.error = Some(error);
            SinkError::Write {
                offset: self.written,
                attempts: 1,
                error: DeviceError::Io(number),
            }
        })
    }
}

impl Sink for FileSink<'_> {
    fn begin(&mut self, header: &DumpHeader<'_>, _: &[u8]) -> Result<(), SinkError> {
        self.announced = header.dumplength;
        self.written = 0;
        Ok(())
    }

    fn chunk_bytes(&self) -> usize {
        CHUNK
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let result = self.writer.write(self.written, bytes);
        self.check(result)?;
        self.written = self.written.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn complete(&mut self, _: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(&mut self, _: u64) -> Result<Durability, SinkError> {
        let (announced, written) = (self.announced, self.written);
        if written != announced {
            return Err(SinkError::Length { announced, written });
        }
        // The last page may be a hole.
        let result = self.file.set_len(written);
        self.check(result)?;
        Ok(Durability::Flushed)
    }

    fn cancel(&mut self) {}
}
