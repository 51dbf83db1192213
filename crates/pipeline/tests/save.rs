//! Saving dumps of every kind from images of devices, sound and damaged.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests may fail")]

use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use vmcore_pipeline::save::{
    Clear, Clearing, Device, DumpType, Event, Found, Options, Problem, SaveError, Saved, Status,
    clear, find, save,
};
use vmcore_synth::header::{DumpHeader, MAGIC, MAGIC_CLEARED, MAGIC_TEXT};
use vmcore_synth::machine::{self, Machine};
use vmcore_synth::{Arch, machines};

/// Bytes of the devices.
const MEDIA: u64 = 256 << 10;

/// A device's image, and a directory to save to.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new(image: &[u8]) -> Self {
        let scene = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::write(scene.image(), image).unwrap();
        fs::create_dir(scene.crash("")).unwrap();
        scene
    }

    /// A dump on a device.
    fn with(header: &DumpHeader, key: &[u8], dump: &[u8]) -> Self {
        Self::new(&header.device(MEDIA, key, dump).unwrap())
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("swap.img")
    }

    fn crash(&self, name: &str) -> PathBuf {
        self.dir.path().join("crash").join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.crash(name)).unwrap()
    }

    fn device(&self) -> Device {
        Device::open(&self.image()).unwrap()
    }

    fn find(&self) -> Option<Found> {
        find(&self.device()).unwrap()
    }

    fn found(&self) -> Found {
        self.find().unwrap()
    }

    fn try_save(&self, options: &Options) -> Result<Saved, SaveError> {
        save(
            &self.device(),
            &self.found(),
            &self.crash(""),
            options,
            &mut |_| {},
        )
    }

    fn save(&self) -> Saved {
        self.try_save(&Options::default()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.crash("")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn forced() -> Options {
    Options {
        force: true,
        ..Options::default()
    }
}

fn clearing() -> Options {
    Options {
        clear: Clear::Always,
        ..Options::default()
    }
}

/// Bytes that no two pages have in common.
fn bytes(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| u8::try_from(i % 251 + i / 4096 % 5).unwrap() | 1)
        .collect()
}

fn header(len: usize) -> DumpHeader {
    DumpHeader {
        panicstring: "page fault".to_owned(),
        hostname: "testhost".to_owned(),
        ..DumpHeader::new("amd64", len as u64)
    }
}

fn link(path: &Path) -> String {
    fs::read_link(path).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_machines_dump_is_saved_with_what_is_known_of_it() {
    for (name, options) in machines::all() {
        let machine = Machine::new(&options);
        let dump = machine.dump.build();
        let media = dump.len().next_multiple_of(4096) as u64 + (128 << 10);
        let scene = Scene::new(&machine.header.device(media, &[], &dump).unwrap());
        let saved = scene.save();
        assert_eq!(scene.read("vmcore.0"), dump, "{name}");

        let image = scene.image();
        let device = format!("Dump header from device: {}\n", image.display());
        let expected = machine
            .info
            .replace("Dump header from device: /dev/vtbd0p2\n", &device);
        let text = String::from_utf8(scene.read("info.0")).unwrap();
        let ours = text
            .strip_prefix(&expected)
            .unwrap_or_else(|| panic!("{name}: {text}"));
        let contents = saved.info.contents.unwrap();
        let id = contents.dump_id.unwrap();
        assert_eq!(
            ours,
            format!(
                "  Header Version: 4\n  Dump Kind: {}, complete\n  Dump Id: {id}\n",
                contents.dump_kind
            ),
            "{name}"
        );
        let kind = match options.kind {
            machine::Kind::Mini => format!("minidump v{}", options.version),
            machine::Kind::Full => "full dump".to_owned(),
        };
        assert_eq!(contents.dump_kind, kind, "{name}");
    }
}

#[test]
fn info_is_what_it_always_was() {
    let scene = Scene::with(
        &DumpHeader {
            dumptime: 1_700_000_000,
            versionstring: "FreeBSD 15.0-RELEASE #0: Thu Jan  1 00:00:00 UTC 1970\n    \
                            root@builder:/usr/obj/usr/src/amd64.amd64/sys/GENERIC\n"
                .to_owned(),
            ..header(4096)
        },
        &[],
        &bytes(4096),
    );
    let info = scene.save().info;
    let text = info.to_string().replace(&info.dump_device, "/dev/ada0p3");
    assert_eq!(
        text,
        "\
Dump header from device: /dev/ada0p3
  Architecture: amd64
  Architecture Version: 2
  Dump Length: 4096
  Blocksize: 512
  Compression: none
  Dumptime: 2023-11-14 22:13:20 +0000
  Hostname: testhost
  Magic: FreeBSD Kernel Dump
  Version String: FreeBSD 15.0-RELEASE #0: Thu Jan  1 00:00:00 UTC 1970
    root@builder:/usr/obj/usr/src/amd64.amd64/sys/GENERIC
  Panic String: page fault
  Dump Parity: 887497526
  Bounds: 0
  Dump Status: good
  Header Version: 4
"
    );
    let json = serde_json::to_value(&info).unwrap();
    for (key, value) in [
        ("architecture", "amd64"),
        ("compression", "none"),
        ("dumptime", "2023-11-14 22:13:20 +0000"),
        ("magic", "FreeBSD Kernel Dump"),
        ("panic_string", "page fault"),
        ("dump_status", "good"),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
    assert_eq!(json["dump_length_bytes"], 4096);
    assert_eq!(json["bounds"], 0);
}

#[test]
fn a_dump_cannot_forge_lines_of_info_or_talk_to_a_terminal() {
    let scene = Scene::with(
        &DumpHeader {
            hostname: "a\nBounds: 7".to_owned(),
            panicstring: "VERIFY failed\n\x1b[31m\n\n".to_owned(),
            architecture: "amd64\r".to_owned(),
            ..header(4096)
        },
        &[],
        &bytes(4096),
    );
    scene.save();
    let text = String::from_utf8(scene.read("info.0")).unwrap();
    assert!(text.contains("  Hostname: a\\nBounds: 7\n"), "{text}");
    assert!(
        text.contains("  Panic String: VERIFY failed\\n\\u{1b}[31m\n"),
        "{text}"
    );
    assert!(text.contains("  Architecture: amd64\\r\n"), "{text}");
}

#[test]
fn headers_of_every_version_and_sector_size_are_found() {
    for version in 1..=4 {
        for blocksize in [512, 1024, 2048, 4096] {
            let key = if version == 1 { 0 } else { blocksize };
            let header = DumpHeader {
                version,
                blocksize,
                dumpkeysize: key,
                ..header(12288)
            };
            let key = vec![0x5a; key as usize];
            let scene = Scene::with(&header, &key, &bytes(12288));
            let found = scene.found();
            let what = format!("version {version}, sectors of {blocksize}");
            assert_eq!(found.problems(), [], "{what}");
            assert_eq!(found.header().header_version, version, "{what}");
            assert_eq!(found.header().panic_string, "page fault", "{what}");
            let saved = scene.save();
            assert_eq!(fs::read(saved.core_file).unwrap(), bytes(12288), "{what}");
            if let Some(file) = saved.key_file {
                assert_eq!(fs::read(file).unwrap(), key, "{what}");
            }
        }
    }
}

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
        // Its length is no multiple of a sector.
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
    assert_eq!(scene.found().header().dump_type, DumpType::Textdump);
    let saved = scene.try_save(&clearing()).unwrap();
    assert_eq!(scene.read("textdump.tar.0"), archive);
    assert_eq!(link(&scene.crash("textdump.tar.last")), "textdump.tar.0");
    assert!(saved.info.contents.is_none());

    // Cleared, it comes back as what it was.
    assert!(scene.found().is_cleared());
    assert_eq!(scene.found().header().dump_type, DumpType::Textdump);
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

/// What the headers' damage comes to: problems, and whether force saves the dump all the same.
#[test]
fn damaged_headers_are_reported_and_saved_by_force_only() {
    let dump = bytes(8192);
    let sound = header(8192).device(MEDIA, &[], &dump).unwrap();
    let trailer = sound.len() - 512;
    let leader = trailer - 8192 - 512;
    let parity = |problem: &Problem| matches!(problem, Problem::Parity { .. });
    let differs = |problem: &Problem| matches!(problem, Problem::LeaderDiffers { .. });
    let unknown = |problem: &Problem| matches!(problem, Problem::UnknownVersion { version: 9 });
    let flip = |offsets: &[usize]| {
        let mut image = sound.clone();
        for offset in offsets {
            image[*offset] ^= 0x40;
        }
        image
    };
    let of_version_9 = DumpHeader {
        version_field: Some(9),
        ..header(8192)
    };
    type Is<'a> = &'a dyn Fn(&Problem) -> bool;
    let cases: [(&str, Vec<u8>, &[Is<'_>], Status); 5] = [
        (
            "leader overwritten",
            flip(&[leader + 100]),
            &[&differs],
            Status::Bad,
        ),
        (
            "trailer damaged",
            flip(&[trailer + 100]),
            &[&parity, &differs],
            Status::Bad,
        ),
        (
            "both damaged alike",
            flip(&[trailer + 100, leader + 100]),
            &[&parity],
            Status::Bad,
        ),
        (
            "block size damaged",
            flip(&[trailer + 62, leader + 62]),
            &[&parity],
            Status::Bad,
        ),
        (
            "unknown version",
            of_version_9.device(MEDIA, &[], &dump).unwrap(),
            &[&unknown],
            Status::Good,
        ),
    ];
    for (what, image, expected, status) in cases {
        let scene = Scene::new(&image);
        let found = scene.found();
        assert_eq!(
            found.problems().len(),
            expected.len(),
            "{what}: {:?}",
            found.problems()
        );
        for (problem, is_expected) in found.problems().iter().zip(expected) {
            assert!(is_expected(problem), "{what}: {problem}");
        }
        let refused = scene.try_save(&clearing());
        assert!(matches!(refused, Err(SaveError::Unsound { .. })), "{what}");
        assert_eq!(scene.names(), Vec::<String>::new(), "{what}");
        assert_eq!(fs::read(scene.image()).unwrap(), image, "{what}: cleared");
        let saved = scene.try_save(&forced()).unwrap();
        assert_eq!(saved.info.dump_status, status, "{what}");
        assert_eq!(scene.read("vmcore.0"), dump, "{what}");
    }
}

#[test]
fn sizes_that_cannot_be_are_refused_whatever_the_parity_says() {
    let wild = |change: &dyn Fn(&mut DumpHeader)| {
        let mut header = header(8192);
        change(&mut header);
        header.build()
    };
    for (what, raw) in [
        (
            "extent beyond the device",
            wild(&|header| header.dumpextent = MEDIA),
        ),
        (
            "extent of all ones",
            wild(&|header| header.dumpextent = u64::MAX),
        ),
        (
            "key beyond the device",
            wild(&|header| header.dumpkeysize = u32::MAX),
        ),
        (
            "no room for the leader",
            wild(&|header| header.dumpextent = MEDIA - 512),
        ),
        (
            "longer than reserved",
            wild(&|header| header.dumplength = 8193),
        ),
        (
            "length of all ones",
            wild(&|header| header.dumplength = u64::MAX),
        ),
        (
            "version 1 of all ones",
            wild(&|header| {
                header.version = 1;
                header.dumplength = u64::MAX;
            }),
        ),
    ] {
        let mut image = vec![0; usize::try_from(MEDIA).unwrap()];
        let trailer = image.len() - 512;
        image[trailer..].copy_from_slice(&raw);
        let scene = Scene::new(&image);
        let found = scene.found();
        let problems = found.problems();
        assert!(
            matches!(problems, [Problem::Impossible { .. }]),
            "{what}: {problems:?}"
        );
        for options in [Options::default(), forced()] {
            let refused = scene.try_save(&options);
            assert!(
                matches!(refused, Err(SaveError::Impossible { .. })),
                "{what}"
            );
        }
        assert_eq!(scene.names(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn devices_without_a_dump_have_none() {
    let text_elsewhere = header(4096).build();
    for len in [0, 1, 100, 511, 512, 4096, 5000] {
        let scene = Scene::new(&vec![0; len]);
        assert!(scene.find().is_none(), "{len} bytes");
    }
    // A header that is a page of something else: its sector size is another's.
    let mut image = vec![0; usize::try_from(MEDIA).unwrap()];
    let at = image.len() - 4096;
    image[at..at + 512].copy_from_slice(&text_elsewhere);
    assert!(Scene::new(&image).find().is_none());
    // Two headers: the one that waits is the one that counts.
    let waiting = header(8192).device(MEDIA, &[], &bytes(8192)).unwrap();
    let mut both = waiting.clone();
    let cleared = DumpHeader {
        magic: MAGIC_CLEARED.to_owned(),
        blocksize: 4096,
        ..header(4096)
    };
    both[at..at + 512].copy_from_slice(&cleared.build());
    let found = Scene::new(&both).found();
    assert!(!found.is_cleared());
    assert_eq!(found.header().blocksize, 512);

    let scene = Scene::new(&[0; 8192]);
    assert!(!scene.device().has_partition_table());
    let mut disk = vec![0; 8192];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert!(Scene::new(&disk).device().has_partition_table());
    assert!(Device::open("/dev/null".as_ref()).is_err());
    let missing = Device::open(&scene.crash("absent")).unwrap_err();
    assert!(missing.to_string().contains("absent"), "{missing}");
    assert!(Device::open(&scene.crash("")).is_err());
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

    // A size that is none is no minimum, and somebody hears of it.
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
    assert_eq!(warnings, ["minfree holds no valid size: \"plenty\""]);
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

#[test]
fn minidumps_saved_from_a_device_open_and_are_complete() {
    let (dump, _) = machines::small(Arch::Amd64, 3);
    let dump = dump.build();
    let mut short = dump.clone();
    short.truncate(dump.len() - 4096);
    for (dump, completeness) in [(&dump, "complete"), (&short, "1 pages missing")] {
        let scene = Scene::new(&header(dump.len()).device(1 << 20, &[], dump).unwrap());
        scene.save();
        let text = String::from_utf8(scene.read("info.0")).unwrap();
        let line = format!("  Dump Kind: minidump v3, {completeness}\n");
        assert!(text.contains(&line), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Headers whose parity is right, and whose numbers may be anything.
    #[test]
    fn no_header_reads_beyond_its_device_or_writes_more_than_it_has(
        version in 0u32..6,
        lengths in prop::array::uniform2(prop::sample::select(
            &[0, 1, 511, 512, 4096, 8192, 14_848, 15_360, 15_872, 16_384, u64::MAX - 511, u64::MAX][..]
        )),
        dumpkeysize in prop::sample::select(&[0, 1, 512, 4096, 15_000, u32::MAX][..]),
        blocksize in prop::sample::select(&[512, 512, 4096, 0, u32::MAX][..]),
        compression in 0u8..4,
        is_text in any::<bool>(),
        is_cleared in any::<bool>(),
    ) {
        let header = DumpHeader {
            version,
            magic: if is_text { MAGIC_TEXT } else { MAGIC }.to_owned(),
            dumplength: lengths[0],
            dumpextent: lengths[1],
            dumpkeysize,
            blocksize,
            compression,
            ..header(0)
        };
        let mut raw = header.build();
        if is_cleared {
            raw[..MAGIC_CLEARED.len()].copy_from_slice(MAGIC_CLEARED.as_bytes());
        }
        let mut image = bytes(16_384);
        let trailer = image.len() - if blocksize == 4096 { 4096 } else { 512 };
        image[trailer..trailer + 512].copy_from_slice(&raw);
        let scene = Scene::new(&image);
        if let Some(found) = scene.find() {
            prop_assert_eq!(found.is_cleared(), is_cleared);
            match scene.try_save(&forced()) {
                Ok(saved) => {
                    prop_assert_eq!(fs::metadata(saved.core_file).unwrap().len(), lengths[0]);
                    prop_assert!(lengths[0] <= trailer as u64);
                }
                Err(SaveError::Impossible { .. }) => prop_assert!(scene.names().is_empty()),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        prop_assert_eq!(fs::read(scene.image()).unwrap(), image);
    }
}
