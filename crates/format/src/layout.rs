//! Where each section of a minidump is in the file.
//!
//! Every minidump has the same shape: header, message buffer, `dump_avail` (newer versions),
//! bitmap, page tables, sparse pages; each section starts on a page boundary and is stored rounded
//! up to pages. The sizes in the header are 32-bit, their sums are not: all is `u64` here and
//! nothing can overflow.
//!
//! arm alone has page tables that need not be whole pages: 1 KiB for each MiB of the kernel map. Its
//! kernels write the pages right after them (`minidumpsys` in `sys/arm/arm/minidump_machdep.c` of
//! every release), so that no page is on a page boundary of the file. FreeBSD's libkvm, which
//! did not round at first, rounds up now, and so did other writers: [`Layout::with_padding`].
//!
//! ```
//! use vmcore_format::addr::{FileOffset, PageSize};
//! use vmcore_format::layout::{Layout, Section};
//! let layout = Layout::new(PageSize::SIZE_4K, 98232, Some(4096), 4096, 0x7ff000);
//! assert_eq!(layout.section(Section::DumpAvail).offset, FileOffset(0x19000));
//! assert_eq!(layout.section(Section::Pages).offset, FileOffset(0x81a000));
//! assert_eq!(layout.end(24144), Some(FileOffset(0x666a000)));
//! ```

use crate::addr::{FileOffset, PageSize};
use crate::arch::Arch;
use crate::header::Header;
use core::fmt;

/// A part of a minidump file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The header, alone on its page.
    Header,
    /// The message buffer's ring, and what follows it in memory up to the page's end.
    MessageBuffer,
    /// The ranges that number the bitmap's bits.
    DumpAvail,
    /// Which pages are in the dump.
    Bitmap,
    /// The final levels of the kernel's page tables.
    PageTables,
    /// The pages, in the order of their bits.
    Pages,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::MessageBuffer => "message buffer",
            Self::DumpAvail => "dump_avail",
            Self::Bitmap => "bitmap",
            Self::PageTables => "page tables",
            Self::Pages => "pages",
        })
    }
}

/// Where a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte in the file.
    pub offset: FileOffset,
    /// Bytes that mean something, as in the header.
    pub len_bytes: u64,
    /// Bytes that it takes in the file: rounded up to pages, but for arm's page tables.
    pub stored_bytes: u64,
}

impl Extent {
    /// First byte after the stored section.
    #[must_use]
    pub const fn end(self) -> FileOffset {
        FileOffset(self.offset.0 + self.stored_bytes)
    }
}

/// Offsets of all sections of one minidump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    page_size: PageSize,
    msgbufsize: u32,
    dumpavailsize: u32,
    bitmapsize: u32,
    pmapsize: u32,
    /// Whether the page tables are stored rounded up to pages.
    is_padded: bool,
}

impl Layout {
    /// The layout for these section sizes, in bytes.
    #[must_use]
    pub const fn new(
        page_size: PageSize,
        msgbufsize: u32,
        dumpavailsize: Option<u32>,
        bitmapsize: u32,
        pmapsize: u32,
    ) -> Self {
        let dumpavailsize = match dumpavailsize {
            Some(size) => size,
            None => 0,
        };
        Self {
            page_size,
            msgbufsize,
            dumpavailsize,
            bitmapsize,
            pmapsize,
            is_padded: true,
        }
    }

    /// The layout that kernels give a dump with this header.
    #[must_use]
    pub const fn of(header: &Header) -> Self {
        Self::new(
            header.page_size,
            header.msgbufsize,
            header.dumpavailsize,
            header.bitmapsize,
            header.pmapsize,
        )
        .with_padding(!matches!(header.arch, Arch::Arm))
    }

    /// The same with page tables that are stored rounded up to pages, or not.
    #[must_use]
    pub const fn with_padding(self, is_padded: bool) -> Self {
        Self { is_padded, ..self }
    }

    /// Whether the page tables are whole pages, so that it does not matter whether they are padded.
    #[must_use]
    pub const fn is_even(&self) -> bool {
        self.stored(self.pmapsize) == self.pmapsize as u64
    }

    /// Where `section` is. [`Section::Pages`] has a length of 0 here: the bitmap decides it, see
    /// [`Layout::end`].
    #[must_use]
    pub const fn section(&self, section: Section) -> Extent {
        let page = self.page_size.bytes();
        let dump_avail = page + self.stored(self.msgbufsize);
        let bitmap = dump_avail + self.stored(self.dumpavailsize);
        let tables = bitmap + self.stored(self.bitmapsize);
        let tables_stored = match self.is_padded {
            true => self.stored(self.pmapsize),
            false => self.pmapsize as u64,
        };
        let pages = tables + tables_stored;
        let (offset, len) = match section {
            Section::Header => {
                return Extent {
                    offset: FileOffset(0),
                    len_bytes: page,
                    stored_bytes: page,
                };
            }
            Section::MessageBuffer => (page, self.msgbufsize),
            Section::DumpAvail => (dump_avail, self.dumpavailsize),
            Section::Bitmap => (bitmap, self.bitmapsize),
            Section::PageTables => (tables, self.pmapsize),
            Section::Pages => (pages, 0),
        };
        Extent {
            offset: FileOffset(offset),
            len_bytes: len as u64,
            stored_bytes: match section {
                Section::PageTables => tables_stored,
                _ => self.stored(len),
            },
        }
    }

    /// Where sparse page number `rank` (counted from 0) starts, or `None` beyond 2^64.
    #[inline]
    #[must_use]
    pub const fn page_offset(&self, rank: u64) -> Option<FileOffset> {
        let Some(bytes) = rank.checked_mul(self.page_size.bytes()) else {
            return None;
        };
        self.section(Section::Pages).offset.checked_add(bytes)
    }

    /// Length of a complete dump with `set_bits` pages, or `None` beyond 2^64.
    #[must_use]
    pub const fn end(&self, set_bits: u64) -> Option<FileOffset> {
        self.page_offset(set_bits)
    }

    /// A size from the header rounded up to pages: at most 2^32 + a page.
    const fn stored(&self, size: u32) -> u64 {
        self.page_size.pages(size as u64) * self.page_size.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(layout: &Layout) -> [u64; 4] {
        [
            Section::DumpAvail,
            Section::Bitmap,
            Section::PageTables,
            Section::Pages,
        ]
        .map(|section| layout.section(section).offset.0)
    }

    #[test]
    fn message_buffer_sizes_move_the_sections_after_it() {
        for (size, next) in [
            (0, 0x1000),
            (1, 0x2000),
            (120, 0x2000),
            (4095, 0x2000),
            (4096, 0x2000),
            (4097, 0x3000),
            (98232, 0x19000),
        ] {
            let layout = Layout::new(PageSize::SIZE_4K, size, Some(16), 8, 8);
            assert_eq!(
                offsets(&layout),
                [next, next + 0x1000, next + 0x2000, next + 0x3000]
            );
            assert_eq!(
                layout.section(Section::MessageBuffer).len_bytes,
                u64::from(size)
            );
        }
    }

    #[test]
    fn sections_of_length_zero_take_no_room() {
        let layout = Layout::new(PageSize::SIZE_4K, 0, None, 0, 0);
        assert_eq!(offsets(&layout), [0x1000; 4]);
        assert_eq!(layout.end(0), Some(FileOffset(0x1000)));
    }

    #[test]
    fn the_largest_sizes_do_not_overflow() {
        let layout = Layout::new(
            PageSize::SIZE_16K,
            u32::MAX,
            Some(u32::MAX),
            u32::MAX,
            u32::MAX,
        );
        assert_eq!(
            layout.section(Section::Pages).offset.0,
            16384 + 4 * (1 << 32)
        );
        assert_eq!(layout.end(u64::MAX / 16384), None);
    }

    /// The offsets of three dumps that FreeBSD wrote, as decoded by another reader.
    #[test]
    fn the_sections_of_real_dumps_lie_where_they_were_found() {
        for (sizes, expected, set_bits, end) in [
            (
                [98232, 4096, 4096, 0x7f_f000],
                [0x1_9000, 0x1_a000, 0x1_b000, 0x81_a000],
                24144,
                0x666_a000,
            ),
            (
                [98248, 4096, 4096, 0xe_c000],
                [0x1_9000, 0x1_a000, 0x1_b000, 0x10_7000],
                18928,
                0x4af_7000,
            ),
            (
                [98232, 4096, 8192, 0x6a_e000],
                [0x1_9000, 0x1_a000, 0x1_c000, 0x6c_a000],
                19296,
                0x522_a000,
            ),
        ] {
            let [msgbufsize, dumpavailsize, bitmapsize, pmapsize] = sizes;
            let layout = Layout::new(
                PageSize::SIZE_4K,
                msgbufsize,
                Some(dumpavailsize),
                bitmapsize,
                pmapsize,
            );
            assert_eq!(offsets(&layout), expected);
            assert_eq!(layout.end(set_bits), Some(FileOffset(end)));
        }
    }

    #[test]
    fn the_page_size_rounds_every_section_the_header_too() {
        let layout = Layout::new(PageSize::SIZE_16K, 1, Some(16), 0x4001, 8);
        assert_eq!(offsets(&layout), [0x8000, 0xc000, 0x1_4000, 0x1_8000]);
        assert_eq!(layout.page_offset(3), Some(FileOffset(0x2_4000)));
        let bitmap = layout.section(Section::Bitmap);
        assert_eq!((bitmap.len_bytes, bitmap.stored_bytes), (0x4001, 0x8000));
        assert_eq!(bitmap.end(), layout.section(Section::PageTables).offset);
    }

    /// A dump that an armv7 kernel wrote: 333 KiB of tables.
    #[test]
    fn pages_follow_tables_that_are_not_whole_pages_at_once_or_on_the_next_page() {
        let padded = Layout::new(PageSize::SIZE_4K, 98248, Some(4096), 0x2000, 340_992);
        let packed = padded.with_padding(false);
        assert!(!padded.is_even());
        assert_eq!(offsets(&padded), [0x1_9000, 0x1_a000, 0x1_c000, 0x7_0000]);
        assert_eq!(offsets(&packed), [0x1_9000, 0x1_a000, 0x1_c000, 0x6_f400]);
        for layout in [padded, packed] {
            let tables = layout.section(Section::PageTables);
            assert_eq!(tables.len_bytes, 340_992);
            assert_eq!(tables.end(), layout.section(Section::Pages).offset);
        }
        assert_eq!(packed.end(3), Some(FileOffset(0x7_2400)));
        let whole = Layout::new(PageSize::SIZE_4K, 98248, Some(4096), 0x2000, 0x5_4000);
        assert!(whole.is_even());
        assert_eq!(offsets(&whole), offsets(&whole.with_padding(false)));
    }

    #[test]
    fn versions_without_ranges_have_no_section_for_them() {
        let old = Layout::new(PageSize::SIZE_4K, 120, None, 0x1000, 0x2000);
        let empty = Layout::new(PageSize::SIZE_4K, 120, Some(0), 0x1000, 0x2000);
        assert_eq!(old, empty);
        assert_eq!(offsets(&old), [0x2000, 0x2000, 0x3000, 0x5000]);
    }
}
