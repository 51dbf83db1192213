//! Every operation of the reader, and of the writer, beside the least that it must cost, in one run.
//!
//! `./x bench [--json] [--only 4g|8g|64g|1t|packed|layers] [--pages FILE]`. The dumps are
//! generated once into `target/bench`: machines of 8 GiB, 64 GiB and 1 TiB, and the full dump of one of
//! 4 GiB. `packed` and `layers` compress the start of one of these, which is noise and zeros, or of FILE. Times are medians, the page cache is hot.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a program that measures, for its authors"
)]

mod clock;
mod disk;
mod layers;
mod packed;
mod reference;
mod rows;
mod table;
mod writer;

use std::path::{Path, PathBuf};
use vmcore_synth::big::{BigMachine, DEMO, HUGE, SERVER, Size};

/// Machines: name, size, folder.
const MACHINES: [(&str, Size, &str); 3] = [
    ("8 GiB", DEMO, "8g"),
    ("64 GiB", SERVER, "64g"),
    ("1 TiB", HUGE, "1t"),
];

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    if let [flag, dump, core] = args.as_slice()
        && flag == "--convert"
    {
        return rows::convert(dump.as_ref(), core.as_ref());
    }
    let json = args.iter().any(|arg| arg == "--json");
    let only = args.iter().skip_while(|arg| *arg != "--only").nth(1);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    std::fs::create_dir_all(&folder).expect("a folder for the dumps");
    let mut table = table::Table::new(json);
    for (name, size, own) in MACHINES {
        if only.is_some_and(|only| only != own) {
            continue;
        }
        let dump = dump(&folder.join(own), size);
        rows::measure(name, &dump, &mut table);
        rows::measure_conversion(name, &dump, &folder, &mut table);
    }
    let pages = || match args.iter().skip_while(|arg| *arg != "--pages").nth(1) {
        Some(pages) => PathBuf::from(pages),
        None => dump(&folder.join("8g"), DEMO),
    };
    if only.is_none_or(|only| only == "packed") {
        packed::measure("packed", &pages(), &folder, &mut table);
    }
    if only.is_none_or(|only| only == "layers") {
        layers::measure("layers", &pages(), &folder, &mut table);
    }
    if only.is_none_or(|only| only == "4g") {
        writer::measure(&folder, &mut table);
    }
    table.finish();
}

/// The dump of a machine, generated if it is not there yet.
fn dump(folder: &Path, size: Size) -> PathBuf {
    let dump = folder.join("vmcore.0");
    let machine = BigMachine::new(size);
    let len = std::fs::metadata(&dump).map_or(0, |metadata| metadata.len());
    if len != machine.len_bytes() {
        eprintln!("generating {}", dump.display());
        std::fs::create_dir_all(folder).expect("a folder for the dump");
        machine.write_into(folder).expect("room for the dump");
    }
    dump
}
