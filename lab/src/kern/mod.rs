//! The kernel proper: console, tunables, processes, panics.

pub(crate) mod boot_cell;
pub(crate) mod console;
pub(crate) mod crash;
pub(crate) mod load;
pub(crate) mod lock;
pub(crate) mod msgbuf;
pub(crate) mod panic;
pub(crate) mod proc;
pub(crate) mod sched;
pub(crate) mod shell;
pub(crate) mod sysctl;
pub(crate) mod tunable;
pub(crate) mod version;
pub(crate) mod watchdog;
