//! The header of sparc64's dumps, which are not ELF files: regions of physical memory, and where the
//! kernel's translation storage buffer is (`sys/sparc64/include/kerneldump.h`). Big-endian.
//!
//! It has no magic; its own length, which follows from the number of regions, tells it.
//!
//! ```
//! let mut page = [0u8; 512];
//! page[6..8].copy_from_slice(&512u16.to_be_bytes()); // dh_hdr_size
//! page[35] = 1; // dh_nregions
//! page[47] = 0x20; // dr_pa
//! assert!(vmcore_format::sparc64::is_header(&page));
//! let header = vmcore_format::sparc64::DumpHeader::parse(&page);
//! assert_eq!(header.map(|header| header.regions), Some(1));
//! ```

use crate::addr::{FileOffset, PhysAddr};
use zerocopy::big_endian::{I32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes before the regions, and of a region.
const FIXED_LEN: u64 = 40;
const REGION_LEN: u64 = 24;
/// The header is rounded up to blocks.
const BLOCK: u64 = 512;

/// On disk.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SparcDumpHdr {
    dh_hdr_size: U64,
    dh_tsb_pa: U64,
    dh_tsb_size: U64,
    dh_tsb_mask: U64,
    dh_nregions: I32,
    padding: [u8; 4],
}

/// On disk.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SparcDumpReg {
    dr_pa: U64,
    dr_size: U64,
    dr_offs: U64,
}

const _: () = {
    assert!(size_of::<SparcDumpHdr>() as u64 == FIXED_LEN);
    assert!(size_of::<SparcDumpReg>() as u64 == REGION_LEN);
    assert!(core::mem::offset_of!(SparcDumpHdr, dh_tsb_mask) == 24);
    assert!(core::mem::offset_of!(SparcDumpHdr, dh_nregions) == 32);
};

/// The header of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpHeader {
    /// Bytes of the header in the file.
    pub len_bytes: u64,
    /// Physical address of the kernel's translation storage buffer.
    pub tsb_pa: PhysAddr,
    /// Its entries, less one.
    pub tsb_mask: u64,
    /// Number of regions.
    pub regions: u64,
}

/// A region of physical memory in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Physical address.
    pub pa: PhysAddr,
    /// Bytes.
    pub len_bytes: u64,
    /// Where it is in the file.
    pub offset: FileOffset,
}

impl DumpHeader {
    /// Decodes the header at the start of a dump; `None` if there is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (raw, _) = SparcDumpHdr::ref_from_prefix(bytes).ok()?;
        let regions = u64::try_from(raw.dh_nregions.get())
            .ok()
            .filter(|n| *n > 0)?;
        let len_bytes = FIXED_LEN + REGION_LEN * regions;
        let stored = raw.dh_hdr_size.get();
        (stored == len_bytes.next_multiple_of(BLOCK)).then(|| Self {
            len_bytes: stored,
            tsb_pa: PhysAddr(raw.dh_tsb_pa.get()),
            tsb_mask: raw.dh_tsb_mask.get(),
            regions,
        })
    }

    /// Where region number `index` is in the file, and how many bytes a region takes there.
    #[must_use]
    pub const fn region_at(index: u64) -> (u64, usize) {
        (FIXED_LEN + REGION_LEN * index, size_of::<SparcDumpReg>())
    }
}

impl Region {
    /// Decodes a region.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (raw, _) = SparcDumpReg::ref_from_prefix(bytes).ok()?;
        Some(Self {
            pa: PhysAddr(raw.dr_pa.get()),
            len_bytes: raw.dr_size.get(),
            offset: FileOffset(raw.dr_offs.get()),
        })
    }
}

/// Whether a dump of sparc64 starts with these bytes.
#[must_use]
pub fn is_header(bytes: &[u8]) -> bool {
    DumpHeader::parse(bytes).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(size: u64, regions: i32) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&size.to_be_bytes());
        bytes[8..16].copy_from_slice(&0x40_0000u64.to_be_bytes());
        bytes[24..32].copy_from_slice(&511u64.to_be_bytes());
        bytes[32..36].copy_from_slice(&regions.to_be_bytes());
        bytes[40..48].copy_from_slice(&0x2000u64.to_be_bytes());
        bytes[48..56].copy_from_slice(&0x4000u64.to_be_bytes());
        bytes[56..64].copy_from_slice(&512u64.to_be_bytes());
        bytes
    }

    #[test]
    fn its_length_tells_a_header() {
        let found = DumpHeader::parse(&header(512, 1)).unwrap();
        assert_eq!((found.tsb_pa, found.tsb_mask), (PhysAddr(0x40_0000), 511));
        assert_eq!(
            DumpHeader::parse(&header(512, 19)).map(|found| found.regions),
            Some(19)
        );
        assert_eq!(
            DumpHeader::parse(&header(1024, 20)).map(|found| found.regions),
            Some(20)
        );
        for (size, regions) in [
            (512, 0),
            (512, -1),
            (512, 20),
            (0, 1),
            (1024, 1),
            (u64::MAX, i32::MAX),
        ] {
            assert_eq!(DumpHeader::parse(&header(size, regions)), None);
        }
        assert_eq!(DumpHeader::parse(&[0; 39]), None);
    }

    #[test]
    fn a_region_is_three_words() {
        let bytes = header(512, 1);
        let (at, len) = DumpHeader::region_at(0);
        let at = usize::try_from(at).unwrap();
        let region = Region::parse(&bytes[at..at + len]).unwrap();
        assert_eq!(region.pa, PhysAddr(0x2000));
        assert_eq!((region.len_bytes, region.offset), (0x4000, FileOffset(512)));
        assert_eq!(Region::parse(&bytes[50..]), None);
    }
}
