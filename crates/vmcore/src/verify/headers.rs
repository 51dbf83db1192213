//! Checks of the sections before the pages.

use super::{Check, Verdict};
use crate::dump::Dump;
use crate::memory::{PageReadError, SparseMemory};
use crate::text::{count, counted};
use std::ops::Range;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Endian;
use vmcore_format::header::Header;
use vmcore_format::identity::{IDENTITY_LEN, IDENTITY_MAX_LEN, IDENTITY_OFFSET, IdentityError};
use vmcore_format::layout::{Layout, Section};
use vmcore_format::msgbuf::Msgbuf;

/// Bytes of a page table of arm.
const ARM_TABLE: u32 = 1024;
/// Every kernel maps the direct map by large pages.
const DIRECT_MAP_UNIT: u64 = 2 << 20;

/// The header, the ranges and the bitmap of a minidump; nothing for a full dump.
pub(super) fn checks(dump: &Dump) -> Result<Vec<Check>, PageReadError> {
    let (Some(header), Some(sparse)) = (dump.minidump(), dump.memory().sparse()) else {
        return Ok(Vec::new());
    };
    let mut checks = vec![header_page(dump, header)?, table_section(header, sparse)];
    if header.dumpavailsize.is_some() {
        checks.push(bitmap_size(header, sparse));
    }
    checks.push(padding_bits(dump, sparse)?);
    Ok(checks)
}

/// The header page is zero after the header, but for the identity block.
fn header_page(dump: &Dump, header: &Header) -> Result<Check, PageReadError> {
    let page = dump.section(Section::Header)?.unwrap_or_default();
    let block = match dump.identity_block() {
        Err(IdentityError::Absent) => 0..0,
        // A damaged one is reported elsewhere.
        _ => identity_range(&page),
    };
    let bytes = page.iter().enumerate();
    let bytes = bytes.skip(header.len_bytes());
    let used = bytes
        .filter(|(at, byte)| **byte != 0 && !block.contains(at))
        .count();
    Ok(Check::of(
        "header page",
        used == 0,
        Verdict::Warning,
        match used {
            0 if block.is_empty() => "zero after the header, as kernels leave it".to_owned(),
            0 => "nothing after the header but the identity block".to_owned(),
            used => format!(
                "{} not zero after the header",
                counted(used as u64, "byte is", "bytes are")
            ),
        },
    ))
}

/// The bytes of the identity block, as long as it says it is.
fn identity_range(page: &[u8]) -> Range<usize> {
    let at = usize::try_from(IDENTITY_OFFSET).unwrap_or(0);
    let len = Endian::Little.u32_at(page, at + 12).unwrap_or(0);
    let len = usize::try_from(len).unwrap_or(IDENTITY_LEN);
    at..at + len.clamp(IDENTITY_LEN, IDENTITY_MAX_LEN)
}

/// The page-table section is whole pages, or the kernel's pages follow it at once; and it starts where
/// tables do; so does the direct map.
fn table_section(header: &Header, sparse: &SparseMemory) -> Check {
    let (layout, usual) = (sparse.layout(), Layout::of(header));
    let (stored, whole) = match (layout.is_even(), layout == &usual) {
        (true, _) => (true, ""),
        // arm's kernels do not fill up the page, no other kernel leaves one to be filled up.
        (false, true) if header.arch == Arch::Arm && header.pmapsize.is_multiple_of(ARM_TABLE) => {
            (true, ", and the pages follow at once")
        }
        (false, true) if header.arch == Arch::Arm => (false, ", not whole tables of 1 KiB"),
        (false, false) if header.arch == Arch::Arm => {
            (false, ", filled up to whole pages, which kernels do not do")
        }
        (false, _) => (false, ", not whole pages"),
    };
    let unit = kernbase_unit(header);
    let aligned = header.kernbase.0.is_multiple_of(unit);
    let direct_map = header.direct_map.map_or(0, |map| map.base.0);
    let direct_map_aligned = direct_map.is_multiple_of(DIRECT_MAP_UNIT);
    Check::of(
        "page tables",
        stored && aligned && direct_map_aligned && header.pmapsize > 0,
        Verdict::Warning,
        format!(
            "{} bytes from {} on{whole}{}{}",
            count(header.pmapsize.into()),
            header.kernbase,
            if aligned {
                ""
            } else {
                ", a start that is not aligned"
            },
            if direct_map_aligned {
                ""
            } else {
                "; the direct map's start is not aligned"
            },
        ),
    )
}

/// The bitmap has the size that the ranges of RAM ask for, rounded up to pages by the kernel.
fn bitmap_size(header: &Header, sparse: &SparseMemory) -> Check {
    let pages = sparse.numbering().total_pages();
    let word_bits = header.arch.word().bytes() * 8;
    let bytes = pages.div_ceil(word_bits) * (word_bits / 8);
    let expected = header.page_size.round_up(bytes);
    Check::of(
        "bitmap size",
        expected == Some(u64::from(header.bitmapsize)),
        Verdict::Warning,
        format!(
            "{} for {} in {} of RAM{}",
            counted(header.bitmapsize.into(), "byte", "bytes"),
            counted(pages, "page", "pages"),
            counted(sparse.numbering().ranges().len() as u64, "range", "ranges"),
            match expected {
                Some(size) if size != u64::from(header.bitmapsize) =>
                    format!("; {} expected", count(size)),
                _ => String::new(),
            },
        ),
    )
}

/// No bit after the last page is set.
fn padding_bits(dump: &Dump, sparse: &SparseMemory) -> Result<Check, PageReadError> {
    let source = dump.memory().source();
    let bitmap = sparse.bitmap(source)?;
    let total = sparse.numbering().total_pages();
    let padding = bitmap
        .ones(total.min(bitmap.len_bits())..bitmap.len_bits())
        .count();
    let set = sparse.set_bits(source)?;
    Ok(Check::of(
        "bitmap",
        padding == 0,
        Verdict::Bad,
        match padding {
            0 => format!("{} of {}", counted(set, "page", "pages"), count(total)),
            past => format!(
                "{}, {past} of them past the last page of RAM",
                counted(set, "page", "pages")
            ),
        },
    ))
}

/// The message buffer's structure, which follows it in memory, and its checksum.
pub(super) fn message_buffer(dump: &Dump) -> Result<Check, PageReadError> {
    let check = |verdict, detail: String| Check::new("message buffer", verdict, detail);
    let (Some(header), Some(section)) = (dump.minidump(), dump.section(Section::MessageBuffer)?)
    else {
        return Ok(check(
            Verdict::Skipped,
            "a full dump has none of its own".to_owned(),
        ));
    };
    let len = usize::try_from(header.msgbufsize).unwrap_or(usize::MAX);
    let len_bytes = format!("{} bytes", count(header.msgbufsize.into()));
    let Some((ring, slack)) = section.split_at_checked(len) else {
        return Ok(check(Verdict::Bad, "cut by the end of the file".to_owned()));
    };
    if ring.iter().all(|byte| *byte == 0) {
        return Ok(check(
            Verdict::Warning,
            format!("{len_bytes}, all zeros: empty, or not in the dump"),
        ));
    }
    Ok(
        match Msgbuf::parse(slack, header.endian, header.arch.word()) {
            Err(error) => check(
                Verdict::Skipped,
                format!("{len_bytes}; its structure does not follow it: {error}"),
            ),
            Ok(state) if state.msg_size != header.msgbufsize => check(
                Verdict::Warning,
                format!("{len_bytes}, but its structure says {}", state.msg_size),
            ),
            Ok(state) => {
                let sum = ring
                    .iter()
                    .fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
                Check::of(
                    "message buffer",
                    sum == state.msg_cksum,
                    Verdict::Warning,
                    match sum == state.msg_cksum {
                        true => format!("{len_bytes}, checksum {sum:#x} matches"),
                        false => format!(
                            "{len_bytes} sum up to {sum:#x}, its structure says {:#x}",
                            state.msg_cksum
                        ),
                    },
                )
            }
        },
    )
}

/// What the page-table section starts at a multiple of, in bytes: what the smallest page directory's
/// entry covers, on amd64 whole page directories since version 2.
const fn kernbase_unit(header: &Header) -> u64 {
    match (header.arch, header.version) {
        (Arch::Amd64, 2..) => 1 << 30,
        _ => 4 << 20,
    }
}
