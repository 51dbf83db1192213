//! The lines of the log around the trap and the panic.

use crate::arch::machine::Machine;
use crate::target::Target;

/// Lines of the log before the trap, and after the panic.
const LINES_BEFORE: usize = 12;
const LINES_AFTER: usize = 4;
/// Lines between the words of a trap and those of its panic.
const TRAP_BEFORE_PANIC: usize = 60;

/// How kernels begin to speak of a trap; powerpc's do so in the second line.
const TRAP: [&str; 2] = ["Fatal ", "fatal kernel trap"];
const PANIC: &str = "panic: ";

pub(crate) fn around_the_trap(target: &Target<'_>) -> Vec<String> {
    let Ok(log) = vmcore::log::read(target.session()) else {
        return Vec::new();
    };
    let lines = log.lines();
    let lines = lines.map(|line| String::from_utf8_lossy(line.text).into_owned());
    excerpt(target.machine(), &lines.collect::<Vec<_>>())
}

/// From before the trap to after the panic; the general registers between them are in the trap frame.
fn excerpt(machine: &Machine, lines: &[String]) -> Vec<String> {
    let is_panic = |line: &String| line.starts_with(PANIC);
    let is_trap = |line: &String| TRAP.iter().any(|words| line.starts_with(words));
    let panic = lines.iter().rposition(is_panic);
    let trap = match panic {
        Some(panic) => {
            let from = panic.saturating_sub(TRAP_BEFORE_PANIC);
            let near = lines.get(from..=panic).unwrap_or_default();
            let first = near.iter().position(|line| is_trap(line) || is_panic(line));
            first.map(|first| from + first)
        }
        // The debugger was entered before the kernel could panic.
        None => lines.iter().rposition(is_trap),
    };
    let at = trap.unwrap_or(lines.len());
    let end = panic.unwrap_or(at).saturating_add(LINES_AFTER);
    let is_register = |line: &str| {
        let name = line.trim_start().split([':', ' ', '=']).next();
        let is_renamed = |name: &str| machine.gdb.renamed.iter().any(|(_, gdb)| *gdb == name);
        name.is_some_and(|name| machine.names.contains(&name) || is_renamed(name))
    };
    let numbered = lines.iter().enumerate();
    let numbered = numbered.filter(|(number, _)| {
        let is_before = *number < at && at - number <= LINES_BEFORE;
        is_before || (at..end).contains(number)
    });
    numbered
        .filter(|(number, line)| *number <= at || !is_register(line))
        .map(|(_, line)| line.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore_format::arch::Arch;

    fn of(arch: Arch, log: &[&str]) -> Vec<String> {
        let lines: Vec<String> = log.iter().map(|line| (*line).to_owned()).collect();
        excerpt(Machine::of(arch), &lines)
    }

    #[test]
    fn the_excerpt_goes_from_the_trap_to_the_panic() {
        let mut log = vec!["booted"; 20];
        log.push("Fatal data abort:");
        let registers: Vec<String> = (0..30)
            .map(|number| format!(" {:>3}: 0", format!("x{number}")))
            .collect();
        log.extend(registers.iter().map(String::as_str));
        let rest = [
            "  sp: ffff0000a",
            "  lr: ffff0000b",
            " elr: ffff0000c",
            "spsr: 45",
            " far: 18",
            " esr: 96000004",
            "panic: vm_fault failed: ffff0000c error 1",
            "cpuid = 0",
            "time = 1",
            "KDB: stack backtrace:",
            "db_trace_self()",
            "more",
        ];
        log.extend(rest);
        let found = of(Arch::Arm64, &log);
        assert_eq!(found.iter().filter(|line| *line == "booted").count(), 12);
        assert_eq!(found[12], "Fatal data abort:");
        let expected = [" elr: ffff0000c", "spsr: 45", " far: 18", " esr: 96000004"];
        assert_eq!(found[13..17], expected);
        assert_eq!(found[17..], rest[6..10]);
    }

    #[test]
    fn a_trap_without_a_panic_is_the_last_one() {
        let log = [
            "Fatal trap 9: old",
            "a",
            "b",
            "Fatal trap 12: page fault",
            "cpuid = 0",
            "c",
            "d",
            "e",
        ];
        assert_eq!(of(Arch::Amd64, &log)[3..], log[3..7]);
        let log = [
            "a",
            "",
            "fatal kernel trap:",
            "",
            "   exception       = 0x300",
            "panic: x",
        ];
        assert_eq!(of(Arch::Powerpc64, &log), log);
        // A log without either ends with its last lines.
        assert_eq!(of(Arch::Amd64, &["a", "b"]), ["a", "b"]);
    }
}
