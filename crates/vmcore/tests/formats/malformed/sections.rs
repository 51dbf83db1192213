//! Sections longer than the file, or cut by its end.

use super::{DMAP, KERNBASE, error_of, says, sound};
use crate::common::{Virtual, each_access, locate, open, try_open};
use crate::kinds::{KINDS, PAGES, Tables, direct_va, kernel_va, page, text};
use vmcore::dump::{Completeness, OpenError};
use vmcore::format::addr::VirtAddr;
use vmcore::format::layout::Section;
use vmcore::memory::PageReadError;
use vmcore::session::KernelChoice;
use vmcore::translation::TranslationError;
use vmcore::{Dump, OpenOptions, Session, log};
use vmcore_synth::minidump::Minidump;

/// The section that is too long for the file, and where it would end.
fn truncated_section(dump: &Minidump) -> (Section, u64) {
    let file = dump.build();
    let error = error_of(&file);
    says(&error, "is truncated inside its");
    match error {
        OpenError::Truncated {
            section,
            need,
            have,
            ..
        } => {
            assert_eq!(have, file.len() as u64);
            (section, need)
        }
        other => panic!("{other}"),
    }
}

/// Opens a dump of which only the sections up to this one are needed.
fn open_up_to(dump: &Minidump, up_to: Section) -> Dump {
    let options = OpenOptions {
        up_to,
        ..OpenOptions::default()
    };
    try_open(&dump.build(), &options).unwrap()
}

#[test]
fn a_message_buffer_longer_than_the_file_is_refused() {
    for (kind, size) in KINDS
        .iter()
        .flat_map(|kind| [0xffff_f000, u32::MAX, 0x100_0000].map(|size| (kind, size)))
    {
        let mut dump = kind.sound();
        dump.msgbufsize = Some(size);
        let need = dump.page_size + u64::from(size);
        let found = truncated_section(&dump);
        assert_eq!(found, (Section::MessageBuffer, need), "{}", kind.name);
    }
}

#[test]
fn a_message_buffer_that_is_a_page_off_shifts_the_sections() {
    for kind in KINDS {
        let mut dump = kind.sound();
        dump.msgbufsize = Some(u32::try_from(dump.page_size).unwrap() + 120);
        let opened = try_open(&dump.build(), &OpenOptions::default());
        match dump.has_dump_avail() {
            // The ranges are looked for where the bitmap is, and are none, or no sensible ones.
            true => {
                let is_odd = opened
                    .is_err_and(|error| matches!(error, OpenError::BadRanges { .. }))
                    || !open(&dump.build()).warnings().is_empty();
                assert!(is_odd, "{}", kind.name);
            }
            // The page tables are taken for the bitmap, and nothing can tell.
            false => assert!(opened.is_ok(), "{}", kind.name),
        }
    }
}

#[test]
fn a_file_that_ends_inside_a_section_is_truncated_there() {
    for kind in KINDS {
        let mut dump = kind.sound();
        dump.msgbuf = vec![b'm'; 5000];
        let sections = dump.sections();
        let buffer_end = dump.page_size + 5000;
        let mut cuts = vec![
            (dump.page_size + 1, Section::MessageBuffer, buffer_end),
            (buffer_end - 1, Section::MessageBuffer, buffer_end),
        ];
        if dump.has_dump_avail() {
            let end = sections.bitmap;
            let starts = [buffer_end, sections.dump_avail + 16, end - 1];
            cuts.extend(starts.map(|cut| (cut, Section::DumpAvail, end)));
        }
        let end = sections.bitmap + dump.bitmap_bytes().len() as u64;
        cuts.extend([sections.bitmap, end - 1].map(|cut| (cut, Section::Bitmap, end)));
        for (cut, section, need) in cuts {
            dump.truncate_to = Some(cut);
            let found = truncated_section(&dump);
            assert_eq!(found, (section, need), "{}, cut at {cut:#x}", kind.name);
        }
    }
}

#[test]
fn the_sections_before_the_cut_can_be_had_on_request() {
    let mut dump = sound();
    let sections = dump.sections();
    dump.truncate_to = Some(sections.bitmap + 8);
    let opened = open_up_to(&dump, Section::DumpAvail);
    assert_eq!(
        opened.completeness(),
        Ok(Completeness::TruncatedSection { section: "bitmap" })
    );
    let ranges = opened.memory().sparse().unwrap().numbering().ranges().len();
    assert_eq!(ranges, 1);
    let cut = PageReadError::SectionTruncated {
        section: Section::Bitmap,
    };
    assert_eq!(locate(&opened, 0x5000), Err(cut));
    assert_eq!(vmcore::pages::page_count(opened.memory()), Err(cut));

    // Cut inside the ranges: those before the cut are there, or none.
    for (cut, ranges) in [(16, 1), (8, 0), (0, 0)] {
        dump.truncate_to = Some(sections.dump_avail + cut);
        let opened = open_up_to(&dump, Section::MessageBuffer);
        let found = opened.memory().sparse().unwrap().numbering().ranges().len();
        assert_eq!(found, ranges, "cut {cut} bytes into dump_avail");
    }
}

#[test]
fn the_log_of_a_cut_dump_can_be_read() {
    let mut dump = sound();
    dump.msgbuf = [&b"panic: told in time\n"[..], &[0; 100]].concat();
    for cut in [
        0x1000 + 120,
        dump.sections().dump_avail,
        dump.sections().page_tables,
    ] {
        dump.truncate_to = Some(cut);
        let (_folder, path) = vmcore_testkit::written(&dump.build());
        let options = OpenOptions {
            up_to: Section::MessageBuffer,
            ..OpenOptions::default()
        };
        let session = Session::open(&path, KernelChoice::None, &options).unwrap();
        let log = log::read(&session).unwrap();
        assert_eq!(log.text(), b"panic: told in time\n", "cut at {cut:#x}");
    }
}

#[test]
fn a_file_that_ends_inside_its_page_tables_is_truncated_there() {
    for kind in KINDS {
        let mut dump = kind.sound();
        let tables = dump.sections().page_tables;
        let end = tables + dump.page_tables.len() as u64;
        for cut in [tables, tables + 8, end - 1] {
            dump.truncate_to = Some(cut);
            let found = truncated_section(&dump);
            assert_eq!(found, (Section::PageTables, end), "{}", kind.name);
        }
    }
}

#[test]
fn without_page_tables_the_direct_map_would_do_if_its_pages_were_there() {
    let mut dump = sound();
    dump.page_tables = [vec![0; 0x1ff8], 0x1083_u64.to_le_bytes().to_vec()].concat();
    let tables = dump.sections().page_tables;
    dump.truncate_to = Some(tables + 0x1000);
    let opened = open_up_to(&dump, Section::Bitmap);
    assert_eq!(
        opened.completeness(),
        Ok(Completeness::TruncatedSection {
            section: "page tables"
        })
    );
    let memory = Virtual::of(&opened);
    assert_eq!(memory.pa(DMAP + 0x5000), Ok(0x5000));
    assert!(memory.place(DMAP + 0x5000).unwrap_err().is_loss());
    assert!(matches!(
        memory.pa(KERNBASE),
        Err(TranslationError::NotMapped { .. })
    ));
    let error = memory.pa(KERNBASE + (1023 << 21)).unwrap_err();
    let reason = PageReadError::SectionTruncated {
        section: Section::PageTables,
    };
    assert!(
        matches!(error, TranslationError::TableAbsent { reason: found, .. } if found == reason),
        "{error}"
    );
    assert!(error.is_loss());
    assert!(
        error
            .to_string()
            .ends_with("the page tables section is truncated"),
        "{error}"
    );
}

#[test]
fn a_bitmap_of_4_gib_is_checked_against_the_file() {
    for kind in KINDS {
        let mut dump = kind.sound();
        dump.bitmapsize = Some(u32::MAX);
        let need = dump.sections().bitmap + u64::from(u32::MAX);
        let found = truncated_section(&dump);
        assert_eq!(found, (Section::Bitmap, need), "{}", kind.name);
    }
}

#[test]
fn page_tables_of_no_whole_entry_map_nothing() {
    for kind in KINDS {
        let entry_bytes = match kind.tables {
            Tables::Flat(bytes, _) => bytes,
            Tables::Named(_) => 8,
        };
        for size in [0, entry_bytes - 1] {
            let mut dump = kind.sound();
            dump.page_tables = vec![0xff; usize::try_from(size).unwrap()];
            each_access(&dump.build(), |opened| {
                let memory = Virtual::of(opened);
                for number in PAGES {
                    let va = VirtAddr(kernel_va(&dump, number));
                    let found = memory.place(va.0);
                    assert_eq!(
                        found,
                        Err(TranslationError::Outside { va }),
                        "{}",
                        kind.name
                    );
                }
                // The direct map does not need them.
                let expected = text(page(&dump, 5));
                if let Some(va) = direct_va(&dump, 5) {
                    let found = memory.text(va, expected.len());
                    assert_eq!(found, Ok(expected), "{}", kind.name);
                }
            });
        }
    }
}

#[test]
fn page_tables_longer_than_the_file_are_refused() {
    for (kind, size) in KINDS
        .iter()
        .flat_map(|kind| [u32::MAX, 0x8000_0000, 0x100_0000].map(|size| (kind, size)))
    {
        let mut dump = kind.sound();
        dump.pmapsize = Some(size);
        let need = dump.sections().page_tables + u64::from(size);
        let found = truncated_section(&dump);
        assert_eq!(found, (Section::PageTables, need), "{}", kind.name);
    }
}

#[test]
fn sections_of_every_length_in_the_file_are_opened() {
    // A sound dump stays one when the file is longer than it must be.
    let mut dump = sound();
    dump.trailing = vec![0; 10_000];
    let opened = open(&dump.build());
    assert_eq!(
        opened.completeness(),
        Ok(Completeness::Complete {
            trailing_bytes: 10_000
        })
    );
}
