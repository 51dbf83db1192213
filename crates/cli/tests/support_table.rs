//! The README's table of architectures, made from what the code knows of each, so that it cannot say
//! anything else. `VMCORE_UPDATE_GOLDEN=1` writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use vmcore::registers::PcbLayout;
use vmcore::windows::{FullDumps, full_dumps};
use vmcore_debug::arch::{Chain, Machine};
use vmcore_format::arch::Arch;
use vmcore_format::endian::Endian;
use vmcore_format::header::newest_version;
use vmcore_format::prstatus::Prstatus;
use vmcore_writer::arch::{WRITTEN, Written};

/// The lines between which the table stands.
const START: &str =
    "<!-- table of architectures: cargo test -p vmcore-cli --test support_table -->\n";
const END: &str = "<!-- end of the table -->\n";

const COLUMNS: [&str; 7] = [
    "",
    "minidumps read",
    "full dumps read",
    "registers, backtraces",
    "converted to ELF",
    "minidumps written",
    "full dumps written",
];

fn versions(all: impl IntoIterator<Item = u32>) -> String {
    let mut all: Vec<u32> = all.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    let list: Vec<String> = all.iter().map(u32::to_string).collect();
    match list.len() {
        0 => "no".to_owned(),
        1 => format!("version {}", list[0]),
        _ => format!("versions {}", list.join(", ")),
    }
}

fn minidumps_read(arch: Arch) -> String {
    match newest_version(arch) {
        0 => "there are none".to_owned(),
        newest => versions(1..=newest),
    }
}

fn full_dumps_read(arch: Arch) -> &'static str {
    match full_dumps(arch) {
        FullDumps::None => "no",
        FullDumps::Physical(_) => "yes",
        FullDumps::Virtual => "of virtual memory",
        FullDumps::TranslationBuffer => "yes, by the TSB",
    }
}

fn backtraces(arch: Arch) -> &'static str {
    let has_registers = PcbLayout::of(arch, None).len_bytes() > 0;
    let machine = Machine::of(arch);
    let is_chained = machine.chain != Chain::Unknown;
    match (has_registers && is_chained, machine.has_trap_frames()) {
        (false, _) => "no",
        (true, false) => "up to traps",
        (true, true) => "yes",
    }
}

fn converted(arch: Arch) -> &'static str {
    match Prstatus::of(arch).len_bytes() {
        0 => "memory",
        _ => "memory, threads",
    }
}

fn minidumps_written(all: &[&Written]) -> String {
    let formats = all.iter().flat_map(|written| written.formats);
    let only_little = all.iter().all(|written| written.endian == Endian::Little);
    let order = match all.first() {
        Some(first) if only_little && first.arch.endian().is_none() => ", little-endian",
        _ => "",
    };
    versions(formats.map(|format| format.version)) + order
}

fn full_dumps_written(all: &[&Written]) -> &'static str {
    match all.iter().any(|written| written.has_full_dumps) {
        true => "yes",
        false => "no",
    }
}

fn row(arch: Arch) -> [String; 7] {
    let orders = match arch.endian() {
        Some(_) => "",
        None => ", either byte order",
    };
    let written: Vec<&Written> = WRITTEN.iter().filter(|w| w.arch == arch).collect();
    [
        format!("{arch}{orders}"),
        minidumps_read(arch),
        full_dumps_read(arch).to_owned(),
        backtraces(arch).to_owned(),
        converted(arch).to_owned(),
        minidumps_written(&written),
        full_dumps_written(&written).to_owned(),
    ]
}

fn table() -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut table = line(&COLUMNS.map(str::to_owned));
    table += &line(&COLUMNS.map(|_| "---".to_owned()));
    for arch in Arch::ALL {
        table += &line(&row(arch));
    }
    table
}

#[test]
fn the_readme_says_what_the_code_can() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(START).expect("the table's first line");
    let (now, after) = rest.split_once(END).expect("the table's last line");
    let table = table();
    if std::env::var_os("VMCORE_UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(&path, format!("{before}{START}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(now, table, "VMCORE_UPDATE_GOLDEN=1 writes the table anew");
    }
}
