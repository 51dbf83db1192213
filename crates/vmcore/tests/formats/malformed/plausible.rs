//! What opens and is not plausible: every kind of minidump is checked, whole and with each defect.

use crate::common::session;
use crate::kinds::KINDS;
use vmcore::verify::{Verdict, verify};
use vmcore_synth::minidump::Minidump;

/// What a check says of a dump.
fn verdict(dump: &Minidump, name: &str) -> Option<(Verdict, String)> {
    let session = session(&dump.build(), None);
    let found = verify(&session, |_| {}).unwrap();
    let check = found.checks.into_iter().find(|check| check.name == name);
    check.map(|check| (check.verdict, check.detail))
}

#[test]
fn sound_dumps_of_every_kind_are_plausible() {
    for kind in KINDS {
        let dump = kind.sound();
        for name in [
            "length",
            "header page",
            "page tables",
            "bitmap",
            "kernel map",
        ] {
            let (verdict, detail) = verdict(&dump, name).unwrap();
            assert_eq!(verdict, Verdict::Sound, "{}, {name}: {detail}", kind.name);
        }
        // Without ranges nothing says how long the bitmap must be.
        let bitmap_size = verdict(&dump, "bitmap size").map(|(verdict, _)| verdict);
        let expected = dump.has_dump_avail().then_some(Verdict::Sound);
        assert_eq!(bitmap_size, expected, "{}", kind.name);
    }
}

#[test]
fn each_defect_of_every_kind_is_found_by_its_check() {
    type Harm = fn(&mut Minidump);
    let harms: &[(&str, Verdict, Harm)] = &[
        ("length", Verdict::Warning, |dump| {
            dump.trailing = vec![0; 512]
        }),
        ("length", Verdict::Bad, |dump| {
            dump.truncate_to = Some(dump.build().len() as u64 - 1);
        }),
        ("header page", Verdict::Warning, |dump| {
            dump.patches.push((dump.page_size - 1, vec![1]));
        }),
        ("page tables", Verdict::Warning, |dump| {
            dump.kernbase += 4096
        }),
        ("page tables", Verdict::Warning, |dump| {
            dump.page_tables.push(0);
        }),
    ];
    for kind in KINDS {
        let check = |dump: &Minidump, name: &str, expected: Verdict| {
            let (found, detail) = verdict(dump, name).unwrap();
            assert_eq!(found, expected, "{}, {name}: {detail}", kind.name);
        };
        for (name, expected, harm) in harms {
            let mut dump = kind.sound();
            harm(&mut dump);
            check(&dump, name, *expected);
        }
        // Right behind the structure; arm's of 2008 ends where a later one of the same version goes on.
        let mut dump = kind.sound();
        let end = match kind.header_bytes {
            44 => 52,
            end => end,
        };
        dump.patches.push((end as u64, vec![1]));
        check(&dump, "header page", Verdict::Warning);
        let mut dump = kind.sound();
        if dump.dmapend > dump.dmapbase {
            dump.dmapbase += 4096;
            check(&dump, "page tables", Verdict::Warning);
        }
        let mut dump = kind.sound();
        if dump.has_dump_avail() {
            // Padding behind the last page of RAM; a bitmap a page too long.
            dump.extra_bits.insert(300);
            check(&dump, "bitmap", Verdict::Bad);
            let mut dump = kind.sound();
            let mut bitmap = dump.bitmap_bytes();
            bitmap.resize(2 * bitmap.len(), 0);
            dump.bitmap = Some(bitmap);
            check(&dump, "bitmap size", Verdict::Warning);
        }
    }
}
