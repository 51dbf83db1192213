//! What a person can type while the system runs: settings, the load, the debugger.

use crate::dump;
use crate::kern::console::{print_unlogged, printf, read_line};
use crate::kern::{load, panic, proc, sysctl};

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
            "dmesg" => panic::show_msgbuf(),
            "ddb" => panic::kdb_enter("break", "break sequence on console"),
            "poweroff" => panic::poweroff(),
            "reset" => panic::reset(),
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
