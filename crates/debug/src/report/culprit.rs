//! Which frame of a stack is at fault: the first that does not belong to the crash, the debugger, the
//! dump or the waiting itself.
//!
//! The outermost panic, or stop in the debugger, decides. Between it and the trap frame that it is about
//! are only handlers; past that trap frame no function is passed over, whatever its name.

use super::functions::{Role, role};
use crate::lines::SourcePlace;
use crate::stack::NamedFrame;
use crate::unwind::{Doubt, TrapFrame};

/// The frame at fault, and how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Culprit {
    /// Frames before it that only belong to the panic, the debugger, the dump or the waiting.
    pub(crate) hidden: usize,
    /// The frame. After a jump to what is not code it is the caller, else the first that is not hidden.
    pub(crate) at: usize,
    /// The frame that left the trap frame of the fault.
    pub(crate) trap: Option<usize>,
    /// The role of the function that ended the kernel; `None` for a thread that did not.
    pub(super) ended_by: Option<Role>,
}

/// How a frame's code was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trapped {
    /// Kernel code, by an exception.
    Exception,
    /// Kernel code, by an interrupt.
    Interrupt,
    /// User code.
    User,
}

/// What a frame is to the search.
#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    name: Option<&'a str>,
    is_code: bool,
    trapped: Option<Trapped>,
    /// The compiler put the function that enters the debugger into this one.
    enters_debugger: bool,
}

impl Row<'_> {
    fn role(&self) -> Option<Role> {
        role(self.name?)
    }
}

/// A function's name without offset and without what a compiler appends to its parts.
pub(crate) fn base_name(name: &str) -> &str {
    let name = name.rsplit_once("+0x").map_or(name, |(base, _)| base);
    // `.isra.0`, `.part.1`, `.constprop.0`, `.cold`; a static's `.` follows a name.
    match name.find('.') {
        Some(at) if at > 0 => name.get(..at).unwrap_or(name),
        _ => name,
    }
}

/// The frame at fault; `None` if all frames belong to the crash or the waiting, or none has a name.
pub(crate) fn culprit(frames: &[NamedFrame]) -> Option<Culprit> {
    let trapped = |trap: &TrapFrame| match (trap.user, &trap.exception) {
        (true, _) => Trapped::User,
        (false, Some(_)) => Trapped::Exception,
        (false, None) => Trapped::Interrupt,
    };
    let rows: Vec<Row<'_>> = frames
        .iter()
        .map(|frame| Row {
            name: frame.frame.name.as_deref().map(base_name),
            is_code: frame.frame.doubt != Some(Doubt::NotCode),
            trapped: frame.frame.trap.as_ref().map(trapped),
            enters_debugger: frame.places.iter().any(enters_debugger),
        })
        .collect();
    among(&rows)
}

/// Whether an inlined function only enters the debugger.
pub(super) fn enters_debugger(place: &SourcePlace) -> bool {
    place.inlined && role(base_name(&place.function)) == Some(Role::Debugger)
}

fn among(rows: &[Row<'_>]) -> Option<Culprit> {
    let is_end = |row: &Row<'_>| {
        let role = row.role();
        let ends = [Role::Panic, Role::Fatal, Role::Debugger, Role::Watchdog];
        role.filter(|role| ends.contains(role))
    };
    let trapped_from = |from: usize| {
        let is_trapped = |row: &Row<'_>| row.trapped.is_some();
        let found = rows.get(from..)?.iter().position(is_trapped)?;
        Some(from + found)
    };
    let outermost = rows.iter().rposition(|row| is_end(row).is_some());
    if let Some(at) = outermost {
        let ended_by = rows.get(at).and_then(is_end);
        let found = match (ended_by, trapped_from(at)) {
            (Some(Role::Fatal), Some(trap)) => past_trap(rows, trap),
            // An interrupt: what it cut into was running, which is all that is known.
            (Some(Role::Watchdog), Some(trap)) if !is_user(rows, trap) => Culprit {
                trap: None,
                ..past_trap(rows, trap)?
            }
            .into(),
            (Some(Role::Watchdog), _) => Some(Culprit::here(at)),
            _ => past_handlers(rows, at + 1),
        };
        let enters = |found: &Culprit| {
            rows.get(found.hidden)
                .is_some_and(|row| row.enters_debugger)
        };
        return found.map(|found| match found.trap.is_some() && enters(&found) {
            true => Culprit {
                trap: None,
                ended_by: Some(Role::Debugger),
                ..found
            },
            false => Culprit { ended_by, ..found },
        });
    }
    let known = rows.iter().position(|row| row.name.is_some())?;
    let is_dump = |row: &Row<'_>| row.role() == Some(Role::Dump);
    let dump = rows.get(known..)?.iter().take_while(|row| is_dump(row));
    let dump = dump.count();
    if dump > 0 {
        let found = past_handlers(rows, known + dump)?;
        let ended_by = Some(Role::Dump);
        return Some(Culprit { ended_by, ..found });
    }
    // A CPU that was stopped for another one's panic: what it did is past the interrupt.
    let interrupt = trapped_from(known);
    let is_stopped = |trap: &usize| {
        let mut before = rows.get(..=*trap).unwrap_or_default().iter();
        before.any(|row| row.role() == Some(Role::Stop))
    };
    let from = interrupt.filter(is_stopped).map_or(known, |trap| trap + 1);
    let is_passed =
        |row: &Row<'_>| matches!(row.role(), Some(Role::Wait | Role::Lock | Role::Stop));
    let passed = rows.get(from..)?.iter().take_while(|row| is_passed(row));
    let at = from + passed.count();
    (at < rows.len()).then(|| Culprit::here(at))
}

impl Culprit {
    /// Whether something found that the machine hangs.
    pub(crate) fn is_by_watchdog(&self) -> bool {
        self.ended_by == Some(Role::Watchdog)
    }

    const fn here(at: usize) -> Self {
        Self {
            hidden: at,
            at,
            trap: None,
            ended_by: None,
        }
    }
}

fn is_user(rows: &[Row<'_>], at: usize) -> bool {
    rows.get(at)
        .is_some_and(|row| row.trapped == Some(Trapped::User))
}

/// The interrupted code. After a jump to what is not code, who jumped.
fn past_trap(rows: &[Row<'_>], trap: usize) -> Option<Culprit> {
    let interrupted = rows.get(trap + 1..)?;
    let code = interrupted.iter().position(|row| row.is_code).unwrap_or(0);
    (!interrupted.is_empty()).then_some(Culprit {
        hidden: trap + 1,
        at: trap + 1 + code,
        trap: (!is_user(rows, trap)).then_some(trap),
        ended_by: None,
    })
}

/// Past the functions that called panic on behalf of others, and past the trap frame if they were its
/// handlers.
fn past_handlers(rows: &[Row<'_>], from: usize) -> Option<Culprit> {
    let mut only_handlers = true;
    for (at, row) in rows.iter().enumerate().skip(from) {
        let role = row.role();
        only_handlers &= matches!(role, Some(Role::Trap | Role::Fault)) || row.trapped.is_some();
        // Only an exception has such handlers, whatever its entry is called.
        let is_handler = only_handlers
            && match row.trapped {
                Some(Trapped::Exception) => true,
                Some(Trapped::Interrupt) => at > from,
                _ => false,
            };
        match role {
            _ if is_handler => return past_trap(rows, at),
            Some(
                Role::Trap | Role::Fault | Role::Check | Role::Lock | Role::Wait | Role::Debugger,
            ) => {}
            _ => return Some(Culprit::here(at)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stack in words: `?` is not code; `NAME[e]` left the trap frame of an exception, `[i]` of an
    /// interrupt, `[u]` of user code.
    fn found(stack: &str) -> Option<(String, Culprit)> {
        let words: Vec<&str> = stack.split_whitespace().collect();
        let row = |word: &&'static str| {
            let (name, mark) = word.split_once('[').unwrap_or((word, ""));
            Row {
                name: Some(name).filter(|name| *name != "?"),
                is_code: name != "?",
                trapped: match mark {
                    "e]" => Some(Trapped::Exception),
                    "i]" => Some(Trapped::Interrupt),
                    "u]" => Some(Trapped::User),
                    _ => None,
                },
                enters_debugger: mark == "kdb_enter]",
            }
        };
        let words: Vec<&'static str> = words.iter().map(|word| &*word.to_string().leak()).collect();
        let rows: Vec<Row<'_>> = words.iter().map(row).collect();
        among(&rows).map(|found| (words[found.at].to_owned(), found))
    }

    #[test]
    fn the_culprit_is_the_first_frame_of_no_crash() {
        let ddb = "doadump db_dump db_command db_command_loop db_trap kdb_trap trap calltrap[e]";
        for (stack, expected) in [
            ("doadump kern_reboot vpanic panic foo bar", "foo"),
            // sysctl debug.kdb.*, without the debugger and with it.
            (
                "doadump kern_reboot vpanic panic kdb_sysctl_panic sysctl_root_handler_locked",
                "kdb_sysctl_panic",
            ),
            (
                "doadump kern_reboot vpanic panic trap_fatal trap_pfault trap calltrap[e] \
                 kdb_sysctl_trap sysctl_root_handler_locked",
                "kdb_sysctl_trap",
            ),
            (
                "doadump kern_reboot vpanic panic trap_fatal trap_pfault trap calltrap[e] ? \
                 kdb_sysctl_trap_code sysctl_root_handler_locked",
                "kdb_sysctl_trap_code",
            ),
            (
                "doadump kern_reboot vpanic panic dblfault_handler Xdblfault[e] kdb_stack_overflow \
                 kdb_stack_overflow kdb_sysctl_stack_overflow sysctl_root_handler_locked",
                "kdb_stack_overflow",
            ),
            (
                "DDB kdb_enter kdb_sysctl_enter sysctl_root_handler_locked",
                "kdb_sysctl_enter",
            ),
            (
                "DDB kdb_enter vpanic panic kdb_sysctl_panic sysctl_root",
                "kdb_sysctl_panic",
            ),
            (
                "DDB kdb_enter vpanic panic trap_fatal trap_pfault trap calltrap[e] kdb_sysctl_trap",
                "kdb_sysctl_trap",
            ),
            // The debugger before the panic, then a dump from there, or a panic.
            (
                "doadump db_dump db_command db_trap kdb_trap trap_fatal trap_pfault trap calltrap[e] \
                 flow_lookup",
                "flow_lookup",
            ),
            (
                "doadump kern_reboot vpanic panic db_panic db_command db_command_loop db_trap \
                 kdb_trap trap_fatal trap_pfault trap calltrap[e] flow_lookup",
                "flow_lookup",
            ),
            (
                "doadump db_fncall db_command db_trap kdb_trap trap calltrap[e] kdb_enter foo",
                "foo",
            ),
            // vpanic, trap_fatal, trap and all of them inlined away.
            ("doadump panic trap_pfault calltrap[e] leaf worker", "leaf"),
            ("doadump panic calltrap[e] leaf worker", "leaf"),
            ("doadump calltrap[e] leaf worker", "leaf"),
            // The console: a break, an NMI button, a watchdog.
            (
                "DDB kdb_enter kdb_alt_break_internal kdb_alt_break uart_intr_rxready uart_intr \
                 intr_event_handle Xapic_isr1[i] cpu_idle",
                "uart_intr_rxready",
            ),
            (
                "doadump db_dump db_trap kdb_trap nmi_call_kdb nmi_handle_intr trap nmi_calltrap[e] \
                 busy",
                "busy",
            ),
            (
                "doadump vpanic panic nmi_handle_intr trap nmi_calltrap[e] busy",
                "busy",
            ),
            (
                "DDB kdb_enter watchdog_fire hardclock handleevents Xtimerint[i] busy fork_exit",
                "busy",
            ),
            (
                "doadump vpanic panic wd_timeout_cb softclock_call_cc",
                "wd_timeout_cb",
            ),
            (
                "doadump vpanic panic mca_intr trap mchk_calltrap[e] busy",
                "busy",
            ),
            ("vpanic panic trap some_new_entry[i] busy", "busy"),
            // A fault of its own in the code that the first panic runs, a panic in it, and a panic on the
            // way to a reboot that was asked for.
            (
                "doadump kern_reboot vpanic panic trap_fatal trap calltrap[e] shutdown_hook \
                 kern_reboot vpanic panic trap_fatal trap_pfault trap calltrap[e] first",
                "first",
            ),
            (
                "doadump kern_reboot vpanic panic bufshutdown kern_reboot vpanic panic first",
                "first",
            ),
            (
                "doadump kern_reboot vpanic panic ffs_unmount kern_reboot sys_reboot",
                "ffs_unmount",
            ),
            (
                "doadump kern_reboot sys_reboot amd64_syscall fast_syscall_common[u] ?",
                "sys_reboot",
            ),
            // Page faults that cannot be resolved, on each architecture.
            (
                "vpanic panic vm_fault vm_fault_trap trap_pfault trap calltrap[e] copyin sys_read",
                "copyin",
            ),
            (
                "vpanic panic data_abort do_el1h_sync handle_el1h_sync[e] leaf",
                "leaf",
            ),
            (
                "kdb_trap data_abort do_el1h_sync handle_el1h_sync[e] leaf",
                "leaf",
            ),
            (
                "panic page_fault_handler do_trap_supervisor cpu_exception_handler_supervisor[e] leaf",
                "leaf",
            ),
            (
                "vpanic panic dab_fatal abort_handler exception_exit[e] leaf",
                "leaf",
            ),
            (
                "vpanic panic trap_fatal trap powerpc_interrupt trapagain[e] leaf",
                "leaf",
            ),
            // The page fault that a copy may have leads to a panic of its own.
            (
                "vpanic panic ffs_read vnode_pager_getpages vm_fault trap_pfault trap calltrap[e] copyin",
                "ffs_read",
            ),
            // What is at fault after the trap frame is at fault whatever it is called.
            (
                "vpanic panic trap_fatal trap calltrap[e] __mtx_assert flow_input",
                "__mtx_assert",
            ),
            (
                "vpanic panic trap_fatal trap calltrap[e] vm_fault vm_fault_trap",
                "vm_fault",
            ),
            (
                "vpanic panic trap_fatal trap calltrap[e] kdb_backtrace kdb_thr_next",
                "kdb_backtrace",
            ),
            // Look-alikes.
            ("vpanic panic trap_foo kdb_sysctl_trap", "trap_foo"),
            ("vpanic panic kdb_thr_lookup db_thread", "kdb_thr_lookup"),
            ("vpanic panic panic_cmd shell", "panic_cmd"),
            // Checks and locks: the caller's fault.
            ("vpanic kassert_panic __mtx_assert flow_input", "flow_input"),
            (
                "vpanic panic uma_dbg_free item_dtor uma_zfree_arg free flow_free",
                "flow_free",
            ),
            (
                "vpanic panic _mtx_lock_indefinite_check _mtx_lock_spin_cookie flow_intr ithread_loop",
                "flow_intr",
            ),
            (
                "vpanic panic propagate_priority turnstile_wait __mtx_lock_sleep flow_lock fork_exit",
                "flow_lock",
            ),
            ("vpanic panic sleepq_add _sleep flow_wait", "flow_wait"),
            // The lab kernel's.
            (
                "doadump lab::ddb::run kdb_trap trap calltrap[e] kdb_enter vpanic lab::panic::panic_at \
                 core::panicking::panic_fmt core::option::unwrap_failed driver",
                "driver",
            ),
            // Threads that did not crash.
            (
                "sched_switch mi_switch sleepq_wait _sleep lock_it fork_exit",
                "lock_it",
            ),
            (
                "ipi_stop intr_ipi_dispatch handle_el1h_irq[i] lock_delay spin worker",
                "spin",
            ),
            (
                "cpustop_handler ipi_nmi_handler trap nmi_calltrap[e] busy",
                "busy",
            ),
            ("busy fork_exit", "busy"),
            ("? ? doadump panic ? main", "?"),
        ] {
            let stack = stack.replace("DDB", ddb);
            let name = found(&stack).map(|(name, _)| name);
            assert_eq!(name.as_deref(), Some(expected), "{stack}");
        }
        assert_eq!(found("doadump vpanic panic"), None);
        assert_eq!(found("? ?"), None);
    }

    #[test]
    fn a_culprit_says_how_it_was_found() {
        let of = |stack: &str| found(stack).unwrap().1;
        let wild = of("doadump panic trap_fatal trap calltrap[e] ? jumper worker");
        // The jump's target is part of the stack that is shown.
        assert_eq!((wild.hidden, wild.at, wild.trap), (5, 6, Some(4)));
        assert_eq!(wild.ended_by, Some(Role::Fatal));
        let lost = of("panic trap_fatal trap calltrap[e] ?");
        assert_eq!((lost.hidden, lost.at), (4, 4));
        // A thread's own panic while a page fault is handled is not about the page fault.
        let own = of("panic ffs_read vm_fault trap calltrap[e] copyin");
        assert_eq!((own.at, own.trap), (1, None));
        let lock = of("panic _mtx_lock_spin_cookie vm_fault trap calltrap[e] copyin");
        assert_eq!(lock.trap, None);
        assert_eq!(
            of("doadump kern_reboot sys_reboot").ended_by,
            Some(Role::Dump)
        );
        assert_eq!(of("sched_switch mi_switch foo").ended_by, None);
        // kdb_enter was inlined: its breakpoint is no fault.
        let entered = of("doadump db_trap kdb_trap trap calltrap[e] kdb_sysctl_enter[kdb_enter] a");
        assert_eq!((entered.at, entered.trap), (5, None));
        assert_eq!(entered.ended_by, Some(Role::Debugger));
        let user = of("kdb_trap nmi_call_kdb trap nmi_calltrap[u] user");
        assert_eq!((user.at, user.trap), (4, None));
    }

    #[test]
    fn names_lose_what_compilers_append() {
        assert_eq!(base_name("flow_lookup.isra.0+0x64"), "flow_lookup");
        assert_eq!(base_name(".cold"), ".cold");
    }
}
