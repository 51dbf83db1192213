//! What the types know of processes and threads beyond the debug constants: states, wait messages,
//! parents, users.
//!
//! Each fact is read on its own; one that the types or the memory lack is left out.
//!
//! ```no_run
//! use vmcore_debug::Target;
//! use vmcore_debug::details::Details;
//! # fn show(target: &Target<'_>, thread: &vmcore::process::Thread) {
//! let details = Details::of(target);
//! println!("{:?}", details.thread(thread).wait_message);
//! # }
//! ```

use crate::fields::Field;
use crate::target::Target;
use serde::Serialize;
use vmcore::process::{Process, Thread};
use vmcore_format::addr::VirtAddr;

/// Longest wait message or lock name.
const NAME_MAX: usize = 64;
/// Seconds after which a sleeper counts as idle.
const IDLE_AFTER: i64 = 20;

/// `td_inhibitors`.
const TDI_SUSPENDED: u64 = 0x1;
const TDI_SLEEPING: u64 = 0x2;
const TDI_LOCK: u64 = 0x8;
const TDI_IWAIT: u64 = 0x10;
/// `td_flags`: an interruptible sleep.
const TDF_SINTR: u64 = 0x8;
/// `p_state`.
const PRS_ZOMBIE: u64 = 2;
/// `p_flag`.
const P_SYSTEM: u64 = 0x200;
const P_TRACED: u64 = 0x800;
const P_WEXIT: u64 = 0x2000;
const P_STOPPED: u64 = 0x20000 | 0x40000 | 0x80000;
const P_JAILED: u64 = 0x0100_0000;

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProcessDetails {
    /// The parent's process id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ppid: Option<i32>,
    /// The effective user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// `p_flag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<u32>,
    /// Letters of what it is beside running or sleeping, as ps prints them behind the state:
    /// `X` traced, `E` exiting, `J` jailed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub suffix: String,
    /// Whether it is one of the kernel's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<bool>,
}

/// What is known of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ThreadDetails {
    /// What it does, as the letter that ps prints: `R` runs or could, `S` sleeps, `I` has slept
    /// for long, `D` sleeps and cannot be woken by signals, `L` waits for a lock, `W` waits for
    /// an interrupt, `T` is stopped, `Z` is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<char>,
    /// What it sleeps for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_message: Option<String>,
    /// The address that it will be woken by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_channel: Option<VirtAddr>,
    /// The lock that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_name: Option<String>,
    /// Its turnstile, if it waits for a lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_on: Option<VirtAddr>,
    /// How long it has slept, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slept_seconds: Option<i64>,
    /// Its kernel stack: first byte and length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<(VirtAddr, u64)>,
}

impl ThreadDetails {
    /// What the kernel told the writer of the dump; `None` if the thread is known otherwise.
    #[must_use]
    pub fn recorded(thread: &Thread) -> Option<Self> {
        let recorded = thread.recorded.as_ref()?;
        Some(Self {
            state: recorded.state,
            wait_message: Some(recorded.wait.clone()).filter(|wait| !wait.is_empty()),
            stack: recorded.stack,
            ..Self::default()
        })
    }
}

/// Where the facts are.
#[derive(Debug)]
pub struct Details<'a, 't> {
    target: &'a Target<'t>,
    p_pptr: Option<Field>,
    p_pid: Option<Field>,
    p_ucred: Option<Field>,
    cr_uid: Option<Field>,
    p_flag: Option<Field>,
    p_state: Option<Field>,
    td_proc: Option<Field>,
    td_state: Option<Field>,
    td_inhibitors: Option<Field>,
    td_flags: Option<Field>,
    td_wmesg: Option<Field>,
    td_wchan: Option<Field>,
    td_lockname: Option<Field>,
    td_blocked: Option<Field>,
    td_slptick: Option<Field>,
    td_kstack: Option<Field>,
    td_kstack_pages: Option<Field>,
    ticks: Option<i64>,
    hz: Option<i64>,
}

impl<'a, 't> Details<'a, 't> {
    /// Looks the members up in the types.
    #[must_use]
    pub fn of(target: &'a Target<'t>) -> Self {
        let field = |structure: &str, name: &str| target.field(structure, name);
        let number = |name: &str| {
            let symbol = target.symbols.find(name)?;
            target.space.read_i32(symbol.address).ok().map(i64::from)
        };
        Self {
            target,
            p_pptr: field("proc", "p_pptr"),
            p_pid: field("proc", "p_pid"),
            p_ucred: field("proc", "p_ucred"),
            cr_uid: field("ucred", "cr_uid"),
            p_flag: field("proc", "p_flag"),
            p_state: field("proc", "p_state"),
            td_proc: field("thread", "td_proc"),
            // Renamed to `td_state` from an enumeration of that name in newer kernels.
            td_state: field("thread", "td_state"),
            td_inhibitors: field("thread", "td_inhibitors"),
            td_flags: field("thread", "td_flags"),
            td_wmesg: field("thread", "td_wmesg"),
            td_wchan: field("thread", "td_wchan"),
            td_lockname: field("thread", "td_lockname"),
            td_blocked: field("thread", "td_blocked"),
            td_slptick: field("thread", "td_slptick"),
            td_kstack: field("thread", "td_kstack"),
            td_kstack_pages: field("thread", "td_kstack_pages"),
            ticks: number("ticks"),
            hz: number("hz").filter(|hz| *hz > 0),
        }
    }

    fn value(&self, base: VirtAddr, field: Option<Field>) -> Option<u64> {
        self.target.value(base, field)
    }

    fn signed(&self, base: VirtAddr, field: Option<Field>) -> Option<i32> {
        self.target.signed(base, field)
    }

    fn pointer(&self, base: VirtAddr, field: Option<Field>) -> Option<VirtAddr> {
        self.target.pointer(base, field)
    }

    fn string(&self, base: VirtAddr, field: Option<Field>) -> Option<String> {
        self.target.string(base, field, NAME_MAX)
    }

    /// What is known of a process.
    #[must_use]
    pub fn process(&self, process: &Process) -> ProcessDetails {
        let base = process.address;
        if base.0 == 0 {
            return ProcessDetails::default();
        }
        let parent = self.pointer(base, self.p_pptr);
        let cred = self.pointer(base, self.p_ucred);
        let uid = cred.and_then(|cred| self.value(cred, self.cr_uid));
        let flags = self.value(base, self.p_flag);
        let has = |bits: u64| flags.is_some_and(|flags| flags & bits != 0);
        let letters = [(P_TRACED, 'X'), (P_WEXIT, 'E'), (P_JAILED, 'J')];
        ProcessDetails {
            ppid: parent.and_then(|parent| self.signed(parent, self.p_pid)),
            uid: uid.and_then(|uid| u32::try_from(uid).ok()),
            flags: flags.and_then(|flags| u32::try_from(flags & 0xffff_ffff).ok()),
            suffix: letters
                .iter()
                .filter(|(bits, _)| has(*bits))
                .map(|(_, letter)| *letter)
                .collect(),
            system: flags.map(|flags| flags & P_SYSTEM != 0),
        }
    }

    /// What is known of a thread.
    #[must_use]
    pub fn thread(&self, thread: &Thread) -> ThreadDetails {
        let base = thread.address;
        let slept = self
            .signed(base, self.td_slptick)
            .filter(|tick| *tick != 0)
            .and_then(|tick| {
                // Both wrap around ten minutes after the start.
                let ticks = i32::try_from(self.ticks?).ok()?;
                Some(i64::from(ticks.wrapping_sub(tick)) / self.hz?)
            })
            .filter(|seconds| *seconds >= 0);
        let pages = self.value(base, self.td_kstack_pages);
        let stack = self.pointer(base, self.td_kstack).zip(
            pages
                .map(|pages| pages & 0xffff)
                .filter(|pages| (1..=64).contains(pages))
                .map(|pages| pages * 4096),
        );
        if let Some(recorded) = ThreadDetails::recorded(thread) {
            return recorded;
        }
        // A CPU without a thread: there is no structure.
        if base.0 == 0 {
            return ThreadDetails::default();
        }
        ThreadDetails {
            state: self.state(thread, slept),
            wait_message: self.string(base, self.td_wmesg),
            wait_channel: self.pointer(base, self.td_wchan),
            lock_name: self.string(base, self.td_lockname),
            blocked_on: self.pointer(base, self.td_blocked),
            slept_seconds: slept,
            stack,
        }
    }

    fn state(&self, thread: &Thread, slept: Option<i64>) -> Option<char> {
        let base = thread.address;
        let process = self.pointer(base, self.td_proc);
        let of_process = |field| process.and_then(|process| self.value(process, field));
        if of_process(self.p_state) == Some(PRS_ZOMBIE) {
            return Some('Z');
        }
        let inhibitors = self.value(base, self.td_inhibitors)?;
        let flags = self.value(base, self.td_flags).unwrap_or(0);
        let state = self.value(base, self.td_state)?;
        let stopped = of_process(self.p_flag).is_some_and(|flags| flags & P_STOPPED != 0);
        Some(match state {
            _ if stopped || inhibitors & TDI_SUSPENDED != 0 => 'T',
            1 if inhibitors & TDI_LOCK != 0 => 'L',
            1 if inhibitors & TDI_SLEEPING != 0 && flags & TDF_SINTR == 0 => 'D',
            1 if inhibitors & TDI_SLEEPING != 0 && slept >= Some(IDLE_AFTER) => 'I',
            1 if inhibitors & TDI_SLEEPING != 0 => 'S',
            1 if inhibitors & TDI_IWAIT != 0 => 'W',
            2..=4 => 'R',
            _ => '?',
        })
    }
}
