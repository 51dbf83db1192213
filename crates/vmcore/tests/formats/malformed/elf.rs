//! The details of amd64: full dumps with wrong headers, of other machines.

use super::{error_of, says};
use crate::common::{locate, open, session};
use std::collections::BTreeMap;
use vmcore::SessionError;
use vmcore::dump::{OpenError, Warning};
use vmcore::format::addr::PhysAddr;
use vmcore::format::elf::ElfError;
use vmcore::memory::PageReadError;
use vmcore::pages;
use vmcore::translation::RootError;
use vmcore_synth::Arch;
use vmcore_synth::elf::{FullDump, Kernel, SectionKind};

/// Two ranges, and text in a page of each.
fn sound() -> FullDump {
    let pages = BTreeMap::from([
        (0x2000, b"page 0x2000".to_vec()),
        (0x10_0000, b"page 0x100000".to_vec()),
    ]);
    FullDump::of_memory(Arch::Amd64, &[(0, 0x4000), (0x10_0000, 0x10_2000)], &pages)
}

fn bad_core(dump: &FullDump) -> String {
    match error_of(&dump.build()) {
        OpenError::BadCore { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn program_headers_behind_the_end_of_the_file_are_refused() {
    let file_len = sound().build().len() as u64;
    for (e_phoff, e_phnum) in [
        (Some(file_len), None),
        (Some(file_len - 111), None),
        (Some(u64::MAX), None),
        (Some(u64::MAX - 111), None),
        (None, Some(0xfffe)),
    ] {
        let mut dump = sound();
        (dump.e_phoff, dump.e_phnum) = (e_phoff, e_phnum);
        assert!(
            bad_core(&dump).contains("beyond the end of the file"),
            "{e_phoff:?} {e_phnum:?}"
        );
    }
    // 0xffff says that section 0 has the number, and there is none.
    let mut dump = sound();
    dump.e_phnum = Some(0xffff);
    assert!(bad_core(&dump).contains("no section to say how many"));
    let mut dump = sound();
    dump.e_phentsize = Some(32);
    assert!(bad_core(&dump).contains("have 32 bytes, not 56"));
}

#[test]
fn more_program_headers_than_16_bits_count_are_in_section_0() {
    let mut dump = sound();
    dump.e_phnum = Some(0xffff);
    // Section header 0 at the end of the file, with the number of program headers in it.
    let at = dump.build().len() as u64;
    dump.trailing = vec![0; 64];
    dump.trailing[44] = 2;
    dump.patches.push((40, at.to_le_bytes().to_vec()));
    let opened = open(&dump.build());
    assert_eq!(
        locate(&opened, 0x10_0000),
        Ok(dump.offset_of(0x10_0000).unwrap())
    );
}

#[test]
fn of_overlapping_segments_the_first_header_wins() {
    // The second one lies inside the first; the third runs over its end.
    let mut dump = FullDump::of_memory(
        Arch::Amd64,
        &[(0x1000, 0x5000), (0x2000, 0x3000), (0x4000, 0x7000)],
        &BTreeMap::new(),
    );
    let first = dump.content_offset();
    let opened = open(&dump.build());
    for (pa, offset) in [
        (0x1000, first),
        (0x2000, first + 0x1000),
        (0x4fff, first + 0x3fff),
        (0x5000, first + 0x4000 + 0x1000 + 0x1000),
        (0x6fff, first + 0x4000 + 0x1000 + 0x2fff),
    ] {
        assert_eq!(locate(&opened, pa), Ok(offset), "{pa:#x}");
    }
    assert_eq!(vmcore::pages::page_count(opened.memory()), Ok(6));

    // In the other order the small one keeps its page, inside the large one.
    dump.segments.swap(0, 1);
    let opened = open(&dump.build());
    for (pa, offset) in [
        (0x1000, first + 0x1000),
        (0x2000, first),
        (0x2fff, first + 0xfff),
        (0x3000, first + 0x1000 + 0x2000),
        (0x5000, first + 0x4000 + 0x1000 + 0x1000),
    ] {
        assert_eq!(locate(&opened, pa), Ok(offset), "{pa:#x}");
    }
}

#[test]
fn segments_that_overflow_are_left_out_with_a_warning() {
    let mut dump = sound();
    dump.segments[0].p_offset = Some(u64::MAX - 0xfff);
    let opened = open(&dump.build());
    assert_eq!(opened.warnings(), [Warning::SegmentsRefused { count: 1 }]);
    assert_eq!(
        locate(&opened, 0x2000),
        Err(PageReadError::NotRam {
            pa: PhysAddr(0x2000)
        })
    );
    assert!(locate(&opened, 0x10_0000).is_ok());
    let mut dump = sound();
    dump.segments[1].p_paddr = u64::MAX - 0xfff;
    let opened = open(&dump.build());
    assert_eq!(opened.warnings(), [Warning::SegmentsRefused { count: 1 }]);
    assert!(locate(&opened, 0x2000).is_ok());
}

#[test]
fn bytes_behind_the_end_of_the_file_are_truncated_and_tails_in_memory_only_are_absent() {
    let mut dump = sound();
    dump.segments[1].p_filesz = Some(0x1000);
    let opened = open(&dump.build());
    let pa = PhysAddr(0x10_1000);
    assert_eq!(locate(&opened, pa.0), Err(PageReadError::NotDumped { pa }));
    let mut dump = sound();
    (dump.segments[1].p_filesz, dump.segments[1].p_memsz) = (Some(1 << 40), Some(1 << 40));
    let opened = open(&dump.build());
    assert!(locate(&opened, 0x10_1fff).is_ok());
    assert!(matches!(
        locate(&opened, 0x10_2000),
        Err(PageReadError::Truncated { .. })
    ));
    // Its headers claim more pages than there are in the file, which are the ones that count.
    assert_eq!(pages::page_count(opened.memory()), Ok((1 << 28) + 4));
    assert_eq!(pages::numbered_page_count(opened.memory()), Ok(6));
}

#[test]
fn segments_that_share_bytes_of_the_file_are_each_there() {
    let mut dump = sound();
    let at = dump.content_offset();
    dump.segments[1].p_offset = Some(at);
    let opened = open(&dump.build());
    assert_eq!(locate(&opened, 0x1000), Ok(at + 0x1000));
    assert_eq!(locate(&opened, 0x10_1000), Ok(at + 0x1000));
}

#[test]
fn cores_of_other_machines_classes_and_byte_orders_are_refused() {
    let mut dump = sound();
    dump.e_machine = 2;
    assert!(bad_core(&dump).contains("machine 2"));
    // i386 in a file of 64 bits.
    let mut dump = sound();
    dump.e_machine = 3;
    assert!(bad_core(&dump).contains("class"));
    // The other byte order makes the type, the machine and all else something else.
    let mut dump = sound();
    dump.data = 2;
    assert!(matches!(
        error_of(&dump.build()),
        OpenError::KernelFile { .. } | OpenError::BadCore { .. }
    ));
    // Even where those are right.
    let mut dump = sound();
    (dump.data, dump.e_type, dump.e_machine) = (2, 4_u16.swap_bytes(), 62_u16.swap_bytes());
    (dump.e_phnum, dump.e_phentsize) = (Some(2_u16.swap_bytes()), Some(56_u16.swap_bytes()));
    dump.e_phoff = Some(64_u64.swap_bytes());
    assert!(
        bad_core(&dump).contains("byte order"),
        "{}",
        bad_core(&dump)
    );
    for (class, data, expected) in [
        (0, 1, ElfError::BadClass(0)),
        (3, 1, ElfError::BadClass(3)),
        (2, 0, ElfError::BadEndian(0)),
    ] {
        let mut dump = sound();
        (dump.class, dump.data) = (class, data);
        let OpenError::Elf { source, .. } = error_of(&dump.build()) else {
            panic!()
        };
        assert_eq!(source, expected);
    }
    let error = error_of(&sound().build()[..40]);
    let OpenError::Elf { source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*source, ElfError::Truncated);
    says(&error, "truncated inside the ELF header");
}

#[test]
fn a_root_that_cannot_be_read_or_be_one_says_so() {
    let image = 0xffff_ffff_8020_0000;
    let mut kernel = Kernel::new(Arch::Amd64, image);
    kernel.add_section(".data", SectionKind::Data, image + 0x1000, &[0; 64]);
    kernel.add_object("kernbase", 0xffff_ffff_8000_0000, 0);
    kernel.add_object("KPML4phys", image + 0x1000, 8);
    // The image is not in the dump: 2 MiB is in neither range.
    let error = session(&sound().build(), Some(&kernel.build()))
        .space()
        .unwrap_err();
    let SessionError::Root(RootError::Unreadable { symbol, pa, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!((symbol, pa), ("KPML4phys", PhysAddr(0x20_1000)));
    // It is there, and the root is 0.
    let dump = FullDump::of_memory(Arch::Amd64, &[(0, 0x20_2000)], &BTreeMap::new());
    let error = session(&dump.build(), Some(&kernel.build()))
        .space()
        .unwrap_err();
    let root = PhysAddr(0);
    assert!(
        matches!(error, SessionError::Root(RootError::Implausible { root: found, .. }) if found == root),
        "{error}"
    );
}
