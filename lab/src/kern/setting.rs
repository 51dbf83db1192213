//! Settings: numbers by name, set at boot by tunables of the same names.

use crate::sys::lock::SpinLock;
use crate::sys::tunable;
use core::sync::atomic::{AtomicU64, Ordering};

/// A number that can be changed.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    value: AtomicU64,
}

impl Setting {
    const fn new(name: &'static str, value: u64, about: &'static str) -> Self {
        Self {
            name,
            about,
            value: AtomicU64::new(value),
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.value.store(value, Ordering::Relaxed);
    }
}

pub(crate) static MINIDUMP: Setting = Setting::new(
    "debug.minidump",
    1,
    "dump kernel memory only, not all of RAM",
);
pub(crate) static DEBUGGER_ON_PANIC: Setting = Setting::new(
    "debug.debugger_on_panic",
    1,
    "enter the debugger on a panic",
);
pub(crate) static REBOOT_WAIT: Setting = Setting::new(
    "kern.panic_reboot_wait_time",
    0,
    "seconds to wait after a panic's dump",
);
pub(crate) static CRASH_CPU: Setting = Setting::new(
    "lab.crash_cpu",
    0,
    "the CPU on which the next crash happens",
);
pub(crate) static LOAD_MIB: Setting = Setting::new(
    "lab.load_mib",
    24,
    "kernel memory that the standard load maps",
);
pub(crate) static WATCHDOG: Setting = Setting::new(
    "lab.watchdog",
    0,
    "seconds that the watchdog waits, 2 to 30; 0 is off",
);

pub(crate) static FULL_FALLBACK: Setting = Setting::new(
    "debug.minidump_fallback",
    1,
    "dump all of RAM if the page tables are damaged beyond use",
);
pub(crate) static FAULT_AT_PAGE: Setting = Setting::new(
    "lab.fault_at_page",
    0,
    "fault in the dump code itself, at the page that it reads so many-th; 0 is never",
);

pub(crate) static GZIP_LEVEL: Setting = Setting::new(
    "kern.kerneldump_gzlevel",
    6,
    "how much work gzip takes for a smaller dump, 1 to 9",
);
pub(crate) static LAYER_PANIC: Setting = Setting::new(
    "lab.layer_panic",
    0,
    "panic in the layers of a dump when so many KiB have gone to the device; 0 is never",
);

pub(crate) static SETTINGS: [&Setting; 10] = [
    &GZIP_LEVEL,
    &LAYER_PANIC,
    &FULL_FALLBACK,
    &FAULT_AT_PAGE,
    &MINIDUMP,
    &DEBUGGER_ON_PANIC,
    &REBOOT_WAIT,
    &CRASH_CPU,
    &LOAD_MIB,
    &WATCHDOG,
];

/// Name of the dump device, `kern.shutdown.dumpdevname`; `dumpon` keeps it.
pub(crate) static DUMP_DEVICE_NAME: SpinLock<&str> = SpinLock::new(c"dump device name", "off");

/// Takes the tunables that have a setting's name.
pub(crate) fn init() {
    for setting in SETTINGS {
        if let Some(value) = tunable::number(setting.name) {
            setting.set(value);
        }
    }
}
