//! The debugger on the serial line. Everything else is stopped; nothing here takes a lock that
//! matters, and memory is read by probing.

pub(crate) mod bench;
pub(crate) mod bugs;
mod corrupt;
mod show;
pub(crate) mod symbols;
pub(crate) mod trace;

use crate::arch::pcb::trapframe;
use crate::arch::reset;
use crate::dump;
use crate::kern::{panic_record, proc, sysctl};
use crate::sys::console::{print_unlogged, printf, read_line_polled};
use crate::sys::pcpu;

const HELP: &str = "\
help                  this list
bt [TID]              backtrace of this thread, or of another (also: trace, where)
alltrace              backtraces of all threads
ps                    processes and threads
show registers        registers of the trap
show msgbuf           the message buffer
show pte ADDR         the page-table entries that map an address
show dump             how large a dump would be, from the kernel's counters
show dump memory      the physical memory that a dump changes
show panic            the panic message
show pcpu             what each CPU ran
show zones            the zone allocator
show load [items]     where the standard load is in memory
x ADDR [WORDS]        memory; ADDR is a number or a symbol
sysctl [NAME[=VALUE]] settings
panic                 panic from here; after a panic, as continue
panic KIND            leave the debugger and run into a classic bug; `panic ?` lists the kinds
dump, call doadump    write a dump
netdump [-s SERVER] [-c CLIENT] [-g GATEWAY] [-i vtnet0] [-p PORT]
                      write a dump over the network
dumpon [-z | -Z] [-C chacha20 | aes-256-cbc] [-s SERVER ...] vtblk0 | vtnet0 | off
                      where dumps go from now on: -z gzip, -Z zstd, -C encrypted
corrupt pagetables [root]
                      damage the kernel map's tables, or their root
bench disk [ROUNDS]   raw writes, the least work of a dump, and dumps, in turns
bench net [ROUNDS]    unanswered datagrams, and dumps over the network, in turns
continue              leave the debugger: after a panic, dump and reset
reset, poweroff
";

/// Talks to the person until it is time to go on.
pub(crate) fn run(frame: &trapframe) {
    if let Some(thread) = pcpu::curthread() {
        printf!(
            "[ thread pid {} tid {} ]\n",
            thread.td_proc.p_pid,
            thread.td_tid
        );
    }
    printf!("Stopped at      ");
    symbols::print(frame.tf_rip);
    printf!("\n");
    loop {
        print_unlogged("db> ");
        let line = read_line_polled();
        if !command(line.as_str().trim()) {
            break;
        }
    }
}

/// Splits the first word off.
fn split(line: &str) -> (&str, &str) {
    match line.split_once(' ') {
        Some((word, rest)) => (word, rest.trim()),
        None => (line, ""),
    }
}

/// Does what a line says. False to leave the debugger.
fn command(line: &str) -> bool {
    let (word, rest) = split(line);
    match word {
        "" => {}
        "help" => print_unlogged(HELP),
        "bt" | "trace" | "where" | "t" => backtrace(rest),
        "alltrace" => trace::all(),
        "ps" => show::ps(),
        "show" => show::command(rest),
        "x" => show::examine(rest),
        "sysctl" => sysctl::command(rest, true),
        // One panic is enough: what this one stopped for goes on.
        "panic" if panic_record::message().is_some() => return false,
        "panic" if rest.is_empty() => panic!("from debugger"),
        "panic" => return !bugs::command(rest),
        "dump" => dump::command(),
        "netdump" => dump::netdump(rest),
        "dumpon" => dump::config::dumpon(rest),
        "call" => call(rest),
        "corrupt" => corrupt::command(rest),
        "bench" => bench::command(rest),
        "continue" | "c" => return false,
        "reset" | "reboot" => reset::reset(),
        "poweroff" => reset::poweroff(),
        _ => printf!("No such command; use \"help\" to list available commands\n"),
    }
    true
}

fn call(what: &str) {
    match what {
        "doadump" | "doadump(0)" | "doadump(1)" => match dump::doadump() {
            Ok(()) => printf!("= 0\n"),
            Err(failure) => printf!("= {failure:?}\n"),
        },
        _ => printf!("Symbol not found\n"),
    }
}

fn backtrace(tid: &str) {
    let thread = match tid {
        "" => pcpu::curthread(),
        _ => tid.parse().ok().and_then(proc::find_thread),
    };
    match thread {
        Some(thread) => trace::of(thread),
        None => printf!("Thread {tid} not found\n"),
    }
}
