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
use std::path::Path;
use vmcore::locate::{FoundDump, Medium, Search};
use vmcore_format::kerneldump::{self, HEADER_LEN};

/// A dump device, open for reading.
#[derive(Debug)]
pub struct Device {
    medium: Medium,
    /// A device is written in whole sectors, and this many bytes are some.
    unit: u64,
}

impl Device {
    /// Opens a device, or a regular file as the image of one.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened, or has no size.
    pub fn open(path: &Path) -> Result<Self, SaveError> {
        let error = |source| SaveError::device(path, "opening", source);
        let medium = Medium::open(path).map_err(error)?;
        if medium.len_bytes() == 0 && !medium.is_file() {
            let why = "not a disk: its size is 0";
            return Err(error(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let unit = match medium.len_bytes() {
            _ if medium.is_file() => 1,
            len if len.is_multiple_of(4096) => 4096,
            _ => 512,
        };
        Ok(Self { medium, unit })
    }

    /// The dump at the end of it; `None` if there is no header at all. A header that is damaged or
    /// marked as saved is found, with its problems.
    ///
    /// # Errors
    /// Returns an error if the end of the device cannot be read.
    pub fn find(&self) -> Result<Option<FoundDump>, SaveError> {
        let found = self.medium.find();
        found.map_err(|source| SaveError::read(self.path(), self.len_bytes(), source))
    }

    /// The partition that `wanted` names, or the only one that ends in a dump, or itself if none does;
    /// with the dump at its end.
    ///
    /// # Errors
    /// Returns an error if there is no partition of that name, if several have a dump, or if the
    /// device cannot be read.
    pub fn search(self, wanted: Option<&str>) -> Result<(Self, Option<FoundDump>), SaveError> {
        let search = self.medium.search(wanted);
        let search = search.map_err(|source| SaveError::read(self.path(), 0, source))?;
        let (medium, found) = match search {
            Search::One(medium, found) => (medium, Some(*found)),
            Search::Nowhere(partitions) => {
                let named = partitions.into_iter().next().filter(|_| wanted.is_some());
                (named.unwrap_or(self.medium), None)
            }
            Search::Several(dumps) => {
                return Err(SaveError::SeveralDumps {
                    device: self.path().to_owned(),
                    partitions: dumps.into_iter().map(|(name, _)| name).collect(),
                });
            }
            Search::NoSuchPartition(partitions) => {
                return Err(SaveError::NoSuchPartition {
                    device: self.path().to_owned(),
                    wanted: wanted.unwrap_or_default().to_owned(),
                    partitions,
                });
            }
        };
        let unit = self.unit;
        Ok((Self { medium, unit }, found))
    }

    pub(crate) const fn medium(&self) -> &Medium {
        &self.medium
    }

    /// The path that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.medium.path()
    }

    /// Which partition of a whole disk it is; `None` if the path is the device itself.
    #[must_use]
    pub fn partition(&self) -> Option<&str> {
        self.medium.partition()
    }

    /// Its name in the operating system; that of the partition if it is one of a disk.
    #[must_use]
    pub fn name(&self) -> String {
        let path = self.path().display();
        match self.partition() {
            None => path.to_string(),
            Some(partition) if self.is_image() => format!("{path} ({partition})"),
            Some(partition) => format!("{path}{partition}"),
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.medium.len_bytes()
    }

    /// Whether it is a regular file: evidence, which saving does not change unasked.
    #[must_use]
    pub fn is_image(&self) -> bool {
        self.medium.is_file()
    }

    /// Whether it starts with a partition table: then it is a whole disk, and its dump is at the end
    /// of one of its partitions.
    #[must_use]
    pub fn has_partition_table(&self) -> bool {
        self.medium.has_partition_table().unwrap_or(false)
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// Returns an error if the device cannot be read there, or ends within `buf`.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), SaveError> {
        let read = self.medium.read_at(offset, buf);
        let read = read.and_then(|read| match read == buf.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        });
        read.map_err(|source| SaveError::read(self.path(), self.medium.place_of(offset), source))
    }

    /// Marks the header at `offset` as saved, if it still is `header`, and makes that durable.
    pub(crate) fn clear(
        &self,
        offset: u64,
        header: &[u8; HEADER_LEN],
        changes: Changes<'_>,
    ) -> io::Result<()> {
        let offset = self.medium.place_of(offset);
        let mut file = changes.open(self.path())?;
        let unit = self.unit.max(HEADER_LEN as u64);
        // An image may be of any length, and its header at any offset.
        let start = if self.unit == 1 {
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
            return Err(io::Error::other("the header has been overwritten"));
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
            unit: 4096,
            ..Device::open(path).unwrap()
        }
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
