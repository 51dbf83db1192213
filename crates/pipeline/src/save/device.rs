//! The device that holds a dump, or a file that is an image of one.
//!
//! A disk is read in whole sectors only, wherever a dump's parts begin: an odd request is widened.
//!
//! ```
//! use vmcore_pipeline::save::Device;
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("swap.img");
//! std::fs::write(&path, [0; 8192])?;
//! let device = Device::open(&path)?;
//! assert!(device.is_image());
//! assert_eq!(device.len_bytes(), 8192);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::error::SaveError;
use crate::changes::Changes;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use vmcore::source::{Access, Source};
use vmcore_format::kerneldump::{self, HEADER_LEN};

/// A dump device, open for reading.
#[derive(Debug)]
pub struct Device {
    source: Source,
    path: PathBuf,
    is_image: bool,
    /// Reads of a device start and end at multiples of this many bytes.
    unit: u64,
}

impl Device {
    /// Opens a device, or a regular file as the image of one.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened, or has no size.
    pub fn open(path: &Path) -> Result<Self, SaveError> {
        let error = |source| SaveError::device(path, "opening", source);
        let no_disk = |why| error(io::Error::new(io::ErrorKind::InvalidInput, why));
        let metadata = std::fs::metadata(path).map_err(error)?;
        let is_image = metadata.is_file();
        #[cfg(unix)]
        if std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type()) {
            // Opening it would wait for somebody to write.
            return Err(no_disk("it is no disk, but a pipe"));
        }
        let source = Source::open(path, Access::Positional).map_err(error)?;
        if source.is_empty() && !is_image {
            return Err(no_disk("it is no disk, for it has no size"));
        }
        let unit = match source.len() {
            _ if is_image => 1,
            len if len.is_multiple_of(4096) => 4096,
            _ => 512,
        };
        Ok(Self {
            source,
            path: path.to_owned(),
            is_image,
            unit,
        })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the medium.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.source.len()
    }

    /// Whether it is a regular file: evidence, which saving does not change unasked.
    #[must_use]
    pub const fn is_image(&self) -> bool {
        self.is_image
    }

    /// Whether it starts with a partition table: then it is a whole disk, whose dump is at the end
    /// of one of its partitions.
    #[must_use]
    pub fn has_partition_table(&self) -> bool {
        let mut start = [0; 4608];
        let read = self.source.read_positional(0, &mut start).unwrap_or(0);
        let at = |offset: usize, magic: &[u8]| {
            start
                .get(offset..read)
                .is_some_and(|bytes| bytes.starts_with(magic))
        };
        at(510, &[0x55, 0xaa]) || at(512, b"EFI PART") || at(4096, b"EFI PART")
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// Returns an error if the device cannot be read there, or ends before.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), SaveError> {
        let error = |source| SaveError::read(&self.path, offset, source);
        let len = buf.len() as u64;
        let skip = offset % self.unit;
        if skip == 0 && len.is_multiple_of(self.unit) {
            let read = self.source.read_positional(offset, buf).map_err(error)?;
            return if read == buf.len() {
                Ok(())
            } else {
                Err(error(io::ErrorKind::UnexpectedEof.into()))
            };
        }
        let wide = (skip + len).next_multiple_of(self.unit);
        let mut sectors = vec![0; usize::try_from(wide).map_err(|_| error(too_long()))?];
        let read = self
            .source
            .read_positional(offset - skip, &mut sectors)
            .map_err(error)?;
        let wanted = sectors
            .get(..read)
            .and_then(|bytes| bytes.get(usize::try_from(skip).ok()?..)?.get(..buf.len()))
            .ok_or_else(|| error(io::ErrorKind::UnexpectedEof.into()))?;
        buf.copy_from_slice(wanted);
        Ok(())
    }

    /// Marks the header at `offset` as saved, if it still is `header`, and makes that durable.
    pub(crate) fn clear(
        &self,
        offset: u64,
        header: &[u8; HEADER_LEN],
        changes: Changes<'_>,
    ) -> io::Result<()> {
        let mut file = changes.open(&self.path)?;
        let unit = self.unit.max(HEADER_LEN as u64);
        // An image may be of any length, and its header stands wherever it stands.
        let start = if self.is_image {
            offset
        } else {
            offset - offset % unit
        };
        let mut sector = vec![0; usize::try_from(unit).map_err(|_| too_long())?];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut sector)?;
        let at = usize::try_from(offset - start).map_err(|_| too_long())?;
        let stored: &mut [u8; HEADER_LEN] = sector
            .get_mut(at..)
            .and_then(<[u8]>::first_chunk_mut)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if stored != header {
            return Err(io::Error::other("another header stands there by now"));
        }
        kerneldump::clear(stored);
        file.seek(SeekFrom::Start(start))?;
        file.write_all(&sector)?;
        file.sync()
    }
}

fn too_long() -> io::Error {
    io::Error::from(io::ErrorKind::FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore_synth::header::DumpHeader;

    /// A device whose sectors are larger than a header.
    fn disk(path: &Path) -> Device {
        Device {
            is_image: false,
            unit: 4096,
            ..Device::open(path).unwrap()
        }
    }

    #[test]
    fn odd_requests_read_the_same_bytes_in_whole_sectors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let media: Vec<u8> = (0..32_768u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &media).unwrap();
        let disk = disk(&path);
        for (offset, len) in [
            (0, 4096),
            (0, 1),
            (4095, 2),
            (32_256, 512),
            (100, 20_000),
            (7, 0),
        ] {
            let mut buf = vec![0; len];
            disk.read(offset as u64, &mut buf).unwrap();
            assert_eq!(buf, media[offset..offset + len], "{offset}+{len}");
        }
        assert!(disk.read(32_256, &mut [0; 513]).is_err());
        assert!(disk.read(1 << 40, &mut [0; 8]).is_err());
    }

    #[test]
    fn a_header_in_a_larger_sector_is_cleared_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let mut media = vec![0x77; 32_768];
        let header: [u8; HEADER_LEN] = DumpHeader::new("amd64", 4096).build().try_into().unwrap();
        media[32_256..].copy_from_slice(&header);
        std::fs::write(&path, &media).unwrap();
        disk(&path)
            .clear(32_256, &header, Changes::unwatched())
            .unwrap();
        kerneldump::clear(media[32_256..].first_chunk_mut().unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), media);
    }
}
