//! Which saved registers belong to a thread, and which CPU it ran on.
//!
//! The thread that dumped saved its own in `dumppcb`; a CPU that was stopped saved those of its
//! thread in `stoppcbs`; every other thread has them where it was switched out. Old kernels leave
//! stale numbers in `td_oncpu`, so where the per-CPU structures can be read, they decide
//! (`pc_curthread` is the first word of `struct pcpu`).

use super::Constants;
use super::recorded::{self, RecordedCpu};
use crate::registers::{PcbLayout, Registers};
use crate::session::{Session, SessionError};
use crate::space::AddressSpace;
use serde::Serialize;
use std::collections::HashMap;
use vmcore_format::addr::VirtAddr;

/// More CPUs than any kernel is built for.
const MAX_CPUS: u32 = 4096;

/// Where a thread's registers were saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "source")]
pub enum PcbSource {
    /// `dumppcb`: by the dump code itself.
    Dumppcb {
        /// Address of the `struct pcb`.
        address: VirtAddr,
    },
    /// `stoppcbs[cpu]`: when its CPU was stopped.
    Stoppcbs {
        /// Address of the `struct pcb`.
        address: VirtAddr,
        /// The CPU.
        cpu: u32,
    },
    /// `td_pcb`: when it was switched out.
    TdPcb {
        /// Address of the `struct pcb`.
        address: VirtAddr,
        /// The thread ran on a CPU that did not stop: these are its registers of long before.
        stale: bool,
    },
    /// The extension of our own writer: where its CPU was interrupted or panicked.
    Extension {
        /// The CPU.
        cpu: u32,
    },
    /// The extension, too: as the kernel told of a thread that was on no CPU.
    Recorded,
}

impl PcbSource {
    /// Address of the `struct pcb`, if the registers come from one.
    #[must_use]
    pub const fn address(self) -> Option<VirtAddr> {
        match self {
            Self::Dumppcb { address }
            | Self::Stoppcbs { address, .. }
            | Self::TdPcb { address, .. } => Some(address),
            Self::Extension { .. } | Self::Recorded => None,
        }
    }
}

/// Finds PCBs by the kernel's symbols.
pub(super) struct PcbFinder<'a> {
    space: AddressSpace<'a>,
    layout: PcbLayout,
    td_pcb: u64,
    pcb_size: Option<u64>,
    dumppcb: Option<VirtAddr>,
    stoppcbs: Option<VirtAddr>,
    /// First word of the CPU set.
    stopped_cpus: Option<VirtAddr>,
    /// The CPU on which a thread ran, by `pc_curthread`; `None` if that cannot be read.
    current: Option<HashMap<VirtAddr, u32>>,
    /// What the writer of the dump told of CPUs.
    written: Vec<RecordedCpu>,
}

impl<'a> PcbFinder<'a> {
    pub(super) fn new(session: &'a Session, constants: &Constants) -> Result<Self, SessionError> {
        let space = session.space()?;
        let symbols = session.matching_kernel()?.symbols();
        let word = space.word().bytes();
        // An array in older kernels, a pointer from osreldate 1400089 on: the size decides.
        let stoppcbs = symbols.find("stoppcbs").and_then(|symbol| {
            if symbol.size == word {
                space.read_pointer(symbol.address).ok()
            } else {
                Some(symbol.address)
            }
        });
        let address = |name: &str| symbols.find(name).map(|symbol| symbol.address);
        let cpus = constants
            .mp_maxid
            .map_or(MAX_CPUS, |max| max.saturating_add(1).min(MAX_CPUS));
        let current =
            address("cpuid_to_pcpu").and_then(|table| current_threads(space, table, cpus));
        Ok(Self {
            space,
            layout: PcbLayout::of(session.dump().arch(), constants.pcb_size)
                .with_endian(session.dump().memory().endian()),
            td_pcb: constants.td_pcb,
            pcb_size: constants.pcb_size,
            dumppcb: address("dumppcb"),
            stoppcbs,
            stopped_cpus: address("stopped_cpus"),
            current,
            written: recorded::cpus(session),
        })
    }

    /// Where the registers of a thread are, and they; as far as there are any. What the kernel saved
    /// comes first: the dump code and the debugger are on those stacks. The extension has what the
    /// kernel did not save, or what is not in the dump.
    pub(super) fn saved(
        &self,
        thread: VirtAddr,
        tid: i32,
        cpu: Option<u32>,
        crashed: bool,
    ) -> (Option<PcbSource>, Option<Registers>) {
        let pcb = self.find(thread, cpu, crashed);
        let registers = pcb.and_then(|pcb| self.in_pcb(pcb));
        let is_stale = matches!(pcb, Some(PcbSource::TdPcb { stale: true, .. }));
        if registers.is_some() && !is_stale {
            return (pcb, registers);
        }
        let is_own = |written: &&RecordedCpu| match written.thread {
            0 => Some(written.number) == cpu,
            of => i32::try_from(of) == Ok(tid),
        };
        let mut known = self.written.iter().filter(|one| one.registers.is_some());
        match known.find(is_own) {
            Some(written) => (
                Some(PcbSource::Extension {
                    cpu: written.number,
                }),
                written.registers.clone(),
            ),
            None => (pcb, registers),
        }
    }

    /// The CPU that `thread` ran on; `oncpu` is its own word for it.
    pub(super) fn cpu_of(&self, thread: VirtAddr, oncpu: i32) -> Option<u32> {
        match &self.current {
            Some(current) => current.get(&thread).copied(),
            // −1, or 255 in a byte, says "none".
            None => u32::try_from(oncpu).ok().filter(|cpu| *cpu < MAX_CPUS),
        }
    }

    fn find(&self, thread: VirtAddr, cpu: Option<u32>, crashed: bool) -> Option<PcbSource> {
        if let (true, Some(address)) = (crashed, self.dumppcb) {
            return Some(PcbSource::Dumppcb { address });
        }
        let stopped = cpu.filter(|cpu| self.is_stopped(*cpu));
        if let (Some(cpu), Some(base), Some(size)) = (stopped, self.stoppcbs, self.pcb_size) {
            let address = base.checked_add(u64::from(cpu) * size)?;
            return Some(PcbSource::Stoppcbs { address, cpu });
        }
        let at = VirtAddr(thread.0.wrapping_add(self.td_pcb));
        let address = self.space.read_pointer(at).ok().filter(|pcb| pcb.0 != 0)?;
        Some(PcbSource::TdPcb {
            address,
            stale: cpu.is_some(),
        })
    }

    /// Whether a CPU has stopped; kernels whose set is not known are taken at their word.
    fn is_stopped(&self, cpu: u32) -> bool {
        let Some(set) = self.stopped_cpus else {
            return true;
        };
        let word = self.space.word().bytes();
        let bits = 8 * word;
        let at = VirtAddr(set.0.wrapping_add(u64::from(cpu) / bits * word));
        self.space
            .read_word(at)
            .is_ok_and(|set| set >> (u64::from(cpu) % bits) & 1 == 1)
    }

    /// The registers saved there; `None` if they are not in the dump or were never saved.
    fn in_pcb(&self, pcb: PcbSource) -> Option<Registers> {
        let mut raw = vec![0; self.layout.len_bytes()];
        self.space.read_exact(pcb.address()?, &mut raw).ok()?;
        let registers = Registers::from_pcb(&self.layout, &raw);
        registers.get(self.layout.pc).filter(|pc| *pc != 0)?;
        Some(registers)
    }
}

/// `pc_curthread` of every CPU; `None` if not even the first table entry can be read.
fn current_threads(
    space: AddressSpace<'_>,
    table: VirtAddr,
    cpus: u32,
) -> Option<HashMap<VirtAddr, u32>> {
    let word = space.word().bytes();
    let mut current = HashMap::new();
    for cpu in 0..cpus {
        let slot = VirtAddr(table.0.wrapping_add(u64::from(cpu) * word));
        let Ok(pcpu) = space.read_pointer(slot) else {
            break;
        };
        if pcpu.0 == 0 {
            continue;
        }
        if let Ok(thread) = space.read_pointer(pcpu) {
            current.insert(thread, cpu);
        }
    }
    (!current.is_empty()).then_some(current)
}
