//! Malformed headers: what is at the start of the file.

use super::{error_of, says, sound};
use crate::common::{locate, open, try_open};
use crate::kinds::{KINDS, page, text};
use vmcore::OpenOptions;
use vmcore::container::ContainerError;
use vmcore::dump::{Completeness, OpenError};
use vmcore::format::addr::PhysAddr;
use vmcore::format::header::HeaderError;
use vmcore::format::layout::Section;
use vmcore_synth::Arch;
use vmcore_synth::header::{DumpHeader, MAGIC_CLEARED, MAGIC_TEXT};

/// Architectures of which there are kernels of either byte order.
const HAVE_BOTH_ORDERS: [Arch; 8] = Arch::OTHERS;

/// The header's own error.
fn header_error(bytes: &[u8]) -> HeaderError {
    match error_of(bytes) {
        OpenError::Header { source, .. } => source,
        other => panic!("not an error of the header: {other}"),
    }
}

#[test]
fn an_empty_file_is_empty() {
    let error = error_of(b"");
    assert!(
        matches!(error, OpenError::Container(ContainerError::Empty { .. })),
        "{error}"
    );
    says(&error, "is empty");
}

#[test]
fn a_file_shorter_than_its_header_is_truncated() {
    for kind in KINDS {
        let dump = kind.sound();
        let file = dump.build();
        for len in 24..4096 {
            let error = error_of(&file[..len]);
            match error {
                OpenError::Header { source, .. } => {
                    let HeaderError::Truncated { have, need } = source else {
                        panic!("{}: {source}", kind.name)
                    };
                    assert!(have == len && need > len, "{}: {source}", kind.name);
                }
                // The structure is there, its page is not.
                OpenError::Truncated {
                    section: Section::Header,
                    need,
                    have,
                    ..
                } => {
                    assert!(len >= kind.header_bytes, "{}, {len}", kind.name);
                    assert_eq!((need, have), (dump.page_size, len as u64), "{}", kind.name);
                }
                error => panic!("{}, {len}: {error}", kind.name),
            }
        }
        let error = header_error(&file[..23]);
        assert_eq!(error, HeaderError::Truncated { have: 23, need: 24 });
    }
}

#[test]
fn other_files_are_of_no_known_format() {
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
fn an_unknown_magic_is_named() {
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
fn a_magic_without_its_nul_is_refused() {
    for kind in KINDS {
        let mut dump = kind.sound();
        // powerpc64's field is longer.
        dump.magic.resize(32, b'?');
        let error = header_error(&dump.build());
        assert!(
            matches!(error, HeaderError::UnknownMagic(_)),
            "{}: {error}",
            kind.name
        );
    }
    let mut dump = sound();
    dump.magic = b"minidump FreeBSD/amd64??".to_vec();
    assert_eq!(
        header_error(&dump.build()),
        HeaderError::UnknownMagic(*b"minidump FreeBSD/amd64??")
    );
}

#[test]
fn versions_that_nobody_wrote_are_refused() {
    for kind in KINDS {
        let (arch, newest) = (kind.arch.magic_name(), kind.arch.newest_version());
        for version in [0, newest + 1, u32::MAX] {
            let mut dump = kind.sound();
            dump.version_field = Some(version);
            let file = dump.build();
            let expected = HeaderError::BadVersion {
                arch,
                version,
                newest,
            };
            // Where both orders are known, one that makes no sense in either counts as little-endian.
            match kind.arch.is_big_endian() && version == newest + 1 {
                true => assert!(matches!(
                    header_error(&file),
                    HeaderError::BadVersion { .. }
                )),
                false => assert_eq!(header_error(&file), expected, "{}", kind.name),
            }
            says(
                &error_of(&file),
                &format!("versions 1 to {newest} are known"),
            );
        }
    }
}

#[test]
fn a_version_in_the_other_byte_order_is_recognised() {
    for kind in KINDS {
        let mut dump = kind.sound();
        let version = kind.version;
        dump.version_field = Some(version.swap_bytes());
        let file = dump.build();
        if HAVE_BOTH_ORDERS.contains(&kind.arch) {
            // It is one of the other order, whose sections are longer than any file.
            let error = error_of(&file);
            let OpenError::Truncated { section, .. } = error else {
                panic!("{}: {error}", kind.name)
            };
            assert_eq!(section, Section::MessageBuffer, "{}", kind.name);
            continue;
        }
        let arch = kind.arch.magic_name();
        let expected = HeaderError::OtherEndian { arch, version };
        assert_eq!(header_error(&file), expected, "{}", kind.name);
        says(&error_of(&file), "in the other byte order");
    }
}

#[test]
fn a_device_header_in_front_is_skipped() {
    for (kind, (version, blocksize)) in KINDS.iter().flat_map(|kind| {
        [(1, 512), (2, 512), (3, 512), (4, 512), (4, 4096)].map(|header| (kind, header))
    }) {
        let dump = kind.sound();
        let file = dump.build();
        let architecture = kind.arch.machine_arch();
        let mut header = DumpHeader::new(architecture, file.len() as u64);
        (header.version, header.blocksize) = (version, blocksize);
        header.hostname = "host.example.org".to_owned();
        let opened = open(&header.before(&file));
        let device = opened.device_header().unwrap();
        let lengths = (device.version, device.dumplength);
        assert_eq!(lengths, (version, file.len() as u64), "{}", kind.name);
        assert_eq!(device.hostname, "host.example.org", "{}", kind.name);
        assert_eq!(device.architecture, architecture);
        // Offsets are those of the dump, not of the file around it.
        let pa = page(&dump, 5);
        let offset = dump.offset_of(pa).unwrap();
        assert_eq!(locate(&opened, pa), Ok(offset), "{}", kind.name);
        let mut bytes = vec![0; text(pa).len()];
        let read = opened.memory().read(PhysAddr(pa), &mut bytes);
        assert_eq!((read.len, read.error), (text(pa).len(), None));
        assert_eq!(bytes, text(pa));
        let complete = Completeness::Complete { trailing_bytes: 0 };
        assert_eq!(opened.completeness(), Ok(complete), "{}", kind.name);
    }
}

#[test]
fn what_is_behind_a_device_header_decides_how_it_is_read() {
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
    assert!(
        matches!(error, OpenError::Container(ContainerError::KeyBlock { .. })),
        "{error}"
    );
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
fn a_device_header_with_a_block_size_beyond_the_file_leaves_nothing() {
    let file = sound().build();
    let mut header = DumpHeader::new("amd64", file.len() as u64);
    header.blocksize = u32::MAX;
    let mut bytes = header.build();
    bytes.extend_from_slice(&file);
    let error = error_of(&bytes);
    assert!(
        matches!(
            error,
            OpenError::Container(ContainerError::Empty { .. }) | OpenError::UnknownFormat { .. }
        ),
        "{error}"
    );
}

#[test]
fn compressed_rubbish_says_where_it_breaks_off() {
    for (start, what) in [
        (&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 7][..], "block"),
        (&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 7], "deflate"),
        (&[0x1f, 0x8b, 7], "form"),
    ] {
        let error = error_of(&[start, &[0xff; 100]].concat());
        assert!(
            matches!(error, OpenError::Container(ContainerError::Broken { .. })),
            "{error}"
        );
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
    says(&error, "kernel or program, not a dump");
}

#[test]
fn a_folder_and_a_missing_file_are_errors_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("missing")] {
        let error = vmcore::Dump::open(&path, &OpenOptions::default()).unwrap_err();
        assert!(
            matches!(error, OpenError::Container(ContainerError::Io { .. })),
            "{error}"
        );
    }
    assert!(try_open(&sound().build(), &OpenOptions::default()).is_ok());
}
