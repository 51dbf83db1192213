//! What the lab's tests have in common: where a case plays, and what its dump must tell.

use super::dump::{self, Dump};
use super::machine::{Boot, Machine, raw_drive};
use super::make_disk;
use crate::Result;
use std::path::PathBuf;
use std::time::Duration;

/// How long anything at the prompt may take: the host may be busy.
pub(super) const LIMIT: Duration = Duration::from_secs(180);
/// A disk slow enough to be interrupted, in bytes a second.
const SLOW_DISK: u32 = 6 << 20;
/// What must be in no dump: secrets, and what slabs held that were given back.
pub(super) const SECRET: u64 = 0x5ec2_e7ed_5ec2_e7ed;
const STALE: u64 = 0x57a1_ed00_57a1_ed00;
/// The most bytes after the pages: checksums, registers, damage.
pub(super) const EXTENSION_MAX: u64 = 64 << 10;

/// Where a case plays.
pub(super) struct Scene {
    pub(super) folder: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) reader: PathBuf,
}

/// Fails with what was said unless it holds `wanted`.
pub(super) fn expect(said: &str, wanted: &str) -> Result {
    match said.contains(wanted) {
        true => Ok(()),
        false => Err(format!("no {wanted:?} in:\n{said}")),
    }
}

impl Scene {
    pub(super) fn disk(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    /// Boots with a fresh disk of so many MiB, or with the one that is there.
    pub(super) fn boot(&self, disk_mib: u64) -> Result<Machine> {
        self.boot_with(disk_mib, Boot::default())
    }

    pub(super) fn boot_with(&self, disk_mib: u64, boot: Boot) -> Result<Machine> {
        make_disk(&self.disk(), disk_mib)?;
        let drive = if boot.drive.is_empty() {
            raw_drive(&self.disk())
        } else {
            boot.drive.clone()
        };
        let boot = Boot { drive, ..boot };
        let mut machine = Machine::start(&boot, &self.kernel, &self.folder.join("serial.txt"))?;
        machine.prompt(LIMIT)?;
        Ok(machine)
    }

    /// A disk so slow that there is time to interfere.
    pub(super) fn slow_drive(&self) -> String {
        format!(
            "{},throttling.bps-write={SLOW_DISK}",
            raw_drive(&self.disk())
        )
    }

    /// A disk that reports errors for a place `mib` MiB before its end.
    pub(super) fn failing_drive(&self, disk_mib: u64, mib: u64, once: &str) -> String {
        format!(
            "driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={},\
             file.inject-error.0.event=write_aio,file.inject-error.0.errno=5,\
             file.inject-error.0.sector={},file.inject-error.0.once={once}",
            self.disk().display(),
            (disk_mib - mib) << 11
        )
    }

    /// The dump that is on the disk.
    pub(super) fn dump(&self) -> Result<Dump> {
        self.maybe_dump()?
            .ok_or_else(|| "no dump on the disk".to_owned())
    }

    pub(super) fn maybe_dump(&self) -> Result<Option<Dump>> {
        dump::take(
            &self.disk(),
            &self.folder.join("vmcore"),
            &self.kernel,
            &self.reader,
        )
    }

    pub(super) fn no_dump(&self) -> Result {
        match self.maybe_dump()? {
            None => Ok(()),
            Some(dump) => Err(format!("there is a dump on the disk: {:?}", dump.panic)),
        }
    }
}

/// Types a command that crashes the machine, and waits for the debugger's prompt.
pub(super) fn crash(machine: &mut Machine, command: &str) -> Result<String> {
    machine.send(&format!("{command}\r"))?;
    let said = machine.expect(&["db> "], LIMIT)?;
    expect(&said, "panic: ")?;
    Ok(said)
}

pub(super) fn command(machine: &mut Machine, line: &str) -> Result<String> {
    machine.command(line, LIMIT)
}

/// Dumps, and demands that it works.
pub(super) fn write_dump(machine: &mut Machine) -> Result<String> {
    let said = command(machine, "dump")?;
    expect(&said, "Dump complete")?;
    Ok(said)
}

pub(super) fn poweroff(machine: &mut Machine) -> Result {
    machine.send("poweroff\r")?;
    machine.end(LIMIT)
}

/// Dumps, switches the machine off, and takes the dump off its disk.
pub(super) fn finish(scene: &Scene, machine: &mut Machine) -> Result<Dump> {
    write_dump(machine)?;
    poweroff(machine)?;
    scene.dump()
}

/// What every dump of a panic must tell: the message, the log, the crashed thread, all processes.
pub(super) fn tells_the_story(dump: &Dump, panic: &str) -> Result {
    expect(&dump.panic, panic)?;
    expect(&dump.says(&["log"])?, &format!("panic: {panic}"))?;
    let info = dump.says(&["info"])?;
    expect(&info, panic)?;
    expect(&info, "matches")?;
    let ps = dump.says(&["ps"])?;
    expect(&ps, "crashed: thread ")?;
    for name in [
        "kernel/swapper",
        "init",
        "idle/idle: cpu0",
        "worker/worker 5",
        "getty",
        "defunct",
    ] {
        expect(&ps, name)?;
    }
    Ok(())
}

/// As [`tells_the_story`], of a dump that is as it was written, whatever the kernel was.
pub(super) fn is_sound(dump: &Dump, panic: &str) -> Result {
    tells_the_story(dump, panic)?;
    dump.says(&["verify"]).map(|_| ())
}

/// As [`is_sound`], of a kernel in which nothing was damaged, so that nothing about the dump is odd.
pub(super) fn is_flawless(dump: &Dump, panic: &str) -> Result {
    tells_the_story(dump, panic)?;
    let said = dump.says(&["verify"])?;
    match said.lines().find(|line| line.starts_with("odd")) {
        None => Ok(()),
        Some(line) => Err(format!("this is odd: {line}")),
    }
}

/// How often the writer met damage, and the kinds of what it tells of it, from `verify --json`.
fn damage(dump: &Dump) -> Result<(u64, Vec<String>)> {
    let said = dump.verified()?;
    let list = said
        .split_once("\"damage\": {")
        .ok_or_else(|| format!("no damage list in:\n{said}"))?
        .1;
    let fields = |name: &'static str| {
        let fields = list.lines().map(|line| line.trim().trim_end_matches(','));
        fields.filter_map(move |line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let found = fields("\"found\"").next().and_then(|n| n.parse().ok());
    let kinds = fields("\"kind\"").map(|kind| kind.trim_matches('"').to_owned());
    Ok((
        found.ok_or_else(|| format!("no number of damage in:\n{said}"))?,
        kinds.collect(),
    ))
}

/// Demands damage, and that all of it is of this kind.
pub(super) fn has_damage(dump: &Dump, kind: &str) -> Result {
    let (found, kinds) = damage(dump)?;
    match found > 0 && !kinds.is_empty() && kinds.iter().all(|found| found == kind) {
        true => Ok(()),
        false => Err(format!("damage {found} times: {kinds:?}, not {kind}")),
    }
}

/// Addresses that the kernel's `load` tells: name, start, end.
pub(super) fn places(said: &str) -> Vec<(String, u64, u64)> {
    let number = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let place = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        Some((name, number(words.next()?)?, number(words.next()?)?))
    };
    said.lines().filter_map(place).collect()
}

/// The word that the load writes at an address.
pub(super) fn pattern(va: u64) -> u64 {
    va.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0076_6d63_6f72_6500
}

/// Reads back the load: the pattern where it must be; nothing of secrets and of what was given back,
/// unless the dump is a full one.
pub(super) fn holds_the_load(dump: &Dump, load: &str, full: bool) -> Result {
    let places = places(load);
    if places.len() != 6 {
        return Err(format!("{} places instead of 6 in:\n{load}", places.len()));
    }
    for (name, start, end) in &places {
        if name.starts_with("pattern") {
            holds_pattern(&dump.words(*start, *end)?, *start, (*start, *end))?;
        }
    }
    if !full && (dump.holds(SECRET)? || dump.holds(STALE)?) {
        return Err("secrets, or memory that was given back, are in the dump".to_owned());
    }
    Ok(())
}

/// Reads back every item of the zones that `show load items` tells.
pub(super) fn holds_the_items(dump: &Dump, items: &str) -> Result {
    const PAGE: u64 = 4096;
    let mut items = places(items);
    if items.len() < 4000 {
        return Err(format!("{} items only", items.len()));
    }
    items.sort_by_key(|(_, start, _)| *start);
    let mut rest = &items[..];
    while let Some((_, first, end)) = rest.first() {
        let mut end = *end;
        // As far as there is one in each page.
        let is_next = |(_, start, next): &&(String, u64, u64)| {
            let follows = *start / PAGE <= end.div_ceil(PAGE);
            end = if follows { *next } else { end };
            follows
        };
        let (run, tail) = rest.split_at(rest.iter().take_while(is_next).count());
        let words = dump.words(*first, run.last().map_or(0, |(_, _, end)| *end))?;
        for (_, start, end) in run {
            holds_pattern(&words, *first, (*start, *end))?;
        }
        rest = tail;
    }
    Ok(())
}

/// Demands the pattern from one address to another, in words that begin at `first`.
fn holds_pattern(words: &[u64], first: u64, (start, end): (u64, u64)) -> Result {
    let index = |va: u64| usize::try_from((va - first) / 8).unwrap_or(usize::MAX);
    let Some(words) = words.get(index(start)..index(end)) else {
        return Err(format!("{start:#x} to {end:#x}: too few words"));
    };
    let mut pairs = words.iter().zip((start..).step_by(8));
    match pairs.find(|(word, va)| **word != pattern(*va)) {
        None => Ok(()),
        Some((word, va)) => Err(format!(
            "{word:#x} at {va:#x} instead of {:#x}",
            pattern(va)
        )),
    }
}

/// The number before a word.
pub(super) fn number_before(said: &str, word: &str) -> Option<u64> {
    let before = &said[..said.find(word)?];
    before.split_whitespace().next_back()?.parse().ok()
}

/// Whether the dump has the size that the kernel's counters predicted.
pub(super) fn is_as_predicted(show_dump: &str, written: &str, dump: &Dump) -> Result {
    let numbers = (
        number_before(show_dump, " pages chosen"),
        number_before(written, " pages,"),
        number_before(show_dump, " bytes and the extension"),
    );
    let (Some(chosen), Some(pages), Some(bytes)) = numbers else {
        return Err(format!("no numbers in:\n{show_dump}\n{written}"));
    };
    let extension = dump.len.checked_sub(bytes);
    match chosen == pages && extension.is_some_and(|len| len > 0 && len <= EXTENSION_MAX) {
        true => Ok(()),
        false => Err(format!(
            "{chosen} pages, {bytes} bytes predicted; {pages} pages, {} bytes",
            dump.len
        )),
    }
}
