//! Settings, facts and actions by name, for a person who reads or writes them.

use crate::kern::setting::{DUMP_DEVICE_NAME, SETTINGS};
use crate::kern::{crash, version};
use crate::sys::console::printf;
use crate::sys::{mp, tunable};
use crate::vm::{phys, pmap};
use core::fmt;

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
        show: |out| out(format_args!("{}", *DUMP_DEVICE_NAME.lock())),
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
