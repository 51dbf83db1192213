//! What surrounds a dump: the dump header and `info.N`.

use super::truth::{CRASH_TIME, HOST, PANIC, Truth};
use crate::Arch;
use crate::header::DumpHeader;
use std::fmt::Write as _;

/// The crash time as `info.N` has it.
const CRASH_DATE: &str = "2026-03-02 04:11:09 +0000";

/// The kernel's version string, two lines as of an ordinary build.
pub(super) fn version_string(arch: Arch, release: &str) -> String {
    let (machine, machine_arch) = (arch.magic_name(), arch.machine_arch());
    format!(
        "FreeBSD {release} #7 synth-n271828: Sun Jan 18 09:00:00 UTC 2026\n    \
         build@builder.example.org:/usr/obj/usr/src/{machine}.{machine_arch}/sys/SYNTH\n"
    )
}

/// The dump header of a dump of `dumplength` bytes.
pub(crate) fn header(arch: Arch, dumplength: u64, truth: &Truth) -> DumpHeader {
    DumpHeader {
        dumptime: u64::from(CRASH_TIME),
        hostname: HOST.to_owned(),
        versionstring: truth.version.clone(),
        panicstring: PANIC.to_owned(),
        ..DumpHeader::new(arch.machine_arch(), dumplength)
    }
}

/// `info.0` as it is written when the dump is saved on a little-endian machine.
pub(crate) fn info_text(header: &DumpHeader) -> String {
    let raw = header.build();
    let parity = u32::from_le_bytes([raw[508], raw[509], raw[510], raw[511]]);
    let mut text = String::from("Dump header from device: /dev/vtbd0p2\n");
    let lines = [
        ("Architecture", header.architecture.clone()),
        (
            "Architecture Version",
            header.architectureversion.to_string(),
        ),
        ("Dump Length", header.dumplength.to_string()),
        ("Blocksize", header.blocksize.to_string()),
        ("Compression", "none".to_owned()),
        ("Dumptime", CRASH_DATE.to_owned()),
        ("Hostname", header.hostname.clone()),
        ("Magic", header.magic.clone()),
        // The string has its own newline.
        (
            "Version String",
            header.versionstring.trim_end_matches('\n').to_owned(),
        ),
        ("Panic String", header.panicstring.clone()),
        ("Dump Parity", parity.to_string()),
        ("Bounds", "0".to_owned()),
        ("Dump Status", "good".to_owned()),
    ];
    for (label, value) in lines {
        let _ = writeln!(text, "  {label}: {value}");
    }
    text
}
