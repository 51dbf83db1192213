//! Minidumps of every architecture, in every version and byte order.
//!
//! [`Minidump`] is a description: memory as a map of pages, the header's fields, raw bytes for the
//! page-table section. [`Minidump::build`] writes the file. Where everything is follows from a
//! model that is as simple as it can be: [`Minidump::bit_of`] and [`Minidump::offset_of`] count
//! pages and bits one by one.
//!
//! ```
//! use vmcore_synth::{Arch, minidump::Minidump};
//! let mut dump = Minidump::new(Arch::Riscv64, 2);
//! dump.dump_avail = vec![(0x8020_0000, 0x9000_0000)];
//! dump.pages.insert(0x8020_1000, vec![7; 4096]);
//! assert_eq!(dump.bit_of(0x8020_1fff), Some(1));
//! assert_eq!(dump.build().len() as u64, dump.sections().pages + 4096);
//! ```

use crate::Arch;
use crate::bytes::{finish, index, low32, pad, page_of, put, round_up};
use crate::msgbuf::Msgbuf;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of the magic field.
const MAGIC_LEN: usize = 24;
/// The same of powerpc64.
const MAGIC_LEN_POWERPC64: usize = 32;
/// What is in pages that only have a bit, no content.
const FILLER: u8 = 0xee;

/// A minidump to be built. All addresses and sizes are in bytes.
#[derive(Clone, Debug)]
pub struct Minidump {
    /// Architecture, which decides the header's layout.
    pub arch: Arch,
    /// Version, which decides the header's layout.
    pub version: u32,
    /// Version as it is stored, if it must not be `version`.
    pub version_field: Option<u32>,
    /// The magic; up to 24 bytes, the rest of the field is zero.
    pub magic: Vec<u8>,
    /// Page size of the whole file.
    pub page_size: u64,
    /// First address that the page-table section maps.
    pub kernbase: u64,
    /// Start of the direct map.
    pub dmapbase: u64,
    /// End of the direct map.
    pub dmapend: u64,
    /// Physical address of the direct map's start (arm64, riscv64).
    pub dmapphys: u64,
    /// Flags (arm64 version 3): 0 for 4 KiB pages, 1 for 16 KiB. arm: `mmuformat`.
    pub flags: u32,
    /// The name of the MMU (powerpc64).
    pub mmu_name: String,
    /// Last address of the kernel map (powerpc64).
    pub kernend: u64,
    /// Whether large pages map the direct map (powerpc64).
    pub hw_direct_map: bool,
    /// Where the kernel runs (powerpc64): start and end.
    pub kernel_range: (u64, u64),
    /// PAE or not (i386).
    pub paemode: u32,
    /// The message buffer in memory order: a ring.
    pub msgbuf: Vec<u8>,
    /// `struct msgbuf` in the slack after it.
    pub msgbuf_control: Option<Msgbuf>,
    /// RAM: (start, end) pairs. Stored if the version has them; the size of the bitmap follows from
    /// them in any case. With ranges that are nonsense, give a bitmap of your own.
    pub dump_avail: Vec<(u64, u64)>,
    /// Whether the ranges are stored as 32-bit addresses.
    pub dump_avail_narrow: bool,
    /// Whether a pair of zeros ends the stored ranges. If not, `dumpavailsize` is exact, and what
    /// follows up to the next page is rubbish.
    pub dump_avail_terminated: bool,
    /// The page-table section.
    pub page_tables: Vec<u8>,
    /// Whether it is stored in whole pages: arm's kernels write the pages right after it, at any
    /// multiple of 1 KiB.
    pub page_tables_padded: bool,
    /// Pages by their physical address. Pages for which there is no bit are left out.
    pub pages: BTreeMap<u64, Vec<u8>>,
    /// Bits to set although there is no such page; a page of filler is stored for each.
    pub extra_bits: BTreeSet<u64>,
    /// Bytes to store as bitmap instead of the right one; the pages stored stay the same.
    pub bitmap: Option<Vec<u8>>,
    /// `msgbufsize` as it is stored, if it must be wrong; likewise for the other sizes.
    pub msgbufsize: Option<u32>,
    /// `bitmapsize` as it is stored, if it must be wrong.
    pub bitmapsize: Option<u32>,
    /// `pmapsize` or `ptesize` as it is stored, if it must be wrong.
    pub pmapsize: Option<u32>,
    /// `dumpavailsize` as it is stored, if it must be wrong.
    pub dumpavailsize: Option<u32>,
    /// Bytes to write over the finished file, by offset.
    pub patches: Vec<(u64, Vec<u8>)>,
    /// Length to cut the file to.
    pub truncate_to: Option<u64>,
    /// Bytes to append at the end.
    pub trailing: Vec<u8>,
}

/// File offsets of the sections; the message buffer's is one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sections {
    /// Of `dump_avail`; where the bitmap starts, if there is none.
    pub dump_avail: u64,
    /// Of the bitmap.
    pub bitmap: u64,
    /// Of the page-table section.
    pub page_tables: u64,
    /// Of the first page.
    pub pages: u64,
}

/// Values and their offsets in the header.
type Placed<T> = Vec<(u64, T)>;

impl Minidump {
    /// An empty dump with the addresses that kernels of this architecture and version have.
    ///
    /// # Panics
    /// Panics if the architecture has no minidumps.
    #[must_use]
    pub fn new(arch: Arch, version: u32) -> Self {
        assert!(arch.newest_version() > 0, "{arch:?} has no minidumps");
        let (kernbase, dmapbase, dmapend, dmapphys) = match (arch, version) {
            (Arch::Amd64, 1) => (
                0xffff_ffff_8000_0000,
                0xffff_ff00_0000_0000,
                0xffff_ff80_0000_0000,
                0,
            ),
            (Arch::Amd64, _) => (
                0xffff_fe00_0000_0000,
                0xffff_f800_0000_0000,
                0xffff_fc00_0000_0000,
                0,
            ),
            (Arch::Arm64, _) => (
                0xffff_0000_0000_0000,
                0xffff_a000_0000_0000,
                0xffff_ff00_0000_0000,
                0x4000_0000,
            ),
            (Arch::I386, 1) => (0xc000_0000, 0, 0, 0),
            (Arch::I386, _) => (0x0080_0000, 0, 0, 0),
            (Arch::Riscv64, _) => (
                0xffff_ffc0_0000_0000,
                0xffff_ffd0_0000_0000,
                0xffff_fff0_0000_0000,
                0x8000_0000,
            ),
            (Arch::Armv7 | Arch::Armeb | Arch::Mips | Arch::Mipsel, _) => (0xc000_0000, 0, 0, 0),
            (Arch::Mips64 | Arch::Mips64el, _) => (0xc000_0000_0000_0000, 0, 0, 0),
            (Arch::Powerpc64 | Arch::Powerpc64le, _) => (
                0xc008_0000_0000_0000,
                0xc000_0000_0000_0000,
                0xc007_ffff_ffff_ffff,
                0,
            ),
            (Arch::Powerpc | Arch::Sparc64, _) => (0, 0, 0, 0),
        };
        Self {
            arch,
            version,
            version_field: None,
            magic: format!("minidump FreeBSD/{}", arch.magic_name()).into_bytes(),
            page_size: 4096,
            kernbase,
            dmapbase,
            dmapend,
            dmapphys,
            flags: 0,
            mmu_name: "mmu_radix".to_owned(),
            kernend: 0xc008_0007_ffff_ffff,
            hw_direct_map: true,
            kernel_range: (0xc000_0000_0050_0100, 0xc000_0000_0250_0000),
            paemode: 0,
            msgbuf: Vec::new(),
            msgbuf_control: None,
            dump_avail: Vec::new(),
            dump_avail_narrow: false,
            dump_avail_terminated: true,
            page_tables: Vec::new(),
            page_tables_padded: !matches!(arch, Arch::Armv7 | Arch::Armeb),
            pages: BTreeMap::new(),
            extra_bits: BTreeSet::new(),
            bitmap: None,
            msgbufsize: None,
            bitmapsize: None,
            pmapsize: None,
            dumpavailsize: None,
            patches: Vec::new(),
            truncate_to: None,
            trailing: Vec::new(),
        }
    }

    /// Whether files of this version hold the RAM ranges; if not, bit 0 is physical page 0.
    #[must_use]
    pub const fn has_dump_avail(&self) -> bool {
        match self.arch {
            Arch::Amd64 => self.version >= 3,
            _ => self.version >= 2,
        }
    }

    /// The ranges that number the pages, as first page and one after the last.
    fn numbered(&self) -> Vec<(u64, u64)> {
        if self.has_dump_avail() {
            return self.page_ranges();
        }
        let from_ranges = self.page_ranges().iter().map(|range| range.1).max();
        let from_pages = self.pages.keys().max().map(|pa| pa / self.page_size + 1);
        vec![(0, from_ranges.max(from_pages).unwrap_or(0))]
    }

    fn page_ranges(&self) -> Vec<(u64, u64)> {
        let range =
            |(start, end): &(u64, u64)| (start / self.page_size, end.div_ceil(self.page_size));
        self.dump_avail.iter().map(range).collect()
    }

    /// The number of the bit for the page at `pa`: counts the pages before it.
    #[must_use]
    pub fn bit_of(&self, pa: u64) -> Option<u64> {
        let wanted = pa / self.page_size;
        let mut bit = 0;
        for (first, end) in self.numbered() {
            for page in first..end {
                if page == wanted {
                    return Some(bit);
                }
                bit += 1;
            }
        }
        None
    }

    /// What is stored for each set bit, in the order of the file: a page and its address, or filler.
    fn stored(&self) -> BTreeMap<u64, Option<(u64, &[u8])>> {
        let mut stored: BTreeMap<u64, Option<(u64, &[u8])>> =
            self.extra_bits.iter().map(|bit| (*bit, None)).collect();
        let mut base = 0;
        for (first, end) in self.numbered() {
            let bytes = first.saturating_mul(self.page_size)..end.saturating_mul(self.page_size);
            if bytes.start < bytes.end {
                for (pa, content) in self.pages.range(bytes) {
                    // Where two ranges meet inside a page, the first one has it.
                    if self.bit_is_first(*pa, first) {
                        stored.insert(base + pa / self.page_size - first, Some((*pa, content)));
                    }
                }
            }
            base += end.saturating_sub(first);
        }
        stored
    }

    /// Whether no range before the one that starts at page `first` has this page too.
    fn bit_is_first(&self, pa: u64, first: u64) -> bool {
        let page = pa / self.page_size;
        let has = |range: &(u64, u64)| (range.0..range.1).contains(&page);
        self.numbered()
            .iter()
            .find(|range| has(range))
            .is_none_or(|range| range.0 == first)
    }

    /// The bitmap as it is stored, without padding to a page.
    #[must_use]
    pub fn bitmap_bytes(&self) -> Vec<u8> {
        if let Some(bitmap) = &self.bitmap {
            return bitmap.clone();
        }
        let bits: u64 = self
            .numbered()
            .iter()
            .map(|(first, end)| end.saturating_sub(*first))
            .sum();
        let extra = self.extra_bits.iter().max().map_or(0, |bit| bit + 1);
        let len = round_up(8 * bits.max(extra).max(1).div_ceil(64), self.page_size);
        let mut bitmap = vec![0; index(len)];
        for bit in self.stored().into_keys() {
            bitmap[index(self.bitmap_byte(bit))] |= 1 << (bit % 8);
        }
        bitmap
    }

    /// Bytes of the bitmap's words, which are in the kernel's byte order: mips had 32-bit ones in
    /// version 1. Little-endian words of every length are the same bytes, so they count as one.
    #[must_use]
    pub const fn bitmap_word_bytes(&self) -> u64 {
        let is_old_mips64 = matches!(self.arch, Arch::Mips64) && self.version == 1;
        match (self.arch.is_big_endian(), is_old_mips64) {
            (false, _) => 1,
            (true, true) => 4,
            (true, false) => self.arch.word_bytes(),
        }
    }

    /// The byte of the bitmap that holds a bit.
    const fn bitmap_byte(&self, bit: u64) -> u64 {
        let (byte, word) = (bit / 8, self.bitmap_word_bytes());
        byte / word * word + word - 1 - byte % word
    }

    /// The RAM ranges as they are stored, and their exact length.
    fn dump_avail_bytes(&self) -> (Vec<u8>, u64) {
        let mut bytes = Vec::new();
        for (start, end) in &self.dump_avail {
            let width = if self.dump_avail_narrow { 4 } else { 8 };
            bytes.extend(self.arch.number(width, *start));
            bytes.extend(self.arch.number(width, *end));
        }
        if self.dump_avail_terminated {
            bytes.resize(bytes.len() + 16, 0);
            pad(&mut bytes, self.page_size);
            let len = bytes.len() as u64;
            return (bytes, len);
        }
        let exact = bytes.len() as u64;
        bytes.resize(index(round_up(exact, self.page_size)), 0xff);
        (bytes, exact)
    }

    /// Where the sections start, by the lengths of what they hold.
    #[must_use]
    pub fn sections(&self) -> Sections {
        let rounded = |len: usize| round_up(len as u64, self.page_size);
        let dump_avail = self.page_size + rounded(self.msgbuf.len());
        let ranges = if self.has_dump_avail() {
            self.dump_avail_bytes().0.len()
        } else {
            0
        };
        let bitmap = dump_avail + rounded(ranges);
        let page_tables = bitmap + rounded(self.bitmap_bytes().len());
        let pages = page_tables
            + match self.page_tables_padded {
                true => rounded(self.page_tables.len()),
                false => self.page_tables.len() as u64,
            };
        Sections {
            dump_avail,
            bitmap,
            page_tables,
            pages,
        }
    }

    /// File offset of the byte at `pa`, by counting the set bits before its page's; `None` if its
    /// bit is clear or it has none.
    #[must_use]
    pub fn offset_of(&self, pa: u64) -> Option<u64> {
        let bit = self.bit_of(pa)?;
        let bitmap = self.bitmap_bytes();
        let is_set = |bit: u64| {
            bitmap
                .get(index(self.bitmap_byte(bit)))
                .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
        };
        if !is_set(bit) {
            return None;
        }
        let mut offset = self.sections().pages;
        for earlier in 0..bit {
            if is_set(earlier) {
                offset += self.page_size;
            }
        }
        Some(offset + pa % self.page_size)
    }

    /// Physical address and file offset of every page that is stored, in the order of the file.
    #[must_use]
    pub fn offsets(&self) -> Vec<(u64, u64)> {
        let start = self.sections().pages;
        let numbered = (0..).zip(self.stored().into_values());
        numbered
            .filter_map(|(position, page): (u64, _)| {
                Some((page?.0, start + position * self.page_size))
            })
            .collect()
    }

    fn header_page(&self, dumpavailsize: u64) -> Vec<u8> {
        let mut page = vec![0; index(self.page_size)];
        let is_powerpc64 = matches!(self.arch, Arch::Powerpc64 | Arch::Powerpc64le);
        let (magic_len, version_at) = if is_powerpc64 {
            (MAGIC_LEN_POWERPC64, 64)
        } else {
            (MAGIC_LEN, 24)
        };
        put(&mut page, 0, &self.magic[..self.magic.len().min(magic_len)]);
        if is_powerpc64 {
            put(&mut page, 32, self.mmu_name.as_bytes());
        }
        let size = |stored: Option<u32>, real: usize| stored.unwrap_or(low32(real as u64));
        let sizes = [
            self.version_field.unwrap_or(self.version),
            size(self.msgbufsize, self.msgbuf.len()),
            size(self.bitmapsize, self.bitmap_bytes().len()),
            size(self.pmapsize, self.page_tables.len()),
        ];
        for (number, value) in (0..).zip(sizes) {
            put(&mut page, version_at + 4 * number, &self.arch.u32(value));
        }
        let dumpavailsize = self.dumpavailsize.unwrap_or(low32(dumpavailsize));
        let (wide, narrow) = self.fields(dumpavailsize);
        for (at, value) in wide {
            put(&mut page, at, &self.arch.u64(value));
        }
        for (at, value) in narrow {
            put(&mut page, at, &self.arch.u32(value));
        }
        page
    }

    /// The fields after the sizes, by their offset: those of 8 bytes, and those of 4.
    fn fields(&self, dumpavailsize: u32) -> (Placed<u64>, Placed<u32>) {
        let (wide, mut narrow, dumpavailsize_at) = match self.arch {
            Arch::Amd64 => (
                vec![(40, self.kernbase), (48, self.dmapbase), (56, self.dmapend)],
                vec![],
                64,
            ),
            Arch::Arm64 | Arch::Riscv64 => {
                let wide = vec![
                    (40, self.kernbase),
                    (48, self.dmapphys),
                    (56, self.dmapbase),
                    (64, self.dmapend),
                ];
                let has_flags = self.arch == Arch::Arm64 && self.version >= 3;
                (
                    wide,
                    if has_flags {
                        vec![(76, self.flags)]
                    } else {
                        vec![]
                    },
                    72,
                )
            }
            Arch::I386 => (
                vec![],
                vec![(40, low32(self.kernbase)), (44, self.paemode)],
                48,
            ),
            Arch::Armv7 | Arch::Armeb => (
                vec![],
                vec![(40, low32(self.kernbase)), (44, 7), (48, self.flags)],
                52,
            ),
            Arch::Mips | Arch::Mipsel | Arch::Mips64 | Arch::Mips64el => {
                (vec![(40, self.kernbase)], vec![], 64)
            }
            Arch::Powerpc64 | Arch::Powerpc64le => (
                vec![
                    (80, self.kernbase),
                    (88, self.kernend),
                    (96, self.dmapbase),
                    (104, self.dmapend),
                    (120, self.kernel_range.0),
                    (128, self.kernel_range.1),
                ],
                vec![(112, u32::from(self.hw_direct_map))],
                136,
            ),
            Arch::Powerpc | Arch::Sparc64 => (vec![], vec![], 0),
        };
        if self.has_dump_avail() {
            narrow.push((dumpavailsize_at, dumpavailsize));
        }
        (wide, narrow)
    }

    /// Everything before the pages, each section padded to whole pages as kernels do.
    pub(crate) fn front(&self) -> Vec<u8> {
        let (ranges, dumpavailsize) = self.dump_avail_bytes();
        let mut file = self.header_page(dumpavailsize);
        file.extend_from_slice(&self.msgbuf);
        let slack_at = file.len();
        pad(&mut file, self.page_size);
        if let Some(control) = &self.msgbuf_control {
            let raw = control.bytes(self.arch);
            let room = raw.len().min(file.len() - slack_at);
            put(&mut file, slack_at as u64, &raw[..room]);
        }
        if self.has_dump_avail() {
            file.extend_from_slice(&ranges);
        }
        file.extend_from_slice(&self.bitmap_bytes());
        pad(&mut file, self.page_size);
        file.extend_from_slice(&self.page_tables);
        if self.page_tables_padded {
            pad(&mut file, self.page_size);
        }
        file
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut file = self.front();
        for content in self.stored().into_values() {
            match content {
                Some((_, content)) => file.extend(page_of(content, self.page_size)),
                None => file.resize(file.len() + index(self.page_size), FILLER),
            }
        }
        finish(file, &self.patches, self.truncate_to, &self.trailing)
    }
}

#[cfg(test)]
mod tests;
