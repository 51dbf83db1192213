//! The lab's tests: boot, crash, dump, and look whether the reader tells what happened.
//!
//! Each case has a folder of its own with the serial log, the disk and the dump. It is removed when
//! the case passes, and kept when it fails.

use super::checks::{
    EXTENSION_MAX, LIMIT, Scene, command, crash, expect, has_damage, holds_the_load,
    is_as_predicted, is_flawless, is_sound, number_before, pattern, places, poweroff,
    tells_the_story, write_dump,
};
use super::dump::{self, Dump};
use super::machine::{Boot, Machine};
use super::{FOLDER, build};
use crate::{Result, shell};
use std::path::PathBuf;

/// The most that the minidump of a machine with 8 GiB may have.
const MINIDUMP_MAX: u64 = 48 << 20;

type Case = (&'static str, fn(&Scene) -> Result);

const CASES: &[Case] = &[
    ("minidump", minidump),
    ("full-dump", full_dump),
    ("memory-file", memory_file),
    ("both-kinds", both_kinds),
    ("panics-cpu0", |scene| every_panic(scene, 0)),
    ("panics-cpu1", |scene| every_panic(scene, 1)),
    ("panic-together", panic_together),
    ("spinning-cpu", spinning_cpu),
    ("deaf-cpu", deaf_cpu),
    ("nmi-button", nmi_button),
    ("nmi-while-dumping", nmi_while_dumping),
    ("fault-while-dumping", fault_while_dumping),
    ("unreadable-pages", unreadable_pages),
    ("panic-in-driver", panic_in_driver),
    ("damaged-tables", damaged_tables),
    ("damaged-root", damaged_root),
    ("disk-too-small", disk_too_small),
    ("disk-stumbles", disk_stumbles),
    ("disk-fails", disk_fails),
    ("second-dump", second_dump),
    ("abort", abort),
    ("watchdog", watchdog),
    ("no-debugger", no_debugger),
    ("without-panic", without_panic),
    ("memory-128m", |scene| memory(scene, "128M", None)),
    ("memory-2g", |scene| memory(scene, "2G", None)),
    ("memory-8g", |scene| memory(scene, "8G", None)),
    ("pages-1g", |scene| memory(scene, "3G", Some("max"))),
];

/// Runs the named cases, or all.
pub(super) fn run(names: &[String]) -> Result {
    if let Some(unknown) = names
        .iter()
        .find(|name| CASES.iter().all(|(case, _)| case != name))
    {
        let known: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "there is no case {unknown:?}; cases: {}",
            known.join(" ")
        ));
    }
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

/// Boots, crashes, dumps; the minidump must be right in every respect.
fn good_minidump(scene: &Scene, boot: Boot) -> Result<Dump> {
    let mut machine = scene.boot_with(128, boot)?;
    let load = command(&mut machine, "load")?;
    crash(&mut machine, "sysctl debug.kdb.trap=1")?;
    let predicted = command(&mut machine, "show dump")?;
    let written = write_dump(&mut machine)?;
    poweroff(&mut machine)?;
    let dump = scene.dump()?;
    is_as_predicted(&predicted, &written, &dump)?;
    is_flawless(&dump, "page fault")?;
    holds_the_load(&dump, &load, false)?;
    Ok(dump)
}

fn minidump(scene: &Scene) -> Result {
    let boot = Boot {
        board: "pc",
        tunables: vec!["kern.hostname=laboratory".to_owned()],
        ..Boot::default()
    };
    let dump = good_minidump(scene, boot)?;
    let bytes = std::fs::read(scene.disk()).map_err(|error| error.to_string())?;
    let trailer = &bytes[bytes.len() - 512..];
    expect(&String::from_utf8_lossy(trailer), "laboratory")?;
    expect(&dump.says(&["ps"])?, "crasher/culprit, on CPU 0")
        .or_else(|_| expect(&dump.says(&["ps"])?, "(crasher/culprit), on CPU 0"))
}

/// The hypervisor writes the crashed machine's memory to a file. What is made of it tells what the
/// kernel's own dump tells, and has the size of it.
fn memory_file(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    let load = command(&mut machine, "load")?;
    crash(&mut machine, "sysctl debug.kdb.trap=1")?;
    let predicted = command(&mut machine, "show dump")?;
    write_dump(&mut machine)?;
    let file = scene.folder.join("memory.elf");
    machine.write_memory_file(&file)?;
    poweroff(&mut machine)?;
    let own = scene.dump()?;
    let (kernel, reader) = (&scene.kernel, &scene.reader);
    for kind in ["minidump", "full"] {
        let to = scene.folder.join(kind);
        let mut dump = dump::convert(&file, &to, kind, kernel, reader)?;
        dump.panic.clone_from(&own.panic);
        is_sound(&dump, "page fault")?;
        // No symbol tells which mapped pages hold secrets.
        holds_the_load(&dump, &load, true)?;
        let mut words = predicted.split_whitespace();
        words.find(|word| *word == "dumpable");
        let kept = words.next().and_then(|word| word.parse::<u64>().ok());
        let kept = kept.ok_or("show dump does not say how many pages are not dumpable")?;
        let expected = own.len + (kept << 12);
        if kind == "minidump" && dump.len.abs_diff(expected) > EXTENSION_MAX {
            return Err(format!("{} bytes instead of {expected}", dump.len));
        }
    }
    Ok(())
}

fn memory(scene: &Scene, memory: &str, cpu: Option<&str>) -> Result {
    let boot = Boot {
        memory: memory.to_owned(),
        cpu: cpu.map(str::to_owned),
        ..Boot::default()
    };
    let dump = good_minidump(scene, boot)?;
    match dump.len <= MINIDUMP_MAX {
        true => Ok(()),
        false => Err(format!("the minidump has {} bytes", dump.len)),
    }
}

fn full_dump(scene: &Scene) -> Result {
    let boot = Boot {
        tunables: vec!["debug.minidump=0".to_owned()],
        ..Boot::default()
    };
    let mut machine = scene.boot_with(512, boot)?;
    let load = command(&mut machine, "load")?;
    crash(&mut machine, "sysctl debug.kdb.trap=1")?;
    let predicted = command(&mut machine, "show dump")?;
    expect(&write_dump(&mut machine)?, "full dump: ")?;
    poweroff(&mut machine)?;
    let dump = scene.dump()?;
    let ram = number_before(&predicted, " pages, ").unwrap_or(0) * 4096;
    if ram == 0 || dump.len < ram || dump.len > ram + EXTENSION_MAX {
        return Err(format!("{} bytes for {ram} bytes of RAM", dump.len));
    }
    is_flawless(&dump, "page fault")?;
    holds_the_load(&dump, &load, true)
}

/// On one disk, one after the other: small, large, small.
fn both_kinds(scene: &Scene) -> Result {
    let mut machine = scene.boot(512)?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    for (setting, word) in [
        (1, "minidump version 3"),
        (0, "full dump: "),
        (1, "minidump version 3"),
    ] {
        command(&mut machine, &format!("sysctl debug.minidump={setting}"))?;
        expect(&write_dump(&mut machine)?, word)?;
    }
    poweroff(&mut machine)?;
    is_sound(&scene.dump()?, "kdb_sysctl_panic")
}

fn every_panic(scene: &Scene, cpu: u32) -> Result {
    let ways = [
        ("debug.kdb.panic", "kdb_sysctl_panic"),
        ("debug.kdb.trap", "page fault"),
        ("debug.kdb.trap_code", "page fault"),
        ("debug.kdb.stack_overflow", "double fault"),
        ("lab.assert", "free count"),
        ("lab.double_fault", "double fault"),
        ("lab.protection", "general protection fault"),
    ];
    for (name, panic) in ways {
        let told = |message: String| format!("{name}: {message}");
        let boot = Boot {
            tunables: vec![format!("lab.crash_cpu={cpu}")],
            ..Boot::default()
        };
        let mut machine = scene.boot_with(128, boot)?;
        let said = crash(&mut machine, &format!("sysctl {name}=1")).map_err(told)?;
        expect(&said, &format!("panic: {panic}")).map_err(told)?;
        expect(&said, &format!("cpuid = {cpu}")).map_err(told)?;
        write_dump(&mut machine).map_err(told)?;
        poweroff(&mut machine).map_err(told)?;
        let dump = scene.dump().map_err(told)?;
        is_sound(&dump, panic).map_err(told)?;
        expect(
            &dump.says(&["ps"])?,
            &format!("(crasher/culprit), on CPU {cpu}"),
        )
        .map_err(told)?;
    }
    Ok(())
}

fn panic_together(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    let said = crash(&mut machine, "sysctl lab.panic_together=1")?;
    if said.matches("panic: all together").count() != 1 {
        return Err(format!("one CPU should panic, the other stop:\n{said}"));
    }
    expect(
        &command(&mut machine, "show pcpu")?,
        ": stopped, curthread culprit",
    )?;
    write_dump(&mut machine)?;
    poweroff(&mut machine)?;
    is_sound(&scene.dump()?, "all together")
}

fn spinning_cpu(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    command(&mut machine, "sysctl lab.spin=1")?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    expect(
        &command(&mut machine, "show pcpu")?,
        "cpu1: stopped, curthread culprit",
    )?;
    write_dump(&mut machine)?;
    poweroff(&mut machine)?;
    is_sound(&scene.dump()?, "kdb_sysctl_panic")
}

fn deaf_cpu(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    command(&mut machine, "sysctl lab.spin_nmi=1")?;
    expect(
        &crash(&mut machine, "sysctl debug.kdb.panic=1")?,
        "timeout stopping cpus: mask 0x2",
    )?;
    expect(&command(&mut machine, "show pcpu")?, "cpu1: did not stop")?;
    write_dump(&mut machine)?;
    poweroff(&mut machine)?;
    is_sound(&scene.dump()?, "kdb_sysctl_panic")
}

fn nmi_button(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    machine.monitor("inject-nmi")?;
    expect(&machine.expect(&["db> "], LIMIT)?, "panic: NMI")?;
    write_dump(&mut machine)?;
    poweroff(&mut machine)?;
    is_sound(&scene.dump()?, "NMI")
}

/// Starts a dump on a slow disk and waits until it is half-way.
fn start_slow_dump(scene: &Scene) -> Result<Machine> {
    let boot = Boot {
        drive: scene.slow_drive(),
        ..Boot::default()
    };
    let mut machine = scene.boot_with(128, boot)?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    machine.send("dump\r")?;
    machine.expect(&["..50%"], LIMIT)?;
    Ok(machine)
}

/// The machine must reset without a dump, and say how far it had come.
fn resets_without_dump(scene: &Scene, machine: &mut Machine) -> Result {
    let said = machine.expect(&["Rebooting..."], LIMIT)?;
    expect(&said, "a dump was going on already (writing pages)")?;
    machine.end(LIMIT)?;
    scene.no_dump()
}

fn nmi_while_dumping(scene: &Scene) -> Result {
    let mut machine = start_slow_dump(scene)?;
    machine.monitor("inject-nmi")?;
    resets_without_dump(scene, &mut machine)
}

fn fault_while_dumping(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    command(&mut machine, "sysctl lab.fault_at_page=4000")?;
    machine.send("dump\r")?;
    resets_without_dump(scene, &mut machine)
}

fn unreadable_pages(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    let load = command(&mut machine, "load")?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    command(&mut machine, "sysctl lab.poison=3")?;
    expect(
        &write_dump(&mut machine)?,
        "times something could not be read",
    )?;
    poweroff(&mut machine)?;
    let dump = scene.dump()?;
    is_sound(&dump, "kdb_sysctl_panic")?;
    has_damage(&dump, "page_unreadable")?;
    let places = places(&load);
    let (_, start, end) = places
        .iter()
        .find(|(name, ..)| name == "pattern-4k")
        .ok_or("no load")?;
    let words = dump.words(*start, *end)?;
    let (unreadable, rest) = words.split_at(3 * 512);
    if unreadable.iter().any(|word| *word != 0) {
        return Err("unreadable pages are not zeros".to_owned());
    }
    match rest
        .iter()
        .zip((start + 3 * 4096..).step_by(8))
        .all(|(word, va)| *word == pattern(va))
    {
        true => Ok(()),
        false => Err("pages behind the unreadable ones are wrong".to_owned()),
    }
}

fn panic_in_driver(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    crash(&mut machine, "sysctl lab.disk_panic=1")?;
    write_dump(&mut machine)?;
    poweroff(&mut machine)?;
    is_sound(&scene.dump()?, "vtblk0: state is inconsistent")
}

fn damaged_tables(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    command(&mut machine, "corrupt pagetables")?;
    expect(
        &write_dump(&mut machine)?,
        "times something could not be read",
    )?;
    poweroff(&mut machine)?;
    let dump = scene.dump()?;
    tells_the_story(&dump, "kdb_sysctl_panic")?;
    has_damage(&dump, "table_not_ram")?;
    match dump.says(&["verify"]) {
        Err(message) => expect(&message, "kernel map"),
        Ok(said) => Err(format!("damaged tables were not noticed:\n{said}")),
    }
}

fn damaged_root(scene: &Scene) -> Result {
    let mut machine = scene.boot(512)?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    command(&mut machine, "corrupt pagetables root")?;
    expect(
        &write_dump(&mut machine)?,
        "full dump, because the page tables are damaged beyond use",
    )?;
    poweroff(&mut machine)?;
    let dump = scene.dump()?;
    expect(&dump.panic, "kdb_sysctl_panic")?;
    expect(&dump.says(&["info"])?, "full dump")
}

fn disk_too_small(scene: &Scene) -> Result {
    let mut machine = scene.boot(16)?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    expect(
        &command(&mut machine, "dump")?,
        "Dump failed. Partition too small (about ",
    )?;
    poweroff(&mut machine)?;
    scene.no_dump()?;
    let bytes = std::fs::read(scene.disk()).map_err(|error| error.to_string())?;
    match bytes.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err("something was written".to_owned()),
    }
}

/// A disk that fails once at a place in the dump: it is tried again.
fn disk_stumbles(scene: &Scene) -> Result {
    let boot = Boot {
        drive: scene.failing_drive(128, 20, "on"),
        ..Boot::default()
    };
    let mut machine = scene.boot_with(128, boot)?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    write_dump(&mut machine)?;
    poweroff(&mut machine)?;
    is_sound(&scene.dump()?, "kdb_sysctl_panic")
}

fn disk_fails(scene: &Scene) -> Result {
    let boot = Boot {
        drive: scene.failing_drive(128, 20, "off"),
        ..Boot::default()
    };
    let mut machine = scene.boot_with(128, boot)?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    expect(
        &command(&mut machine, "dump")?,
        "** DUMP FAILED: writing at byte",
    )?;
    poweroff(&mut machine)?;
    scene.no_dump()
}

/// A dump that nobody saved gives way to the next one.
fn second_dump(scene: &Scene) -> Result {
    for (way, panic) in [
        ("debug.kdb.panic", "kdb_sysctl_panic"),
        ("debug.kdb.trap", "page fault"),
    ] {
        let mut machine = scene.boot(128)?;
        crash(&mut machine, &format!("sysctl {way}=1"))?;
        write_dump(&mut machine)?;
        poweroff(&mut machine)?;
        is_sound(&scene.dump()?, panic)?;
    }
    Ok(())
}

fn abort(scene: &Scene) -> Result {
    let mut machine = start_slow_dump(scene)?;
    machine.send("x")?;
    machine.expect(&[" (CTRL-C to abort) "], LIMIT)?;
    machine.send("\x03")?;
    expect(&machine.prompt(LIMIT)?, "Dump aborted")?;
    scene.no_dump()?;
    write_dump(&mut machine)?;
    poweroff(&mut machine)?;
    is_sound(&scene.dump()?, "kdb_sysctl_panic")
}

fn watchdog(scene: &Scene) -> Result {
    let boot = Boot {
        tunables: vec!["lab.watchdog=4".to_owned()],
        extra: "-device ib700 -action watchdog=inject-nmi",
        ..Boot::default()
    };
    let mut machine = scene.boot_with(128, boot)?;
    command(&mut machine, "sysctl lab.hang=1")?;
    expect(
        &machine.expect(&["db> "], LIMIT)?,
        "panic: watchdog timeout",
    )?;
    write_dump(&mut machine)?;
    poweroff(&mut machine)?;
    is_sound(&scene.dump()?, "watchdog timeout")
}

/// Nobody at the console: the dump and the reset come by themselves.
fn no_debugger(scene: &Scene) -> Result {
    let boot = Boot {
        tunables: vec!["debug.debugger_on_panic=0".to_owned()],
        ..Boot::default()
    };
    let mut machine = scene.boot_with(128, boot)?;
    machine.send("sysctl debug.kdb.trap=1\r")?;
    machine.end(LIMIT)?;
    expect(machine.rest(), "Dump complete")?;
    expect(machine.rest(), "Rebooting...")?;
    is_sound(&scene.dump()?, "page fault")
}

/// A dump of a healthy system, which goes on afterwards.
fn without_panic(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    machine.send("\r~\x02")?;
    machine.expect(&["db> "], LIMIT)?;
    write_dump(&mut machine)?;
    // The second Return is for the shell, which shows its prompt again.
    machine.send("continue\r\r")?;
    machine.expect(&["lab# "], LIMIT)?;
    // What was typed to get into the debugger is a line to the shell.
    machine.send("\rsysctl hw.ncpu\r")?;
    machine.expect(&["hw.ncpu: 2"], LIMIT)?;
    poweroff(&mut machine)?;
    let dump = scene.dump()?;
    expect(&dump.says(&["ps"])?, "worker/worker 5")?;
    match dump.panic.as_str() {
        "" => Ok(()),
        panic => Err(format!("there was no panic, but: {panic:?}")),
    }
}
