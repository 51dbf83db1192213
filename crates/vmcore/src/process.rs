//! Processes and threads, by the kernel's exported debug constants, or by what stands in for them.
//!
//! The constants (`proc_off_*`, `thread_off_*`, since FreeBSD 10.3) exist so that a debugger needs
//! no types. What they do not cover (states, wait messages, parents) is left out here. All walks
//! are over hostile memory: every list is bounded, and a failure ends its own list only and is
//! reported.
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session, process};
//! let kernel = KernelChoice::Given("kernel".as_ref());
//! let session = Session::open("vmcore.0".as_ref(), kernel, &OpenOptions::default())?;
//! for process in process::list(&session)?.processes {
//!     println!("{} {}", process.pid, String::from_utf8_lossy(&process.comm));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod constants;
mod pcb;
mod recorded;
mod releases;

pub use constants::{Constants, OffsetSource, Offsets};
pub use pcb::PcbSource;

use crate::registers::Registers;
use crate::session::{Session, SessionError};
use crate::space::AddressSpace;
use crate::translation::TranslationError;
use pcb::PcbFinder;
use serde::Serialize;
use std::collections::HashSet;
use vmcore_format::addr::VirtAddr;

/// `MAXCOMLEN` + 1: bytes of `p_comm` and `td_name`.
const NAME_LEN: usize = 20;
/// The most processes, and threads in all, that are listed.
const MAX_ITEMS: u64 = 1_000_000;
/// No `struct proc` or `struct thread` is smaller: a dump has fewer of them than so many bytes.
const MIN_ITEM_BYTES: u64 = 256;
/// Below this `__FreeBSD_version` zombies have a list of their own.
const ZOMBPROC_GONE: i32 = 1_300_042;
/// Below this `__FreeBSD_version` `td_oncpu` is a byte.
const WIDE_ONCPU: i32 = 1_100_000;
/// The most slots of the pid hash that are looked at.
const MAX_HASH_SLOTS: u64 = 1 << 20;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Address of its `struct proc`.
    pub address: VirtAddr,
    /// Process id.
    pub pid: i32,
    /// Command name, as the kernel has it.
    #[serde(serialize_with = "text")]
    pub comm: Vec<u8>,
    /// Whether it is only in the list of the dead.
    pub zombie: bool,
    /// Its threads, in the kernel's order.
    pub threads: Vec<Thread>,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// Address of its `struct thread`.
    pub address: VirtAddr,
    /// Thread id.
    pub tid: i32,
    /// Thread name, as the kernel has it.
    #[serde(serialize_with = "text")]
    pub name: Vec<u8>,
    /// The CPU it ran on.
    pub cpu: Option<u32>,
    /// Whether it ran the dump code: the thread that panicked.
    pub crashed: bool,
    /// Where its registers were saved, and by whom.
    pub pcb: Option<PcbSource>,
    /// The registers, as far as they are in the dump.
    pub registers: Option<Registers>,
    /// What the kernel told the writer of it, if that is how it is known.
    #[serde(skip)]
    pub recorded: Option<RecordedThread>,
}

/// What a kernel tells the writer of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedThread {
    /// What it does, as the letter that ps prints.
    pub state: Option<char>,
    /// What it waits for.
    pub wait: String,
    /// Its stack: first byte and length in bytes.
    pub stack: Option<(VirtAddr, u64)>,
}

/// All processes of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessList {
    /// Newest first, as the kernel lists them; then the dead.
    pub processes: Vec<Process>,
    /// `dumptid`: the thread that ran the dump code.
    pub crashed_tid: Option<i32>,
    /// How it is known where the members of the structures are.
    pub offsets: OffsetSource,
    /// What could not be read: each costs the rest of one list.
    pub problems: Vec<String>,
}

impl ProcessList {
    /// The threads of all processes.
    pub fn threads(&self) -> impl Iterator<Item = &Thread> {
        self.processes.iter().flat_map(|process| &process.threads)
    }

    /// Why there is no [`ProcessList::crashed_tid`], for people.
    #[must_use]
    pub const fn why_none_crashed(&self) -> &'static str {
        match self.processes.is_empty() && !self.problems.is_empty() {
            true => "the kernel's variables cannot be read (dumptid, allproc)",
            false => "no thread ran the dump code (dumptid is not set)",
        }
    }
}

/// Serialises a name as text.
fn text<S: serde::Serializer>(name: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(name))
}

impl Process {
    /// The name of one of its threads as debuggers print it: `COMM`, or `COMM/THREAD` where the
    /// thread has another name.
    #[must_use]
    pub fn thread_name(&self, thread: &Thread) -> Vec<u8> {
        if thread.name.is_empty() || thread.name == self.comm {
            return self.comm.clone();
        }
        [&self.comm[..], b"/", &thread.name[..]].concat()
    }
}

/// Lists processes and threads: as the kernel's own structures have them, or as it told the writer of the
/// dump, if it is a kernel that has none of FreeBSD's.
///
/// # Errors
/// Returns an error without a matching kernel file, or if it lacks the symbols that the walk needs; but not
/// if the dump tells.
pub fn list(session: &Session) -> Result<ProcessList, SessionError> {
    list_with(session, &|_, _| None)
}

/// As [`list`], for kernels that export no constants too: `types` may know where members are, by the
/// names of structure and member.
///
/// # Errors
/// As for [`list`].
pub fn list_with(session: &Session, types: Offsets<'_>) -> Result<ProcessList, SessionError> {
    if !has_processes_of_freebsd(session)?
        && let Some(list) = recorded::list(session)
    {
        return Ok(list);
    }
    let space = session.space()?;
    let constants = Constants::read_with(session, types)?;
    let dump_bytes = session.dump().memory().source().len();
    let mut walk = Walk {
        space,
        max_items: usize::try_from((dump_bytes / MIN_ITEM_BYTES).min(MAX_ITEMS)).unwrap_or(0),
        hash_slots: (dump_bytes / space.word().bytes()).min(MAX_HASH_SLOTS),
        constants,
        pcbs: PcbFinder::new(session, &constants)?,
        seen: HashSet::new(),
        chained: HashSet::new(),
        threads: 0,
        list: ProcessList {
            processes: Vec::new(),
            crashed_tid: constants.dumptid,
            offsets: constants.source,
            problems: Vec::new(),
        },
    };
    let address = |name: &str| session.symbol(name).map(|symbol| symbol.address);
    match space.read_pointer(address("allproc")?) {
        Ok(VirtAddr(0)) => walk.processes(address("proc0")?, constants.p_list, false),
        Ok(first) => walk.processes(first, constants.p_list, false),
        Err(error) => walk.problem("allproc", &error),
    }
    if let (Ok(zombproc), true) = (
        address("zombproc"),
        constants.osreldate < Some(ZOMBPROC_GONE),
    ) {
        match space.read_pointer(zombproc) {
            Ok(first) => walk.processes(first, constants.p_list, true),
            Err(error) => walk.problem("zombproc", &error),
        }
    } else if let (Ok(table), Ok(mask)) = (address("pidhashtbl"), address("pidhash")) {
        walk.pid_hash(table, mask);
    }
    Ok(walk.list)
}

/// Whether processes are to be looked for where FreeBSD has them.
fn has_processes_of_freebsd(session: &Session) -> Result<bool, SessionError> {
    match session.matching_kernel() {
        Ok(kernel) => Ok(kernel.symbols().find("allproc").is_some()),
        Err(SessionError::NoKernel { .. }) => Ok(!session.dump().is_of_another_system()),
        Err(error) => Err(error),
    }
}

struct Walk<'a> {
    space: AddressSpace<'a>,
    max_items: usize,
    hash_slots: u64,
    constants: Constants,
    pcbs: PcbFinder<'a>,
    /// Processes and threads that were listed.
    seen: HashSet<VirtAddr>,
    /// Processes that were found by the pid hash: each is in one chain.
    chained: HashSet<VirtAddr>,
    threads: usize,
    list: ProcessList,
}

impl Walk<'_> {
    fn problem(&mut self, what: &str, error: &TranslationError) {
        self.list.problems.push(format!("{what}: {error}"));
    }

    /// A member of a structure: its address.
    fn member(base: VirtAddr, offset: u64) -> VirtAddr {
        VirtAddr(base.0.wrapping_add(offset))
    }

    /// Follows a list of processes from `first` by the link at `link`.
    fn processes(&mut self, first: VirtAddr, link: u64, zombie: bool) {
        let mut next = first;
        while next.0 != 0 && self.list.processes.len() < self.max_items {
            if !self.seen.insert(next) {
                let back = format!("process list: it leads back to {next}");
                return self.list.problems.push(back);
            }
            if let Err(error) = self.process(next, zombie) {
                self.problem(&format!("process list at {next}"), &error);
                return;
            }
            match self.space.read_pointer(Self::member(next, link)) {
                Ok(following) => next = following,
                Err(error) => return self.problem(&format!("process list at {next}"), &error),
            }
        }
    }

    fn process(&mut self, address: VirtAddr, zombie: bool) -> Result<(), TranslationError> {
        let constants = self.constants;
        let pid = self
            .space
            .read_i32(Self::member(address, constants.p_pid))?;
        let comm = self
            .space
            .read_string(Self::member(address, constants.p_comm), NAME_LEN)?;
        let mut process = Process {
            address,
            pid,
            comm,
            zombie,
            threads: Vec::new(),
        };
        if let Some(problem) = self.threads(&mut process) {
            self.list
                .problems
                .push(format!("threads of process {pid}: {problem}"));
            self.threads_backward(&mut process);
        }
        self.list.processes.push(process);
        Ok(())
    }

    /// Follows the list of a process' threads; returns why it breaks off, if it does.
    fn threads(&mut self, process: &mut Process) -> Option<String> {
        let constants = self.constants;
        let said = |error: TranslationError| error.to_string();
        let head = Self::member(process.address, constants.p_threads);
        let mut next = match self.space.read_pointer(head) {
            Ok(first) => first,
            Err(error) => return Some(said(error)),
        };
        while next.0 != 0 && self.threads < self.max_items {
            if !self.seen.insert(next) {
                return Some(format!("the list leads back to {next}"));
            }
            self.threads += 1;
            match self.thread(next) {
                Ok(thread) => process.threads.push(thread),
                Err(error) => return Some(said(error)),
            }
            let link = Self::member(next, constants.td_plist);
            match self.space.read_pointer(link) {
                Ok(following) => next = following,
                Err(error) => return Some(said(error)),
            }
        }
        None
    }

    /// A tail queue knows its last link, and each link the one before: a bad link in the middle does
    /// not cost what follows it.
    fn threads_backward(&mut self, process: &mut Process) {
        let link = self.constants.td_plist;
        let word = self.space.word().bytes();
        let head = Self::member(process.address, self.constants.p_threads);
        let Ok(mut at) = self.space.read_pointer(Self::member(head, word)) else {
            return;
        };
        let mut later = Vec::new();
        let mut after = VirtAddr(0);
        while at != head && self.threads < self.max_items {
            let address = VirtAddr(at.0.wrapping_sub(link));
            // Behind the bad link every one leads to the next.
            let is_linked = self.space.read_pointer(at) == Ok(after);
            if !is_linked || !self.seen.insert(address) {
                break;
            }
            let Ok(thread) = self.thread(address) else {
                break;
            };
            self.threads += 1;
            later.push(thread);
            after = address;
            match self.space.read_pointer(Self::member(at, word)) {
                Ok(previous) => at = previous,
                Err(_) => break,
            }
        }
        process.threads.extend(later.into_iter().rev());
    }

    fn thread(&mut self, address: VirtAddr) -> Result<Thread, TranslationError> {
        let constants = self.constants;
        let tid = self
            .space
            .read_i32(Self::member(address, constants.td_tid))?;
        let name = self
            .space
            .read_string(Self::member(address, constants.td_name), NAME_LEN)?;
        let oncpu_at = Self::member(address, constants.td_oncpu);
        let oncpu = if constants.osreldate.is_some_and(|date| date < WIDE_ONCPU) {
            let mut byte = [u8::MAX];
            let read = self.space.read_exact(oncpu_at, &mut byte);
            // 255 says "none".
            let [cpu] = byte;
            read.ok()
                .filter(|()| cpu != u8::MAX)
                .map_or(-1, |()| i32::from(cpu))
        } else {
            self.space.read_i32(oncpu_at).unwrap_or(-1)
        };
        let crashed = constants.dumptid == Some(tid);
        let cpu = self.pcbs.cpu_of(address, oncpu);
        let (pcb, registers) = self.pcbs.saved(address, tid, cpu, crashed);
        Ok(Thread {
            address,
            tid,
            name,
            cpu,
            crashed,
            pcb,
            registers,
            recorded: None,
        })
    }

    /// Every process is in the pid hash, the dead too: those not seen yet are zombies, unless the
    /// list of the living broke off.
    fn pid_hash(&mut self, table: VirtAddr, mask: VirtAddr) {
        let Some(link) = self.constants.p_hash else {
            return;
        };
        let word = self.space.word().bytes();
        let (table, mask) = match (self.space.read_pointer(table), self.space.read_word(mask)) {
            (Ok(table), Ok(mask)) => (table, mask),
            (Err(error), _) | (_, Err(error)) => return self.problem("pidhashtbl", &error),
        };
        let zombies = self.list.problems.is_empty();
        for slot in 0..=mask.min(self.hash_slots) {
            match self.space.read_pointer(Self::member(table, slot * word)) {
                // A chain through the living goes on after them.
                Ok(first) => self.hash_chain(first, link, zombies),
                Err(error) => return self.problem(&format!("pid hash slot {slot}"), &error),
            }
        }
    }

    fn hash_chain(&mut self, first: VirtAddr, link: u64, zombies: bool) {
        let mut next = first;
        while next.0 != 0 && self.list.processes.len() < self.max_items && self.chained.insert(next)
        {
            if self.seen.insert(next)
                && let Err(error) = self.process(next, zombies)
            {
                return self.problem(&format!("pid hash at {next}"), &error);
            }
            match self.space.read_pointer(Self::member(next, link)) {
                Ok(following) => next = following,
                Err(error) => return self.problem(&format!("pid hash at {next}"), &error),
            }
        }
    }
}
