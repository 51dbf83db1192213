//! ELF file headers, program headers and section 0 of either class and byte order: every field is
//! what is at the offset that the ABI gives it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::elf::FileHeader;
use vmcore_format::endian::{Endian, Width};

fuzz_target!(|data: &[u8]| {
    let Ok(header) = FileHeader::parse(data) else {
        return;
    };
    let is_wide = header.class == Width::W64;
    assert_eq!(data[4], if is_wide { 2 } else { 1 });
    let is_big = header.endian == Endian::Big;
    assert_eq!(data[5], if is_big { 2 } else { 1 });
    let number = |bytes: &[u8], at: usize, len: usize| {
        let mut field = bytes[at..at + len].to_vec();
        if is_big {
            field.reverse();
        }
        field
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    // Offset and length of a field in each class.
    let field = |bytes: &[u8], narrow: (usize, usize), wide: (usize, usize)| {
        let (at, len) = if is_wide { wide } else { narrow };
        number(bytes, at, len)
    };
    assert_eq!(u64::from(header.e_type), number(data, 16, 2));
    assert_eq!(u64::from(header.e_machine), number(data, 18, 2));
    assert_eq!(header.e_phoff, field(data, (28, 4), (32, 8)));
    assert_eq!(header.e_shoff, field(data, (32, 4), (40, 8)));
    let sizes = [header.e_phentsize, header.e_phnum].map(u64::from);
    assert_eq!(sizes[0], field(data, (42, 2), (54, 2)));
    assert_eq!(sizes[1], field(data, (44, 2), (56, 2)));

    let table = usize::try_from(header.e_phoff)
        .ok()
        .and_then(|at| data.get(at..));
    for raw in table.unwrap_or_default().chunks(header.phdr_len()).take(64) {
        let Some(segment) = header.segment(raw) else {
            assert!(raw.len() < header.phdr_len());
            return;
        };
        assert_eq!(u64::from(segment.p_type), number(raw, 0, 4));
        assert_eq!(u64::from(segment.p_flags), field(raw, (24, 4), (4, 4)));
        assert_eq!(segment.p_offset, field(raw, (4, 4), (8, 8)));
        assert_eq!(segment.p_vaddr, field(raw, (8, 4), (16, 8)));
        assert_eq!(segment.p_paddr, field(raw, (12, 4), (24, 8)));
        assert_eq!(segment.p_filesz, field(raw, (16, 4), (32, 8)));
        assert_eq!(segment.p_memsz, field(raw, (20, 4), (40, 8)));
        assert_eq!(segment.p_align, field(raw, (28, 4), (48, 8)));
        let mut again = vec![0; raw.len()];
        let written = segment.encode(header.class, header.endian, &mut again);
        assert_eq!((written, &again[..]), (Some(raw.len()), raw));
    }
    let section = usize::try_from(header.e_shoff)
        .ok()
        .and_then(|at| data.get(at..))
        .unwrap_or_default();
    let info = if is_wide { 44 } else { 28 };
    let expected = (section.len() >= info + 4).then(|| number(section, info, 4));
    assert_eq!(header.section_info(section).map(u64::from), expected);
});
