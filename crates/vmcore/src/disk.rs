//! The partitions of a disk or of its image.
//!
//! Nothing is believed of a table but where something might be: whether there is a dump is for the
//! end of each partition to say.

use crate::source::Input;
use std::io;
use std::ops::Range;
use vmcore_format::partition::{
    Gpt, MBR_FREEBSD, MBR_GPT, Partition, SECTOR_LEN, bsd_partitions, is_extended, mbr_slices,
};

/// Sector sizes of disks.
const SECTORS: [u64; 2] = [512, 4096];

/// The most logical partitions of a disk; FreeBSD and others stop earlier.
const LOGICAL_MAX: u32 = 128;

/// A partition, in bytes from the start of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// How the name of its device ends: `p3`, `s1`, `s1b`.
    pub(crate) name: String,
    pub(crate) range: Range<u64>,
}

impl Place {
    /// Whether `word` means it: `p3`, or just `3`.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        self.name == word || self.name.strip_prefix(['p', 's']) == Some(word)
    }

    fn new(name: String, partition: &Partition, sector: u64, base: u64) -> Option<Self> {
        let start = partition.first_sector.checked_mul(sector)?;
        let start = start.checked_add(base)?;
        let end = start.checked_add(partition.sectors.checked_mul(sector)?)?;
        Some(Self {
            name,
            range: start..end,
        })
    }
}

/// Whether there is a partition table.
pub(crate) fn has_table(input: &Input) -> io::Result<bool> {
    Ok(gpt(input)?.is_some() || mbr_slices(&first_sector(input)?).is_some())
}

/// All partitions that lie within the disk.
pub(crate) fn partitions(input: &Input) -> io::Result<Vec<Place>> {
    let mut places = match gpt(input)? {
        Some(places) => places,
        None => slices(input)?,
    };
    places.retain(|place| input.reaches(place.range.end));
    Ok(places)
}

fn first_sector(input: &Input) -> io::Result<[u8; SECTOR_LEN]> {
    let bytes = input.read_vec(0, SECTOR_LEN)?;
    Ok(<[u8; SECTOR_LEN]>::try_from(bytes).unwrap_or([0; SECTOR_LEN]))
}

/// Those of a GPT: of the first one, or of its copy at the end of the disk.
fn gpt(input: &Input) -> io::Result<Option<Vec<Place>>> {
    for sector in SECTORS {
        for is_copy in [false, true] {
            let last = || input.len().saturating_sub(sector);
            let at = match is_copy {
                // Of a compressed image the end is reached only by expanding all of it.
                true if !has_gpt_slice(input)? => break,
                true => last() - last() % sector,
                false => sector,
            };
            let header = input.read_vec(at, SECTOR_LEN)?;
            let Some(gpt) = Gpt::parse(&header) else {
                continue;
            };
            let Some(at) = gpt.entries_sector.checked_mul(sector) else {
                continue;
            };
            // Both are bounded where they were decoded.
            let len = u64::from(gpt.entries) * u64::from(gpt.entry_len);
            let entries = input.read_vec(at, usize::try_from(len).map_err(io::Error::other)?)?;
            let places = gpt.partitions(&entries).filter_map(|partition| {
                Place::new(format!("p{}", partition.number), &partition, sector, 0)
            });
            return Ok(Some(places.collect()));
        }
    }
    Ok(None)
}

/// Whether an MBR says that there is a GPT.
fn has_gpt_slice(input: &Input) -> io::Result<bool> {
    let first = first_sector(input)?;
    let mut slices = mbr_slices(&first).into_iter().flatten();
    Ok(slices.any(|slice| slice.kind == MBR_GPT))
}

/// The logical partitions in an extended slice that starts at sector `extended`: a chain of tables,
/// each with a partition and the place of the next table.
fn logical(input: &Input, extended: u64) -> io::Result<Vec<Partition>> {
    let mut found = Vec::new();
    let mut next = Some(extended);
    for number in (5..).take(LOGICAL_MAX as usize) {
        let Some(sector) = next.take() else {
            break;
        };
        let Some(at) = sector.checked_mul(512) else {
            break;
        };
        let table = input.read_vec(at, SECTOR_LEN)?;
        let Ok(table) = <[u8; SECTOR_LEN]>::try_from(table) else {
            break;
        };
        for entry in mbr_slices(&table).into_iter().flatten().take(2) {
            match is_extended(entry.kind) {
                // Forward only: no chain comes back to where it was.
                true => {
                    next = extended
                        .checked_add(entry.first_sector)
                        .filter(|next| *next > sector)
                }
                false => found.extend(sector.checked_add(entry.first_sector).map(|first_sector| {
                    Partition {
                        number,
                        first_sector,
                        ..entry
                    }
                })),
            }
        }
    }
    Ok(found)
}

/// Those of an MBR, the logical ones in its extended slices, and those of the labels in all of them.
fn slices(input: &Input) -> io::Result<Vec<Place>> {
    let first = first_sector(input)?;
    let mut places = Vec::new();
    let mut slices: Vec<Partition> = mbr_slices(&first).into_iter().flatten().collect();
    let extended = slices.iter().find(|slice| is_extended(slice.kind)).copied();
    if let Some(extended) = extended {
        slices.extend(logical(input, extended.first_sector)?);
    }
    slices.retain(|slice| slice.kind != MBR_GPT && !is_extended(slice.kind));
    // An MBR counts in sectors of 512 bytes but on disks that have only larger ones.
    for slice in slices {
        let name = format!("s{}", slice.number);
        let Some(place) = Place::new(name, &slice, 512, 0) else {
            continue;
        };
        if slice.kind == MBR_FREEBSD {
            let label = input.read_vec(place.range.start.saturating_add(512), SECTOR_LEN)?;
            let inside = bsd_partitions(&label).into_iter().flatten();
            places.extend(inside.filter_map(|partition| {
                let letter = char::from_u32(u32::from(b'a') + partition.number - 1)?;
                let name = format!("{}{letter}", place.name);
                Place::new(name, &partition, 512, place.range.start)
            }));
        }
        places.push(place);
    }
    // A slice ends where the last partition inside it may end: the dump is the inner one's.
    let inner: Vec<Range<u64>> = places
        .iter()
        .filter(|place| place.name.ends_with(|last: char| last.is_alphabetic()))
        .map(|place| place.range.clone())
        .collect();
    places.retain(|place| {
        let is_slice = !place.name.ends_with(|last: char| last.is_alphabetic());
        !(is_slice && inner.iter().any(|inner| inner.end == place.range.end))
    });
    Ok(places)
}
