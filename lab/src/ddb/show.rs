//! The debugger's looks at things: processes, registers, memory, page tables.

use crate::arch::{cpu, probe};
use crate::ddb::{split, symbols};
use crate::dump::{footprint, predict};
use crate::kern::{load, panic_record, proc};
use crate::sys::console::printf;
use crate::sys::proc::{NOCPU, TDS_INHIBITED, TDS_RUNNING, thread};
use crate::sys::{console, kdb, mp, msgbuf, pcpu, tunable};
use crate::vm::pmap::{PG_NX, PG_PS, PG_RW, PG_V};
use crate::vm::{pmap, uma};
use core::sync::atomic::Ordering;
use vmcore_format::addr::VirtAddr;

pub(super) fn command(what: &str) {
    let (word, rest) = split(what);
    match word {
        "registers" => registers(),
        "msgbuf" => message_buffer(),
        "pte" => page_table_entries(rest),
        "dump" if rest == "memory" => footprint::show(),
        "dump" => predict::show(),
        "panic" => match panic_record::message() {
            Some(message) => printf!("panic: {message}\n"),
            None => printf!("panicstr not set\n"),
        },
        "pcpu" => cpus(),
        "zones" => zones(),
        "load" if rest == "items" => load::show_items(),
        "load" => load::show(),
        _ => printf!("show what? registers msgbuf pte dump panic pcpu zones load\n"),
    }
}

/// A number or a symbol.
fn address(text: &str) -> Option<u64> {
    let number = || u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    if text.starts_with("0x") {
        return number();
    }
    symbols::find(text).or_else(number)
}

fn registers() {
    let Some(frame) = kdb::frame() else {
        return;
    };
    let rows = [
        ("rax", frame.tf_rax),
        ("rcx", frame.tf_rcx),
        ("rdx", frame.tf_rdx),
        ("rbx", frame.tf_rbx),
        ("rsp", frame.tf_rsp),
        ("rbp", frame.tf_rbp),
        ("rsi", frame.tf_rsi),
        ("rdi", frame.tf_rdi),
        ("r8", frame.tf_r8),
        ("r9", frame.tf_r9),
        ("r10", frame.tf_r10),
        ("r11", frame.tf_r11),
        ("r12", frame.tf_r12),
        ("r13", frame.tf_r13),
        ("r14", frame.tf_r14),
        ("r15", frame.tf_r15),
        ("rip", frame.tf_rip),
        ("rflags", frame.tf_rflags),
        ("cs", frame.tf_cs),
        ("ss", frame.tf_ss),
        ("cr2", cpu::cr2()),
    ];
    for (name, value) in rows {
        printf!("{name:<12}{value:#18x}\n");
    }
    symbols::print(frame.tf_rip);
    printf!(":\n");
}

fn message_buffer() {
    let Some([magic, size, read, write, sum]) = msgbuf::numbers() else {
        printf!("msgbuf not mapped yet\n");
        return;
    };
    printf!("msgbufp = {}\n", msgbuf::address());
    printf!("magic = {magic:x}, size = {size}, r= {read}, w = {write}, cksum= {sum}\n");
    console::show_msgbuf();
}

fn page_table_entries(text: &str) {
    let Some(va) = address(text) else {
        printf!("no address: {text}\n");
        return;
    };
    printf!("VA {va:#018x}\n");
    pmap::walk(VirtAddr(va), |step| {
        let name = ["pte", "pde", "pdpe", "pml4e"][step.level as usize];
        let flag = |bit: u64, name: &'static str| if step.raw & bit != 0 { name } else { "" };
        printf!(
            "{name:<6}{:#018x} at {}{}{}{}{}\n",
            step.raw,
            step.at,
            flag(PG_V, " valid"),
            flag(PG_RW, " writable"),
            flag(PG_NX, " no-execute"),
            if step.level > 0 {
                flag(PG_PS, " large")
            } else {
                ""
            }
        );
    });
}

pub(super) fn examine(text: &str) {
    let (start, count) = split(text);
    let Some(start) = address(start) else {
        printf!("no address: {start}\n");
        return;
    };
    let count = tunable::parse(count).unwrap_or(4).min(512);
    for index in 0..count {
        let va = start.wrapping_add(8 * index);
        if index % 2 == 0 {
            printf!("{va:#x}:");
        }
        match probe::read_u64(VirtAddr(va)) {
            Some(word) => printf!("  {word:016x}"),
            None => {
                printf!("  (not readable)\n");
                return;
            }
        }
        if index % 2 == 1 || index + 1 == count {
            printf!("\n");
        }
    }
}

/// A thread's state as one letter, and what it waits for.
fn state(thread: &thread) -> (&'static str, &str) {
    match thread.td_state.load(Ordering::Relaxed) {
        TDS_RUNNING => ("Run", ""),
        TDS_INHIBITED if thread.is_blocked() => ("L", thread.lockname()),
        TDS_INHIBITED if !thread.wmesg().is_empty() => ("D", thread.wmesg()),
        TDS_INHIBITED => ("I", ""),
        _ => ("RunQ", ""),
    }
}

pub(super) fn ps() {
    printf!("  pid  ppid  state   wmesg      wchan               cmd\n");
    for process in proc::all() {
        let one = process.threads().count() == 1;
        if !one {
            printf!(
                "{:>5} {:>5}  {:<31}       {}\n",
                process.p_pid,
                process.parent_pid(),
                "(threaded)",
                process.comm()
            );
        }
        for thread in process.threads() {
            let (state, wmesg) = state(thread);
            let cpu = thread.td_oncpu.load(Ordering::Relaxed);
            if one {
                printf!("{:>5} {:>5}", process.p_pid, process.parent_pid());
            } else {
                printf!("{:>6}     ", thread.td_tid);
            }
            printf!("  {state:<7} {wmesg:<10} {:<#19x}", thread.address());
            if cpu == NOCPU {
                printf!(" {}\n", thread.name());
            } else {
                printf!(" [{}] (CPU {cpu})\n", thread.name());
            }
        }
    }
}

fn cpus() {
    for cpu in 0..mp::ncpus() {
        let Some(own) = pcpu::find(cpu) else {
            continue;
        };
        let thread = own.thread().map_or("none", thread::name);
        let state = match (cpu == pcpu::cpuid(), mp::is_stopped(cpu)) {
            (true, _) => "debugger",
            (false, true) => "stopped",
            (false, false) => "did not stop",
        };
        let switches = own.pc_switches.load(Ordering::Relaxed);
        printf!("cpu{cpu}: {state}, curthread {thread}, {switches} switches\n");
    }
}

fn zones() {
    printf!("zone           size   items   slabs\n");
    uma::for_each(|zone| {
        printf!(
            "{:<12} {:>6} {:>7} {:>7}{}\n",
            zone.name,
            zone.item_size,
            zone.items,
            zone.slabs,
            if zone.no_dump { "  not dumped" } else { "" }
        );
    });
}
