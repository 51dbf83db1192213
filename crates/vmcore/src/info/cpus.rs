//! The CPUs as the writer of a dump found them.

use crate::dump::{Dump, Extension};
use crate::registers::Registers;
use serde::Serialize;
use vmcore_format::extension::CpuState;
use vmcore_format::registers::{layout_arch, names};

/// A CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuInfo {
    /// Its number in the kernel.
    pub cpu: u32,
    /// `running`: it did not stop; `stopped`; `dumping`: it wrote the dump; else `unknown`.
    pub state: &'static str,
    /// The thread that ran on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<u64>,
    /// Its registers; none of one that did not stop.
    pub registers: Registers,
}

/// The CPUs that the extension of a dump has, in its order; none without an extension.
#[must_use]
pub fn cpus(dump: &Dump) -> Vec<CpuInfo> {
    let recorded = dump.extension().and_then(Extension::cpus);
    let Some((layout, cpus)) = recorded else {
        return Vec::new();
    };
    let names = layout_arch(layout).map_or(&[][..], names);
    let info = cpus.map(|cpu| CpuInfo {
        cpu: cpu.cpu,
        state: match cpu.state {
            CpuState::Running => "running",
            CpuState::Stopped => "stopped",
            CpuState::Dumping => "dumping",
            CpuState::Other(_) => "unknown",
        },
        thread: (cpu.thread != 0).then_some(cpu.thread),
        registers: Registers::as_recorded(names.iter().copied().zip(cpu.registers())),
    });
    info.collect()
}
