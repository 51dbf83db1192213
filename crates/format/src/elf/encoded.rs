//! Tests: file and program headers that are written.

use super::*;

#[test]
fn full_dump_headers_are_read_back_and_look_like_the_kernels() {
    for (class, len, phdr) in [(Width::W32, 52, 32), (Width::W64, 64, 56)] {
        let header = FileHeader {
            class,
            endian: Endian::Little,
            e_type: ET_CORE,
            e_machine: 62,
            e_phoff: len as u64,
            e_phentsize: phdr,
            e_phnum: 3,
            e_shoff: 0,
        };
        let mut out = [0xaa; 64];
        assert_eq!(header.encode_full_dump(&mut out), Some(len));
        assert_eq!(FileHeader::parse(&out), Ok(header));
        assert_eq!(out[7], 255);
        assert_eq!(out[20..24], [0; 4]);
        assert_eq!(header.encode_full_dump(&mut out[..len - 1]), None);
    }
}

#[test]
fn cores_say_whose_notes_they_have_where_lldb_reads_them() {
    for (endian, osabi) in [(Endian::Little, 3), (Endian::Big, 0)] {
        let header = FileHeader {
            class: Width::W64,
            endian,
            e_type: ET_CORE,
            e_machine: 183,
            e_phoff: 64,
            e_phentsize: 56,
            e_phnum: 3,
            e_shoff: 0,
        };
        let mut out = [0xaa; 64];
        assert_eq!(header.encode_core(&mut out), Some(64));
        assert_eq!(FileHeader::parse(&out), Ok(header));
        assert_eq!(out[7], osabi);
    }
}

#[test]
fn program_headers_are_read_back_or_refused() {
    let segment = Segment {
        p_type: PT_LOAD,
        p_flags: PF_R,
        p_offset: 0x1000,
        p_vaddr: 0x10_0000,
        p_paddr: 0x10_0000,
        p_filesz: 0x2000,
        p_memsz: 0x2000,
        p_align: 4096,
    };
    let mut out = [0; 56];
    for class in [Width::W32, Width::W64] {
        assert!(segment.encode(class, Endian::Little, &mut out).is_some());
        assert_eq!(Segment::decode::<LE>(&out, class), Some(segment));
    }
    let high = Segment {
        p_paddr: 1 << 32,
        ..segment
    };
    assert_eq!(high.encode(Width::W32, Endian::Little, &mut out), None);
}
