//! ELF headers of both classes and byte orders, written at the offsets of the ABI.

use super::*;
use proptest::prelude::*;
use std::{vec, vec::Vec};

const CLASSES: [(Width, Endian); 4] = [
    (Width::W32, Endian::Little),
    (Width::W32, Endian::Big),
    (Width::W64, Endian::Little),
    (Width::W64, Endian::Big),
];

/// Writes integers into bytes, in one class and byte order.
struct Writer {
    bytes: Vec<u8>,
    class: Width,
    endian: Endian,
}

impl Writer {
    fn new(len: usize, class: Width, endian: Endian) -> Self {
        Self {
            bytes: vec![0; len],
            class,
            endian,
        }
    }

    fn put(&mut self, offset: usize, value: u64, len: usize) -> &mut Self {
        let big = value.to_be_bytes();
        for index in 0..len {
            let from = match self.endian {
                Endian::Big => 8 - len + index,
                Endian::Little => 7 - index,
            };
            self.bytes[offset + index] = big[from];
        }
        self
    }

    /// An address or offset: as wide as the class.
    fn word(&mut self, narrow_at: usize, wide_at: usize, value: u64) -> &mut Self {
        match self.class {
            Width::W32 => self.put(narrow_at, value, 4),
            Width::W64 => self.put(wide_at, value, 8),
        }
    }

    /// A 2-byte field.
    fn half(&mut self, narrow_at: usize, wide_at: usize, value: u16) -> &mut Self {
        let at = if self.class == Width::W32 {
            narrow_at
        } else {
            wide_at
        };
        self.put(at, u64::from(value), 2)
    }
}

fn file_header(class: Width, endian: Endian, e_phnum: u16) -> Vec<u8> {
    let mut raw = Writer::new(if class == Width::W32 { 52 } else { 64 }, class, endian);
    raw.bytes[..4].copy_from_slice(b"\x7fELF");
    raw.bytes[4] = if class == Width::W32 { 1 } else { 2 };
    raw.bytes[5] = if endian == Endian::Little { 1 } else { 2 };
    raw.bytes[6] = 1;
    raw.bytes[7] = 255;
    raw.put(16, 4, 2)
        .put(18, 62, 2)
        .word(28, 32, 0x1234)
        .word(32, 40, 0x5678_9abc)
        .half(42, 54, 56)
        .half(44, 56, e_phnum);
    raw.bytes
}

#[test]
fn a_full_dumps_header_decodes_in_both_classes_and_orders() {
    for (class, endian) in CLASSES {
        let bytes = file_header(class, endian, 3);
        let expected = FileHeader {
            class,
            endian,
            e_type: ET_CORE,
            e_machine: 62,
            e_phoff: 0x1234,
            e_phentsize: 56,
            e_phnum: 3,
            e_shoff: 0x5678_9abc,
        };
        assert_eq!(
            FileHeader::parse(&bytes),
            Ok(expected),
            "{class:?} {endian:?}"
        );
    }
}

#[test]
fn the_number_of_program_headers_has_extremes() {
    for (class, endian) in CLASSES {
        for e_phnum in [0, 1, 0xfffe, PN_XNUM] {
            let header = FileHeader::parse(&file_header(class, endian, e_phnum)).unwrap();
            assert_eq!(header.e_phnum, e_phnum);
        }
    }
}

/// With 0xffff in `e_phnum` the real number is in section header 0.
#[test]
fn the_real_number_of_many_program_headers_is_in_section_0() {
    for (class, endian) in CLASSES {
        let header = FileHeader::parse(&file_header(class, endian, PN_XNUM)).unwrap();
        let mut section = Writer::new(if class == Width::W32 { 40 } else { 64 }, class, endian);
        let at = if class == Width::W32 { 28 } else { 44 };
        section.put(at, 0x1_2345, 4);
        assert_eq!(header.section_info(&section.bytes), Some(0x1_2345));
        assert_eq!(header.section_info(&section.bytes[..at + 3]), None);
        assert_eq!(header.section_info(&[]), None);
    }
}

#[test]
fn a_header_cut_at_any_length_is_truncated() {
    for (class, endian) in CLASSES {
        let bytes = file_header(class, endian, 1);
        for len in 0..bytes.len() {
            let expected = if len < 4 {
                ElfError::NotElf
            } else {
                ElfError::Truncated
            };
            assert_eq!(
                FileHeader::parse(&bytes[..len]),
                Err(expected),
                "cut at {len}"
            );
        }
    }
}

#[test]
fn other_classes_and_byte_orders_are_refused_and_named() {
    let mut bytes = file_header(Width::W64, Endian::Little, 1);
    bytes[5] = 3;
    assert_eq!(FileHeader::parse(&bytes), Err(ElfError::BadEndian(3)));
    bytes[4] = 0;
    assert_eq!(FileHeader::parse(&bytes), Err(ElfError::BadClass(0)));
    bytes[0] = b'M';
    assert_eq!(FileHeader::parse(&bytes), Err(ElfError::NotElf));
}

/// FreeBSD leaves `e_version` 0 and sets OSABI 255: neither may matter.
#[test]
fn version_and_abi_do_not_matter() {
    for value in [0, 1, 2, 255] {
        let mut bytes = file_header(Width::W64, Endian::Little, 1);
        bytes[7] = value;
        bytes[20] = value;
        assert!(FileHeader::parse(&bytes).is_ok());
    }
}

fn program_header(class: Width, endian: Endian, segment: &Segment) -> Vec<u8> {
    let mut raw = Writer::new(if class == Width::W32 { 32 } else { 56 }, class, endian);
    let flags_at = if class == Width::W32 { 24 } else { 4 };
    raw.put(0, u64::from(segment.p_type), 4)
        .put(flags_at, u64::from(segment.p_flags), 4)
        .word(4, 8, segment.p_offset)
        .word(8, 16, segment.p_vaddr)
        .word(12, 24, segment.p_paddr)
        .word(16, 32, segment.p_filesz)
        .word(20, 40, segment.p_memsz)
        .word(28, 48, segment.p_align);
    raw.bytes
}

#[test]
fn program_headers_decode_in_both_classes_and_orders() {
    let segment = Segment {
        p_type: PT_LOAD,
        p_flags: PF_R,
        p_offset: 0x1000,
        p_vaddr: 0xc010_4000,
        p_paddr: 0x10_4000,
        p_filesz: 0x7ed_b000,
        p_memsz: 0x7ed_b001,
        p_align: 4096,
    };
    for (class, endian) in CLASSES {
        let header = FileHeader::parse(&file_header(class, endian, 1)).unwrap();
        let bytes = program_header(class, endian, &segment);
        assert_eq!(bytes.len(), header.phdr_len());
        assert_eq!(
            header.segment(&bytes),
            Some(segment),
            "{class:?} {endian:?}"
        );
        assert_eq!(header.segment(&bytes[..bytes.len() - 1]), None);
    }
}

/// The auxiliary header of a 15.1 amd64 full dump: where the image was loaded.
#[test]
fn the_header_that_says_where_the_kernel_was_loaded_keeps_its_fields() {
    let delta = Segment {
        p_type: PT_DUMP_DELTA,
        p_vaddr: 0xffff_ffff_8000_0000,
        p_paddr: 0x20_0000,
        p_align: 0x20_0000,
        ..Segment::default()
    };
    let header = FileHeader::parse(&file_header(Width::W64, Endian::Little, 1)).unwrap();
    let bytes = program_header(Width::W64, Endian::Little, &delta);
    assert_eq!(bytes[..4], [0x00, 0xd0, 0xb5, 0x6f]);
    assert_eq!(header.segment(&bytes), Some(delta));
}

proptest! {
    #[test]
    fn any_program_header_survives_the_way_through_bytes(
        words in prop::array::uniform6(any::<u64>()),
        p_type in any::<u32>(),
        p_flags in any::<u32>(),
        class in prop::sample::select(&CLASSES[..]),
    ) {
        let (class, endian) = class;
        let mask = if class == Width::W32 { u64::from(u32::MAX) } else { u64::MAX };
        let [p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align] = words.map(|word| word & mask);
        let segment =
            Segment { p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align };
        let header = FileHeader::parse(&file_header(class, endian, 1)).unwrap();
        prop_assert_eq!(header.segment(&program_header(class, endian, &segment)), Some(segment));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for (to, from) in bytes.iter_mut().zip(b"\x7fELF") {
            *to = *from;
        }
        if let Ok(header) = FileHeader::parse(&bytes) {
            prop_assert!(bytes.len() >= 52);
            let _ = (header.segment(&bytes), header.section_info(&bytes));
        }
    }
}
