//! The bytes before the core's pages, in the class of its architecture.
//!
//! In this order: file header, section 0 if it must count the segments, program headers (the notes'
//! first), notes, and zeros up to the first page.

use super::loads::Load;
use std::io::{self, Write};
use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::elf::{
    ET_CORE, Elf32Ehdr, Elf32Phdr, Elf32Shdr, Elf64Ehdr, Elf64Phdr, Elf64Shdr, FileHeader, PF_R,
    PF_W, PF_X, PN_XNUM, PT_LOAD, PT_NOTE, Segment,
};
use vmcore_format::endian::{Endian, Width};
use zerocopy::byteorder::LE;

/// What decides about the layout.
pub(super) struct Head {
    /// `PT_LOAD` segments.
    pub(super) loads: u64,
    pub(super) notes_len_bytes: u64,
    pub(super) page_size: PageSize,
}

/// Writes the structures of one class, in one byte order.
pub(super) struct Encoder {
    machine: u16,
    class: Width,
    endian: Endian,
}

impl Encoder {
    pub(super) const fn new(arch: Arch, endian: Endian) -> Self {
        Self {
            machine: arch.elf_machine(),
            class: arch.word(),
            endian,
        }
    }

    const fn lengths(&self) -> (u64, u64, u64) {
        match self.class {
            Width::W32 => (
                size_of::<Elf32Ehdr<LE>>() as u64,
                size_of::<Elf32Phdr<LE>>() as u64,
                size_of::<Elf32Shdr<LE>>() as u64,
            ),
            Width::W64 => (
                size_of::<Elf64Ehdr<LE>>() as u64,
                size_of::<Elf64Phdr<LE>>() as u64,
                size_of::<Elf64Shdr<LE>>() as u64,
            ),
        }
    }

    /// Program headers: the notes' and the segments'.
    const fn headers(head: &Head) -> u64 {
        head.loads + 1
    }

    const fn counts_in_section(head: &Head) -> bool {
        Self::headers(head) >= PN_XNUM as u64
    }

    const fn headers_offset(&self, head: &Head) -> u64 {
        let (file_header, _, section) = self.lengths();
        if Self::counts_in_section(head) {
            file_header + section
        } else {
            file_header
        }
    }

    /// Where the notes are.
    pub(super) const fn notes_offset(&self, head: &Head) -> u64 {
        let (_, program_header, _) = self.lengths();
        self.headers_offset(head) + Self::headers(head) * program_header
    }

    /// Where the first page is.
    pub(super) const fn data_offset(&self, head: &Head) -> u64 {
        let page = head.page_size.bytes();
        (self.notes_offset(head) + head.notes_len_bytes).next_multiple_of(page)
    }

    /// The file header, and section 0 if it is needed.
    pub(super) fn file_header(&self, head: &Head, out: &mut impl Write) -> io::Result<()> {
        let count = Self::headers(head);
        let (file_header, program_header, section) = self.lengths();
        let in_section = Self::counts_in_section(head);
        let header = FileHeader {
            class: self.class,
            endian: self.endian,
            e_type: ET_CORE,
            e_machine: self.machine,
            e_phoff: self.headers_offset(head),
            e_phentsize: u16::try_from(program_header).unwrap_or(u16::MAX),
            e_phnum: u16::try_from(count).unwrap_or(PN_XNUM),
            e_shoff: if in_section { file_header } else { 0 },
        };
        let mut raw = [0; FileHeader::MAX_LEN];
        let len = header.encode_core(&mut raw).ok_or_else(too_large)?;
        out.write_all(raw.get(..len).unwrap_or_default())?;
        if in_section {
            let mut raw = vec![0; usize::try_from(section).unwrap_or(0)];
            let at = header.section_info_offset();
            if let Some(field) = raw.get_mut(at..at + 4) {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                field.copy_from_slice(&self.endian.bytes32(count));
            }
            out.write_all(&raw)?;
        }
        Ok(())
    }

    /// The program header of the notes.
    pub(super) fn note_segment(&self, head: &Head, out: &mut impl Write) -> io::Result<()> {
        let segment = Segment {
            p_type: PT_NOTE,
            p_flags: PF_R,
            p_offset: self.notes_offset(head),
            p_filesz: head.notes_len_bytes,
            p_align: 4,
            ..Segment::default()
        };
        self.segment(&segment, out)
    }

    /// The program header of a run of pages; `data` is where the first page is.
    pub(super) fn load_segment(
        &self,
        load: &Load,
        data: u64,
        page_size: PageSize,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let segment = Segment {
            p_type: PT_LOAD,
            p_flags: PF_R | flag(load.prot.write, PF_W) | flag(load.prot.execute, PF_X),
            p_offset: data + (load.number << page_size.shift()) + load.skipped_bytes,
            p_vaddr: load.va.0,
            // PAE's physical addresses may be longer than the field; all ones say that it is not known.
            p_paddr: match self.class {
                Width::W32 => u64::from(u32::try_from(load.pa.0).unwrap_or(u32::MAX)),
                Width::W64 => load.pa.0,
            },
            p_filesz: load.len_bytes,
            p_memsz: load.len_bytes,
            p_align: page_size.bytes(),
        };
        self.segment(&segment, out)
    }

    fn segment(&self, segment: &Segment, out: &mut impl Write) -> io::Result<()> {
        let mut raw = [0; size_of::<Elf64Phdr<LE>>()];
        let len = segment.encode(self.class, self.endian, &mut raw);
        let len = len.ok_or_else(too_large)?;
        out.write_all(raw.get(..len).unwrap_or_default())
    }
}

/// A number that a 32-bit core cannot hold. The length of the core was checked before.
fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a 32-bit core cannot hold it")
}

/// Appends a note: lengths, type, owner and contents, each padded to 4 bytes.
pub(super) fn note(notes: &mut Vec<u8>, endian: Endian, owner: &[u8], kind: u32, contents: &[u8]) {
    for len in [owner.len(), contents.len()] {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        notes.extend_from_slice(&endian.bytes32(len));
    }
    notes.extend_from_slice(&endian.bytes32(kind));
    for part in [owner, contents] {
        notes.extend_from_slice(part);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(loads: u64) -> Head {
        Head {
            loads,
            notes_len_bytes: 20,
            page_size: PageSize::SIZE_4K,
        }
    }

    #[test]
    fn offsets_follow_each_other_in_both_classes() {
        let amd64 = Encoder::new(Arch::Amd64, Endian::Little);
        assert_eq!(amd64.notes_offset(&head(2)), 64 + 3 * 56);
        assert_eq!(amd64.data_offset(&head(2)), 4096);
        let i386 = Encoder::new(Arch::I386, Endian::Little);
        assert_eq!(i386.notes_offset(&head(2)), 52 + 3 * 32);
    }

    #[test]
    fn the_65535th_program_header_moves_the_count_into_section_0() {
        let amd64 = Encoder::new(Arch::Amd64, Endian::Little);
        let written = |loads| {
            let mut bytes = Vec::new();
            amd64.file_header(&head(loads), &mut bytes).unwrap();
            bytes
        };
        let few = written(65_533);
        assert_eq!(few.len(), 64);
        assert_eq!(few[56..58], 65_534u16.to_le_bytes());
        let many = written(65_534);
        assert_eq!(many.len(), 128);
        assert_eq!(many[56..58], [0xff, 0xff]);
        assert_eq!(many[40..48], 64u64.to_le_bytes());
        assert_eq!(many[60..62], [1, 0]);
        assert_eq!(many[64 + 44..64 + 48], 65_535u32.to_le_bytes());
        assert_eq!(amd64.notes_offset(&head(65_534)), 128 + 65_535 * 56);
    }

    #[test]
    fn notes_are_padded_to_four_bytes() {
        let mut notes = Vec::new();
        note(&mut notes, Endian::Little, b"CORE\0", 1, b"abc");
        assert_eq!(notes, *b"\x05\0\0\0\x03\0\0\0\x01\0\0\0CORE\0\0\0\0abc\0");
    }
}
