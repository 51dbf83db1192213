//! Every way to panic: the dump, and what each debugger makes of it.

use crate::Result;
use crate::lab::backtraces;
use crate::lab::checks::{LIMIT, Scene, command, crash, expect, finish, is_sound};
use crate::lab::dump::Dump;
use crate::lab::machine::{Boot, Machine};

/// What is written to, and how the panic message begins.
const WAYS: [(&str, &str); 7] = [
    ("debug.kdb.panic", "kdb_sysctl_panic"),
    ("debug.kdb.trap", "page fault"),
    ("debug.kdb.trap_code", "page fault"),
    ("debug.kdb.stack_overflow", "double fault"),
    ("lab.assert", "free count"),
    ("lab.double_fault", "double fault"),
    ("lab.protection", "general protection fault"),
];

/// What a machine that is in the debugger leaves: a dump that is sound, and whose backtraces are
/// those that the debugger shows. Also returns what that shows.
fn dump_with_stacks(scene: &Scene, machine: &mut Machine, panic: &str) -> Result<(Dump, String)> {
    let alltrace = command(machine, "alltrace")?;
    let dump = finish(scene, machine)?;
    is_sound(&dump, panic)?;
    backtraces::agree(&dump, &alltrace)?;
    Ok((dump, alltrace))
}

pub(super) fn every_panic(scene: &Scene, cpu: u32) -> Result {
    for (name, panic) in WAYS {
        one_panic(scene, cpu, name, panic).map_err(|message| format!("{name}: {message}"))?;
    }
    Ok(())
}

fn one_panic(scene: &Scene, cpu: u32, name: &str, panic: &str) -> Result {
    let boot = Boot {
        tunables: vec![format!("lab.crash_cpu={cpu}")],
        ..Boot::default()
    };
    let mut machine = scene.boot_with(128, boot)?;
    let said = crash(&mut machine, &format!("sysctl {name}=1"))?;
    expect(&said, &format!("panic: {panic}"))?;
    expect(&said, &format!("cpuid = {cpu}"))?;
    let (dump, alltrace) = dump_with_stacks(scene, &mut machine, panic)?;
    expect(
        &dump.says(&["ps"])?,
        &format!("(crasher/culprit), on CPU {cpu}"),
    )?;
    backtraces::debuggers_agree(scene, &dump, &alltrace)
}

/// What a person does first in gdb and lldb.
pub(super) fn stock_debuggers(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    crash(&mut machine, "sysctl debug.kdb.trap=1")?;
    let dump = finish(scene, &mut machine)?;
    let read_null = "lab_kernel::kern::crash::read_null";
    // An address in the kernel map where nothing is.
    let hole = "0xfffffe8000000000";

    let threads = dump.debug(&["--", "-batch", "-ex", "info threads"])?;
    expect(&threads, "* 1    Thread 1.")?;
    expect(&threads, "\"crasher/culprit (pid 19)\"")?;
    expect(&threads, "\"idle/idle: cpu1 (pid 11)\"")?;
    let said = dump.debug(&["--", "-batch", "-ex", "bt", "-ex", "info registers rip rax"])?;
    expect(&said, read_null)?;
    expect(&said, "rax            <unavailable>")?;
    let said = dump.debug(&["--", "-batch", "-ex", "monitor ps", "-ex", "monitor log"])?;
    expect(&said, "crasher/culprit (crashed)")?;
    expect(&said, "panic: page fault")?;
    // The last command is gdb's status.
    match dump.debug(&["--", "-batch", "-ex", &format!("x/gx {hole}")]) {
        Err(said) => expect(&said, &format!("Cannot access memory at address {hole}"))?,
        Ok(said) => return Err(format!("gdb read where nothing is:\n{said}")),
    }
    let said = dump.debug(&["--", "-batch", "-ex", "continue"])?;
    expect(&said, "this is a crash dump: nothing runs")?;

    let lldb = |commands: &[&str]| {
        let words = commands.iter().flat_map(|command| ["-o", *command]);
        let words: Vec<&str> = ["--lldb", "--", "--batch"]
            .into_iter()
            .chain(words)
            .collect();
        dump.debug(&words)
    };
    let said = lldb(&["thread list", "bt"])?;
    expect(&said, "stop reason = kernel panic: page fault")?;
    expect(&said, "name = 'crasher/culprit (pid 19)'")?;
    expect(&said, "name = 'idle/idle: cpu1 (pid 11)'")?;
    expect(&said, read_null)?;
    let said = lldb(&["register read rip rax", "image list", "p/x *(int *)&hz"])?;
    expect(&said, "rax          = error: unavailable")?;
    expect(&said, "0xffffffff80200000")?;
    expect(&said, "(int) $0 = 0x00000064")?;
    let said = lldb(&["process plugin packet monitor ps"])?;
    expect(&said, "crasher/culprit (crashed)")?;
    // It takes an error for the end of a script.
    match lldb(&[&format!("memory read {hole}")]) {
        Err(said) => expect(&said, &format!("memory read failed for {hole}"))?,
        Ok(said) => return Err(format!("lldb read where nothing is:\n{said}")),
    }

    let said = backtraces::in_gdb(scene, &dump, &["-ex", "bt", "-ex", "info threads"])?;
    expect(&said, read_null)?;
    expect(&said, "* 1    ")?;
    expect(&said, "LWP 100002")
}

pub(super) fn panic_together(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    let said = crash(&mut machine, "sysctl lab.panic_together=1")?;
    if said.matches("panic: all together").count() != 1 {
        return Err(format!("one CPU should panic, the other stop:\n{said}"));
    }
    expect(
        &command(&mut machine, "show pcpu")?,
        ": stopped, curthread culprit",
    )?;
    dump_with_stacks(scene, &mut machine, "all together").map(|_| ())
}

pub(super) fn spinning_cpu(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    command(&mut machine, "sysctl lab.spin=1")?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    expect(
        &command(&mut machine, "show pcpu")?,
        "cpu1: stopped, curthread culprit",
    )?;
    dump_with_stacks(scene, &mut machine, "kdb_sysctl_panic").map(|_| ())
}

pub(super) fn deaf_cpu(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    command(&mut machine, "sysctl lab.spin_nmi=1")?;
    expect(
        &crash(&mut machine, "sysctl debug.kdb.panic=1")?,
        "timeout stopping cpus: mask 0x2",
    )?;
    expect(&command(&mut machine, "show pcpu")?, "cpu1: did not stop")?;
    is_sound(&finish(scene, &mut machine)?, "kdb_sysctl_panic")
}

pub(super) fn nmi_button(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    machine.monitor("inject-nmi")?;
    expect(&machine.expect(&["db> "], LIMIT)?, "panic: NMI")?;
    let (dump, _) = dump_with_stacks(scene, &mut machine, "NMI")?;
    expect(
        &dump.says(&["why"])?,
        "a non-maskable interrupt came while ",
    )
}

pub(super) fn panic_in_driver(scene: &Scene) -> Result {
    let mut machine = scene.boot(128)?;
    crash(&mut machine, "sysctl lab.disk_panic=1")?;
    dump_with_stacks(scene, &mut machine, "vtblk0: state is inconsistent").map(|_| ())
}

pub(super) fn watchdog(scene: &Scene) -> Result {
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
    let (dump, _) = dump_with_stacks(scene, &mut machine, "watchdog timeout")?;
    expect(&dump.says(&["why"])?, "the watchdog expired while ")
}
