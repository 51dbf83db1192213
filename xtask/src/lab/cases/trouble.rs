//! What goes wrong while the dump is written, or went wrong in what it is made of.

use crate::Result;
use crate::lab::checks::{
    LIMIT, Scene, command, crash, expect, finish, has_damage, is_sound, pattern, places, poweroff,
    tells_the_story, write_dump,
};
use crate::lab::machine::{Boot, Machine};

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

pub(super) fn nmi_while_dumping(scene: &Scene) -> Result {
    let mut machine = start_slow_dump(scene)?;
    machine.monitor("inject-nmi")?;
    resets_without_dump(scene, &mut machine)
}

pub(super) fn fault_while_dumping(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    command(&mut machine, "sysctl lab.fault_at_page=4000")?;
    machine.send("dump\r")?;
    resets_without_dump(scene, &mut machine)
}

pub(super) fn unreadable_pages(scene: &Scene) -> Result {
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
        false => Err("pages after the unreadable ones are wrong".to_owned()),
    }
}

pub(super) fn damaged_tables(scene: &Scene) -> Result {
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

pub(super) fn damaged_root(scene: &Scene) -> Result {
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

pub(super) fn disk_too_small(scene: &Scene) -> Result {
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
pub(super) fn disk_stumbles(scene: &Scene) -> Result {
    let boot = Boot {
        drive: scene.failing_drive(128, 20, "on"),
        ..Boot::default()
    };
    let mut machine = scene.boot_with(128, boot)?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    is_sound(&finish(scene, &mut machine)?, "kdb_sysctl_panic")
}

pub(super) fn disk_fails(scene: &Scene) -> Result {
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

pub(super) fn abort(scene: &Scene) -> Result {
    let mut machine = start_slow_dump(scene)?;
    machine.send("x")?;
    machine.expect(&[" (CTRL-C to abort) "], LIMIT)?;
    machine.send("\x03")?;
    expect(&machine.prompt(LIMIT)?, "Dump aborted")?;
    scene.no_dump()?;
    is_sound(&finish(scene, &mut machine)?, "kdb_sysctl_panic")
}
