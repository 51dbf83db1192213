//! What a person can type while the system runs: settings, the load, the debugger.

use crate::arch::reset;
use crate::ddb::bugs;
use crate::dump;
use crate::kern::sched;
use crate::kern::{load, proc, sysctl};
use crate::sys::console::{Line, print_unlogged, printf};
use crate::sys::{console, kdb, uart};

/// Starts the console's process.
pub(crate) fn start() {
    proc::kproc_create("getty", run, 0);
}

fn run(_: usize) {
    printf!("lab kernel is up; type help\n");
    loop {
        print_unlogged("lab# ");
        let line = read_line();
        let (command, rest) = match line.as_str().trim().split_once(' ') {
            Some((command, rest)) => (command, rest.trim()),
            None => (line.as_str().trim(), ""),
        };
        match command {
            "" => {}
            "help" => help(),
            "sysctl" => sysctl::command(rest, false),
            "load" => load::show(),
            "dumpon" => dump::config::dumpon(rest),
            "dmesg" => console::show_msgbuf(),
            "ddb" => {
                kdb::kdb_enter("break sequence on console");
                bugs::run_requested();
            }
            "poweroff" => reset::poweroff(),
            "reset" => reset::reset(),
            _ => printf!("{command}: unknown; type help\n"),
        }
    }
}

fn help() {
    printf!(
        "sysctl [NAME[=VALUE]]  read or change settings; some names crash the machine when written\n\
         load                   where the standard load is in memory\n\
         dmesg                  the message buffer\n\
         dumpon                 where dumps go; as in the debugger\n\
         ddb                    the debugger (also: Return, ~, Control-B)\n\
         reset, poweroff\n"
    );
}

/// A line of the running system: other threads run while the person thinks.
fn read_line() -> Line {
    let mut line = Line::new();
    loop {
        match uart::take_input() {
            Some(byte) if line.push(byte) => return line,
            Some(_) => {}
            None => {
                bugs::run_requested();
                sched::sleep(c"ttyin", 1);
            }
        }
    }
}
