//! The kernel proper: processes and threads, settings, the load, crashes on request.

pub(crate) mod crash;
pub(crate) mod linker;
pub(crate) mod load;
pub(crate) mod mutex;
pub(crate) mod panic_record;
pub(crate) mod proc;
pub(crate) mod sched;
pub(crate) mod setting;
pub(crate) mod smp;
pub(crate) mod sysctl;
pub(crate) mod version;
pub(crate) mod watchdog;
