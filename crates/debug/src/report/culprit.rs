//! Which frame of a stack is at fault: the first that is not about the crash, the debugger, the dump
//! or the waiting itself.

use crate::arch::Machine;
use crate::stack::NamedFrame;

/// Whoever calls one of these has crashed, or was stopped by the debugger. A stack may have several:
/// the panic, the debugger that it enters, and the dump that somebody asks for there.
const CRASHING: [&str; 12] = [
    "panic",
    "vpanic",
    "kassert_panic",
    "trap_fatal",
    "dblfault_handler",
    "kdb_enter",
    "kdb_trap",
    "kern_reboot",
    "doadump",
    "dumpsys",
    "minidumpsys",
    "savectx",
];
/// Those of them that a trap leads to: what stands between is the trap's handler.
const TRAPPED: [&str; 3] = ["trap_fatal", "dblfault_handler", "kdb_trap"];
/// What stands between those and whoever is at fault, besides an architecture's handlers of faults.
const HELPERS: [&str; 12] = [
    "breakpoint",
    "__mtx_assert",
    "_mtx_assert",
    "_sx_assert",
    "_rw_assert",
    "_rm_assert",
    "_lockmgr_assert",
    "witness_checkorder",
    "witness_warn",
    "_mtx_lock_indefinite_check",
    "trash_ctor",
    "trash_dtor",
];
/// What a thread stands in that waits. (`_sleep` and the like are macros over these.)
const WAITING: [&str; 11] = [
    "cpu_switch",
    "sched_switch",
    "sched_ule_sswitch",
    "sched_4bsd_sswitch",
    "mi_switch",
    "turnstile_wait",
    "_sleep",
    "msleep_spin_sbt",
    "pause_sbt",
    "sleeplk",
    "critical_exit_preempt",
];

/// A function's name without offset and without what a compiler appends to its parts.
#[must_use]
pub(super) fn base_name(name: &str) -> &str {
    let name = name.rsplit_once("+0x").map_or(name, |(base, _)| base);
    // `.isra.0`, `.part.1`, `.constprop.0`, `.cold`; a static's `.` stands behind a name.
    match name.find('.') {
        Some(at) if at > 0 => name.get(..at).unwrap_or(name),
        _ => name,
    }
}

fn is_crashing(name: &str) -> bool {
    CRASHING.contains(&name)
}

fn is_helper(machine: &Machine, name: &str) -> bool {
    let is_debugger = name.starts_with("kdb_") && name != "kdb_sysctl_panic";
    let is_known = HELPERS.contains(&name) || machine.handlers.contains(&name);
    is_known || is_crashing(name) || is_debugger || is_panic_of_rust(name)
}

/// In Rust, what a module called `panic` or `panicking` has, and what leads there.
fn is_panic_of_rust(name: &str) -> bool {
    let (path, function) = name.rsplit_once("::").unwrap_or(("", name));
    match function {
        "rust_begin_unwind" => true,
        "unwrap_failed" | "expect_failed" => path.starts_with("core::"),
        _ => path
            .split("::")
            .any(|module| matches!(module, "panic" | "panicking")),
    }
}

fn is_waiting(name: &str) -> bool {
    WAITING.contains(&name)
        || ["sleepq_", "_cv_", "turnstile_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// The first frame that is not about the crash or the waiting itself; `None` if all are, or none has
/// a name.
#[must_use]
pub(super) fn culprit(machine: &Machine, frames: &[NamedFrame]) -> Option<usize> {
    let names: Vec<Option<&str>> = frames
        .iter()
        .map(|frame| frame.frame.name.as_deref().map(base_name))
        .collect();
    among(machine, &names, &|at: usize| {
        frames
            .get(at)
            .is_some_and(|frame| frame.frame.trap.is_some())
    })
}

/// `has_trap` says which frames left a trap frame.
fn among(
    machine: &Machine,
    names: &[Option<&str>],
    has_trap: &dyn Fn(usize) -> bool,
) -> Option<usize> {
    let known = names.iter().position(Option::is_some)?;
    let crashing = names.iter().rposition(|name| name.is_some_and(is_crashing));
    // What comes before the last of them was called by it.
    let from = crashing.map_or(known, |at| {
        let name = names.get(at).copied().flatten().unwrap_or_default();
        let trap = (at..names.len()).find(|at| has_trap(*at));
        match trap {
            Some(trap) if TRAPPED.contains(&name) => trap + 1,
            _ => at + 1,
        }
    });
    let is_passed = |name: &str| is_helper(machine, name) || crashing.is_none() && is_waiting(name);
    let behind = names.get(from..)?;
    let at = behind
        .iter()
        .position(|name| !name.is_some_and(is_passed))?;
    Some(from + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore_format::arch::Arch;

    fn found(stack: &str) -> Option<String> {
        let names: Vec<&str> = stack.split_whitespace().collect();
        let known: Vec<Option<&str>> = names
            .iter()
            .map(|name| Some(*name).filter(|name| *name != "?"))
            .collect();
        let has_trap = |at: usize| names[at].starts_with("calltrap");
        among(Machine::of(Arch::Amd64), &known, &has_trap).map(|at| names[at].to_owned())
    }

    #[test]
    fn the_debugger_and_the_dump_hide_no_culprit() {
        for (stack, expected) in [
            ("doadump kern_reboot vpanic panic foo bar", "foo"),
            (
                "doadump db_dump db_command db_trap kdb_trap trap calltrap kdb_enter vpanic panic \
                 trap_fatal trap_pfault trap calltrap flow_lookup ip_output",
                "flow_lookup",
            ),
            (
                "doadump lab::ddb::run kdb_trap trap calltrap kdb_enter vpanic lab::panic::panic_at \
                 core::panicking::panic_fmt core::option::unwrap_failed driver",
                "driver",
            ),
            (
                "kdb_enter panic trap_fatal some_handler trap calltrap driver",
                "driver",
            ),
            // The page that is copied in leads to a panic of its own.
            (
                "vpanic panic vm_fault trap_pfault trap calltrap copyin",
                "vm_fault",
            ),
            (
                "sched_switch mi_switch sleepq_wait _sleep lock_it fork_exit",
                "lock_it",
            ),
            ("? ? doadump panic ? main", "?"),
        ] {
            assert_eq!(found(stack).as_deref(), Some(expected), "{stack}");
        }
        assert_eq!(found("doadump vpanic panic"), None);
        assert_eq!(found("? ?"), None);
    }

    #[test]
    fn names_lose_what_compilers_append() {
        assert_eq!(base_name("flow_lookup.isra.0+0x64"), "flow_lookup");
        assert_eq!(base_name(".cold"), ".cold");
    }
}
