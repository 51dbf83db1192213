//! The kernel of `examples/adopting`: it is not FreeBSD's, has its image in the low half and its heap far
//! away, and tells of itself. The reader answers as for any other.

use crate::lab::checks::{LIMIT, Scene, expect};
use crate::lab::dump::{self, Dump};
use crate::lab::{build_in, make_disk};
use crate::{Result, shell};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

const FOLDER: &str = "examples/adopting";

/// What each command says of the dump.
const SAID: &[(&[&str], &[&str])] = &[
    (
        &["info"],
        &["adopting/amd64 minidump v3, complete", "registers of 1 CPU"],
    ),
    (
        &["ps"],
        &[
            "crashed: thread 1 of process 0 (adopting/main), on CPU 0",
            "keyboard",
            "2 threads in 1 process",
        ],
    ),
    (
        &["bt", "--all"],
        &[
            "adopting::receive+",
            "packet=0x444444400040",
            "adopting::reader+",
        ],
    ),
    (
        &["why"],
        &[
            "the code panicked in adopting::receive",
            "main.rs:",
            ": a packet has a length",
        ],
    ),
    (
        &["report"],
        &["PANIC", "in adopting::receive", "WHY     the code panicked"],
    ),
    (&["log"], &["adopting: a packet of 10.0.2.2"]),
    (&["verify"], &["the writer met no damage"]),
    (&["print", "*(Packet *)0x444444400040"], &["10.0.2.2"]),
    (&["sym", "adopting::receive"], &["adopting::receive"]),
    (
        &["whatis", "0x444444400040"],
        &["mapped to physical 0x800040"],
    ),
];

/// Boots it, lets it crash, and asks.
pub(super) fn adopting(scene: &Scene) -> Result {
    let kernel = build_in(Path::new(FOLDER), "adopting")?;
    make_disk(&scene.disk(), 64)?;
    let serial = scene.folder.join("serial.txt");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-machine", "pc", "-m", "128"]);
    qemu.args(["-display", "none", "-nodefaults", "-no-reboot"]);
    qemu.args(["-device", "isa-debug-exit,iobase=0xf4"]);
    qemu.arg("-kernel").arg(&kernel);
    qemu.arg("-drive")
        .arg(format!("file={},format=raw,if=ide", scene.disk().display()));
    qemu.arg("-serial")
        .arg(format!("file:{}", serial.display()));
    let status = ended(&mut qemu)?;
    let said = std::fs::read_to_string(&serial).map_err(|error| error.to_string())?;
    expect(&said, "adopting: dumped ")?;
    // The kernel's way out says 1.
    if status.code() != Some(1) {
        return Err(format!("QEMU ended with {status}:\n{said}"));
    }
    let to = scene.folder.join("vmcore");
    let dump = dump::take(&scene.disk(), &to, &kernel, &scene.reader)?;
    let dump = dump.ok_or_else(|| format!("no dump on {}", scene.disk().display()))?;
    for (words, wanted) in SAID {
        let told = dump.says(words)?;
        for wanted in *wanted {
            expect(&told, wanted).map_err(|error| format!("{words:?}: {error}"))?;
        }
    }
    debuggers(&dump)?;
    without_kernel(scene, &dump)
}

/// Runs QEMU, and ends it if the kernel does not.
fn ended(qemu: &mut Command) -> Result<ExitStatus> {
    let mut child = qemu
        .spawn()
        .map_err(|error| shell::no_start(qemu, &error))?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if start.elapsed() < LIMIT => std::thread::sleep(Duration::from_millis(50)),
            _ => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("the kernel did not end in {} s", LIMIT.as_secs()))
}

/// Stock gdb has the same stacks.
fn debuggers(dump: &Dump) -> Result {
    let said = dump.debug(&["--", "-batch", "-ex", "thread apply all bt"])?;
    for wanted in [
        "adopting::receive (packet=0x444444400040)",
        "adopting::main ()",
        "adopting::reader ()",
    ] {
        expect(&said, wanted)?;
    }
    Ok(())
}

/// What the dump tells without its kernel file: memory and threads.
fn without_kernel(scene: &Scene, dump: &Dump) -> Result {
    let reader = |words: &[&str]| {
        let mut command = Command::new(&scene.reader);
        let (first, rest) = words.split_first().unwrap_or((&"info", &[]));
        command.arg(first).arg(&dump.file).args(rest);
        shell::said(&mut command)
    };
    expect(&reader(&["ps"])?, "adopting/reader")?;
    expect(&reader(&["read", "0x444444400040", "32"])?, "444444400040")?;
    expect(&reader(&["info", "--regs"])?, "rip")?;
    other_kernel(scene, dump)?;
    let redacted = scene.folder.join("redacted");
    let to = redacted.to_string_lossy();
    dump.ask(&["redact", &to, "--force"])?;
    let redacted = dump::open(&redacted, None, dump.kernel(), &scene.reader)?;
    expect(&redacted.says(&["bt"])?, "adopting::receive+")
}

/// A kernel with another build id is refused as that, and not as a program.
fn other_kernel(scene: &Scene, dump: &Dump) -> Result {
    let kernel = std::fs::read(dump.kernel()).map_err(|error| error.to_string())?;
    let note = kernel.windows(4).position(|four| four == b"GNU\0");
    let at = note.ok_or("no build id")? + 4;
    let mut other = kernel;
    other[at] ^= 0xff;
    let path = scene.folder.join("other");
    std::fs::write(&path, other).map_err(|error| error.to_string())?;
    let mut command = Command::new(&scene.reader);
    command.arg("bt").arg(&dump.file).arg("-k").arg(&path);
    let output = command
        .output()
        .map_err(|error| shell::no_start(&command, &error))?;
    expect(
        &String::from_utf8_lossy(&output.stderr),
        "is not the kernel of",
    )
}
