//! The partitions of a disk or of its image.
//!
//! A table only proposes where partitions may be; whether there is a dump is decided at the end of each.

use crate::input::Input;
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
pub(crate) struct NamedPartition {
    /// How the name of its device ends: `p3`, `s1`, `s1b`.
    pub(crate) name: String,
    pub(crate) range: Range<u64>,
    /// Its label in a GPT.
    label: String,
}

impl NamedPartition {
    /// Whether `word` names it: `p3`, just `3`, `ada0p3`, or its label.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        let disk = word.strip_suffix(self.name.as_str());
        self.name.strip_prefix(['p', 's']) == Some(word)
            || (!word.is_empty() && self.label == word)
            || disk.is_some_and(|disk| {
                disk.is_empty() || disk.ends_with(|last: char| last.is_ascii_digit())
            })
    }

    /// Whether it is a partition inside a slice.
    fn is_inside(&self) -> bool {
        self.name.ends_with(|last: char| last.is_alphabetic())
    }

    fn new(name: String, partition: &Partition, sector: u64, base: u64) -> Option<Self> {
        let start = partition.first_sector.checked_mul(sector)?;
        let start = start.checked_add(base)?;
        let end = start.checked_add(partition.sectors.checked_mul(sector)?)?;
        let label = partition.label.split(|unit| *unit == 0).next();
        Some(Self {
            name,
            range: start..end,
            label: String::from_utf16_lossy(label.unwrap_or_default()),
        })
    }
}

/// Whether there is a partition table.
pub(crate) fn has_table(input: &Input) -> io::Result<bool> {
    Ok(gpt(input)?.is_some() || mbr_slices(&first_sector(input)?).is_some())
}

/// All partitions within the disk, for each reading of its table: an MBR counts in sectors and does not
/// record their size.
pub(crate) fn readings(input: &Input) -> io::Result<Vec<Vec<NamedPartition>>> {
    let mut readings = match gpt(input)? {
        Some(places) => vec![places],
        None => {
            let readings = SECTORS.map(|sector| slices(input, sector));
            readings.into_iter().collect::<io::Result<_>>()?
        }
    };
    for places in &mut readings {
        places.retain(|place| input.reaches(place.range.end));
    }
    Ok(readings)
}

/// Those that do not end where a partition inside them does: a dump at that end is the inner one's.
pub(crate) fn innermost(places: &[NamedPartition]) -> Vec<&NamedPartition> {
    let inner: Vec<u64> = places
        .iter()
        .filter(|place| place.is_inside())
        .map(|place| place.range.end)
        .collect();
    places
        .iter()
        .filter(|place| place.is_inside() || !inner.contains(&place.range.end))
        .collect()
}

fn first_sector(input: &Input) -> io::Result<[u8; SECTOR_LEN]> {
    let bytes = input.read_vec(0, SECTOR_LEN)?;
    Ok(<[u8; SECTOR_LEN]>::try_from(bytes).unwrap_or([0; SECTOR_LEN]))
}

/// Those of a GPT: of the first one, or of its copy at the end of the disk, which GEOM metadata may
/// follow.
fn gpt(input: &Input) -> io::Result<Option<Vec<NamedPartition>>> {
    for sector in SECTORS {
        for sectors_from_end in [None, Some(1), Some(2)] {
            let at = match sectors_from_end {
                // Of a compressed image the end is reached only by expanding all of it.
                Some(_) if !has_gpt_slice(input)? => break,
                Some(back) => (input.len() / sector).saturating_sub(back) * sector,
                None => sector,
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
                NamedPartition::new(format!("p{}", partition.number), &partition, sector, 0)
            });
            return Ok(Some(places.collect()));
        }
    }
    Ok(None)
}

/// Whether the MBR announces a GPT.
fn has_gpt_slice(input: &Input) -> io::Result<bool> {
    let first = first_sector(input)?;
    let mut slices = mbr_slices(&first).into_iter().flatten();
    Ok(slices.any(|slice| slice.kind == MBR_GPT))
}

/// The logical partitions in an extended slice that starts at sector `extended`: a chain of tables,
/// each with a partition and the place of the next table.
fn logical(input: &Input, extended: u64, sector_len: u64) -> io::Result<Vec<Partition>> {
    let mut found = Vec::new();
    let mut next = Some(extended);
    for number in (5..).take(LOGICAL_MAX as usize) {
        let Some(sector) = next.take() else {
            break;
        };
        let Some(at) = sector.checked_mul(sector_len) else {
            break;
        };
        let table = input.read_vec(at, SECTOR_LEN)?;
        let Ok(table) = <[u8; SECTOR_LEN]>::try_from(table) else {
            break;
        };
        for entry in mbr_slices(&table).into_iter().flatten().take(2) {
            match is_extended(entry.kind) {
                // Forward only: a chain cannot loop.
                true => {
                    next = extended
                        .checked_add(entry.first_sector)
                        .filter(|next| *next > sector)
                }
                false => {
                    if let Some(first_sector) = sector.checked_add(entry.first_sector) {
                        let mut partition = entry;
                        (partition.number, partition.first_sector) = (number, first_sector);
                        found.push(partition);
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Those of an MBR, the logical ones in its extended slices, and those of the labels in all of them.
fn slices(input: &Input, sector: u64) -> io::Result<Vec<NamedPartition>> {
    let first = first_sector(input)?;
    let mut places = Vec::new();
    let mut slices: Vec<Partition> = mbr_slices(&first).into_iter().flatten().collect();
    let extended = slices.iter().find(|slice| is_extended(slice.kind)).copied();
    if let Some(extended) = extended {
        slices.extend(logical(input, extended.first_sector, sector)?);
    }
    slices.retain(|slice| slice.kind != MBR_GPT && !is_extended(slice.kind));
    for slice in slices {
        let name = format!("s{}", slice.number);
        let Some(place) = NamedPartition::new(name, &slice, sector, 0) else {
            continue;
        };
        if slice.kind == MBR_FREEBSD {
            let label = input.read_vec(place.range.start.saturating_add(sector), SECTOR_LEN)?;
            let inside = bsd_partitions(&label).into_iter().flatten();
            places.extend(inside.filter_map(|partition| {
                let letter = char::from_u32(u32::from(b'a') + partition.number - 1)?;
                let name = format!("{}{letter}", place.name);
                NamedPartition::new(name, &partition, sector, place.range.start)
            }));
        }
        places.push(place);
    }
    Ok(places)
}
