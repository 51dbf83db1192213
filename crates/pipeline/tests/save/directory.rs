//! The directory: numbers, names, links, room, owners.

use crate::*;
use std::fs;
use vmcore_pipeline::save::{Event, Options, SaveError, save};
use vmcore_synth::header::DumpHeader;

#[test]
fn every_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let header = DumpHeader {
        dumpkeysize: 512,
        ..header(4096)
    };
    let scene = Scene::with(&header, &[1; 512], &bytes(4096));
    scene.save();
    let files = ["bounds", "info.0", "key.0", "vmcore_encrypted.0"];
    for file in files {
        let mode = fs::metadata(scene.crash(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let links = ["info.last", "key.last", "vmcore_encrypted.last"];
    let mut expected = [files.as_slice(), &links].concat();
    expected.sort_unstable();
    assert_eq!(scene.names(), expected);
}

#[test]
fn a_dump_that_is_there_already_is_recognised_byte_by_byte() {
    let scene = Scene::with(&header(8192), &[], &bytes(8192));
    assert!(!scene.save().was_there);
    let again = scene.save();
    assert!(again.was_there);
    assert_eq!(again.core_file, scene.crash("vmcore.0"));
    // One byte differs: it is another dump, or a damaged copy.
    let mut copy = bytes(8192);
    copy[5000] ^= 1;
    fs::write(scene.crash("vmcore.0"), &copy).unwrap();
    let third = scene.save();
    assert!(!third.was_there);
    assert_eq!(scene.read("vmcore.0"), copy);
    assert_eq!(scene.read("vmcore.1"), bytes(8192));
}

#[test]
fn a_dump_that_does_not_fit_stays_on_its_device() {
    let scene = Scene::with(&header(8192), &[], &bytes(8192));
    let before = fs::read(scene.image()).unwrap();
    fs::write(scene.crash("minfree"), format!("{}\n", u64::MAX)).unwrap();
    let refused = scene.try_save(&clearing());
    let Err(SaveError::NoRoom {
        need_bytes,
        reserved_bytes,
        ..
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!((need_bytes, reserved_bytes), (8192 + 2048, u64::MAX));
    assert_eq!(fs::read(scene.image()).unwrap(), before);
    assert_eq!(scene.names(), ["minfree"]);

    // An invalid size is not a minimum, and is reported.
    fs::write(scene.crash("minfree"), "plenty\n").unwrap();
    let mut warnings = Vec::new();
    save(
        &scene.device(),
        &scene.found(),
        &scene.crash(""),
        &Options::default(),
        &mut |event| {
            if let Event::Warning(warning) = event {
                warnings.push(warning.to_owned());
            }
        },
    )
    .unwrap();
    assert_eq!(
        warnings,
        ["minfree does not contain a valid size: \"plenty\""]
    );
}

#[test]
fn the_directory_must_be_one() {
    let scene = Scene::with(&header(8192), &[], &bytes(8192));
    for place in [scene.crash("absent"), scene.image()] {
        let refused = save(
            &scene.device(),
            &scene.found(),
            &place,
            &clearing(),
            &mut |_| {},
        );
        assert!(
            matches!(refused, Err(SaveError::Directory { .. })),
            "{refused:?}"
        );
    }
    assert!(!scene.found().is_cleared());
}

#[test]
fn numbers_wrap_and_take_everything_of_the_old_dump_with_them() {
    let scene = Scene::with(&header(8192), &[], &bytes(8192));
    let old = [
        "info.0",
        "key.0",
        "vmcore_encrypted.0",
        "vmcore.0.zst",
        "core.txt.0",
        "textdump.tar.0.gz",
        "info.1",
        "vmcore.1",
    ];
    for name in old {
        fs::write(scene.crash(name), name).unwrap();
    }
    fs::write(scene.crash("bounds"), "2").unwrap();
    let options = Options {
        maxdumps: Some(2),
        ..Options::default()
    };
    scene.try_save(&options).unwrap();
    let expected = [
        "bounds",
        "info.0",
        "info.1",
        "info.last",
        "vmcore.0",
        "vmcore.1",
        "vmcore.last",
    ];
    assert_eq!(scene.names(), expected);
    assert_eq!(scene.read("bounds"), b"1\n");
    assert_eq!(scene.read("vmcore.0"), bytes(8192));
    assert_eq!(scene.read("vmcore.1"), b"vmcore.1");
}

#[test]
fn a_dump_that_appears_under_the_number_meanwhile_is_kept() {
    let scene = Scene::with(&header(8192), &[], &bytes(8192));
    let result = save(
        &scene.device(),
        &scene.found(),
        &scene.crash(""),
        &clearing(),
        &mut |event| {
            if let Event::Copying { .. } = event {
                fs::write(scene.crash("vmcore.0.zst"), "somebody else's").unwrap();
            }
        },
    );
    let text = result.unwrap_err().to_string();
    assert!(
        text.ends_with("vmcore.0.zst: has appeared meanwhile"),
        "{text}"
    );
    assert_eq!(scene.names(), ["bounds", "vmcore.0.zst"]);
    assert_eq!(scene.read("vmcore.0.zst"), b"somebody else's");
    assert!(!scene.found().is_cleared());
    assert_eq!(scene.save().core_file, scene.crash("vmcore.1"));
}

#[test]
fn old_links_go_and_files_of_such_names_stay() {
    let scene = Scene::with(&header(8192), &[], &bytes(8192));
    for name in [
        "vmcore.last.zst",
        "vmcore_encrypted.last",
        "key.last",
        "info.last",
    ] {
        std::os::unix::fs::symlink("gone", scene.crash(name)).unwrap();
    }
    fs::write(scene.crash("textdump.tar.last"), "a file").unwrap();
    scene.save();
    let expected = [
        "bounds",
        "info.0",
        "info.last",
        "textdump.tar.last",
        "vmcore.0",
        "vmcore.last",
    ];
    assert_eq!(scene.names(), expected);
    assert_eq!(link(&scene.crash("info.last")), "info.0");
}
