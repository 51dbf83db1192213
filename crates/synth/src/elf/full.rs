//! Full dumps: ELF cores with one segment for each range of RAM.

use super::{
    ET_CORE, FileHeader, PT_DUMP_DELTA, PT_LOAD, ProgramHeader, header_len, program_header_len,
};
use crate::Arch;
use crate::bytes::{finish, index, low16, page_of, round_up};
use std::collections::BTreeMap;

/// Page size of the architectures that have full dumps.
const PAGE: u64 = 4096;

/// A full dump to be built.
///
/// ```
/// use std::collections::BTreeMap;
/// use vmcore_synth::{Arch, elf::FullDump};
/// let pages = BTreeMap::from([(0x2000, b"a page".to_vec())]);
/// let dump = FullDump::of_memory(Arch::Amd64, &[(0, 0x4000)], &pages);
/// let file = dump.build();
/// assert_eq!(file.len(), 0x5000);
/// assert_eq!(dump.offset_of(0x2000), Some(0x3000));
/// assert_eq!(&file[0x3000..0x3006], b"a page");
/// ```
#[derive(Clone, Debug)]
pub struct FullDump {
    /// Architecture.
    pub arch: Arch,
    /// The segments, in the order of their headers and of the file.
    pub segments: Vec<Segment>,
    /// Whether the segments are virtual memory, as those of powerpc: `p_vaddr` is the address by
    /// which they are given here, and all bits of `p_paddr` are set in the file.
    pub is_virtual: bool,
    /// The header that says where the kernel was loaded, after all others.
    pub delta: Option<Delta>,
    /// `EI_CLASS`: 1 for 32 bits, 2 for 64.
    pub class: u8,
    /// `EI_DATA`: 1 for little-endian.
    pub data: u8,
    /// `EI_OSABI`.
    pub osabi: u8,
    /// `e_type`.
    pub e_type: u16,
    /// `e_machine`.
    pub e_machine: u16,
    /// `e_version`; kernels leave it 0.
    pub e_version: u32,
    /// `e_phoff`, if it must be wrong.
    pub e_phoff: Option<u64>,
    /// `e_phentsize`, if it must be wrong.
    pub e_phentsize: Option<u16>,
    /// `e_phnum`, if it must be wrong.
    pub e_phnum: Option<u16>,
    /// Bytes to write over the finished file, by offset.
    pub patches: Vec<(u64, Vec<u8>)>,
    /// Length to cut the file to.
    pub truncate_to: Option<u64>,
    /// Bytes to append at the end.
    pub trailing: Vec<u8>,
}

/// A segment of a full dump.
#[derive(Clone, Debug)]
pub struct Segment {
    /// `p_type`.
    pub p_type: u32,
    /// `p_vaddr`; kernels store the physical address.
    pub p_vaddr: u64,
    /// `p_paddr`.
    pub p_paddr: u64,
    /// What is stored.
    pub content: Vec<u8>,
    /// `p_offset`, if it must not be where the content is.
    pub p_offset: Option<u64>,
    /// `p_filesz`, if it must not be the content's length.
    pub p_filesz: Option<u64>,
    /// `p_memsz`, if it must not be the content's length.
    pub p_memsz: Option<u64>,
}

/// Where the kernel was loaded (`PT_DUMP_DELTA`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// `p_vaddr`: the kernel's base.
    pub p_vaddr: u64,
    /// `p_paddr`: where the image is.
    pub p_paddr: u64,
    /// `p_align`: on amd64 how far past the base the image starts.
    pub p_align: u64,
}

impl FullDump {
    /// A dump of the RAM in `ranges`, which start and end at pages. Pages that `pages` lacks are
    /// zero.
    #[must_use]
    pub fn of_memory(arch: Arch, ranges: &[(u64, u64)], pages: &BTreeMap<u64, Vec<u8>>) -> Self {
        let segment = |(start, end): &(u64, u64)| {
            let mut content = vec![0; index(end - start)];
            for (pa, page) in pages.range(*start..*end) {
                let at = index(pa - start);
                content[at..at + index(PAGE)].copy_from_slice(&page_of(page, PAGE));
            }
            Segment {
                p_type: PT_LOAD,
                p_vaddr: *start,
                p_paddr: *start,
                content,
                p_offset: None,
                p_filesz: None,
                p_memsz: None,
            }
        };
        Self {
            arch,
            segments: ranges.iter().map(segment).collect(),
            is_virtual: false,
            delta: None,
            class: if arch.is_32_bit() { 1 } else { 2 },
            data: if arch.is_big_endian() { 2 } else { 1 },
            osabi: 255,
            e_type: ET_CORE,
            e_machine: arch.e_machine(),
            e_version: 0,
            e_phoff: None,
            e_phentsize: None,
            e_phnum: None,
            patches: Vec::new(),
            truncate_to: None,
            trailing: Vec::new(),
        }
    }

    /// The headers of the full dump of the RAM in `ranges`, a page long, for contents that are too
    /// large to be held.
    #[must_use]
    pub fn headers(arch: Arch, ranges: &[(u64, u64)]) -> Vec<u8> {
        let mut file = vec![0; index(PAGE)];
        let mut header = FileHeader::new(arch, ET_CORE);
        header.osabi = 255;
        header.e_version = 0;
        header.e_phnum = low16(ranges.len() as u64);
        header.write(arch, &mut file);
        let (mut at, mut offset) = (header_len(arch), PAGE);
        for (start, end) in ranges {
            let program_header = ProgramHeader {
                p_type: PT_LOAD,
                p_flags: 4,
                p_offset: offset,
                p_vaddr: *start,
                p_paddr: *start,
                p_filesz: end - start,
                p_memsz: end - start,
                p_align: PAGE,
            };
            program_header.write(arch, &mut file, at);
            at += program_header_len(arch);
            offset += end - start;
        }
        file
    }

    fn header_count(&self) -> u64 {
        self.segments.len() as u64 + u64::from(self.delta.is_some())
    }

    /// File offset of the first segment's content.
    #[must_use]
    pub fn content_offset(&self) -> u64 {
        let headers = self.header_count() * program_header_len(self.arch);
        round_up(header_len(self.arch) + headers, PAGE)
    }

    /// File offset of the byte at `pa` by where the contents were put; `None` if in no segment.
    #[must_use]
    pub fn offset_of(&self, pa: u64) -> Option<u64> {
        let mut offset = self.content_offset();
        for segment in &self.segments {
            let len = segment.content.len() as u64;
            if segment.p_type == PT_LOAD && (segment.p_paddr..segment.p_paddr + len).contains(&pa) {
                return Some(offset + pa - segment.p_paddr);
            }
            offset += len;
        }
        None
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let arch = self.arch;
        let mut header = FileHeader::new(arch, self.e_type);
        header.class = self.class;
        header.data = self.data;
        header.osabi = self.osabi;
        header.e_machine = self.e_machine;
        header.e_version = self.e_version;
        header.e_phoff = self.e_phoff.unwrap_or(header.e_phoff);
        header.e_phentsize = self.e_phentsize.unwrap_or(header.e_phentsize);
        header.e_phnum = self.e_phnum.unwrap_or(low16(self.header_count()));
        let mut file = vec![0; index(self.content_offset())];
        header.write(arch, &mut file);
        let mut at = header_len(arch);
        for segment in &self.segments {
            let len = segment.content.len() as u64;
            let program_header = ProgramHeader {
                p_type: segment.p_type,
                p_flags: 4,
                p_offset: segment.p_offset.unwrap_or(file.len() as u64),
                p_vaddr: segment.p_vaddr,
                p_paddr: match self.is_virtual {
                    true => u64::MAX >> if arch.is_32_bit() { 32 } else { 0 },
                    false => segment.p_paddr,
                },
                p_filesz: segment.p_filesz.unwrap_or(len),
                p_memsz: segment.p_memsz.unwrap_or(len),
                p_align: PAGE,
            };
            program_header.write(arch, &mut file, at);
            at += program_header_len(arch);
            file.extend_from_slice(&segment.content);
        }
        if let Some(delta) = self.delta {
            let program_header = ProgramHeader {
                p_type: PT_DUMP_DELTA,
                p_flags: 4,
                p_offset: 0,
                p_vaddr: delta.p_vaddr,
                p_paddr: delta.p_paddr,
                p_filesz: 0,
                p_memsz: 0,
                p_align: delta.p_align,
            };
            program_header.write(arch, &mut file, at);
        }
        finish(file, &self.patches, self.truncate_to, &self.trailing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(arch: Arch) -> FullDump {
        let pages = BTreeMap::from([(0x1000, vec![1; 4096]), (0x20_0000, b"kernel".to_vec())]);
        FullDump::of_memory(arch, &[(0, 0x3000), (0x20_0000, 0x20_2000)], &pages)
    }

    #[test]
    fn headers_alone_are_those_of_the_whole() {
        let ranges = [(0, 0x3000), (0x20_0000, 0x20_2000)];
        for arch in [Arch::Amd64, Arch::I386] {
            let whole = FullDump::of_memory(arch, &ranges, &BTreeMap::new()).build();
            assert_eq!(FullDump::headers(arch, &ranges), whole[..0x1000]);
        }
    }

    #[test]
    fn ranges_follow_each_other_after_the_headers() {
        for arch in [Arch::Amd64, Arch::I386] {
            let dump = small(arch);
            let file = dump.build();
            assert_eq!(file.len(), 0x1000 + 0x3000 + 0x2000);
            assert_eq!(file[0x2000..0x3000], [1; 4096]);
            assert_eq!(dump.offset_of(0x20_0000), Some(0x4000));
            assert_eq!(file[0x4000..0x4006], *b"kernel");
            assert_eq!(dump.offset_of(0x3000), None);
        }
    }

    #[test]
    fn fields_of_amd64_stand_where_elf_has_them() {
        let mut dump = small(Arch::Amd64);
        dump.delta = Some(Delta {
            p_vaddr: 0xffff_ffff_8000_0000,
            p_paddr: 0x60_0000,
            p_align: 0x20_0000,
        });
        let file = dump.build();
        assert_eq!(file[..8], [0x7f, b'E', b'L', b'F', 2, 1, 1, 255]);
        assert_eq!(file[16..24], [4, 0, 62, 0, 0, 0, 0, 0]);
        assert_eq!(file[32..40], 64_u64.to_le_bytes());
        assert_eq!(file[52..58], [64, 0, 56, 0, 3, 0]);
        let second = 64 + 56;
        assert_eq!(file[second..second + 8], [1, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(file[second + 8..second + 16], 0x4000_u64.to_le_bytes());
        assert_eq!(file[second + 24..second + 32], 0x20_0000_u64.to_le_bytes());
        assert_eq!(file[second + 32..second + 40], 0x2000_u64.to_le_bytes());
        let third = second + 56;
        assert_eq!(file[third..third + 4], 0x6fb5_d000_u32.to_le_bytes());
        assert_eq!(file[third + 24..third + 32], 0x60_0000_u64.to_le_bytes());
        assert_eq!(file[third + 48..third + 56], 0x20_0000_u64.to_le_bytes());
    }

    #[test]
    fn fields_of_i386_stand_where_elf_has_them() {
        let file = small(Arch::I386).build();
        assert_eq!(file[..8], [0x7f, b'E', b'L', b'F', 1, 1, 1, 255]);
        assert_eq!(file[28..32], 52_u32.to_le_bytes());
        assert_eq!(file[40..46], [52, 0, 32, 0, 2, 0]);
        let second = 52 + 32;
        let words: Vec<u32> = file[second..second + 32]
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(
            words,
            [1, 0x4000, 0x20_0000, 0x20_0000, 0x2000, 0x2000, 4, 4096]
        );
    }
}
