//! What is true about a synthetic machine: what a reader of its dump must find.

use super::layout::DirectMap;

/// The panic message.
pub const PANIC: &str = "kdb_sysctl_panic";
/// The host's name.
pub const HOST: &str = "storage7.example.org";
/// When it crashed, in seconds since 1970: 2026-03-02 04:11:09 UTC.
pub const CRASH_TIME: u32 = 1_772_424_669;
/// How long it had been up, in seconds.
pub const UPTIME: u32 = 3_549_784;
/// The same as the kernel prints it.
pub const UPTIME_TEXT: &str = "41d2h3m4s";

/// Everything that is known about a machine.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Processes in the kernel's order, newest first; then the zombies.
    pub processes: Vec<Process>,
    /// `dumptid`.
    pub crashed_tid: i32,
    /// Bytes at virtual addresses: every variable that the machine sets, and more.
    pub values: Vec<(u64, Vec<u8>)>,
    /// Every page in the dump, by ascending physical address.
    pub pages: Vec<Page>,
    /// Pages of the kernel map that are not in the dump: virtual and physical address.
    pub absent: Vec<(u64, u64)>,
    /// Addresses of the kernel map at which nothing is mapped.
    pub unmapped: Vec<u64>,
    /// Page-table pages in the dump.
    pub table_pages: Vec<u64>,
    /// The message buffer's text, oldest byte first.
    pub log: Vec<u8>,
    /// The kernel's version string.
    pub version: String,
    /// The build id.
    pub build_id: Vec<u8>,
    /// The direct map.
    pub direct_map: Option<DirectMap>,
    /// Another part of the address space that needs no tables: mips' KSEG0.
    pub segment: Option<DirectMap>,
}

/// A page of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Physical address.
    pub pa: u64,
    /// Addresses in the kernel map, ascending.
    pub kernel_map: Vec<u64>,
    /// Address in the direct map.
    pub direct_map: Option<u64>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Address of its `struct proc`.
    pub address: u64,
    /// Process id.
    pub pid: i32,
    /// `p_comm`.
    pub comm: String,
    /// Whether it has died and waits for its parent.
    pub is_zombie: bool,
    /// Its threads, in the kernel's order.
    pub threads: Vec<Thread>,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Address of its `struct thread`.
    pub address: u64,
    /// Thread id.
    pub tid: i32,
    /// `td_name`.
    pub name: String,
    /// The CPU it ran on.
    pub cpu: Option<u32>,
    /// Where its registers are.
    pub pcb: Pcb,
    /// Address of that `struct pcb`.
    pub pcb_address: u64,
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub fp: u64,
    /// Program counters of all its frames, innermost first; the first one is `pc`.
    pub frames: Vec<u64>,
}

/// Which structure has a thread's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pcb {
    /// `dumppcb`: the thread crashed.
    Dumppcb,
    /// `stoppcbs`: its CPU was stopped.
    Stoppcbs,
    /// `td_pcb`: it was switched out.
    TdPcb,
    /// `td_pcb`, from before it ran on a CPU that was not stopped.
    Stale,
}
