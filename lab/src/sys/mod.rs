//! What everything above the processor uses: locks, the console, tunables, the CPUs, and the
//! structures of processes and threads.

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
pub(crate) use debug_constants;

pub(crate) mod boot_cell;
pub(crate) mod console;
pub(crate) mod kdb;
pub(crate) mod lock;
pub(crate) mod lock_object;
pub(crate) mod mp;
pub(crate) mod msgbuf;
pub(crate) mod pcpu;
pub(crate) mod proc;
pub(crate) mod tunable;
pub(crate) mod uart;
