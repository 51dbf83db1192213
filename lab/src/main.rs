//! A small kernel for x86-64 that crashes on purpose: a model of how to adopt vmcore.
//!
//! It boots in QEMU, runs threads on several CPUs, allocates and releases memory, panics in every
//! way that its crash menu knows, lets a person look around in a debugger on the serial line, and
//! writes a dump to its disk or over the network with nothing but the crate `vmcore-writer`. Debuggers take it for a
//! FreeBSD kernel: it has the symbols, constants and structures that they look for.
//!
//! Its folders are storeys, each of which uses only those below: `arch` (the processor), `sys` (locks,
//! console, CPUs), `vm` (memory), `dev` (devices), `kern` (threads, settings), `dump`, `ddb`. On top are
//! the files beside this one. What is below enters them by the processor's own doors, a trap, and by
//! `panic!`.
//!
//! `lab/README.md` is a walk through it in the order in which one adopts the writer.
#![no_std]
#![no_main]

mod arch;
mod ddb;
mod dev;
mod dump;
mod kern;
mod panic;
mod shell;
mod sys;
mod trap;
mod vm;

use arch::start_info::StartInfo;
use arch::{apic, segments};
use core::sync::atomic::Ordering;
use dev::{vtblk, vtnet};
use kern::{linker, load, proc, sched, setting, smp, version, watchdog};
use sys::console::printf;
use sys::{mp, msgbuf, pcpu, tunable};
use vm::{dump_map, kmem, phys, pmap};
use vmcore_format::addr::PhysAddr;

/// The first Rust code: memory, descriptors, time, thread 0. Returns the top of that thread's
/// stack.
#[unsafe(no_mangle)]
extern "C" fn hammer_time(start_info: u32) -> u64 {
    pcpu::init(0);
    // SAFETY: the boot code passes on what the loader gave it, and has mapped the first gigabyte.
    let info = unsafe { StartInfo::read(PhysAddr(start_info.into())) };
    let Some(info) = info else {
        panic!("not started by a loader that speaks PVH");
    };
    tunable::init(info.cmdline());
    setting::init();
    let limit = tunable::number("hw.physmem");
    phys::init(info.ram(), info.module, limit, dump_map::reserve_bytes);
    dump::init();
    pmap::bootstrap();
    msgbuf::init(dump_map::alloc_dumped);
    printf!("{}", version::version.as_str());
    print_memory();
    segments::init_idt();
    segments::init_cpu(0, kmem::stack_top);
    apic::init(pmap::map_device);
    version::init();
    linker::init();
    ddb::symbols::init(info.module);
    let thread0 = proc::init();
    thread0.td_frame.load(Ordering::Relaxed)
}

/// The rest, as thread 0 on its own stack, with all CPUs.
#[unsafe(no_mangle)]
extern "C" fn mi_startup() -> ! {
    apic::init_cpu();
    smp::start_all();
    printf!("{} CPUs, timer at {} Hz\n", mp::ncpus(), arch::time::hz);
    vtblk::init();
    vtnet::init();
    dump::attach();
    proc::create_init();
    load::start();
    watchdog::init();
    printf!("up after {} ms\n", arch::time::uptime_us() / 1000);
    shell::start();
    arch::cpu::enable_interrupts();
    loop {
        sched::sleep(c"swapin", 1000);
    }
}

fn print_memory() {
    printf!("real memory = {} MiB\n", phys::total_pages() >> 8);
    for range in phys::ranges() {
        printf!("  {range}\n");
    }
    let page = if pmap::uses_1g_pages() {
        "1 GiB"
    } else {
        "2 MiB"
    };
    printf!(
        "direct map up to {:#x} in pages of {page}\n",
        pmap::dmap_limit()
    );
}
