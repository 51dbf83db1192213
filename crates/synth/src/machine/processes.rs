//! Processes and threads of a synthetic machine, as the kernel links them.

use super::Build;
use super::image::PCPU_LEN;
use super::layout::small;
use super::memory::Location;
use super::threads::{Doing, Saved, write_pcb, write_stack};
use super::truth::{Pcb, Process, Thread};
use crate::Arch;
use crate::bytes::low32;

/// The CPU that panicked.
pub(super) const CRASHED_CPU: u32 = 1;
/// The pid hash has this many slots, less one.
const HASH_MASK: u64 = 3;
/// `td_tid` of the first thread that is not in the kernel image.
const THREAD0_TID: i32 = 100_000;

/// A process to be made.
struct Plan {
    pid: i32,
    comm: &'static str,
    is_zombie: bool,
    threads: Vec<(i32, String, Doing)>,
}

impl Plan {
    fn new(pid: i32, comm: &'static str, threads: Vec<(i32, &str, Doing)>) -> Self {
        let threads = threads
            .into_iter()
            .map(|(tid, name, doing)| (tid, name.to_owned(), doing))
            .collect();
        Self {
            pid,
            comm,
            is_zombie: false,
            threads,
        }
    }
}

/// All processes, newest first, with the process that waits for its parent last.
fn plans(cpus: u32, is_tiny: bool) -> Vec<Plan> {
    let task = Doing::Waiting("taskqueue_thread_loop");
    let mut plans = vec![Plan::new(
        1173,
        "sysctl",
        vec![(100_086, "sysctl", Doing::Crashed)],
    )];
    if !is_tiny {
        plans.push(Plan::new(
            1021,
            "httpd",
            vec![
                (100_081, "httpd", Doing::SystemCall),
                (100_082, "worker 0", Doing::SystemCall),
                (100_083, "worker 1", Doing::SystemCall),
            ],
        ));
        plans.push(Plan::new(
            5,
            "pagedaemon",
            vec![
                (100_061, "dom0", Doing::Waiting("vm_pageout")),
                (100_066, "laundry: dom0", Doing::Waiting("vm_pageout")),
                (100_067, "uma", Doing::Waiting("vm_pageout")),
            ],
        ));
        plans.push(Plan::new(
            12,
            "intr",
            vec![
                (100_015, "swi4: clock (0)", task),
                (100_020, "irq1: never", Doing::Fresh),
            ],
        ));
    }
    let idle = (0..cpus).zip(100_003..).map(|(cpu, tid)| {
        let doing = if cpu == CRASHED_CPU {
            Doing::Waiting("sched_idletd")
        } else {
            Doing::Idle(cpu)
        };
        (tid, format!("idle: cpu{cpu}"), doing)
    });
    plans.push(Plan {
        threads: idle.collect(),
        ..Plan::new(11, "idle", Vec::new())
    });
    plans.push(Plan::new(
        1,
        "init",
        vec![(100_002, "init", Doing::SystemCall)],
    ));
    let mut kernel = vec![(THREAD0_TID, "swapper", Doing::Waiting("swapper"))];
    if !is_tiny {
        kernel.push((100_045, "kqueue_ctx taskq", task));
    }
    plans.push(Plan::new(0, "kernel", kernel));
    let dead = vec![(100_084, "true", Doing::SystemCall)];
    plans.push(Plan {
        is_zombie: true,
        ..Plan::new(1170, "true", dead)
    });
    plans
}

/// Makes all processes and what leads to them.
pub(super) fn make(build: &mut Build) {
    let word = build.word();
    let offsets = build.era.offsets;
    let plans = plans(build.options.cpus, build.options.is_tiny);
    let mut places = Vec::new();
    for plan in &plans {
        let place = match plan.pid {
            0 => build.symbol("proc0"),
            _ => build.heap.take(offsets.proc_size, 16),
        };
        places.push(place);
        process(build, plan, place);
    }
    let living = plans
        .iter()
        .zip(&places)
        .filter(|(plan, _)| !plan.is_zombie);
    let living: Vec<Location> = living.map(|(_, place)| *place).collect();
    let dead: Vec<Location> = plans
        .iter()
        .zip(&places)
        .filter(|(plan, _)| plan.is_zombie)
        .map(|(_, place)| *place)
        .collect();
    let allproc = build.symbol("allproc");
    link(build, allproc, &living, offsets.p_list);
    if build.era.has_zombproc {
        let zombproc = build.symbol("zombproc");
        link(build, zombproc, &dead, offsets.p_list);
    }
    let table = build.heap.take((HASH_MASK + 1) * word, 16);
    for slot in 0..=HASH_MASK {
        let of_slot = |plan: &Plan| u64::from(plan.pid.cast_unsigned()) & HASH_MASK == slot;
        let chain = plans.iter().zip(&places).filter(|(plan, _)| of_slot(plan));
        let chain: Vec<Location> = chain.map(|(_, place)| *place).collect();
        link(build, table.at(slot * word), &chain, offsets.p_hash);
    }
    build.set_word("pidhashtbl", table.va);
    build.set_word("pidhash", HASH_MASK);
    per_cpu(build);
}

/// Links structures into a list whose first pointer is at `head`, by the pair of pointers at
/// `offset`: the next one, and where the pointer to this one is.
fn link(build: &mut Build, head: Location, places: &[Location], offset: u64) {
    let (arch, word) = (build.options.arch, build.word());
    let mut pointer = head;
    for place in places {
        build.memory.write_word(arch, pointer.pa, place.va);
        build
            .memory
            .write_word(arch, place.pa + offset + word, pointer.va);
        pointer = place.at(offset);
    }
    build.memory.write_word(arch, pointer.pa, 0);
    let first = places.first().map_or(0, |place| place.va);
    build.truth.values.push((head.va, build.word_of(first)));
}

fn process(build: &mut Build, plan: &Plan, place: Location) {
    let (arch, offsets) = (build.options.arch, build.era.offsets);
    build.memory.write(
        place.pa + offsets.p_pid,
        &arch.u32(plan.pid.cast_unsigned()),
    );
    build
        .memory
        .write(place.pa + offsets.p_comm, plan.comm.as_bytes());
    let mut places = Vec::new();
    let mut threads = Vec::new();
    for (tid, name, doing) in &plan.threads {
        let at = match *tid {
            THREAD0_TID => build.symbol("thread0_st"),
            _ => build.heap.take(offsets.thread_size, 16),
        };
        places.push(at);
        build
            .memory
            .write_word(arch, at.pa + offsets.td_proc, place.va);
        threads.push(thread(build, *tid, name, *doing, at));
    }
    link(
        build,
        place.at(offsets.p_threads),
        &places,
        offsets.td_plist,
    );
    build.truth.processes.push(Process {
        address: place.va,
        pid: plan.pid,
        comm: plan.comm.to_owned(),
        is_zombie: plan.is_zombie,
        threads,
    });
}

fn thread(build: &mut Build, tid: i32, name: &str, doing: Doing, at: Location) -> Thread {
    let (arch, offsets) = (build.options.arch, build.era.offsets);
    let stack = stack(build);
    let pcb = stack.at((build.layout.page - offsets.pcb_size) & !0x3f);
    let cpu = match doing {
        Doing::Crashed => Some(CRASHED_CPU),
        Doing::Idle(cpu) => Some(cpu),
        Doing::SystemCall | Doing::Waiting(_) | Doing::Fresh => None,
    };
    build
        .memory
        .write(at.pa + offsets.td_tid, &arch.u32(tid.cast_unsigned()));
    build.memory.write(at.pa + offsets.td_name, name.as_bytes());
    let oncpu = cpu.map_or(-1, u32::cast_signed);
    build
        .memory
        .write(at.pa + offsets.td_oncpu, &arch.u32(oncpu.cast_unsigned()));
    build
        .memory
        .write_word(arch, at.pa + offsets.td_pcb, pcb.va);
    let kernel = build.kernel.clone();
    let saved = write_stack(&mut build.memory, &kernel, doing, pcb);
    let is_stopped = cpu.is_some() && cpu != build.options.unstopped_cpu;
    let (kind, place) = match cpu {
        Some(CRASHED_CPU) => (Pcb::Dumppcb, build.symbol("dumppcb")),
        Some(cpu) if is_stopped => (
            Pcb::Stoppcbs,
            build.stoppcbs.at(u64::from(cpu) * offsets.pcb_size),
        ),
        Some(_) => (Pcb::Stale, pcb),
        None => (Pcb::TdPcb, pcb),
    };
    let mut current = saved.clone();
    if cpu.is_some() {
        // What `td_pcb` still says of the time before it ran: it entered the kernel's scheduler.
        let stale = write_stale(build, pcb, arch);
        if kind == Pcb::Stale {
            current = stale;
        }
    }
    if kind != Pcb::Stale {
        write_pcb(&mut build.memory, arch, &build.era, place.pa, &saved);
    }
    if let Some(cpu) = cpu {
        let pcpu = build.symbol("pcpu_array").at(u64::from(cpu) * PCPU_LEN);
        build.memory.write_word(arch, pcpu.pa, at.va);
    }
    if doing == Doing::Crashed {
        build.truth.crashed_tid = tid;
        build.set("dumptid", &arch.u32(tid.cast_unsigned()));
    }
    Thread {
        address: at.va,
        tid,
        name: name.to_owned(),
        cpu,
        pcb: kind,
        pcb_address: place.va,
        pc: current.pc,
        sp: current.sp,
        fp: current.fp,
        frames: current.frames,
    }
}

/// Old registers in `td_pcb` of a thread that runs: without any frames.
fn write_stale(build: &mut Build, pcb: Location, arch: Arch) -> Saved {
    let pc = super::threads::inside(&build.kernel, "sched_switch");
    let saved = Saved {
        pc,
        sp: pcb.va - 0x20,
        fp: 0,
        frames: vec![pc],
        lr: 0,
    };
    write_pcb(&mut build.memory, arch, &build.era, pcb.pa, &saved);
    saved
}

/// A page for a stack, with an unmapped page before it.
fn stack(build: &mut Build) -> Location {
    let number = build.stacks;
    build.stacks += 1;
    let (guard, va) = (
        build.layout.small(2 * number),
        build.layout.small(2 * number + 1),
    );
    assert!(2 * number + 1 < small::HEAP, "too many stacks");
    let pa = build.frame_for(va);
    build.map_small(va, pa);
    build.truth.unmapped.push(guard);
    Location { va, pa }
}

/// What leads from a CPU's number to what ran on it.
fn per_cpu(build: &mut Build) {
    let (arch, word) = (build.options.arch, build.word());
    let cpus = build.options.cpus;
    let (table, pcpus) = (build.symbol("cpuid_to_pcpu"), build.symbol("pcpu_array"));
    let mut stopped = 0_u64;
    for cpu in 0..cpus {
        let (slot, pcpu) = (
            table.at(u64::from(cpu) * word),
            pcpus.at(u64::from(cpu) * PCPU_LEN),
        );
        build.memory.write_word(arch, slot.pa, pcpu.va);
        if cpu != CRASHED_CPU && Some(cpu) != build.options.unstopped_cpu {
            stopped |= 1 << cpu;
        }
    }
    build.set("stopped_cpus", &arch.word(stopped));
    build.set("mp_maxid", &arch.u32(cpus - 1));
    build.set("mp_ncpus", &arch.u32(cpus));
    build.set("mp_maxcpus", &arch.u32(low32(super::MAX_CPUS)));
}
