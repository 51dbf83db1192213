//! Dumps whose file ends before their pages begin: each command tells what is there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use vmcore_synth::Arch;
use vmcore_synth::machine::{DumpFile, Options};
use vmcore_testkit::command::Folder;

#[test]
fn wherever_a_file_ends_behind_its_header_info_and_log_tell_what_it_has() {
    let folder = Folder::new(&Options::new(Arch::Amd64, 3));
    let DumpFile::Mini(whole) = &folder.machine.dump else {
        panic!("it is a minidump");
    };
    let sections = whole.sections();
    let log = folder.vmcore("log vmcore.0").expect(0).text();
    for (cut, section) in [
        (4096, "message buffer"),
        (4096 + 64, "message buffer"),
        (sections.dump_avail + 8, "dump_avail"),
        (sections.bitmap, "bitmap"),
        (sections.bitmap + 1, "bitmap"),
        (sections.page_tables + 8, "page tables"),
    ] {
        let mut dump = (**whole).clone();
        dump.truncate_to = Some(cut);
        folder.write("vmcore.0", &dump.build());
        let info = folder.vmcore("info vmcore.0").expect(0).text();
        let sentence = format!("truncated inside its {section}");
        assert!(info.contains(&sentence), "{cut}: {info}");
        let json = folder.vmcore("info vmcore.0 --json").expect(0).json();
        let has_bitmap = section == "page tables";
        assert_eq!(json["pages"]["in_dump"].is_u64(), has_bitmap, "{cut}");
        assert_eq!(info.contains("unknown: the bitmap is cut"), !has_bitmap);

        let in_log = section == "message buffer";
        let run = folder
            .vmcore("log vmcore.0")
            .expect(if in_log { 3 } else { 0 });
        if in_log {
            assert!(run.stderr.contains("message buffer"), "{run:?}");
            assert!(log.starts_with(run.text().trim_end()), "{cut}: {run:?}");
            assert_eq!(run.text().is_empty(), cut == 4096);
        } else {
            assert_eq!(run.text(), log, "{cut}");
        }
    }
}
