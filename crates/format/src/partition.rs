//! Partition tables: GPT, MBR, and the BSD label inside an MBR slice.
//!
//! Sources: UEFI specification 2.10, section 5; `sys/sys/disk/mbr.h`, `sys/sys/disk/bsd.h`. All
//! integers are little-endian, all positions counted in the disk's sectors. What a table claims is
//! not checked against the disk here.
//!
//! ```
//! use vmcore_format::partition::mbr_slices;
//! let mut sector = [0; 512];
//! sector[446 + 4] = 0xa5; // FreeBSD
//! sector[446 + 8] = 63;
//! sector[446 + 12] = 100;
//! sector[510..].copy_from_slice(&[0x55, 0xaa]);
//! let slice = mbr_slices(&sector).ok_or("no table")?.next().ok_or("no slice")?;
//! assert_eq!((slice.number, slice.first_sector, slice.sectors), (1, 63, 100));
//! # Ok::<(), &str>(())
//! ```

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of the first sector that are looked at, whatever the sector size.
pub const SECTOR_LEN: usize = 512;
/// The type of a GPT's protective slice in the MBR.
pub const MBR_GPT: u8 = 0xee;
/// The type of a FreeBSD slice, which has a label inside.
pub const MBR_FREEBSD: u8 = 0xa5;
/// The types of a slice that holds a chain of further tables.
const MBR_EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// The most entries of a GPT that are read.
pub const GPT_ENTRIES_MAX: u32 = 4096;
/// The most bytes of a GPT entry.
pub const GPT_ENTRY_MAX: u32 = 4096;

/// How the metadata starts that most GEOM classes keep in the last sector of a provider: `GEOM::MIRROR`,
/// `GEOM::LABEL`, `GEOM::CONCAT`, … Source: `sys/geom/mirror/g_mirror.h` and its kin.
pub const GEOM_MAGIC: &[u8] = b"GEOM::";

/// A part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number as FreeBSD counts, from 1.
    pub number: u32,
    /// Its first sector.
    pub first_sector: u64,
    /// How many it has.
    pub sectors: u64,
    /// Its type in an MBR or a label; 0 in a GPT.
    pub kind: u8,
    /// Its label in a GPT, in UTF-16; else zeros.
    pub label: [u16; 36],
}

/// Characters of a label in a GPT.
pub const LABEL_LEN: usize = 36;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MbrSlice {
    status: u8,
    chs_start: [u8; 3],
    kind: u8,
    chs_end: [u8; 3],
    first: U32,
    sectors: U32,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Mbr {
    code: [u8; 446],
    slices: [MbrSlice; 4],
    magic: [u8; 2],
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct GptHeader {
    magic: [u8; 8],
    revision: U32,
    header_len: U32,
    header_crc: U32,
    reserved: U32,
    own_sector: U64,
    other_sector: U64,
    first_usable: U64,
    last_usable: U64,
    disk_guid: [u8; 16],
    entries_sector: U64,
    entries: U32,
    entry_len: U32,
    entries_crc: U32,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct GptEntry {
    kind: [u8; 16],
    guid: [u8; 16],
    first: U64,
    last: U64,
    attributes: U64,
    name: [U16; LABEL_LEN],
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct BsdPartition {
    sectors: U32,
    first: U32,
    fragment: U32,
    kind: u8,
    fragments: u8,
    group: U16,
}

const _: () = {
    assert!(size_of::<MbrSlice>() == 16);
    assert!(size_of::<Mbr>() == SECTOR_LEN);
    assert!(core::mem::offset_of!(GptHeader, entries_sector) == 72);
    assert!(size_of::<GptHeader>() == 92);
    assert!(size_of::<GptEntry>() == 128);
    assert!(size_of::<BsdPartition>() == 16);
};

/// The slices of an MBR in use, from a disk's first sector; `None` if there is no MBR.
pub fn mbr_slices(sector: &[u8; SECTOR_LEN]) -> Option<impl Iterator<Item = Partition> + '_> {
    let mbr = Mbr::ref_from_bytes(sector).ok()?;
    if mbr.magic != [0x55, 0xaa] {
        return None;
    }
    let numbered = (1..).zip(&mbr.slices);
    let used = numbered.filter(|(_, slice)| slice.kind != 0 && slice.sectors.get() != 0);
    Some(used.map(|(number, slice)| Partition {
        number,
        first_sector: slice.first.get().into(),
        sectors: slice.sectors.get().into(),
        kind: slice.kind,
        label: [0; LABEL_LEN],
    }))
}

/// Whether a slice of type `kind` holds logical partitions: in its first sector is a table like an
/// MBR's, whose first slice counts from that table and whose second names the next table, from the
/// start of the whole.
#[must_use]
pub fn is_extended(kind: u8) -> bool {
    MBR_EXTENDED.contains(&kind)
}

/// Where a GPT's entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpt {
    /// The sector at which they begin.
    pub entries_sector: u64,
    /// How many there are; at most [`GPT_ENTRIES_MAX`].
    pub entries: u32,
    /// Bytes of each; at most [`GPT_ENTRY_MAX`].
    pub entry_len: u32,
}

impl Gpt {
    /// Decodes the header in a disk's second sector, or in its last; `None` if it is none, or
    /// claims entries that are never made.
    #[must_use]
    pub fn parse(sector: &[u8]) -> Option<Self> {
        let header = GptHeader::ref_from_prefix(sector).ok()?.0;
        let (entries, entry_len) = (header.entries.get(), header.entry_len.get());
        let is_sound = &header.magic == b"EFI PART"
            && (1..=GPT_ENTRIES_MAX).contains(&entries)
            && (128..=GPT_ENTRY_MAX).contains(&entry_len);
        is_sound.then(|| Self {
            entries_sector: header.entries_sector.get(),
            entries,
            entry_len,
        })
    }

    /// The partitions in use, from the bytes of the entries.
    pub fn partitions<'a>(&self, entries: &'a [u8]) -> impl Iterator<Item = Partition> + 'a {
        let len = usize::try_from(self.entry_len).unwrap_or(128).max(128);
        let numbered = (1..).zip(entries.chunks(len));
        numbered.filter_map(|(number, entry)| {
            let entry = GptEntry::ref_from_prefix(entry).ok()?.0;
            let (first, last) = (entry.first.get(), entry.last.get());
            let sectors = last.checked_sub(first)?.checked_add(1)?;
            (entry.kind != [0; 16]).then_some(Partition {
                number,
                first_sector: first,
                sectors,
                kind: 0,
                label: entry.name.map(U16::get),
            })
        })
    }
}

/// Magic of a BSD label, at its start and after the fixed part.
const BSD_MAGIC: u32 = 0x8256_4557;
/// Where the second magic, the number of partitions and their table are.
const BSD_MAGIC2_AT: usize = 132;
const BSD_COUNT_AT: usize = 138;
const BSD_TABLE_AT: usize = 148;
/// The partition that is the whole slice: positions of the others are counted like its own.
const BSD_WHOLE: usize = 2;

/// The partitions of a BSD label, from the second sector of its slice, relative to the slice;
/// `None` if there is no label. Number 1 is `a`.
pub fn bsd_partitions(label: &[u8]) -> Option<impl Iterator<Item = Partition> + '_> {
    let word = |at: usize| Some(U32::ref_from_prefix(label.get(at..)?).ok()?.0.get());
    if word(0)? != BSD_MAGIC || word(BSD_MAGIC2_AT)? != BSD_MAGIC {
        return None;
    }
    let count = U16::ref_from_prefix(label.get(BSD_COUNT_AT..)?).ok()?.0;
    let table = label.get(BSD_TABLE_AT..)?;
    let at = |index: usize| {
        let entry = table.get(index * size_of::<BsdPartition>()..)?;
        Some(BsdPartition::ref_from_prefix(entry).ok()?.0)
    };
    let base = at(BSD_WHOLE).map_or(0, |whole| whole.first.get());
    let indices = 0..usize::from(count.get().min(20));
    Some(indices.filter_map(move |index| {
        let entry = at(index)?;
        let is_used = index != BSD_WHOLE && entry.sectors.get() != 0;
        Some(Partition {
            number: u32::try_from(index + 1).ok()?,
            first_sector: entry.first.get().checked_sub(base)?.into(),
            sectors: entry.sectors.get().into(),
            kind: entry.kind,
            label: [0; LABEL_LEN],
        })
        .filter(|_| is_used)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn a_gpt_is_read_at_the_offsets_of_the_specification() {
        let mut sector = vec![0; 512];
        sector[..8].copy_from_slice(b"EFI PART");
        sector[72] = 2;
        sector[80] = 4;
        sector[84] = 128;
        let gpt = Gpt::parse(&sector).unwrap();
        assert_eq!(
            (gpt.entries_sector, gpt.entries, gpt.entry_len),
            (2, 4, 128)
        );
        let mut entries = vec![0; 4 * 128];
        entries[128] = 1;
        entries[128 + 32] = 40;
        entries[128 + 40] = 49;
        // Reversed: no partition.
        entries[256] = 1;
        entries[256 + 32] = 2;
        let found: Vec<Partition> = gpt.partitions(&entries).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].number, found[0].first_sector, found[0].sectors),
            (2, 40, 10)
        );
        for (at, byte) in [(0, b'X'), (82, 1), (84, 0), (86, 1)] {
            let mut bad = sector.clone();
            bad[at] = byte;
            assert_eq!(Gpt::parse(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn a_bsd_label_counts_from_its_whole_slice() {
        let mut label = vec![0; 512];
        for at in [0, BSD_MAGIC2_AT] {
            label[at..at + 4].copy_from_slice(&BSD_MAGIC.to_le_bytes());
        }
        label[BSD_COUNT_AT] = 8;
        let mut put = |index: usize, sectors: u32, first: u32| {
            let at = BSD_TABLE_AT + index * 16;
            label[at..at + 4].copy_from_slice(&sectors.to_le_bytes());
            label[at + 4..at + 8].copy_from_slice(&first.to_le_bytes());
        };
        put(0, 50, 63);
        put(1, 20, 113);
        put(2, 100, 63);
        // Before the slice.
        put(3, 7, 5);
        let found: Vec<Partition> = bsd_partitions(&label).unwrap().collect();
        let found: Vec<_> = found
            .iter()
            .map(|part| (part.number, part.first_sector, part.sectors))
            .collect();
        assert_eq!(found, [(1, 0, 50), (2, 50, 20)]);
        assert!(bsd_partitions(&label[1..]).is_none());
        assert!(bsd_partitions(&label[..100]).is_none());
    }
}
