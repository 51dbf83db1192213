//! What the kernel's own functions are to a crash: one table by name, for all architectures.
//!
//! A name counts only where its role can be: a trap handler between the panic and its trap frame, a
//! debugger entry before the last trap frame. [`culprit`](super::culprit) walks a stack by these roles.

/// The role of a function in the stack of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Panics: its caller found that something was wrong.
    Panic,
    /// Ends the kernel, or stops it in the debugger, because of a trap: the interrupted code is at fault.
    Fatal,
    /// Enters the debugger on the caller's behalf.
    Debugger,
    /// Finds that the machine hangs: whatever it interrupted was running.
    Watchdog,
    /// Writes the dump, or reboots for it. Says nothing of why.
    Dump,
    /// Handles traps: called by an exception entry.
    Trap,
    /// Resolves page faults on behalf of the trap handlers.
    Fault,
    /// Checks or allocates for its caller, who is to blame if that fails.
    Check,
    /// Takes, releases or waits for a lock.
    Lock,
    /// Waits.
    Wait,
    /// Stops a CPU on behalf of another.
    Stop,
}

/// Every function that is known, by role.
const TABLE: &[(Role, &[&str])] = &[
    (
        Role::Panic,
        &[
            "panic",
            "vpanic",
            "kassert_panic",
            "_kassert_panic",
            "kdb_panic",
        ],
    ),
    (
        Role::Fatal,
        &[
            "kdb_trap",
            "trap_fatal",
            "dblfault_handler",
            // arm
            "dab_fatal",
            "abort_fatal",
            // arm64
            "unhandled_exception",
        ],
    ),
    (
        Role::Debugger,
        &[
            "kdb_enter",
            "kdb_enter_why",
            "kdb_break",
            "kdb_alt_break",
            "kdb_alt_break_gdb",
            "kdb_alt_break_internal",
            "kdb_reboot",
            "kdb_reenter",
            "kdb_reenter_silent",
            "breakpoint",
        ],
    ),
    (
        Role::Watchdog,
        &["watchdog_fire", "wd_timeout_cb", "wdog_kern_pretimeout"],
    ),
    (
        Role::Dump,
        &[
            "savectx",
            "doadump",
            "dumpsys",
            "dumpsys_generic",
            "minidumpsys",
            "cpu_minidumpsys",
            "kern_reboot",
            "livedump_start",
            "livedump_start_vnode",
        ],
    ),
    (
        Role::Trap,
        &[
            "trap",
            "trap_pfault",
            "trap_check",
            "trap_is_smap",
            "trap_is_pti",
            // x86
            "alltraps",
            "calltrap",
            "nmi_calltrap",
            "dbg_calltrap",
            "mchk_calltrap",
            "Xdblfault",
            "trap_fred_k",
            "fred_events_handlers",
            "nmi_handle_intr",
            "nmi_call_kdb",
            "nmi_call_kdb_smp",
            "isa_nmi",
            "mca_intr",
            // arm64
            "do_el1h_sync",
            "handle_el1h_sync",
            "handle_el1h_serror",
            "handle_serror",
            "handle_empty_exception",
            "do_serror",
            "data_abort",
            "align_abort",
            "external_abort",
            "cap_abort",
            "fault_handler",
            // riscv64
            "do_trap_supervisor",
            "cpu_exception_handler_supervisor",
            "page_fault_handler",
            // arm
            "abort_handler",
            "abort_align",
            "abort_debug",
            "abort_icache",
            "dab_align",
            "undefinedinstruction",
            "data_abort_handler",
            "prefetch_abort_handler",
            "data_abort_entry",
            "prefetch_abort_entry",
            "undefined_entry",
            "exception_exit",
            // powerpc
            "handle_kernel_slb_spill",
            "db_trap_glue",
            "trapagain",
            "trapexit",
            "dbtrap",
            "generictrap",
            "powerpc_interrupt",
            "alitrap",
        ],
    ),
    (
        Role::Fault,
        &[
            "vm_fault",
            "vm_fault_hold",
            "vm_fault_trap",
            "vm_fault_lookup",
            "pmap_fault",
        ],
    ),
    (
        Role::Check,
        &[
            "__mtx_assert",
            "_mtx_assert",
            "_sx_assert",
            "_rw_assert",
            "_rm_assert",
            "_lockmgr_assert",
            "witness_assert",
            "witness_checkorder",
            "witness_lock",
            "witness_unlock",
            "witness_warn",
            "__stack_chk_fail",
            "kasan_report",
            "kasan_shadow_check",
            "_refcount_update_saturated",
            "trash_ctor",
            "trash_dtor",
            "mtrash_ctor",
            "mtrash_dtor",
            "uma_dbg_alloc",
            "uma_dbg_free",
            "uma_dbg_getslab",
            "item_ctor",
            "item_dtor",
            "uma_zalloc_arg",
            "uma_zfree_arg",
            "malloc",
            "malloc_dbg",
            "free",
            "free_dbg",
            "zfree",
            "realloc",
            "reallocf",
        ],
    ),
    (
        Role::Lock,
        &[
            "_mtx_lock_indefinite_check",
            "_mtx_lock_spin_cookie",
            "_mtx_lock_spin",
            "__mtx_lock_spin_flags",
            "__mtx_trylock_spin_flags",
            "__mtx_unlock_spin_flags",
            "__mtx_lock_flags",
            "__mtx_unlock_flags",
            "__mtx_lock_sleep",
            "_mtx_lock_sleep",
            "__mtx_unlock_sleep",
            "_mtx_trylock_flags_",
            "mtx_spin_wait_unlocked",
            "mtx_wait_unlocked",
            "_mtx_init",
            "_mtx_destroy",
            "thread_lock_flags_",
            "_thread_lock",
            "lock_delay",
            "lock_init",
            "lock_destroy",
            "_sx_xlock",
            "_sx_xlock_hard",
            "_sx_slock",
            "_sx_slock_int",
            "_sx_slock_hard",
            "_sx_xunlock",
            "_sx_xunlock_hard",
            "_sx_sunlock",
            "_sx_sunlock_int",
            "_sx_sunlock_hard",
            "sx_destroy",
            "_rw_wlock_cookie",
            "__rw_wlock_hard",
            "_rw_wunlock_cookie",
            "__rw_wunlock_hard",
            "__rw_rlock",
            "__rw_rlock_int",
            "__rw_rlock_hard",
            "_rw_runlock_cookie",
            "_rw_runlock_cookie_int",
            "__rw_runlock_hard",
            "_rw_destroy",
            "_rm_rlock",
            "_rm_rlock_hard",
            "_rm_runlock",
            "_rm_wlock",
            "_rm_wunlock",
            "__lockmgr_args",
            "lockmgr_lock_flags",
            "lockmgr_slock_hard",
            "lockmgr_xlock_hard",
            "lockmgr_upgrade",
            "lockmgr_unlock",
            "lockmgr_xlock",
            "lockmgr_slock",
            "lockdestroy",
            "propagate_priority",
            "turnstile_wait",
            "turnstile_broadcast",
            "turnstile_unpend",
        ],
    ),
    (
        Role::Wait,
        &[
            "cpu_switch",
            "sched_switch",
            "sched_ule_sswitch",
            "sched_4bsd_sswitch",
            "mi_switch",
            "sleepq_add",
            "sleepq_switch",
            "sleepq_catch_signals",
            "sleepq_wait",
            "sleepq_wait_sig",
            "sleepq_timedwait",
            "sleepq_timedwait_sig",
            "sleeplk",
            "_sleep",
            "msleep_spin_sbt",
            "pause_sbt",
            "pause_sig",
            "_cv_wait",
            "_cv_wait_unlock",
            "_cv_wait_sig",
            "_cv_timedwait_sbt",
            "_cv_timedwait_sig_sbt",
            "critical_exit_preempt",
        ],
    ),
    (
        Role::Stop,
        &[
            "ipi_stop",
            "ipi_handler",
            "intr_ipi_dispatch",
            "powerpc_ipi_handler",
            "cpustop_handler",
            "cpustop_handler_post",
            "ipi_nmi_handler",
            "Xcpustop",
        ],
    ),
];

/// The role of a function, by its name without offset.
pub(super) fn role(name: &str) -> Option<Role> {
    let known = TABLE.iter().find(|(_, names)| names.contains(&name));
    known.map(|(role, _)| *role).or_else(|| match name {
        _ if is_panic_handler(name) => Some(Role::Panic),
        _ => is_panic_of_rust(name).then_some(Role::Check),
    })
}

/// The `#[panic_handler]` of a kernel in Rust.
pub(crate) fn is_panic_handler(name: &str) -> bool {
    name.rsplit("::").next() == Some("rust_begin_unwind")
}

/// Whether a function is of Rust's own libraries: what is wrong is where it was called.
pub(crate) fn is_of_library(name: &str) -> bool {
    let name = name.trim_start_matches('<');
    ["core::", "alloc::", "std::"]
        .iter()
        .any(|library| name.starts_with(library))
}

/// In Rust, what a module called `panic` or `panicking` has, and what leads there.
fn is_panic_of_rust(name: &str) -> bool {
    let (path, function) = name.rsplit_once("::").unwrap_or(("", name));
    match function {
        "unwrap_failed" | "expect_failed" => path.starts_with("core::"),
        _ => path
            .split("::")
            .any(|module| matches!(module, "panic" | "panicking")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_function_has_one_role() {
        let names = || TABLE.iter().flat_map(|(_, names)| names.iter());
        let twice: HashSet<_> = names().collect();
        assert_eq!(names().count(), twice.len());
    }

    #[test]
    fn look_alikes_have_none() {
        for name in [
            "kdb_sysctl_trap",
            "kdb_sysctl_trap_code",
            "kdb_sysctl_panic",
            "kdb_sysctl_enter",
            "kdb_stack_overflow",
            "kdb_backtrace",
            "kdb_thr_next",
            "kdb_thr_select",
            "kdb_dbbe_select",
            "panic_cmd",
            "vpanicked",
            "db_panic_hook",
            "trap_foo",
            "trapdoor_attach",
            "foo_trap_fatal",
            "breakpoint_sysctl",
            "kern_reboot_hook",
            "vm_faultd",
            "sleepq_stats",
            "_cv_statistics",
            "turnstile_stats",
            "freebsd32_panic",
            "ipanic::module",
        ] {
            assert_eq!(role(name), None, "{name}");
        }
    }
}
