//! The classic bugs, `panic KIND` in the kernel's debugger: what the kernel says of each, and what
//! `vmcore why` does.

use crate::Result;
use crate::lab::checks::{LIMIT, Scene, command, expect, finish};
use std::fs;

/// A row for each bug: its name, the panic message, the first line of `vmcore why`; `…` is an address.
const TABLE: &str = "xtask/src/lab/cases/bugs.txt";

/// Runs into every bug, and compares the dump and what the reader says of it with the table, which
/// `VMCORE_UPDATE_GOLDEN=1` rewrites.
pub(super) fn every_bug(scene: &Scene) -> Result {
    let failed = |error| format!("{TABLE}: {error}");
    let table = fs::read_to_string(TABLE).map_err(failed)?;
    let mut found = String::new();
    for row in table.lines() {
        let name = row.split('\t').next().unwrap_or_default();
        let said = one_bug(scene, name).map_err(|message| format!("{name}: {message}"))?;
        found += &format!("{name}\t{said}\n");
    }
    if std::env::var_os("VMCORE_UPDATE_GOLDEN").is_some() {
        return fs::write(TABLE, found).map_err(failed);
    }
    match found == table {
        true => Ok(()),
        false => Err(format!("{TABLE} differs; found:\n{found}")),
    }
}

/// The panic message and the first line of `why` of a dump of this bug.
fn one_bug(scene: &Scene, name: &str) -> Result<String> {
    let mut machine = scene.boot(128)?;
    command(&mut machine, "ddb")?;
    machine.send(&format!("panic {name}\r"))?;
    expect(&machine.expect(&["db> "], LIMIT)?, "panic: ")?;
    let dump = finish(scene, &mut machine)?;
    let said = dump.says(&["why"])?;
    let reason = said.lines().next().unwrap_or_default();
    Ok(format!("{}\t{}", masked(&dump.panic), masked(reason)))
}

/// A line with `…` for addresses, and without the folder of the sources.
fn masked(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        if let Some(at) = word.find("0xffff") {
            let digits = word[at + 2..].find(|c: char| !c.is_ascii_hexdigit());
            let end = digits.map_or(word.len(), |len| at + 2 + len);
            format!("{}…{}", &word[..at], &word[end..])
        } else if let Some(at) = word.find("lab/src/") {
            word[at + "lab/src/".len()..].to_owned()
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
