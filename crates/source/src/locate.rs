//! Where the dump is on a disk, a device or an image of either: one place, for reading and for saving.
//!
//! ```text
//! | 64 KiB | free | leading header | key | reserved for the dump | trailing header | GEOM metadata |
//! ```
//!
//! Each header takes a sector. The trailing one decides; the leading one, which early swapping
//! overwrites first, confirms. The sector size is the header's own: the locator tries each size
//! that kernels dump to, so that an image, and a disk on another controller, are read alike. A mirror, a
//! label or another GEOM class keeps its metadata in the last sector; the device that the kernel
//! dumped to ends before it. Source: `sys/kern/kern_shutdown.c`, `sbin/savecore/savecore.c`.
//!
//! ```
//! use vmcore_source::locate::Medium;
//! use vmcore_synth::header::DumpHeader;
//! let image = DumpHeader::new("amd64", 4096).device(1 << 17, &[], &[7; 4096]);
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("swap.img");
//! std::fs::write(&path, image.ok_or("does not fit")?)?;
//! let found = Medium::open(&path)?.find()?.ok_or("no header")?;
//! assert!(found.problems().is_empty());
//! assert_eq!(found.parts().ok_or("no parts")?.payload.start, found.trailer() - 4096);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::bytes::Access;
use crate::device_header::DeviceHeader;
use crate::disk::{self, NamedPartition};
use crate::input::Input;
use crate::open::OpenFile;
use crate::source::Source;
use serde::Serialize;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use thiserror::Error;
use vmcore_format::addr::FileOffset;
use vmcore_format::kerneldump::{
    self, DumpHeader, HEADER_LEN, HeaderKind, NEWEST_VERSION, OnMedium, TEXT_BLOCK,
};
use vmcore_format::partition::GEOM_MAGIC;

/// Sector sizes that kernels dump to: a header must fit, and a page is the most they write at once.
const SECTORS: [usize; 4] = [512, 1024, 2048, 4096];
/// Sectors after the trailing header that may hold something else's metadata: one for each GEOM class
/// between the device that the kernel dumped to and the one that is read.
const METADATA_SECTORS_MAX: usize = 8;

/// Something wrong with a dump on its device.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
#[non_exhaustive]
pub enum Problem {
    /// The header says that the dump has been saved.
    #[error("it is marked as saved")]
    Cleared,
    /// The header's XOR is not 0.
    #[error("the parity of its last header is {parity:#x}, not 0")]
    Parity {
        /// What it is.
        parity: u32,
    },
    /// The header's version is not known.
    #[error("its header has version {version}, and 1 to {NEWEST_VERSION} are known")]
    UnknownVersion {
        /// The version.
        version: u32,
    },
    /// The parts that the header describes are not within the device, or not within each other.
    #[error("{reason}")]
    Impossible {
        /// The reason.
        reason: String,
    },
    /// The leading header cannot be read.
    #[error("its first header, at {offset}, cannot be read: {reason}")]
    LeaderUnreadable {
        /// Where it would be, from the start of the device.
        offset: FileOffset,
        /// What the operating system said.
        reason: String,
    },
    /// The leading header is not the same.
    #[error("its first header, at {offset}, and its last header disagree")]
    LeaderDiffers {
        /// Where it would be, from the start of the device.
        offset: FileOffset,
    },
}

impl Problem {
    /// Whether it is one of the leading header.
    const fn is_of_leader(&self) -> bool {
        matches!(
            self,
            Self::LeaderDiffers { .. } | Self::LeaderUnreadable { .. }
        )
    }
}

/// A trailing header, and the parts that it describes, in bytes from the start of the medium.
#[derive(Clone, Debug)]
pub struct FoundDump {
    stored: [u8; HEADER_LEN],
    header: DeviceHeader,
    trailer: u64,
    parts: Option<OnMedium>,
    problems: Vec<Problem>,
}

impl FoundDump {
    /// The trailing header as it is stored.
    #[must_use]
    pub const fn stored(&self) -> &[u8; HEADER_LEN] {
        &self.stored
    }

    /// What the header says.
    #[must_use]
    pub const fn header(&self) -> &DeviceHeader {
        &self.header
    }

    /// Where the trailing header is.
    #[must_use]
    pub const fn trailer(&self) -> u64 {
        self.trailer
    }

    /// Where the parts are; `None` if they cannot be where the header says.
    #[must_use]
    pub const fn parts(&self) -> Option<&OnMedium> {
        self.parts.as_ref()
    }

    /// What is wrong; empty for a dump that waits to be saved.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether it is marked as saved.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        self.problems.contains(&Problem::Cleared)
    }

    /// Whether the two headers differ.
    pub(crate) fn headers_differ(&self) -> bool {
        self.problems.iter().any(Problem::is_of_leader)
    }

    /// The parts, if the trailing header is sound.
    pub(crate) fn sound_parts(&self) -> Option<&OnMedium> {
        let is_harmless =
            |problem: &Problem| *problem == Problem::Cleared || problem.is_of_leader();
        self.parts()
            .filter(|_| self.problems.iter().all(is_harmless))
    }

    /// Likelihood that this header is the one; higher is likelier.
    fn rank(&self) -> (bool, bool) {
        let is_parity = |problem: &Problem| matches!(problem, Problem::Parity { .. });
        (!self.is_cleared(), !self.problems.iter().any(is_parity))
    }

    /// Examines the 512 bytes at `trailer`, as the header on a medium with such sectors; `None` if
    /// they are not a header, or one of another sector size.
    fn examine(
        input: &Input,
        stored: &[u8; HEADER_LEN],
        trailer: u64,
        sector: u64,
    ) -> Option<Self> {
        let mut revived = *stored;
        kerneldump::revive(&mut revived);
        let parity = kerneldump::parity(&revived);
        let header = DumpHeader::parse_damaged(&revived).ok()?;
        // A sound header of another sector size is a page of the dump that happens to hold one.
        if u64::from(header.blocksize) != sector && parity == 0 {
            return None;
        }
        let mut problems = Vec::new();
        if revived != *stored {
            problems.push(Problem::Cleared);
        }
        if parity != 0 {
            problems.push(Problem::Parity { parity });
        }
        let version = header.version;
        if !(1..=NEWEST_VERSION).contains(&version) {
            problems.push(Problem::UnknownVersion { version });
        }
        let parts = match parts(&header, trailer, sector) {
            Ok(parts) => {
                problems.extend(compare_leader(input, parts.leader, &revived));
                Some(parts)
            }
            Err(reason) => {
                problems.push(Problem::Impossible { reason });
                None
            }
        };
        Some(Self {
            stored: *stored,
            header: DeviceHeader::parse_damaged(&revived).ok()?,
            trailer,
            parts,
            problems,
        })
    }
}

/// Where the parts are, or why they are impossible.
fn parts(header: &DumpHeader<'_>, trailer: u64, sector: u64) -> Result<OnMedium, String> {
    let (extent, len) = (header.dumpextent, header.dumplength);
    if len > extent {
        return Err(format!(
            "its header says {len} bytes, and reserves only {extent}"
        ));
    }
    if header.kind == HeaderKind::Text && !len.is_multiple_of(TEXT_BLOCK as u64) {
        return Err(format!(
            "its {len} bytes are not a multiple of a textdump's {TEXT_BLOCK}"
        ));
    }
    header.on_medium(trailer, sector).ok_or_else(|| {
        format!(
            "its header reserves {extent} bytes, and {} for a key; the device has {}",
            header.dumpkeysize,
            trailer + sector
        )
    })
}

/// What is wrong with the leading header.
fn compare_leader(input: &Input, leader: u64, trailing: &[u8; HEADER_LEN]) -> Option<Problem> {
    let offset = FileOffset(leader);
    match input.read_vec(leader, HEADER_LEN) {
        Ok(leading) if leading == trailing => None,
        Ok(_) => Some(Problem::LeaderDiffers { offset }),
        Err(error) => Some(Problem::LeaderUnreadable {
            offset,
            reason: error.to_string(),
        }),
    }
}

/// The header of a dump at the end of `input`, whether sound, damaged or marked as saved; `None` if
/// there is none.
pub(crate) fn at_the_end(input: &Input) -> io::Result<Option<FoundDump>> {
    let len = input.len();
    let largest = SECTORS.into_iter().max().unwrap_or(0);
    let tail_at = len.saturating_sub(((1 + METADATA_SECTORS_MAX) * largest) as u64);
    let tail = input.read_vec(tail_at, usize::try_from(len - tail_at).unwrap_or(0))?;
    let mut best: Option<FoundDump> = None;
    for sector in SECTORS {
        for after in 0..=METADATA_SECTORS_MAX {
            let Some(at) = tail.len().checked_sub(sector * (1 + after)) else {
                break;
            };
            let bytes = tail.get(at..).unwrap_or_default();
            let Some(stored) = bytes.first_chunk() else {
                break;
            };
            let trailer = tail_at + at as u64;
            let found = FoundDump::examine(input, stored, trailer, sector as u64);
            let found = found.filter(|found| {
                let next = bytes.get(sector..).unwrap_or_default();
                // Farther from the end, the metadata or the leading header must confirm it.
                after == 0
                    || found.sound_parts().is_some()
                        && (next.starts_with(GEOM_MAGIC) || !found.headers_differ())
            });
            if let Some(found) = found
                && best.as_ref().is_none_or(|best| found.rank() > best.rank())
            {
                best = Some(found);
            }
        }
    }
    Ok(best)
}

/// Where a search for the dump on a medium ended.
#[derive(Debug)]
pub enum Search {
    /// At the end of the medium, or of one of its partitions.
    One(Medium, Box<FoundDump>),
    /// Partitions with a dump, none of them likelier to be meant than another.
    Several(Vec<(String, FoundDump)>),
    /// No dump at the end of these partitions; on a medium without a partition table, of none.
    Nowhere(Vec<Medium>),
    /// No partition of that name; these are there.
    NoSuchPartition(Vec<String>),
}

/// A disk, a device, a file that is the image of one, or a partition of either; open for reading.
#[derive(Clone, Debug)]
pub struct Medium {
    input: Input,
    path: PathBuf,
    partition: Option<String>,
}

impl Medium {
    /// Opens a device or a regular file.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened or is neither, or its length is unknown.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenFile::open(path)?;
        Ok(Self::of(Input::of(&file, Access::Positional), path))
    }

    /// The bytes of what is at `path`.
    pub(crate) fn of(input: Input, path: &Path) -> Self {
        Self {
            input,
            path: path.to_owned(),
            partition: None,
        }
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which partition it is of what is at [`Medium::path`].
    #[must_use]
    pub fn partition(&self) -> Option<&str> {
        self.partition.as_deref()
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.input.len()
    }

    /// Whether it is in a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.input.is_file()
    }

    /// Where byte `offset` of it is, from the start of what is at [`Medium::path`].
    #[must_use]
    pub const fn place_of(&self, offset: u64) -> u64 {
        self.input.place_of(offset)
    }

    /// Fills `buf` from `offset`; fewer bytes only at the end.
    ///
    /// # Errors
    /// Returns an error if the operating system does.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.input.read_at(offset, buf)
    }

    /// What a part of it expands to, which must be zstd or gzip.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or is neither.
    pub fn expand(&self, range: Range<u64>) -> io::Result<Source> {
        crate::container::expand(self.part(range))
    }

    /// A part of it.
    pub(crate) fn part(&self, range: Range<u64>) -> Input {
        self.input.part(range)
    }

    /// Whether it has a partition table: it is a whole disk, whose dump is at the end of a partition.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn has_partition_table(&self) -> io::Result<bool> {
        disk::has_table(&self.input)
    }

    /// The header of a dump at the end of it; `None` if there is none. A header that is damaged or
    /// marked as saved is found, with its problems.
    ///
    /// # Errors
    /// Returns an error if its end cannot be read.
    pub fn find(&self) -> io::Result<Option<FoundDump>> {
        at_the_end(&self.input)
    }

    /// Looks for the dump: at the end of the medium, or of one of its partitions. `wanted` names one.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn search(&self, wanted: Option<&str>) -> io::Result<Search> {
        // The last partition may end where the disk does, so the table comes first.
        let readings = disk::readings(&self.input)?;
        let mut without = Vec::new();
        for places in &readings {
            let places: Vec<&NamedPartition> = match wanted {
                Some(wanted) => places
                    .iter()
                    .filter(|place| place.is_called(wanted))
                    .collect(),
                None => disk::innermost(places),
            };
            let mut dumps = Vec::new();
            for place in places {
                let partition = self.partition_at(place);
                match partition.find()? {
                    Some(found) => dumps.push((partition, found)),
                    None => without.push(partition),
                }
            }
            // A dump that waits to be saved is likelier to be meant than one that has been.
            if dumps.iter().any(|(_, found)| !found.is_cleared()) {
                dumps.retain(|(_, found)| !found.is_cleared());
            }
            if dumps.len() > 1 {
                let dumps = dumps.into_iter();
                let named = dumps.filter_map(|(medium, found)| Some((medium.partition?, found)));
                return Ok(Search::Several(named.collect()));
            }
            if let Some((partition, found)) = dumps.pop() {
                return Ok(Search::One(partition, Box::new(found)));
            }
        }
        without.dedup_by(|medium, before| medium.partition == before.partition);
        match wanted {
            Some(_) if without.is_empty() => {
                let names = readings.into_iter().flatten().map(|place| place.name);
                let mut names: Vec<String> = names.collect();
                names.dedup();
                Ok(Search::NoSuchPartition(names))
            }
            Some(_) => Ok(Search::Nowhere(without)),
            None => Ok(match self.find()? {
                Some(found) => Search::One(self.clone(), Box::new(found)),
                None => Search::Nowhere(without),
            }),
        }
    }

    fn partition_at(&self, place: &NamedPartition) -> Self {
        Self {
            input: self.part(place.range.clone()),
            path: self.path.clone(),
            partition: Some(place.name.clone()),
        }
    }
}
