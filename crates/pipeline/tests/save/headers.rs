//! Headers of every kind, sound, damaged and impossible.

use crate::*;
use proptest::prelude::*;
use std::fs;
use vmcore_pipeline::save::{Device, Options, Problem, SaveError, Status};
use vmcore_synth::header::{DumpHeader, MAGIC, MAGIC_CLEARED, MAGIC_TEXT};

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
            assert_eq!(found.header().version, version, "{what}");
            assert_eq!(found.header().panicstring, "page fault", "{what}");
            let saved = scene.save();
            assert_eq!(fs::read(saved.core_file).unwrap(), bytes(12288), "{what}");
            if let Some(file) = saved.key_file {
                assert_eq!(fs::read(file).unwrap(), key, "{what}");
            }
        }
    }
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
