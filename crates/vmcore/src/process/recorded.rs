//! Processes and threads as the kernel told the writer of them, and its CPUs: of any kernel, without its
//! symbols.

use super::{OffsetSource, PcbSource, Process, ProcessList, RecordedThread, Thread};
use crate::dump::Extension;
use crate::registers::Registers;
use crate::session::Session;
use std::collections::{HashMap, HashSet};
use vmcore_format::addr::VirtAddr;
use vmcore_format::extension::CpuState;
use vmcore_format::extension::kernel::ThreadState;
use vmcore_format::registers::{layout_arch, names};

/// What the process is called that has the threads of no other one, if the system has no name.
const KERNEL: &[u8] = b"kernel";

/// The most processes, threads and CPUs: a writer tells of fewer.
const MAX_TOLD: usize = 1 << 16;

/// A CPU of the extension.
pub(super) struct RecordedCpu {
    pub(super) number: u32,
    /// The thread that ran on it; 0: not known.
    pub(super) thread: u64,
    /// It wrote the dump.
    pub(super) dumped: bool,
    /// None for one that did not stop.
    pub(super) registers: Option<Registers>,
}

/// The CPUs of a dump.
pub(super) fn cpus(session: &Session) -> Vec<RecordedCpu> {
    let arch = session.dump().arch();
    let extension = session.dump().extension();
    let Some((layout, cpus)) = extension.and_then(Extension::cpus) else {
        return Vec::new();
    };
    if layout_arch(layout) != Some(arch) {
        return Vec::new();
    }
    let recorded = cpus.map(|cpu| {
        let values = names(arch).iter().copied().zip(cpu.registers());
        RecordedCpu {
            number: cpu.cpu,
            thread: cpu.thread,
            dumped: cpu.state == CpuState::Dumping,
            registers: with_pc(Registers::from_values(values)),
        }
    });
    recorded.take(MAX_TOLD).collect()
}

/// Registers that tell where something was.
fn with_pc(registers: Registers) -> Option<Registers> {
    let mut names = ["rip", "eip", "pc"].into_iter();
    let pc = names.find_map(|name| registers.get(name));
    pc.is_some_and(|pc| pc != 0).then_some(registers)
}

/// The threads that the kernel told of, and one for each CPU that has none; `None` if it told of neither.
pub(super) fn list(session: &Session) -> Option<ProcessList> {
    let mut numbers = Numbers::default();
    let mut threads = threads(session, &mut numbers);
    let places = || threads.iter().enumerate();
    let by_tid: HashMap<i32, usize> = places().map(|(at, (_, one))| (one.tid, at)).collect();
    let on_cpu = places().filter_map(|(at, (_, one))| Some((one.cpu?, at)));
    let by_cpu: HashMap<u32, usize> = on_cpu.collect();
    for cpu in cpus(session) {
        let by_id = i32::try_from(cpu.thread).ok().filter(|id| *id != 0);
        let place = by_id.and_then(|id| by_tid.get(&id));
        let place = place.or_else(|| by_cpu.get(&cpu.number)).copied();
        let place = place.unwrap_or_else(|| {
            let name = format!("cpu{}", cpu.number).into_bytes();
            let id = match cpu.thread {
                0 => u64::from(cpu.number) + 1,
                id => id,
            };
            threads.push((0, Thread::recorded(numbers.of(id), VirtAddr(0), name)));
            threads.len() - 1
        });
        let (_, own) = threads.get_mut(place)?;
        own.cpu = Some(cpu.number);
        own.crashed = cpu.dumped;
        if cpu.registers.is_some() {
            own.pcb = Some(PcbSource::Extension { cpu: cpu.number });
            own.registers = cpu.registers;
        }
    }
    if threads.is_empty() {
        return None;
    }
    let crashed = threads.iter().find(|(_, thread)| thread.crashed);
    let crashed_tid = crashed.map(|(_, thread)| thread.tid);
    Some(ProcessList {
        processes: processes(session, threads),
        crashed_tid,
        offsets: OffsetSource::Recorded,
        problems: Vec::new(),
    })
}

/// Numbers for threads, each different, as debuggers need them.
#[derive(Default)]
struct Numbers {
    taken: HashSet<i32>,
    next: i32,
}

impl Numbers {
    /// The thread's own, if it can be.
    fn of(&mut self, id: u64) -> i32 {
        let own = i32::try_from(id).ok().filter(|id| *id > 0);
        if let Some(own) = own.filter(|own| self.taken.insert(*own)) {
            return own;
        }
        while self.next < i32::MAX {
            self.next += 1;
            if self.taken.insert(self.next) {
                break;
            }
        }
        self.next
    }
}

/// The threads of the record, with the numbers of their processes.
fn threads(session: &Session, numbers: &mut Numbers) -> Vec<(u64, Thread)> {
    let arch = session.dump().arch();
    let extension = session.dump().extension();
    let Some((layout, told)) = extension.and_then(Extension::threads) else {
        return Vec::new();
    };
    let is_known = layout_arch(layout) == Some(arch);
    let mut seen = HashSet::new();
    let mut threads = Vec::new();
    for told in told.take(MAX_TOLD) {
        // A list that leads back to where it was.
        if !seen.insert((told.id, told.address)) {
            break;
        }
        let mut thread = Thread::recorded(numbers.of(told.id), told.address, told.name.to_vec());
        thread.cpu = told.cpu;
        let named = told
            .registers()
            .filter_map(|(place, value)| Some((*names(arch).get(place)?, value)));
        thread.registers = is_known
            .then(|| Registers::from_values(named))
            .and_then(with_pc);
        thread.pcb = thread.registers.is_some().then_some(PcbSource::Recorded);
        let (start, len) = told.stack;
        thread.recorded = Some(RecordedThread {
            state: match told.state {
                ThreadState::Running | ThreadState::Runnable => Some('R'),
                ThreadState::Sleeping => Some('S'),
                ThreadState::WaitsForLock => Some('L'),
                ThreadState::Stopped => Some('T'),
                ThreadState::Dead => Some('Z'),
                _ => None,
            },
            wait: String::from_utf8_lossy(told.wait).into_owned(),
            stack: (len > 0).then_some((start, len)),
        });
        threads.push((told.process, thread));
    }
    threads
}

/// The processes with their threads; what is in no process is the kernel's.
fn processes(session: &Session, threads: Vec<(u64, Thread)>) -> Vec<Process> {
    let extension = session.dump().extension();
    let told = extension.and_then(Extension::processes);
    let mut processes = Vec::new();
    let mut places = HashMap::new();
    for told in told.into_iter().flatten().take(MAX_TOLD) {
        places.entry(told.id).or_insert_with(|| {
            let name = told.name.to_vec();
            processes.push(Process::recorded(told.id, told.address, name));
            processes.len() - 1
        });
    }
    let system = extension.and_then(Extension::system);
    let kernel = system
        .map(|system| system.name)
        .filter(|name| !name.is_empty());
    for (of, thread) in threads {
        let place = *places.entry(of).or_insert_with(|| {
            let name = match of {
                0 => kernel.unwrap_or(KERNEL).to_vec(),
                _ => format!("process {of}").into_bytes(),
            };
            processes.push(Process::recorded(of, VirtAddr(0), name));
            processes.len() - 1
        });
        if let Some(process) = processes.get_mut(place) {
            process.threads.push(thread);
        }
    }
    processes
}

impl Process {
    fn recorded(id: u64, address: VirtAddr, name: Vec<u8>) -> Self {
        Self {
            address,
            pid: i32::try_from(id).unwrap_or(-1),
            comm: name,
            zombie: false,
            threads: Vec::new(),
        }
    }
}

impl Thread {
    const fn recorded(tid: i32, address: VirtAddr, name: Vec<u8>) -> Self {
        Self {
            address,
            tid,
            name,
            cpu: None,
            crashed: false,
            pcb: None,
            registers: None,
            recorded: None,
        }
    }
}
