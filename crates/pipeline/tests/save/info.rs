//! What is written beside a dump, and what is told of it.

use crate::*;
use vmcore_synth::Arch;
use vmcore_synth::header::DumpHeader;
use vmcore_synth::machine::{self, Machine};
use vmcore_synth::machines;

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
            machine::DumpKind::Mini => format!("minidump v{}", options.version),
            // Of virtual memory.
            machine::DumpKind::Full if options.arch == Arch::Powerpc => "ELF core".to_owned(),
            machine::DumpKind::Full => "full dump".to_owned(),
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
fn a_version_string_has_the_kernels_two_lines_and_no_more() {
    let forged = "FreeBSD 15.0\n  Panic String: all is ok\n";
    for (version, expected) in [
        (forged, "FreeBSD 15.0\\n  Panic String: all is ok"),
        (
            "FreeBSD 15.0\n    Hostname: evil",
            "FreeBSD 15.0\\n    Hostname: evil",
        ),
        (
            "FreeBSD 15.0\n    a@b:/c\n  Hostname: evil",
            "FreeBSD 15.0\\n    a@b:/c\\n  Hostname: evil",
        ),
        (
            "FreeBSD 15.0\u{2028}\u{202e}x",
            "FreeBSD 15.0\\u{2028}\\u{202e}x",
        ),
        ("FreeBSD 15.0\n    a@b:/c\n", "FreeBSD 15.0\n    a@b:/c"),
    ] {
        let scene = Scene::with(
            &DumpHeader {
                versionstring: version.to_owned(),
                ..header(4096)
            },
            &[],
            &bytes(4096),
        );
        scene.save();
        let text = String::from_utf8(scene.read("info.0")).unwrap();
        assert!(
            text.contains(&format!("  Version String: {expected}\n  Panic String: ")),
            "{text}"
        );
        assert_eq!(text.matches("\n  Panic String: ").count(), 1, "{text}");
        assert_eq!(text.matches("\n  Hostname: ").count(), 1, "{text}");
    }
}
