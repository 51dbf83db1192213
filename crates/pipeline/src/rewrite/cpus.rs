//! The CPUs and their registers: from an earlier extension, a hypervisor's notes, or the kernel's own
//! memory.

use super::identity::Earlier;
use super::kernel::KernelMemory;
use super::qemu::QemuCpu;
use vmcore::process::{self, PcbSource};
use vmcore::session::Session;
use vmcore_format::registers::{MAX_REGISTERS, names};
use vmcore_writer::machine::{Cpu, CpuState};

/// More CPUs than any kernel is built for.
const MAX_CPUS: u32 = 4096;

/// The CPUs, by their numbers.
pub(super) fn cpus(
    session: &Session,
    earlier: &Earlier,
    notes: &[QemuCpu],
    kernel: Option<&KernelMemory<'_>>,
) -> Vec<Cpu> {
    let arch = session.dump().arch();
    let known = earlier.cpus(arch, MAX_CPUS);
    if !known.is_empty() {
        return known;
    }
    if !notes.is_empty() {
        let limit = usize::try_from(MAX_CPUS).unwrap_or(0);
        let cpus = notes.iter().take(limit);
        return cpus
            .map(|cpu| Cpu {
                state: CpuState::Stopped,
                thread: kernel.and_then(|kernel| thread(cpu, kernel)).unwrap_or(0),
                registers: cpu.registers(arch),
            })
            .collect();
    }
    of_threads(session, kernel)
}

/// The thread that runs on a CPU: `pc_curthread` is the first word of its `struct pcpu`.
fn thread(cpu: &QemuCpu, kernel: &KernelMemory<'_>) -> Option<u64> {
    let thread = kernel.space.read_pointer(cpu.pcpu()?).ok()?;
    let offset = kernel.u32("thread_off_td_tid")?;
    let tid = kernel
        .space
        .read_i32(thread.checked_add(u64::from(offset))?)
        .ok()?;
    u64::try_from(tid).ok()
}

/// By the threads that ran when the kernel stopped its CPUs.
fn of_threads(session: &Session, kernel: Option<&KernelMemory<'_>>) -> Vec<Cpu> {
    let Some(count) = kernel.and_then(|kernel| kernel.u32("mp_maxid")?.checked_add(1)) else {
        return Vec::new();
    };
    let count = usize::try_from(count.min(MAX_CPUS)).unwrap_or(0);
    let mut cpus = vec![Cpu::RUNNING; count];
    let Ok(list) = process::list(session) else {
        return cpus;
    };
    let threads = list.threads();
    for thread in threads {
        let number = thread.cpu.and_then(|cpu| usize::try_from(cpu).ok());
        let Some(cpu) = number.and_then(|number| cpus.get_mut(number)) else {
            continue;
        };
        cpu.thread = u64::try_from(thread.tid).unwrap_or(0);
        cpu.state = match thread.pcb {
            Some(PcbSource::Dumppcb { .. }) => CpuState::Dumping,
            Some(PcbSource::Stoppcbs { .. }) => CpuState::Stopped,
            _ => continue,
        };
        if let Some(saved) = &thread.registers {
            let mut registers = [0; MAX_REGISTERS];
            for (value, name) in registers.iter_mut().zip(names(session.dump().arch())) {
                *value = saved.get(name).unwrap_or(0);
            }
            cpu.registers = registers;
        }
    }
    cpus
}
