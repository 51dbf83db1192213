//! Writes small dumps of every kind, their kernel files, and a few that are broken: seeds for
//! fuzzing.
//!
//! `make FOLDER`

#![expect(clippy::print_stderr, reason = "a command says what went wrong")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use vmcore_synth::machine::{DumpFile, DumpKind, Machine, Options, Shape};
use vmcore_synth::minidump::Minidump;
use vmcore_synth::{Arch, header, machines};

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("make: in which folder? make FOLDER");
        return ExitCode::FAILURE;
    };
    for (name, content) in files() {
        let path = Path::new(&folder).join(&name);
        if let Err(error) = fs::write(&path, content) {
            eprintln!("make: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Names and contents of all files.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for (name, options) in machines::all() {
        if options.shape == Shape::Real {
            continue;
        }
        let machine = Machine::new(&Options {
            is_tiny: true,
            cpus: 2,
            unstopped_cpu: None,
            ..options
        });
        files.push((format!("vmcore-{name}"), machine.dump.build()));
        if options.kind == DumpKind::Full || options.version == options.arch.newest_version() {
            files.push((format!("kernel-{name}"), machine.kernel.build()));
        }
    }
    files.extend(device_headers());
    files.extend(tiny());
    files.extend(broken());
    files
}

/// A dump after the header that its device had, in every version; and headers alone.
fn device_headers() -> Vec<(String, Vec<u8>)> {
    let machine = Machine::new(&Options {
        is_tiny: true,
        cpus: 2,
        ..Options::new(Arch::Amd64, 1)
    });
    let dump = small(Arch::Amd64, 3).build();
    let mut files = Vec::new();
    for version in 1..=4 {
        let header = header::DumpHeader {
            version,
            dumplength: dump.len() as u64,
            ..machine.header.clone()
        };
        files.push((format!("header-v{version}"), header.build()));
        files.push((format!("device-v{version}"), header.before(&dump)));
    }
    let special = [
        (
            "cleared",
            header::DumpHeader {
                magic: header::MAGIC_CLEARED.into(),
                ..machine.header.clone()
            },
        ),
        (
            "text",
            header::DumpHeader {
                magic: header::MAGIC_TEXT.into(),
                ..machine.header.clone()
            },
        ),
        (
            "zstd",
            header::DumpHeader {
                compression: 2,
                ..machine.header.clone()
            },
        ),
        (
            "encrypted",
            header::DumpHeader {
                dumpkeysize: 512,
                ..machine.header.clone()
            },
        ),
        (
            "parity",
            header::DumpHeader {
                parity: Some(1),
                ..machine.header.clone()
            },
        ),
    ];
    files.extend(special.map(|(name, header)| (format!("device-{name}"), header.before(&dump))));
    files
}

/// A dump of two pages with holes, as small as it can be.
fn small(arch: Arch, version: u32) -> Minidump {
    let mut dump = Minidump::new(arch, version);
    let start = dump.dmapphys;
    dump.msgbuf = b"panic: nothing happened\n".to_vec();
    dump.dump_avail = vec![
        (start, start + 0x9800),
        (start + 0x1_0800, start + 0x4_0000),
    ];
    dump.page_tables = vec![0; 4096];
    // A table page, a table in the dump and a page: valid, whatever the architecture.
    let entry = if arch == Arch::Riscv64 {
        (start + 0x3000) >> 2 | 0xef
    } else {
        (start + 0x3000) | 0x3
    };
    dump.page_tables[8..16].copy_from_slice(&entry.to_le_bytes());
    dump.pages
        .insert(start + 0x3000, entry.to_le_bytes().repeat(512));
    dump.pages.insert(start + 0x1_0000, b"a page ".repeat(585));
    dump
}

fn tiny() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for arch in Arch::ALL {
        for version in 1..=arch.newest_version() {
            let name = format!("tiny-{}-v{version}", arch.magic_name());
            files.push((name, small(arch, version).build()));
        }
    }
    files
}

/// Changes a small dump of amd64.
type Change = fn(&mut Minidump);

/// Dumps with one thing wrong each.
fn broken() -> Vec<(String, Vec<u8>)> {
    let changes: [(&str, Change); 20] = [
        ("version", |dump| dump.version_field = Some(4)),
        ("version-swapped", |dump| {
            dump.version_field = Some(0x0300_0000)
        }),
        ("magic-other", |dump| {
            dump.magic = b"minidump FreeBSD/vax".to_vec()
        }),
        ("magic-full", |dump| {
            dump.magic = b"minidump FreeBSD/amd64ab".to_vec()
        }),
        ("msgbufsize-huge", |dump| {
            dump.msgbufsize = Some(0xffff_f000)
        }),
        ("bitmapsize-0", |dump| dump.bitmapsize = Some(0)),
        ("bitmapsize-odd", |dump| dump.bitmapsize = Some(100)),
        ("bitmapsize-huge", |dump| dump.bitmapsize = Some(u32::MAX)),
        ("pmapsize-huge", |dump| dump.pmapsize = Some(0xffff_f000)),
        ("pmapsize-7", |dump| dump.pmapsize = Some(7)),
        ("dumpavailsize-0", |dump| dump.dumpavailsize = Some(0)),
        ("dumpavailsize-8", |dump| dump.dumpavailsize = Some(8)),
        ("ranges-endless", |dump| dump.dump_avail_terminated = false),
        ("ranges-backwards", |dump| {
            dump.bitmap = Some(dump.bitmap_bytes());
            dump.dump_avail = vec![(0x4_0000, 0x1_0000), (0x8000, 0x9000), (0, 0x4000)];
        }),
        ("ranges-to-the-end", |dump| {
            dump.bitmap = Some(dump.bitmap_bytes());
            dump.dump_avail = vec![(0x1000, u64::MAX)];
        }),
        ("bits-all", |dump| dump.bitmap = Some(vec![0xff; 4096])),
        ("direct-map-backwards", |dump| {
            (dump.dmapbase, dump.dmapend) = (dump.dmapend, dump.dmapbase)
        }),
        ("kernbase-at-the-end", |dump| {
            dump.kernbase = u64::MAX - 4095
        }),
        ("cut-in-pages", |dump| {
            dump.truncate_to = Some(dump.sections().pages + 100)
        }),
        ("cut-in-bitmap", |dump| {
            dump.truncate_to = Some(dump.sections().bitmap + 100)
        }),
    ];
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, change) in changes {
        let mut dump = small(Arch::Amd64, 3);
        change(&mut dump);
        files.push((format!("broken-{name}"), dump.build()));
    }
    let tiny = Options {
        is_tiny: true,
        cpus: 2,
        ..Options::full(Arch::Amd64)
    };
    let mut machine = Machine::new(&tiny);
    machine.kernel.truncate_to = Some(0x1800);
    files.push(("broken-kernel-cut".to_owned(), machine.kernel.build()));
    if let DumpFile::Full(dump) = &mut machine.dump {
        dump.segments.truncate(1);
        dump.e_phnum = Some(0xffff);
        files.push(("broken-full-phnum".to_owned(), dump.build()));
        dump.e_phnum = None;
        dump.segments[0].p_offset = Some(u64::MAX - 10);
        files.push(("broken-full-offset".to_owned(), dump.build()));
    }
    files
}
