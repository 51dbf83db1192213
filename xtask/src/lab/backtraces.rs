//! The stacks of all threads as each debugger tells them: the kernel's own, `vmcore bt`, stock gdb and
//! stock lldb. They must tell the same.
//!
//! A frame is `function+0x10`, as the kernel's debugger prints it, or an address where no function is;
//! inlined functions are left out, because that one knows none. The thread that dumps has gone on since it was in the debugger: what
//! is above the debugger's trap is left out, too.

use super::checks::Scene;
use super::dump::Dump;
use crate::{Result, shell};
use std::collections::BTreeMap;
use std::process::Command;

/// Frames of each thread, from the innermost out, by thread number.
type Stacks = BTreeMap<u32, Vec<String>>;

/// What gdb is told to do: it has no command that leaves inlined functions out.
const WALK: &str = r#"
import gdb, re
for thread in gdb.selected_inferior().threads():
    thread.switch()
    print("thread", thread.ptid[1] or thread.ptid[2])
    frame, newer = gdb.newest_frame(), None
    while frame is not None:
        if frame.type() != gdb.INLINE_FRAME:
            is_call = newer is not None and newer.type() != gdb.SIGTRAMP_FRAME
            said = gdb.execute("info symbol %#x" % (frame.pc() - is_call), to_string=True)
            if said.startswith("No symbol"):
                print("frame %#x" % frame.pc())
            else:
                name, plus, offset = said.split(" in section")[0].rpartition(" + ")
                name, offset = (name, int(offset)) if plus else (offset, 0)
                print("frame %s+%#x" % (name, offset + is_call))
        frame, newer = frame.older(), frame
"#;
/// What lldb is told to print for each frame: inlined ones have the stack pointer of the function that
/// they are in.
const LLDB_FRAME: &str =
    "settings set frame-format \"frame ${frame.sp} ${frame.pc} ${function.name}\\n\"";
const LLDB_THREAD: &str = "settings set thread-stop-format \"thread ${thread.id%tid}\\n\"";

/// Demands that `vmcore bt --all` tells what the kernel's `alltrace` told.
pub(super) fn agree(dump: &Dump, alltrace: &str) -> Result {
    let expected = of_kernel(alltrace);
    let is_dumped = |name: &str| {
        expected
            .values()
            .flatten()
            .any(|frame| frame.starts_with(name))
    };
    if expected.len() < 10 || !is_dumped("kdb_enter") {
        return Err(format!("no backtraces in:\n{alltrace}"));
    }
    same(
        "vmcore bt",
        &expected,
        of_vmcore(&dump.says(&["bt", "--all"])?),
    )
}

/// As [`agree`], of stock gdb and lldb on the dump, and of gdb on an ELF core made of it.
pub(super) fn debuggers_agree(scene: &Scene, dump: &Dump, alltrace: &str) -> Result {
    let expected = of_kernel(alltrace);
    let walk = scene.folder.join("walk.py");
    std::fs::write(&walk, WALK).map_err(|error| format!("{}: {error}", walk.display()))?;
    let source = format!("source {}", walk.display());
    let said = dump.debug(&["--", "-batch", "-ex", &source])?;
    same("gdb", &expected, of_gdb(&said))?;
    let said = in_gdb(scene, dump, &["-ex", &source])?;
    same("gdb on an ELF core", &expected, of_gdb(&said))?;
    let said = dump.debug(&[
        "--lldb",
        "--",
        "--batch",
        "-o",
        LLDB_FRAME,
        "-o",
        LLDB_THREAD,
        "-o",
        "thread backtrace all",
    ])?;
    let without_offsets = |frame: &String| {
        let name = frame.rsplit_once("+0x").map_or(&**frame, |(name, _)| name);
        name.to_owned()
    };
    let names = expected
        .iter()
        .map(|(tid, frames)| (*tid, frames.iter().map(without_offsets).collect()))
        .collect();
    same("lldb", &names, of_lldb(&said))
}

/// Has gdb open the dump as an ELF core, without any help, and do something.
pub(super) fn in_gdb(scene: &Scene, dump: &Dump, commands: &[&str]) -> Result<String> {
    let core = scene.folder.join("vmcore.elf");
    let name = core.to_string_lossy();
    dump.ask(&["convert", &name, "--to", "elf", "--force"])?;
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-iex", "set auto-load no"]);
    gdb.arg("-ex")
        .arg(format!("file {}", scene.kernel.display()));
    gdb.arg("-ex").arg(format!("core-file {}", core.display()));
    gdb.args(commands);
    shell::said(&mut gdb)
}

/// Fails with the first thread that differs.
fn same(who: &str, expected: &Stacks, told: Stacks) -> Result {
    for (tid, frames) in expected {
        let told = told.get(tid).map(|frames| without_debugger(frames));
        if told != Some(frames) {
            return Err(format!(
                "{who}: thread {tid} should be\n  {}\nand is\n  {}",
                frames.join("\n  "),
                told.map_or_else(|| "missing".to_owned(), |told| told.join("\n  "))
            ));
        }
    }
    match told.len() == expected.len() {
        true => Ok(()),
        false => Err(format!(
            "{who} knows {} threads, the kernel knew {}",
            told.len(),
            expected.len()
        )),
    }
}

/// The part of the stack that was there when the debugger was entered.
fn without_debugger(frames: &[String]) -> &[String] {
    let is = |frame: &String, name| frame == name || frame.starts_with(&format!("{name}+"));
    let Some(debugger) = frames.iter().position(|frame| is(frame, "kdb_trap")) else {
        return frames;
    };
    let below = &frames[debugger..];
    match below.iter().position(|frame| is(frame, "calltrap")) {
        Some(trap) => &below[trap + 1..],
        None => frames,
    }
}

/// Collects the lines after each thread's first line.
fn collect<'s>(
    said: &'s str,
    thread: impl Fn(&'s str) -> Option<u32>,
    frame: impl Fn(&'s str) -> Option<String>,
) -> Stacks {
    let mut stacks = Stacks::new();
    let mut current = None;
    for line in said.lines() {
        if let Some(tid) = thread(line) {
            stacks.insert(tid, Vec::new());
            current = Some(tid);
        } else if let (Some(tid), Some(frame)) = (current, frame(line)) {
            stacks.entry(tid).or_default().push(frame);
        }
    }
    stacks
}

/// `Tracing command NAME pid N tid N td ADDR`, and `NAME() at NAME+0x10/frame ADDR`.
fn of_kernel(said: &str) -> Stacks {
    let thread = |line: &str| {
        let words = line.strip_prefix("Tracing command ")?;
        words.split_once(" tid ")?.1.split(' ').next()?.parse().ok()
    };
    let frame = |line: &str| {
        let (_, place) = line.split_once("() at ")?;
        Some(place.split_once("/frame ")?.0.to_owned())
    };
    collect(said, thread, frame)
}

/// `thread N, …`, and `#0  ADDR NAME+0x10  FILE`; an inlined one has no address.
fn of_vmcore(said: &str) -> Stacks {
    let thread = |line: &str| {
        let rest = line.strip_prefix("thread ")?;
        rest.split([',', ' ']).next()?.parse().ok()
    };
    let frame = |line: &str| {
        let (_, rest) = line.trim().strip_prefix('#')?.split_once(" 0x")?;
        let (address, rest) = rest.split_once(' ')?;
        if rest.starts_with("? ") {
            return Some(format!("0x{address}"));
        }
        let end = rest.find("+0x").map_or(0, |plus| plus + 3);
        let end = rest[end..].find(' ').map_or(rest.len(), |len| end + len);
        let name = &rest[..end];
        let is_start = !name.contains("+0x");
        Some(format!("{name}{}", if is_start { "+0x0" } else { "" }))
    };
    collect(said, thread, frame)
}

/// What [`WALK`] prints.
fn of_gdb(said: &str) -> Stacks {
    let thread = |line: &str| line.strip_prefix("thread ")?.parse().ok();
    let frame = |line: &str| {
        let frame = line.strip_prefix("frame ")?;
        Some(match frame.rsplit_once('+') {
            Some((name, offset)) => format!("{}+{offset}", plain(name)),
            None => frame.to_owned(),
        })
    };
    collect(said, thread, frame)
}

/// `thread N`, and `frame SP PC NAME`: of those with one stack pointer the last is the function.
fn of_lldb(said: &str) -> Stacks {
    // The chosen ones have a star in front.
    fn start(line: &str) -> &str {
        line.trim_start_matches([' ', '*'])
    }
    let thread = |line: &str| start(line).strip_prefix("thread ")?.trim().parse().ok();
    let frame = |line: &str| Some(start(line).strip_prefix("frame ")?.to_owned());
    let mut stacks = collect(said, thread, frame);
    for frames in stacks.values_mut() {
        let sp = |frame: &String| frame.split(' ').next().map(str::to_owned);
        let mut functions: Vec<String> = Vec::new();
        for frame in frames.drain(..) {
            if functions.last().is_some_and(|last| sp(last) == sp(&frame)) {
                functions.pop();
            }
            functions.push(frame);
        }
        let name = |frame: &String| match frame.splitn(3, ' ').collect::<Vec<_>>()[..] {
            [_, pc, ""] | [_, pc] => pc.to_owned(),
            [_, _, name] => plain(name),
            _ => String::new(),
        };
        *frames = functions.iter().map(name).collect();
    }
    stacks
}

/// A Rust name without the hashes that the compiler adds to it: `crate[0123456789abcdef]::function`,
/// `crate::function::h0123456789abcdef`.
fn plain(name: &str) -> String {
    let is_hash = |part: &str| part.len() == 16 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let part = |part: &'_ str| match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
        Some((part, hash)) if is_hash(hash) => part.to_owned(),
        _ => part.to_owned(),
    };
    let parts: Vec<String> = name.split("::").map(part).collect();
    match parts.split_last() {
        Some((last, path)) if last.strip_prefix('h').is_some_and(is_hash) => path.join("::"),
        _ => parts.join("::"),
    }
}
