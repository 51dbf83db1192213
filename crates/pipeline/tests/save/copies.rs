//! What of the device becomes the file, and when the device is changed.

use crate::*;
use std::fs;
use vmcore_pipeline::save::{Clear, Clearing, Options, Problem, SaveError, Status, clear};
use vmcore_synth::header::{DumpHeader, MAGIC_TEXT};
use vmcore_synth::{Arch, machines};

#[test]
fn a_dump_keeps_the_form_that_it_has_on_the_device() {
    let key = DumpHeader {
        dumpkeysize: 512,
        ..header(9000)
    };
    let cases = [
        (0, 0, "vmcore.0", "vmcore.last"),
        (1, 0, "vmcore.0.gz", "vmcore.last.gz"),
        (2, 0, "vmcore.0.zst", "vmcore.last.zst"),
        (7, 0, "vmcore.0", "vmcore.last"),
        (0, 512, "vmcore_encrypted.0", "vmcore_encrypted.last"),
        (2, 512, "vmcore_encrypted.0", "vmcore_encrypted.last"),
    ];
    for (compression, dumpkeysize, file, last) in cases {
        let header = DumpHeader {
            compression,
            dumpkeysize,
            // More is reserved than the compressed dump has.
            dumpextent: 64 << 10,
            ..key.clone()
        };
        let scene = Scene::with(&header, &vec![3; dumpkeysize as usize], &bytes(9000));
        let saved = scene.save();
        // Its length is not a multiple of a sector.
        assert_eq!(scene.read(file), bytes(9000), "{file}");
        assert_eq!(link(&scene.crash(last)), file);
        assert_eq!(link(&scene.crash("info.last")), "info.0");
        assert_eq!(saved.key_file.is_some(), dumpkeysize != 0);
        let text = String::from_utf8(scene.read("info.0")).unwrap();
        let name = match compression {
            0 => "none",
            1 => "gzip",
            2 => "zstd",
            _ => "???",
        };
        assert!(text.contains(&format!("  Compression: {name}\n")), "{text}");
    }
}

#[test]
fn a_textdump_is_turned_the_right_way_round() {
    // More blocks than are read at once.
    let archive = bytes(2560 * 512);
    let mut backwards = archive.clone();
    backwards.reverse();
    for block in backwards.chunks_mut(512) {
        block.reverse();
    }
    let header = DumpHeader {
        magic: MAGIC_TEXT.to_owned(),
        architectureversion: 4,
        compression: 2,
        ..header(archive.len())
    };
    let scene = Scene::new(&header.device(2 << 20, &[], &backwards).unwrap());
    assert!(scene.found().header().is_text());
    let saved = scene.try_save(&clearing()).unwrap();
    assert_eq!(scene.read("textdump.tar.0"), archive);
    assert_eq!(link(&scene.crash("textdump.tar.last")), "textdump.tar.0");
    assert!(saved.info.contents.is_none());

    // Cleared, it comes back as what it was.
    assert!(scene.found().is_cleared());
    assert!(scene.found().header().is_text());
    scene.try_save(&forced()).unwrap();
    assert_eq!(scene.read("textdump.tar.1"), archive);

    let odd = DumpHeader {
        dumplength: 1000,
        dumpextent: 1000,
        ..header
    };
    let scene = Scene::with(&odd, &[], &bytes(1000));
    assert!(matches!(
        scene.found().problems(),
        [Problem::Impossible { .. }]
    ));
}

/// Members may be called anything: saving copies the archive, and looks into none of it.
#[test]
fn names_in_a_textdump_lead_nowhere() {
    let mut archive = Vec::new();
    for name in [
        "../../escaped",
        "/tmp/escaped",
        "vmcore.9",
        "a\x1b[31m/../bounds",
        "",
    ] {
        let mut member = [0; 1024];
        member[..name.len()].copy_from_slice(name.as_bytes());
        member[100..107].copy_from_slice(b"0000600");
        member[124..135].copy_from_slice(b"00000000100");
        member[156] = b'2';
        member[157..170].copy_from_slice(b"/etc/passwd\0\0");
        member[257..262].copy_from_slice(b"ustar");
        archive.extend(member);
    }
    let blocks = archive.chunks(512).rev();
    let backwards: Vec<u8> = blocks.flatten().copied().collect();
    let header = DumpHeader {
        magic: MAGIC_TEXT.to_owned(),
        architectureversion: 4,
        ..header(archive.len())
    };
    let scene = Scene::new(&header.device(2 << 20, &[], &backwards).unwrap());
    scene.try_save(&clearing()).unwrap();
    assert_eq!(scene.read("textdump.tar.0"), archive);
    let mut names = scene.names();
    names.sort();
    assert_eq!(
        names,
        [
            "bounds",
            "info.0",
            "info.last",
            "textdump.tar.0",
            "textdump.tar.last"
        ]
    );
    assert_eq!(scene.read("bounds"), b"1\n");
}

#[test]
fn zeros_become_holes_and_none_is_lost() {
    use std::os::unix::fs::MetadataExt as _;
    let page = 4096;
    for runs in [
        vec![(0, 1)],
        vec![(3 * page, 4095)],
        vec![(3 * page, 4096), (5 * page, 4097)],
        // Over the border between two reads, and up to the end.
        vec![((1 << 20) - page, 2 * page), (2 << 20, 1 << 20)],
        vec![(0, 3 << 20)],
    ] {
        let mut dump = bytes(3 << 20);
        for (start, len) in &runs {
            dump[*start..start + len].fill(0);
        }
        let scene = Scene::new(&header(dump.len()).device(4 << 20, &[], &dump).unwrap());
        scene.save();
        assert_eq!(scene.read("vmcore.0"), dump, "{runs:?}");
        let blocks = fs::metadata(scene.crash("vmcore.0")).unwrap().blocks() * 512;
        let zeros = dump
            .chunks(page)
            .filter(|page| page.iter().all(|byte| *byte == 0));
        let filled = dump.len() - zeros.count() * page;
        assert!(
            blocks <= filled as u64 + (64 << 10),
            "{runs:?}: {blocks} bytes on disk"
        );
    }
}

#[test]
fn an_image_is_not_changed_unasked() {
    let scene = Scene::with(&header(4096), &[], &bytes(4096));
    let before = fs::read(scene.image()).unwrap();
    assert_eq!(scene.save().clearing, Clearing::Image);
    assert_eq!(fs::read(scene.image()).unwrap(), before);
    let keep = Options {
        clear: Clear::Never,
        ..Options::default()
    };
    assert_eq!(scene.try_save(&keep).unwrap().clearing, Clearing::Kept);
    assert_eq!(fs::read(scene.image()).unwrap(), before);

    assert_eq!(
        scene.try_save(&clearing()).unwrap().clearing,
        Clearing::Cleared
    );
    let after = fs::read(scene.image()).unwrap();
    let trailer = before.len() - 512;
    assert_eq!(after[..trailer], before[..trailer]);
    assert_eq!(&after[trailer..trailer + 20], b"Cleared Kernel Dump\0");
    assert_eq!(after[trailer + 20..], before[trailer + 20..]);
}

#[test]
fn an_encrypted_dump_is_there_only_with_its_key() {
    let header = DumpHeader {
        dumpkeysize: 512,
        ..header(4096)
    };
    let scene = Scene::with(&header, &[9; 512], &bytes(4096));
    assert!(!scene.save().was_there);
    assert!(scene.save().was_there);
    fs::remove_file(scene.crash("key.0")).unwrap();
    assert!(!scene.save().was_there);
    fs::write(scene.crash("key.1"), [8; 512]).unwrap();
    let saved = scene.save();
    assert!(!saved.was_there);
    assert_eq!(fs::read(saved.key_file.unwrap()).unwrap(), [9; 512]);
    assert_eq!(saved.core_file, scene.crash("vmcore_encrypted.2"));
}

#[test]
fn a_cleared_dump_comes_back_by_force_as_good() {
    let scene = Scene::with(&header(8192), &[], &bytes(8192));
    scene.try_save(&clearing()).unwrap();
    assert_eq!(scene.found().problems(), [Problem::Cleared]);
    assert!(matches!(
        scene.try_save(&Options::default()),
        Err(SaveError::Unsound { .. })
    ));
    let saved = scene.try_save(&forced()).unwrap();
    assert_eq!(saved.info.dump_status, Status::Good);
    assert_eq!(scene.read("vmcore.1"), bytes(8192));
}

#[test]
fn a_dump_can_be_cleared_without_saving() {
    let scene = Scene::with(&header(8192), &[], &bytes(8192));
    clear(&scene.device(), &scene.found()).unwrap();
    assert!(scene.found().is_cleared());
    let before = fs::read(scene.image()).unwrap();
    clear(&scene.device(), &scene.found()).unwrap();
    assert_eq!(fs::read(scene.image()).unwrap(), before);

    // A header that has changed since it was found is left alone.
    let scene = Scene::with(&header(8192), &[], &bytes(8192));
    let found = scene.found();
    let other = header(4096).device(MEDIA, &[], &bytes(4096)).unwrap();
    fs::write(scene.image(), &other).unwrap();
    assert!(clear(&scene.device(), &found).is_err());
    assert_eq!(fs::read(scene.image()).unwrap(), other);
}

#[test]
fn minidumps_saved_from_a_device_open_and_are_complete() {
    let (dump, _) = machines::small(Arch::Amd64, 3);
    let dump = dump.build();
    let mut short = dump.clone();
    short.truncate(dump.len() - 4096);
    for (dump, completeness) in [(&dump, "complete"), (&short, "1 page missing")] {
        let scene = Scene::new(&header(dump.len()).device(1 << 20, &[], dump).unwrap());
        scene.save();
        let text = String::from_utf8(scene.read("info.0")).unwrap();
        let line = format!("  Dump Kind: minidump v3, {completeness}\n");
        assert!(text.contains(&line), "{text}");
    }
}
