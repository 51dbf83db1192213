//! The kernel proper: console, tunables, processes, panics.

/// What debuggers read instead of types.
macro_rules! debug_constants {
    ($($name:ident = $value:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[used]
            #[unsafe(link_section = ".rodata.debug_constants")]
            static $name: i32 = $value as i32;
        )*
    };
}

pub(crate) mod boot_cell;
pub(crate) mod console;
pub(crate) mod crash;
pub(crate) mod linker;
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
