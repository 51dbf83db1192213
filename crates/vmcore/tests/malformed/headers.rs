//! Rows 1 to 7, 34 and 35: what stands at the start of the file.

use super::common::{locate, open, try_open};
use super::{error_of, says, sound};
use vmcore::OpenOptions;
use vmcore::dump::{Completeness, OpenError};
use vmcore::format::header::HeaderError;
use vmcore::format::layout::Section;
use vmcore_synth::header::{DumpHeader, MAGIC_CLEARED, MAGIC_TEXT};

/// The header's own error.
fn header_error(bytes: &[u8]) -> HeaderError {
    match error_of(bytes) {
        OpenError::Header { source, .. } => source,
        other => panic!("not an error of the header: {other}"),
    }
}

#[test]
fn m01_an_empty_file_is_empty() {
    let error = error_of(b"");
    assert!(matches!(error, OpenError::Empty { .. }), "{error}");
    says(&error, "is empty");
}

#[test]
fn m02_a_file_shorter_than_its_header_is_truncated() {
    let file = sound().build();
    for len in 24..68 {
        let expected = HeaderError::Truncated {
            have: len,
            need: 68,
        };
        assert_eq!(header_error(&file[..len]), expected);
    }
    // The structure is there, its page is not.
    for len in [68, 100, 4095] {
        let error = error_of(&file[..len]);
        let OpenError::Truncated {
            section,
            need,
            have,
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((section, need, have), (Section::Header, 4096, len as u64));
    }
    let error = header_error(&file[..23]);
    assert_eq!(error, HeaderError::Truncated { have: 23, need: 24 });
}

#[test]
fn m03_other_files_are_of_no_known_format() {
    for bytes in [
        &b"not a dump at all"[..],
        b"m",
        b"minidum",
        b"Minidump FreeBSD/amd64",
        &[0; 8192],
    ] {
        let error = error_of(bytes);
        assert!(matches!(error, OpenError::UnknownFormat { .. }), "{error}");
        says(&error, "is not a kernel dump");
    }
}

#[test]
fn m04_an_unknown_magic_is_named() {
    let mut dump = sound();
    for (magic, words) in [
        ("minidump FreeBSD/alpha", "minidump FreeBSD/alpha"),
        ("minidump", "\"minidump\""),
        ("minidumpXYZ\u{1b}[0m", "minidumpXYZ\\x1b[0m"),
    ] {
        dump.magic = magic.as_bytes().to_vec();
        let error = error_of(&dump.build());
        says(&error, words);
        assert!(matches!(
            header_error(&dump.build()),
            HeaderError::UnknownMagic(_)
        ));
    }
    dump.magic = b"minidump DFlyBSD/x86_64".to_vec();
    says(&error_of(&dump.build()), "minidump DFlyBSD/x86_64");
}

#[test]
fn m05_a_magic_without_its_nul_is_refused() {
    let mut dump = sound();
    dump.magic = b"minidump FreeBSD/amd64??".to_vec();
    assert_eq!(
        header_error(&dump.build()),
        HeaderError::UnknownMagic(*b"minidump FreeBSD/amd64??")
    );
}

#[test]
fn m06_versions_that_nobody_wrote_are_refused() {
    for version in [0, 4, u32::MAX] {
        let mut dump = sound();
        dump.version_field = Some(version);
        assert_eq!(
            header_error(&dump.build()),
            HeaderError::BadVersion {
                arch: "amd64",
                version,
                newest: 3
            }
        );
        says(
            &error_of(&dump.build()),
            &format!("version {version}; versions 1 to 3 are known"),
        );
    }
}

#[test]
fn m07_a_version_in_the_other_byte_order_is_recognised() {
    let mut dump = sound();
    dump.version_field = Some(0x0300_0000);
    assert_eq!(
        header_error(&dump.build()),
        HeaderError::OtherEndian {
            arch: "amd64",
            version: 3
        }
    );
    says(&error_of(&dump.build()), "in the other byte order");
}

#[test]
fn m34_a_device_header_in_front_is_skipped() {
    let dump = sound();
    let file = dump.build();
    for (version, blocksize) in [(1, 512), (2, 512), (3, 512), (4, 512), (4, 4096)] {
        let mut header = DumpHeader::new("amd64", file.len() as u64);
        (header.version, header.blocksize) = (version, blocksize);
        header.hostname = "host.example.org".to_owned();
        let opened = open(&header.before(&file));
        let device = opened.device_header().unwrap();
        assert_eq!(
            (device.version, device.dumplength),
            (version, file.len() as u64)
        );
        assert_eq!(
            (&device.hostname[..], &device.architecture[..]),
            (&b"host.example.org"[..], &b"amd64"[..])
        );
        // Offsets are those of the dump, not of the file around it.
        assert_eq!(locate(&opened, 0x5000), Ok(dump.offset_of(0x5000).unwrap()));
        let mut page = [0; 11];
        let read = opened
            .memory()
            .read(vmcore::format::addr::PhysAddr(0x5000), &mut page);
        assert_eq!((read, &page), ((11, None), b"page 0x5000"));
        assert_eq!(
            opened.completeness(),
            Ok(Completeness::Complete { trailing_bytes: 0 })
        );
    }
}

#[test]
fn m34_what_is_behind_a_device_header_decides_how_it_is_read() {
    let file = sound().build();
    let sound = DumpHeader::new("amd64", file.len() as u64);
    // The header may say what it likes about compression.
    for compression in [1, 2, 9] {
        let mut header = sound.clone();
        header.compression = compression;
        assert!(open(&header.before(&file)).device_header().is_some());
    }
    let mut encrypted = sound.clone();
    encrypted.dumpkeysize = 512;
    let error = error_of(&encrypted.before(&file));
    assert!(matches!(error, OpenError::KeyBlock { .. }), "{error}");
    let mut text = sound.clone();
    text.magic = MAGIC_TEXT.to_owned();
    let error = error_of(&text.before(&file));
    assert!(matches!(error, OpenError::Textdump { .. }), "{error}");
    // Saved already: what it stood in front of is still there.
    let mut cleared = sound.clone();
    cleared.magic = MAGIC_CLEARED.to_owned();
    assert!(open(&cleared.before(&file)).device_header().is_some());
    // A header whose parity is wrong is none, so what stands there is no dump.
    let mut damaged = sound;
    damaged.parity = Some(1);
    let error = error_of(&damaged.before(&file));
    assert!(matches!(error, OpenError::UnknownFormat { .. }), "{error}");
}

#[test]
fn m34_a_device_header_with_a_block_size_beyond_the_file_leaves_nothing() {
    let file = sound().build();
    let mut header = DumpHeader::new("amd64", file.len() as u64);
    header.blocksize = u32::MAX;
    let mut bytes = header.build();
    bytes.extend_from_slice(&file);
    let error = error_of(&bytes);
    assert!(
        matches!(
            error,
            OpenError::Empty { .. } | OpenError::UnknownFormat { .. }
        ),
        "{error}"
    );
}

#[test]
fn m35_compressed_rubbish_says_where_it_breaks_off() {
    for (start, what) in [
        (&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 7][..], "block"),
        (&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 7], "deflate"),
        (&[0x1f, 0x8b, 7], "form"),
    ] {
        let error = error_of(&[start, &[0xff; 100]].concat());
        assert!(matches!(error, OpenError::Broken { .. }), "{error}");
        says(&error, what);
        says(&error, "breaks off");
    }
}

#[test]
fn a_kernel_in_place_of_a_dump_is_recognised() {
    let kernel = vmcore_synth::elf::Kernel::new(vmcore_synth::Arch::Riscv64, 0xffff_ffc0_0000_0000);
    let error = error_of(&kernel.build());
    let OpenError::KernelFile { arch, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(arch, "riscv");
    says(&error, "use it with -k");
}

#[test]
fn a_folder_and_a_missing_file_are_errors_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("missing")] {
        let error = vmcore::Dump::open(&path, &OpenOptions::default()).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
    }
    assert!(try_open(&sound().build(), &OpenOptions::default()).is_ok());
}
