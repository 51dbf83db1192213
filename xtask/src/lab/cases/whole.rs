//! Dumps of a kernel in which only one thing went wrong: every kind, on every machine.

use crate::Result;
use crate::lab::checks::{
    EXTENSION_MAX, LIMIT, Scene, command, crash, expect, finish, holds_the_items, holds_the_load,
    is_as_predicted, is_flawless, is_sound, number_before, poweroff, tells_the_story, write_dump,
};
use crate::lab::dump::{self, Dump};
use crate::lab::machine::Boot;

/// The most that the minidump of a machine with 8 GiB may have.
const MINIDUMP_MAX: u64 = 48 << 20;

/// Boots, crashes, dumps; the minidump must be right in every respect.
fn good_minidump(scene: &Scene, boot: Boot) -> Result<Dump> {
    let mut machine = scene.boot_with(128, boot)?;
    let load = command(&mut machine, "load")?;
    crash(&mut machine, "sysctl debug.kdb.trap=1")?;
    let items = command(&mut machine, "show load items")?;
    let predicted = command(&mut machine, "show dump")?;
    let written = write_dump(&mut machine)?;
    poweroff(&mut machine)?;
    let dump = scene.dump()?;
    is_as_predicted(&predicted, &written, &dump)?;
    is_flawless(&dump, "page fault")?;
    holds_the_load(&dump, &load, false)?;
    holds_the_items(&dump, &items)?;
    Ok(dump)
}

/// What is executable is not writable, and there is nothing below a stack.
pub(super) fn mappings(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    let said = crash(&mut machine, "sysctl debug.kdb.stack_overflow=1")?;
    // Where the processor could not push any more.
    let (_, at) = said.split_once(" rsp 0x").ok_or("no stack pointer")?;
    let at = at.split_whitespace().next().unwrap_or_default();
    let below = u64::from_str_radix(at, 16).map_err(|_| format!("no stack pointer: {at}"))? - 8;
    for (place, level, flags) in [
        ("btext", "pte", " valid"),
        ("version", "pte", " valid no-execute"),
        ("panicstr", "pte", " valid writable no-execute"),
        (
            "0xfffff80000000000",
            "pde",
            " valid writable no-execute large",
        ),
        (&format!("{below:#x}"), "pte", ""),
    ] {
        let said = command(&mut machine, &format!("show pte {place}"))?;
        let last = said.lines().rfind(|line| line.starts_with(level));
        let told = last.and_then(|line| line.split_once(" at 0x")?.1.split_once(' '));
        let told = told.map_or(String::new(), |(_, flags)| format!(" {flags}"));
        if last.is_none() || told != flags {
            return Err(format!("{place} should be{flags}:\n{said}"));
        }
    }
    Ok(())
}

pub(super) fn minidump(scene: &Scene) -> Result {
    let boot = Boot {
        board: "pc",
        tunables: vec!["kern.hostname=laboratory".to_owned()],
        ..Boot::default()
    };
    let dump = good_minidump(scene, boot)?;
    let bytes = std::fs::read(scene.disk()).map_err(|error| error.to_string())?;
    let trailer = &bytes[bytes.len() - 512..];
    expect(&String::from_utf8_lossy(trailer), "laboratory")?;
    expect(&dump.says(&["ps"])?, "(crasher/culprit), on CPU 0")
}

/// The hypervisor writes the crashed machine's memory to a file. What is made of it tells what the
/// kernel's own dump tells, and has the size of it.
pub(super) fn memory_file(scene: &Scene) -> Result {
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

pub(super) fn memory(scene: &Scene, memory: &str, cpu: Option<&str>) -> Result {
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

pub(super) fn full_dump(scene: &Scene) -> Result {
    is_flawless(&all_of_ram(scene, "256M", 512)?, "page fault")
}

/// The time does not allow to verify eight gigabytes of zeros.
pub(super) fn full_dump_8g(scene: &Scene) -> Result {
    tells_the_story(&all_of_ram(scene, "8G", 9 << 10)?, "page fault")
}

/// A full dump that holds every page of RAM.
fn all_of_ram(scene: &Scene, memory: &str, disk_mib: u64) -> Result<Dump> {
    let boot = Boot {
        memory: memory.to_owned(),
        tunables: vec!["debug.minidump=0".to_owned()],
        ..Boot::default()
    };
    let mut machine = scene.boot_with(disk_mib, boot)?;
    let load = command(&mut machine, "load")?;
    crash(&mut machine, "sysctl debug.kdb.trap=1")?;
    let items = command(&mut machine, "show load items")?;
    let predicted = command(&mut machine, "show dump")?;
    expect(&write_dump(&mut machine)?, "full dump: ")?;
    poweroff(&mut machine)?;
    let dump = scene.dump()?;
    let ram = number_before(&predicted, " pages, ").unwrap_or(0) * 4096;
    if ram == 0 || dump.len < ram || dump.len > ram + EXTENSION_MAX {
        return Err(format!("{} bytes for {ram} bytes of RAM", dump.len));
    }
    holds_the_load(&dump, &load, true)?;
    holds_the_items(&dump, &items)?;
    Ok(dump)
}

/// On one disk, one after the other: small, large, small.
pub(super) fn both_kinds(scene: &Scene) -> Result {
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

/// An unsaved dump is overwritten by the next one.
pub(super) fn second_dump(scene: &Scene) -> Result {
    for (way, panic) in [
        ("debug.kdb.panic", "kdb_sysctl_panic"),
        ("debug.kdb.trap", "page fault"),
    ] {
        let mut machine = scene.boot(128)?;
        crash(&mut machine, &format!("sysctl {way}=1"))?;
        is_sound(&finish(scene, &mut machine)?, panic)?;
    }
    Ok(())
}

/// No operator at the console: the dump and the reset come by themselves.
pub(super) fn no_debugger(scene: &Scene) -> Result {
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
pub(super) fn without_panic(scene: &Scene) -> Result {
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
