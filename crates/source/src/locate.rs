//! Where the dump is on a disk, a device or an image of either: one place, for reading and for saving.
//!
//! ```text
//! | 64 KiB | free | leading header | key | reserved for the dump | trailing header | GEOM metadata |
//! ```
//!
//! Each header takes a sector. The trailing one decides; the leading one, which early swapping
//! overwrites first, confirms. The sector size is the header's own: it is looked for at each size
//! that kernels dump to, so an image and a disk behind another controller are read alike. A mirror, a
//! label or another GEOM class keeps its metadata in the last sector, and the device that the kernel
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
use crate::disk::{self, Place};
use crate::input::Input;
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
        /// Why not.
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

/// A trailing header, and the parts that it describes, in bytes from the start of the medium.
#[derive(Clone, Debug)]
pub struct Found {
    stored: [u8; HEADER_LEN],
    /// With its magic of before it was cleared.
    revived: [u8; HEADER_LEN],
    trailer: u64,
    parts: Option<OnMedium>,
    problems: Vec<Problem>,
}

impl Found {
    /// The trailing header as it is stored.
    #[must_use]
    pub const fn stored(&self) -> &[u8; HEADER_LEN] {
        &self.stored
    }

    /// The trailing header as the kernel wrote it.
    #[must_use]
    pub const fn revived(&self) -> &[u8; HEADER_LEN] {
        &self.revived
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
        self.stored != self.revived
    }

    /// Whether the two headers differ.
    pub(crate) fn headers_differ(&self) -> bool {
        let differs = |problem: &Problem| {
            matches!(
                problem,
                Problem::LeaderDiffers { .. } | Problem::LeaderUnreadable { .. }
            )
        };
        self.problems.iter().any(differs)
    }

    /// The trailing header, if it is sound, and the parts that it describes.
    pub(crate) fn sound(&self) -> Option<(DumpHeader<'_>, &OnMedium)> {
        Some((DumpHeader::parse(&self.revived).ok()?, self.parts()?))
    }

    /// The higher, the likelier it is the one.
    fn rank(&self) -> (bool, bool) {
        (!self.is_cleared(), kerneldump::parity(&self.revived) == 0)
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
            revived,
            trailer,
            parts,
            problems,
        })
    }
}

/// Where the parts are, or why they cannot be.
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
pub(crate) fn at_the_end(input: &Input) -> io::Result<Option<Found>> {
    let len = input.len();
    let largest = SECTORS.into_iter().max().unwrap_or(0);
    let tail_at = len.saturating_sub(((1 + METADATA_SECTORS_MAX) * largest) as u64);
    let tail = input.read_vec(tail_at, usize::try_from(len - tail_at).unwrap_or(0))?;
    let mut best: Option<Found> = None;
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
            let found = Found::examine(input, stored, trailer, sector as u64);
            let found = found.filter(|found| {
                let next = bytes.get(sector..).unwrap_or_default();
                // Farther from the end the header needs a witness: the metadata, or its twin.
                after == 0
                    || found.sound().is_some()
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
pub(crate) enum Search {
    /// At the end of the medium, or of the partition of that name.
    One(Option<String>, Input, Box<Found>),
    /// Partitions with a dump, none of them likelier to be meant than another.
    Several(Vec<(String, Found)>),
    /// No dump at the end of these partitions; on a medium without a partition table, of none.
    Nowhere(Vec<(String, Input)>),
    /// No partition that is called so; these are there.
    NoSuchPartition(Vec<String>),
}

/// Looks for the dump: at the end of the medium, or of one of its partitions. `wanted` names one.
pub(crate) fn search(input: &Input, wanted: Option<&str>) -> io::Result<Search> {
    // The last partition may end where the disk does, so the table comes first.
    let readings = disk::readings(input)?;
    let mut looked_at = Vec::new();
    for places in &readings {
        let places: Vec<&Place> = match wanted {
            Some(wanted) => places
                .iter()
                .filter(|place| place.is_called(wanted))
                .collect(),
            None => disk::innermost(places),
        };
        let mut found = Vec::new();
        for place in places {
            let part = input.part(place.range.clone());
            match at_the_end(&part)? {
                Some(dump) => found.push((place.name.clone(), part, dump)),
                None => looked_at.push((place.name.clone(), part)),
            }
        }
        // A dump that waits to be saved is likelier to be meant than one that has been.
        if found.iter().any(|(_, _, dump)| !dump.is_cleared()) {
            found.retain(|(_, _, dump)| !dump.is_cleared());
        }
        if found.len() > 1 {
            let found = found.into_iter().map(|(name, _, dump)| (name, dump));
            return Ok(Search::Several(found.collect()));
        }
        if let Some((name, part, dump)) = found.pop() {
            return Ok(Search::One(Some(name), part, Box::new(dump)));
        }
    }
    looked_at.dedup_by(|(name, _), (before, _)| name == before);
    match wanted {
        Some(_) if looked_at.is_empty() => {
            let names = readings.into_iter().flatten().map(|place| place.name);
            let mut names: Vec<String> = names.collect();
            names.dedup();
            Ok(Search::NoSuchPartition(names))
        }
        Some(_) => Ok(Search::Nowhere(looked_at)),
        None => Ok(match at_the_end(input)? {
            Some(found) => Search::One(None, input.clone(), Box::new(found)),
            None => Search::Nowhere(looked_at),
        }),
    }
}

/// A disk, a device, a file that is the image of one, or a partition of either; open for reading.
#[derive(Clone, Debug)]
pub struct Medium {
    input: Input,
    path: PathBuf,
    is_file: bool,
    partition: Option<String>,
}

/// Why there is not one partition to take a dump from.
#[derive(Debug)]
pub enum Ambiguity {
    /// Several have a dump, none likelier to be meant than another.
    SeveralDumps(Vec<(String, Found)>),
    /// None is called so; these are there.
    NoSuchPartition(Vec<String>),
}

impl Medium {
    /// Opens a device or a regular file.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened or is neither, or its length is unknown.
    pub fn open(path: &Path) -> io::Result<Self> {
        let input = Input::open(path, Access::Positional)?;
        Ok(Self {
            is_file: input.is_file(),
            input,
            path: path.to_owned(),
            partition: None,
        })
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

    /// Bytes of it.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.input.len()
    }

    /// Whether it is in a regular file.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        self.is_file
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
        crate::container::expand(self.input.part(range))
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
    pub fn find(&self) -> io::Result<Option<Found>> {
        at_the_end(&self.input)
    }

    /// The partition with the dump, or the one that `wanted` names, or itself if it has no partition
    /// that ends in one.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn with_dump(self, wanted: Option<&str>) -> io::Result<Result<Self, Ambiguity>> {
        Ok(match search(&self.input, wanted)? {
            Search::One(partition, input, _) => Ok(Self {
                input,
                partition,
                ..self
            }),
            Search::Nowhere(looked_at) => match (wanted, looked_at.into_iter().next()) {
                (Some(_), Some((name, input))) => Ok(Self {
                    input,
                    partition: Some(name),
                    ..self
                }),
                _ => Ok(self),
            },
            Search::Several(found) => Err(Ambiguity::SeveralDumps(found)),
            Search::NoSuchPartition(names) => Err(Ambiguity::NoSuchPartition(names)),
        })
    }
}
