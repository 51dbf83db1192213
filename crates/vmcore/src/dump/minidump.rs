//! Opening a minidump: its header, its ranges, and the checks that both allow.

use super::header::DumpFormat;
use super::open::{OpenError, OpenOptions};
use super::warning::Warning;
use crate::memory::{Memory, SparseMemory, Store};
use crate::source::Source;
use std::path::Path;
use vmcore_format::dump_avail::{self, NumberedRange, Numbering};
use vmcore_format::endian::Width;
use vmcore_format::header::{Header, Mmu};
use vmcore_format::layout::{Layout, Section};

/// The most bytes of `dump_avail` that are looked at; kernels write a page.
const DUMP_AVAIL_LIMIT: u64 = 1 << 20;

pub(super) fn open(
    path: &Path,
    source: Source,
    first: &[u8],
    options: &OpenOptions,
) -> Result<(DumpFormat, Memory, Vec<Warning>), OpenError> {
    let header = Header::parse(first).map_err(|source| OpenError::Header {
        path: path.to_owned(),
        source,
    })?;
    let layout = Layout::of(&header);
    check_length(path, &source, &layout, options.up_to)?;
    let mut warnings = Vec::new();
    let ranges = ranges(path, &source, &header, &layout, &mut warnings)?;
    let bits = bits(&header);
    let pages = Numbering::new(&ranges).total_pages();
    if bits == 0 {
        warnings.push(Warning::NoBitmap);
    } else if bits < pages {
        warnings.push(Warning::BitmapShort { bits, pages });
    }
    if let Some(map) = header.direct_map.filter(|map| map.end < map.base) {
        warnings.push(Warning::DirectMapReversed {
            base: map.base,
            end: map.end,
        });
    }
    warnings.extend(missing_by_design(&header, &Numbering::new(&ranges)));
    let sparse = SparseMemory::new(layout, header.bitmap_order(), ranges, header.page_size);
    let memory = Memory {
        source,
        store: Store::Sparse(sparse),
        page_size: header.page_size,
        endian: header.endian,
    };
    Ok((DumpFormat::Mini(header), memory, warnings))
}

/// Bits of the bitmap.
fn bits(header: &Header) -> u64 {
    let len_bytes = header.bitmapsize.into();
    header.bitmap_order().len_bits(len_bytes)
}

/// What powerpc64's minidumps lack: the image, which the kernel takes out of RAM, and radix tables,
/// which kernels up to 15.1 do not write.
fn missing_by_design(header: &Header, numbering: &Numbering<'_>) -> Vec<Warning> {
    let Mmu::Powerpc64(mmu) = header.mmu else {
        return Vec::new();
    };
    let start = header
        .direct_map
        .and_then(|map| map.phys_of(mmu.startkernel));
    let is_ram = |pa| numbering.bit_of(header.page_size.pfn(pa)).is_some();
    let image = (!start.is_some_and(is_ram)).then_some(Warning::NoKernelImage {
        start: mmu.startkernel,
        end: mmu.endkernel,
    });
    let tables = (header.pmapsize == 0).then_some(Warning::NoPageTables);
    image.into_iter().chain(tables).collect()
}

/// Checks that every section up to `up_to` is in the file.
fn check_length(
    path: &Path,
    source: &Source,
    layout: &Layout,
    up_to: Section,
) -> Result<(), OpenError> {
    let sections = [
        Section::Header,
        Section::MessageBuffer,
        Section::DumpAvail,
        Section::Bitmap,
        Section::PageTables,
    ];
    for section in sections.into_iter().filter(|section| *section <= up_to) {
        let extent = layout.section(section);
        let need = extent.offset.0 + extent.len_bytes;
        if extent.len_bytes > 0 && !source.reaches(need) {
            return Err(OpenError::Truncated {
                path: path.to_owned(),
                section,
                need,
                have: source.len(),
            });
        }
    }
    Ok(())
}

/// The numbered ranges of the dump.
fn ranges(
    path: &Path,
    source: &Source,
    header: &Header,
    layout: &Layout,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<NumberedRange>, OpenError> {
    let Some(_) = header.dumpavailsize else {
        return Ok(vec![NumberedRange::linear(bits(header))]);
    };
    let extent = layout.section(Section::DumpAvail);
    let len = extent.len_bytes.min(DUMP_AVAIL_LIMIT);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = source
        .read_positional(extent.offset.0, &mut bytes)
        .map_err(|error| OpenError::io(path, error))?;
    bytes.truncate(read);
    let could_be_narrow = header.could_have_narrow_ranges();
    let width = match could_be_narrow && dump_avail::is_narrow(&bytes, header.endian) {
        true => Width::W32,
        false => Width::W64,
    };
    let pair_bytes = usize::try_from(2 * width.bytes()).unwrap_or(16);
    let pairs = dump_avail::decode(&bytes, header.endian, width).count();
    if pairs == 0 {
        let is_cut = !source.reaches(extent.offset.0 + extent.len_bytes);
        if header.bitmapsize == 0 || is_cut {
            return Ok(Vec::new());
        }
        return Err(OpenError::BadRanges {
            path: path.to_owned(),
            reason: "this version numbers its pages by RAM ranges (dump_avail), and there are none",
        });
    }
    if pairs == bytes.len() / pair_bytes {
        warnings.push(Warning::NoTerminator);
    }
    let mut ranges = vec![NumberedRange::default(); pairs];
    let count = NumberedRange::number(
        header.page_size,
        dump_avail::decode(&bytes, header.endian, width),
        &mut ranges,
    );
    ranges.truncate(count.accepted);
    if count.refused > 0 {
        warnings.push(Warning::RangesRefused {
            count: count.refused,
        });
    }
    Ok(ranges)
}
