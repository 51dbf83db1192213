//! Opening a dump of sparc64: regions of physical memory after a header of its own.

use super::header::{DumpFormat, FullHeader};
use super::open::OpenError;
use super::warning::Warning;
use crate::memory::{Memory, SegmentMemory, Store};
use crate::source::Source;
use crate::translation::Tsb;
use std::path::Path;
use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::elf::{PT_LOAD, Segment};
use vmcore_format::endian::Endian;
use vmcore_format::sparc64::{DumpHeader, Region};

pub(super) fn open(
    path: &Path,
    source: Source,
    first: &[u8],
) -> Result<(DumpFormat, Memory, Vec<Warning>), OpenError> {
    let bad = |reason: String| OpenError::BadCore {
        path: path.to_owned(),
        reason,
    };
    let header = DumpHeader::parse(first).ok_or_else(|| bad("its header is cut".to_owned()))?;
    if header.len_bytes > source.len() {
        return Err(bad(format!(
            "its header of {} bytes lies beyond the end of the file, {:#x}",
            header.len_bytes,
            source.len()
        )));
    }
    let mut segments = Vec::new();
    // As many as the header has room for, which is in the file.
    for index in 0..header.regions {
        let (at, len) = DumpHeader::region_at(index);
        let mut raw = [0; 32];
        let raw = raw.get_mut(..len).unwrap_or_default();
        let read = source
            .read_positional(at, raw)
            .map_err(|error| OpenError::io(path, error))?;
        let region = raw.get(..read).and_then(Region::parse);
        segments.extend(region.map(segment));
    }
    let (memory, refused) = SegmentMemory::new(&segments, PageSize::SIZE_8K, source.len());
    if memory.segments().is_empty() {
        return Err(bad("it has no memory: no region".to_owned()));
    }
    let warnings = match refused {
        0 => Vec::new(),
        count => vec![Warning::SegmentsRefused { count }],
    };
    let memory = Memory {
        source,
        store: Store::Segments(memory),
        page_size: PageSize::SIZE_8K,
        endian: Endian::Big,
    };
    let header = FullHeader {
        arch: Arch::Sparc64,
        elf: None,
        delta: None,
        tsb: Some(Tsb {
            pa: header.tsb_pa,
            mask: header.tsb_mask,
        }),
        virtual_segments: Vec::new(),
    };
    Ok((DumpFormat::Full(header), memory, warnings))
}

/// A region as the segment of a full dump.
const fn segment(region: Region) -> Segment {
    Segment {
        p_type: PT_LOAD,
        p_flags: 0,
        p_offset: region.offset.0,
        p_vaddr: region.pa.0,
        p_paddr: region.pa.0,
        p_filesz: region.len_bytes,
        p_memsz: region.len_bytes,
        p_align: 0,
    }
}
