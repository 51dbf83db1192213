//! The lab's tests: boot, crash, dump, and look whether the reader tells what happened.
//!
//! Each case has its own folder with the serial log, the disk and the dump. It is removed when
//! the case passes, and kept when it fails.

mod adopting;
mod bugs;
mod layers;
mod panics;
mod trouble;
mod whole;

use super::checks::Scene;
use super::{FOLDER, build};
use crate::tools::{self, GDB, LLDB, OPENSSL};
use crate::{Result, shell};
use std::path::PathBuf;

type Case = (&'static str, fn(&Scene) -> Result);

const CASES: &[Case] = &[
    ("minidump", whole::minidump),
    ("mappings", whole::mappings),
    ("full-dump", whole::full_dump),
    ("full-dump-8g", whole::full_dump_8g),
    ("memory-file", whole::memory_file),
    ("both-kinds", whole::both_kinds),
    ("panics-cpu0", |scene| panics::every_panic(scene, 0)),
    ("panics-cpu1", |scene| panics::every_panic(scene, 1)),
    ("stock-debuggers", panics::stock_debuggers),
    ("bugs", bugs::every_bug),
    ("panic-together", panics::panic_together),
    ("spinning-cpu", panics::spinning_cpu),
    ("deaf-cpu", panics::deaf_cpu),
    ("nmi-button", panics::nmi_button),
    ("nmi-while-dumping", trouble::nmi_while_dumping),
    ("fault-while-dumping", trouble::fault_while_dumping),
    ("unreadable-pages", trouble::unreadable_pages),
    ("panic-in-driver", panics::panic_in_driver),
    ("damaged-tables", trouble::damaged_tables),
    ("damaged-root", trouble::damaged_root),
    ("disk-too-small", trouble::disk_too_small),
    ("disk-stumbles", trouble::disk_stumbles),
    ("disk-fails", trouble::disk_fails),
    ("second-dump", whole::second_dump),
    ("abort", trouble::abort),
    ("watchdog", panics::watchdog),
    ("no-debugger", whole::no_debugger),
    ("without-panic", whole::without_panic),
    ("memory-128m", |scene| whole::memory(scene, "128M", None)),
    ("memory-2g", |scene| whole::memory(scene, "2G", None)),
    ("memory-8g", |scene| whole::memory(scene, "8G", None)),
    ("layers-minidump", |scene| layers::every_way(scene, false)),
    ("layers-full-dump", |scene| layers::every_way(scene, true)),
    ("layer-panics", layers::layer_panics),
    ("netdump", layers::netdump),
    ("adopting", adopting::adopting),
    ("pages-1g", |scene| whole::memory(scene, "3G", Some("max"))),
];

/// Runs the named cases, or all.
pub(super) fn run(names: &[String]) -> Result {
    if let Some(unknown) = names
        .iter()
        .find(|name| CASES.iter().all(|(case, _)| case != name))
    {
        let known: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "unknown case {unknown:?}; cases: {}",
            known.join(" ")
        ));
    }
    tools::need(&[GDB, LLDB, OPENSSL])?;
    let kernel = build()?;
    let reader = build_reader()?;
    let mut failed = Vec::new();
    for (name, case) in CASES {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let folder = PathBuf::from(FOLDER).join(name);
        // What an earlier run left.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let scene = Scene {
            folder,
            kernel: kernel.clone(),
            reader: reader.clone(),
        };
        let (result, time) = shell::timed(|| case(&scene));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("lab {name:<20} {word:<6} {:>7}", shell::human(time));
        match result {
            Ok(()) => _ = std::fs::remove_dir_all(&scene.folder),
            Err(message) => failed.push(format!(
                "{name}: {message}\n  see {}",
                scene.folder.display()
            )),
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("\n")),
    }
}

/// The reader, as a person would run it.
fn build_reader() -> Result<PathBuf> {
    shell::run(&mut shell::command(
        env!("CARGO"),
        "build --locked --quiet -p vmcore-cli",
    ))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Ok(target.join("debug/vmcore"))
}
