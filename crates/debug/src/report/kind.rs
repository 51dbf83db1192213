//! Kinds of crashes, and the words of panic messages that tell them.

use serde::Serialize;

/// What kind of crash it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashKind {
    /// An access to memory that is not there, or not allowed.
    PageFault,
    /// The processor refused an instruction or an address.
    ProtectionFault,
    /// A fault while a fault was handled: usually a stack overflow.
    DoubleFault,
    /// Broken hardware.
    MachineCheck,
    /// A non-maskable interrupt.
    Nmi,
    /// Another exception.
    Trap,
    /// A check that failed.
    Assertion,
    /// A lock that was misused.
    Lock,
    /// Something waited for too long.
    Hung,
    /// Memory that was freed and then used, or freed twice.
    UseAfterFree,
    /// No memory.
    OutOfMemory,
    /// Somebody asked for it.
    Forced,
    /// Another panic.
    Panic,
    /// No panic is known of.
    Unknown,
}

/// What the messages of a kind contain; the first that fits decides.
const WORDS: [(CrashKind, &[&str]); 12] = [
    (
        CrashKind::Hung,
        &[
            "possible deadlock",
            "held too long",
            "watchdog",
            "blocked for",
            "spin lock",
        ],
    ),
    (
        CrashKind::UseAfterFree,
        &[
            "odified after free",
            "uplicate free",
            "use after free",
            "double free",
        ],
    ),
    (
        CrashKind::PageFault,
        &[
            "page fault",
            "data abort",
            "vm_fault failed",
            "fault on nofault entry",
        ],
    ),
    (CrashKind::DoubleFault, &["double fault"]),
    (CrashKind::ProtectionFault, &["general protection"]),
    (
        CrashKind::MachineCheck,
        &["machine check", "MCA", "unrecoverable memory"],
    ),
    (CrashKind::Nmi, &["NMI"]),
    (CrashKind::Forced, &REQUESTS),
    (CrashKind::Lock, &["sleeping thread"]),
    (
        CrashKind::Assertion,
        &["Assertion ", "not owned at", "KASSERT"],
    ),
    (
        CrashKind::Lock,
        &[
            "_lock",
            "recurse",
            "mutex",
            "lock order",
            "Lock ",
            "lockmgr",
        ],
    ),
    (
        CrashKind::OutOfMemory,
        &["out of memory", "kmem_", "out of swap", "no memory"],
    ),
];

/// Messages of panics that a person asked for.
const REQUESTS: [&str; 3] = ["kdb_sysctl_panic", "from debugger", "by request"];
/// Functions that only panic, or enter the debugger, because a person asked.
const ASKED_FOR: [&str; 3] = [
    "kdb_sysctl_panic",
    "kdb_sysctl_panic_str",
    "kdb_sysctl_enter",
];

impl CrashKind {
    /// By the panic message alone.
    pub(super) fn of_message(message: &str) -> Self {
        let has = |words: &&str| message.contains(*words);
        let known = WORDS.iter().find(|(_, words)| words.iter().any(has));
        known.map_or(Self::Panic, |(kind, _)| *kind)
    }
}

/// Whether a panic with this message says nothing of what happened before.
pub(super) fn is_request(message: &str) -> bool {
    REQUESTS.iter().any(|words| message.contains(words))
}

/// Whether a function only crashes because a person asked.
pub(super) fn is_asked_for(function: &str) -> bool {
    ASKED_FOR.contains(&function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_tell_their_kind() {
        for (message, kind) in [
            (
                "spin lock 0xff (sched) held by 0xfe (tid 100123) too long",
                CrashKind::Hung,
            ),
            ("spin lock held too long", CrashKind::Hung),
            ("sleeping thread holds flow mutex", CrashKind::Lock),
            ("Memory modified after free 0xff", CrashKind::UseAfterFree),
            ("Assertion a == b failed at c.c:3", CrashKind::Assertion),
            ("kdb_sysctl_panic", CrashKind::Forced),
            ("ffs_valloc: dup alloc", CrashKind::Panic),
        ] {
            assert_eq!(CrashKind::of_message(message), kind, "{message}");
        }
    }
}
