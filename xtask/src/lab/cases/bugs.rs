//! The classic bugs, `panic KIND` in the kernel's debugger: what the kernel says of each, and what
//! `vmcore why` does.

use crate::Result;
use crate::lab::checks::{LIMIT, Scene, command, expect, finish};
use crate::lab::dump::{self, Dump};
use std::fs;

/// A row for each bug: its name, the panic message, the first line of `vmcore why`; `…` is an address.
const TABLE: &str = "xtask/src/lab/cases/bugs.txt";

/// What `vmcore why` says further down of some of them.
const EVIDENCE: [(&str, &str); 1] = [(
    "use-after-free",
    "pointers into `*tp` are on the stack of thread 100018 (sshd)",
)];

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
    let (_, evidence) = EVIDENCE
        .iter()
        .find(|(bug, _)| *bug == name)
        .unwrap_or(&("", ""));
    expect(&said, evidence)?;
    damaged(scene, &dump)?;
    let reason = said.lines().next().unwrap_or_default();
    Ok(format!("{}\t{}", masked(&dump.panic), masked(reason)))
}

/// Damaged copies of each dump: what is still found is what was found in the whole one.
const COPIES: u64 = 4;
/// Places that are overwritten in each, and bytes of a place.
const PLACES: usize = 2000;
const PLACE: usize = 64;
/// The members of a reason that damage must not change, as they begin a line.
const MEMBERS: [&str; 4] = ["kind", "variable", "member", "function"];

fn damaged(scene: &Scene, dump: &Dump) -> Result {
    let failed = |error| format!("{}: {error}", dump.file.display());
    let whole = reason(dump)?;
    let bytes = fs::read(&dump.file).map_err(failed)?;
    let file = scene.folder.join("damaged");
    let mut random = 1_u32;
    let mut next = |below: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random as usize / 16 % below
    };
    for copy in 0..COPIES {
        let mut bytes = bytes.clone();
        for _ in 0..PLACES {
            let at = next(bytes.len() - PLACE);
            bytes[at..at + PLACE].fill(next(256).to_le_bytes()[0]);
        }
        fs::write(&file, bytes).map_err(failed)?;
        let damaged = dump::open(&file, None, &scene.kernel, &scene.reader)?;
        let found = match reason(&damaged) {
            Err(message) if message.contains("panicked") => return Err(message),
            Err(_) => continue,
            Ok(found) => found,
        };
        let is_other = |(whole, found): (&String, &String)| !found.is_empty() && whole != found;
        if whole.iter().zip(&found).any(is_other) {
            return Err(format!("damaged copy {copy} gives {found:?} for {whole:?}"));
        }
    }
    Ok(())
}

/// The reason that `why` gives: the lines of its members, empty for those that it does not have.
fn reason(dump: &Dump) -> Result<[String; MEMBERS.len()]> {
    let answer = String::from_utf8_lossy(&dump.ask(&["why", "--json"])?).into_owned();
    Ok(MEMBERS.map(|member| {
        let start = format!("    \"{member}\": ");
        let mut lines = answer.lines().filter_map(|line| line.strip_prefix(&start));
        lines.next().unwrap_or_default().to_owned()
    }))
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
