//! What the identity block and the extension say, in words.

use crate::around::Known;
use crate::dump::{Dump, Extension};
use serde::Serialize;
use vmcore_format::addr::VirtAddr;
use vmcore_format::extension::CpuState;
use vmcore_format::identity::{Clock, Identity, Origin, Trap};

/// How facts from the identity block name their source.
pub(super) const SOURCE: &str = "identity block";

/// What only the identity block knows. What is unknown is absent.
#[derive(Clone, Debug, Serialize)]
pub struct IdentityInfo {
    /// Why the kernel dumped.
    pub trap: Option<Known>,
    /// How far the time of the crash can be trusted.
    pub clock: Option<Known>,
    /// Names the boot of the machine.
    pub boot_id: Option<Known>,
    /// Names the machine.
    pub machine_id: Option<Known>,
    /// The writer met damage in the kernel before it wrote the header.
    pub damaged: bool,
    /// A full dump in place of a minidump, because of that damage.
    pub fallback: bool,
    /// The system went on running while the dump was written.
    pub live: bool,
    /// What the dump was made of; absent if the kernel that crashed wrote it.
    pub origin: Option<Known>,
    /// Identity of the file that it was converted from.
    pub source_id: Option<Known>,
}

impl IdentityInfo {
    pub(super) fn of(identity: &Identity) -> Self {
        Self {
            trap: known(trap(identity.trap)),
            clock: known(clock(identity.clock)),
            boot_id: known(hex(identity.boot_id)),
            machine_id: known(hex(identity.machine_id)),
            damaged: identity.damaged,
            fallback: identity.fallback,
            live: identity.live,
            origin: known(origin(identity.origin)),
            source_id: known(hex(identity.source_id)),
        }
    }
}

fn known(value: Option<String>) -> Option<Known> {
    value.map(|value| Known {
        value,
        sources: vec![SOURCE.to_owned()],
    })
}

/// An id; all zeros say that it is not known.
fn hex(id: [u8; 16]) -> Option<String> {
    (id != [0; 16]).then(|| format!("{:032x}", u128::from_be_bytes(id)))
}

fn trap(trap: Trap) -> Option<String> {
    let words = match trap {
        Trap::Unknown => return None,
        Trap::Panic => "panic",
        Trap::PageFault => "page fault",
        Trap::Protection => "protection or alignment fault",
        Trap::Instruction => "unknown instruction",
        Trap::DoubleFault => "double fault or stack overflow",
        Trap::MachineCheck => "broken hardware, reported by the processor",
        Trap::Nmi => "non-maskable interrupt",
        Trap::Watchdog => "watchdog",
        Trap::Request => "none: the dump was requested",
        Trap::Other(number) => return Some(format!("number {number}, of a later version")),
    };
    Some(words.to_owned())
}

fn clock(clock: Clock) -> Option<String> {
    let words = match clock {
        Clock::Unknown => return None,
        Clock::SinceBoot => "none: times count from boot",
        Clock::ClockChip => "set from the machine's clock chip",
        Clock::Synchronised => "kept in step with a time server",
        Clock::Other(number) => return Some(format!("number {number}, of a later version")),
    };
    Some(words.to_owned())
}

fn origin(origin: Origin) -> Option<String> {
    let words = match origin {
        Origin::Kernel => return None,
        Origin::Minidump => "converted from a minidump",
        Origin::FullDump => "converted from a full dump",
        Origin::Hypervisor => "made of a hypervisor's memory file",
        Origin::Redacted => "redacted: only what was to be shared is in it",
        Origin::Other(number) => {
            return Some(format!("made in way {number}, of a later version"));
        }
    };
    Some(words.to_owned())
}

/// What follows the last page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExtensionInfo {
    /// Bytes of it.
    pub len_bytes: u64,
    /// Sections before the pages that have a checksum.
    pub summed_sections: Option<u64>,
    /// Runs of pages that have a checksum.
    pub summed_runs: Option<u64>,
    /// Bytes of such a run.
    pub run_bytes: Option<u64>,
    /// CPUs that stopped, whose registers are there.
    pub cpus_with_registers: Option<u64>,
    /// How often the writer met damage in the kernel.
    pub damage_found: Option<u64>,
}

impl ExtensionInfo {
    pub(super) fn of(dump: &Dump) -> Option<Self> {
        let extension = dump.extension()?;
        let sums = extension.page_sums();
        Some(Self {
            len_bytes: extension.end().0.saturating_sub(extension.start().0),
            summed_sections: extension
                .section_sums()
                .map(|sections| sections.count() as u64),
            summed_runs: sums.map(|sums| sums.runs().count() as u64),
            run_bytes: sums.map(|sums| sums.run_bytes),
            cpus_with_registers: extension
                .cpus()
                .map(|(_, cpus)| cpus.filter(|cpu| cpu.state != CpuState::Running).count() as u64),
            damage_found: extension.damage().map(|(found, _)| found),
        })
    }
}

/// Which kernel it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemInfo {
    /// The name of the system.
    pub name: String,
    /// Its version string.
    pub version: String,
    /// What compiled the kernel; empty: not said.
    pub compiler: String,
    /// What it told of modules and programs that were loaded.
    pub modules: Vec<LoadedModule>,
}

/// A module or a program, as the kernel told the writer of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadedModule {
    /// Its name.
    pub name: String,
    /// Its first address.
    pub base: VirtAddr,
    /// Its bytes in memory.
    pub len_bytes: u64,
    /// The build id of its file, in hexadecimal digits; empty: not known.
    pub build_id: String,
}

/// The most modules that are shown.
const MAX_MODULES: usize = 4096;

impl SystemInfo {
    pub(super) fn of(dump: &Dump) -> Option<Self> {
        let system = dump.extension()?.system()?;
        let text = |text: &[u8]| String::from_utf8_lossy(text).trim().to_owned();
        Some(Self {
            name: text(system.name),
            version: text(system.version),
            compiler: text(system.compiler),
            modules: dump
                .extension()
                .and_then(Extension::modules)
                .into_iter()
                .flatten()
                .take(MAX_MODULES)
                .map(|module| LoadedModule {
                    name: text(module.name),
                    base: module.base,
                    len_bytes: module.len_bytes,
                    build_id: module
                        .build_id
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect(),
                })
                .collect(),
        })
    }
}
