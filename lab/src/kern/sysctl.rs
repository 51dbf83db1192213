//! Settings and facts by name: read, changed, and set at boot by tunables of the same names.

use crate::arch::mp;
use crate::dump;
use crate::kern::console::printf;
use crate::kern::{crash, tunable, version};
use crate::vm::{phys, pmap};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// A number that can be changed.
pub(crate) struct Setting {
    name: &'static str,
    about: &'static str,
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

static SETTINGS: [&Setting; 10] = [
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

/// What a fact prints itself to.
type Out<'a> = dyn FnMut(fmt::Arguments<'_>) + 'a;

/// Something that can only be read.
struct Fact {
    name: &'static str,
    show: fn(&mut Out<'_>),
}

static FACTS: [Fact; 12] = [
    Fact {
        name: "kern.shutdown.dumpdevname",
        show: |out| out(format_args!("{}", dump::config::device_name())),
    },
    Fact {
        name: "kern.ostype",
        show: |out| out(format_args!("{}", version::ostype.as_str())),
    },
    Fact {
        name: "kern.osrelease",
        show: |out| out(format_args!("{}", version::osrelease.as_str())),
    },
    Fact {
        name: "kern.osreldate",
        show: |out| out(format_args!("{}", version::osreldate)),
    },
    Fact {
        name: "kern.version",
        show: |out| out(format_args!("{}", version::version.as_str().trim_end())),
    },
    Fact {
        name: "hw.machine",
        show: |out| out(format_args!("{}", version::machine.as_str())),
    },
    Fact {
        name: "hw.ncpu",
        show: |out| out(format_args!("{}", mp::ncpus())),
    },
    Fact {
        name: "hw.pagesize",
        show: |out| out(format_args!("4096")),
    },
    Fact {
        name: "hw.physmem",
        show: |out| out(format_args!("{}", phys::total_pages() * 4096)),
    },
    Fact {
        name: "vm.free_pages",
        show: |out| out(format_args!("{}", phys::free_pages())),
    },
    Fact {
        name: "vm.kmap_pages",
        show: |out| out(format_args!("{}", pmap::counters().mapped_pages)),
    },
    Fact {
        name: "vm.dmap_1g_pages",
        show: |out| out(format_args!("{}", u8::from(pmap::uses_1g_pages()))),
    },
];

/// Takes the tunables that have a setting's name.
pub(crate) fn init() {
    for setting in SETTINGS {
        if let Some(value) = tunable::number(setting.name) {
            setting.set(value);
        }
    }
}

/// Reads (`NAME`), changes (`NAME=VALUE`), or lists all (nothing).
pub(crate) fn command(line: &str, in_debugger: bool) {
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (line.trim(), None),
    };
    match value {
        None if name.is_empty() => list(),
        None => show(name),
        Some(value) => change(name, value, in_debugger),
    }
}

fn print_fact(fact: &Fact) {
    (fact.show)(&mut |value| printf!("{}: {value}\n", fact.name));
}

fn list() {
    for fact in &FACTS {
        print_fact(fact);
    }
    for setting in SETTINGS {
        printf!("{}: {}\t({})\n", setting.name, setting.get(), setting.about);
    }
    for action in &crash::ACTIONS {
        printf!("{}: write to it to {}\n", action.name, action.about);
    }
}

fn show(name: &str) {
    if let Some(fact) = FACTS.iter().find(|fact| fact.name == name) {
        print_fact(fact);
    } else if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
        printf!("{name}: {}\n", setting.get());
    } else {
        printf!("unknown name: {name}\n");
    }
}

fn change(name: &str, value: &str, in_debugger: bool) {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
        match tunable::parse(value) {
            Some(value) => {
                let old = setting.get();
                setting.set(value);
                printf!("{name}: {old} -> {value}\n");
            }
            None => printf!("{name}: not a number: {value}\n"),
        }
    } else if let Some(action) = crash::ACTIONS.iter().find(|action| action.name == name) {
        if in_debugger && !action.in_debugger {
            printf!("{name}: not in the debugger\n");
        } else {
            (action.run)(value);
        }
    } else {
        printf!("unknown name, or read-only: {name}\n");
    }
}
