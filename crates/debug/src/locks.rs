//! Who waits for whom: locks with their owners and waiters, chains, and cycles, which are
//! deadlocks.
//!
//! A thread that is blocked on a mutex or a read-write lock is on a turnstile, which names the lock; a
//! thread that sleeps on an sx lock or a lockmgr lock has the lock as its wait channel, and the type of the
//! sleep queue says so. A thread that spins is on no queue: its registers name the lock. The lock's word
//! names its owner. Needs types.
//!
//! ```no_run
//! use vmcore_debug::{Target, locks};
//! # fn show(target: &Target<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! let list = vmcore::process::list(target.session())?;
//! let locks = locks::find(target, &list);
//! println!("{} waits, {} cycles", locks.waits.len(), locks.cycles.len());
//! # Ok(())
//! # }
//! ```

mod reader;
mod sleep_queues;
mod spinning;

pub use spinning::Spinning;
pub(crate) use spinning::is_spinning;

use crate::details::{Details, ThreadDetails};
use crate::report::crash::About;
use crate::report::{base_name, log_around_the_trap};
use crate::target::Target;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use vmcore::process::{OffsetSource, ProcessList, Thread};
use vmcore_format::addr::VirtAddr;

/// The longest chain that is followed.
const MAX_CHAIN: usize = 1000;

/// A lock that somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lock {
    /// Address of its `struct lock_object`.
    pub address: VirtAddr,
    /// Its name.
    pub name: String,
    /// Its class: `sleep mutex`, `sx`, `rw`, `lockmgr`.
    pub class: String,
    /// Who holds it.
    #[serde(flatten)]
    pub holder: Holder,
    /// What its one owner does, text: `sleeps on "nanslp"`, `runs on CPU 2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_does: Option<String>,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "held")]
pub enum Holder {
    /// Nobody.
    Free,
    /// One thread.
    By {
        /// Address of its `struct thread`.
        thread: VirtAddr,
        /// Its thread id, if it is in the list of threads.
        #[serde(skip_serializing_if = "Option::is_none")]
        tid: Option<i32>,
    },
    /// Several threads, which it does not name.
    Shared {
        /// How many.
        count: u64,
    },
    /// Nobody any more: the lock of a buffer that was handed to the kernel, to be released when its
    /// input or output is done.
    Disowned,
    /// It cannot be told.
    Unknown,
}

/// A thread that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// The thread.
    pub tid: i32,
    /// Address of the lock.
    pub lock: VirtAddr,
    /// Whether it sleeps; if not, it is blocked on a turnstile, or spins.
    pub sleeping: bool,
    /// Whether it spins.
    pub spinning: bool,
    /// How it wants the lock, if the lock has readers too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wants: Option<Mode>,
}

/// How a lock is held, or wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// By one thread: to write.
    Exclusive,
    /// Beside others: to read.
    Shared,
}

/// Threads that wait for each other, up to one that does not wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Each waits for the next; the last one holds everything up.
    pub tids: Vec<i32>,
    /// Whether the last one waits for one before it.
    pub is_cycle: bool,
}

/// The locks of a dump that somebody waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Locks {
    /// The locks.
    pub locks: Vec<Lock>,
    /// Who waits for them.
    pub waits: Vec<Wait>,
    /// From each thread that waits and for which nobody waits.
    pub chains: Vec<Chain>,
    /// Deadlocks: threads that wait for each other, each cycle once, from its lowest thread id.
    pub cycles: Vec<Vec<i32>>,
    /// What could not be answered, and why.
    pub problems: Vec<String>,
}

/// Finds locks that threads wait for.
#[must_use]
pub fn find(target: &Target<'_>, list: &ProcessList) -> Locks {
    let mut locks = Locks::default();
    // Another kernel's locks are not FreeBSD's.
    if list.offsets == OffsetSource::Recorded {
        return locks;
    }
    let Some(spinning) = Spinning::of(target, list) else {
        locks
            .problems
            .push("the kernel file has no type of locks".to_owned());
        return locks;
    };
    let reader = &spinning.reader;
    let queues = ["td_tsqueue", "td_sqqueue"].map(|name| target.field("thread", name));
    let threads = || list.threads();
    let details = Details::of(target);
    let mut known = BTreeMap::new();
    for thread in threads() {
        let waits = details.thread(thread);
        let blocked = waits
            .blocked_on
            .and_then(|turnstile| reader.lock_at_turnstile(turnstile));
        let message = waits.wait_message.as_deref();
        let sleeping = waits.wait_channel.filter(|_| blocked.is_none());
        let asleep = sleeping.and_then(|channel| reader.sleep_lock(channel, message));
        let sleeping = asleep.is_some();
        let queued = blocked.or(asleep);
        let spins = || spinning_on(target, &spinning, thread);
        let (lock, spinning) = match queued {
            Some(lock) => (lock, false),
            None => match spins() {
                Some(lock) => (lock, true),
                None => continue,
            },
        };
        // Which of the two lists of the turnstile, or of the sleep queue, it is in.
        let queue = queues.get(usize::from(sleeping)).copied().flatten();
        let queue = target
            .value(thread.address, queue)
            .map(|number| number & 0xff);
        let has_readers = matches!(lock.class.as_str(), "sx" | "rw" | "lockmgr");
        locks.waits.push(Wait {
            tid: thread.tid,
            lock: lock.address,
            sleeping,
            spinning,
            wants: match queue.filter(|_| has_readers && !spinning) {
                Some(0) => Some(Mode::Exclusive),
                Some(1) => Some(Mode::Shared),
                _ => None,
            },
        });
        known.insert(lock.address, lock);
    }
    (locks.chains, locks.cycles) = chains(&locks.waits, &known);
    let names: HashMap<VirtAddr, String> = known
        .iter()
        .map(|(address, lock)| (*address, format!("{} \"{}\"", lock.class, lock.name)))
        .collect();
    for lock in known.values_mut() {
        let Holder::By {
            tid: Some(owner), ..
        } = lock.holder
        else {
            continue;
        };
        let wait = locks.waits.iter().find(|wait| wait.tid == owner);
        let lock_name = wait.and_then(|wait| names.get(&wait.lock));
        let owner = threads().find(|thread| thread.tid == owner);
        lock.owner_does = match lock_name {
            Some(name) => Some(format!("waits for {name}")),
            None => owner.and_then(|owner| does(owner, &details.thread(owner))),
        };
    }
    locks.locks = known.into_values().collect();
    locks
}

/// What a thread does that waits for no lock.
fn does(thread: &Thread, details: &ThreadDetails) -> Option<String> {
    let message = details.wait_message.as_deref().unwrap_or_default();
    Some(match (thread.cpu, details.wait_channel, details.state) {
        (Some(cpu), ..) => format!("runs on CPU {cpu}"),
        (None, Some(_), _) => format!("sleeps on \"{message}\""),
        (None, None, Some('R')) => "is on a run queue".to_owned(),
        (None, None, Some('T')) => "is stopped".to_owned(),
        (None, None, Some('W')) => "waits for an interrupt".to_owned(),
        _ => return None,
    })
}

/// The lock that a thread on a CPU spins on: the one that its registers lead to, or that the kernel named
/// when it gave up.
fn spinning_on(target: &Target<'_>, spinning: &Spinning<'_, '_>, thread: &Thread) -> Option<Lock> {
    thread.cpu?;
    let frames = target.backtrace(thread).frames;
    let mut functions = frames.iter().filter_map(|frame| frame.name.as_deref());
    if !functions.any(|name| is_spinning(base_name(name))) {
        return None;
    }
    let told = thread
        .crashed
        .then(|| About::of("", &log_around_the_trap(target)))
        .and_then(|about| {
            let lock = spinning.reader.lock(about.lock?);
            lock.filter(|lock| about.lock_name.as_ref() == Some(&lock.name))
        });
    told.or_else(|| spinning.lock(thread.address, &frames))
}

/// Follows each thread that waits to whoever holds it up.
fn chains(waits: &[Wait], locks: &BTreeMap<VirtAddr, Lock>) -> (Vec<Chain>, Vec<Vec<i32>>) {
    let holder = |lock: &VirtAddr| match locks.get(lock)?.holder {
        Holder::By { tid, .. } => tid,
        _ => None,
    };
    let next: HashMap<i32, i32> = waits
        .iter()
        .filter_map(|wait| Some((wait.tid, holder(&wait.lock)?)))
        .collect();
    let waited_for: HashSet<i32> = next.values().copied().collect();
    let (mut chains, mut cycles) = (Vec::new(), Vec::<Vec<i32>>::new());
    let mut starts: Vec<i32> = waits.iter().map(|wait| wait.tid).collect();
    starts.sort_unstable();
    for start in starts {
        let mut tids = vec![start];
        let mut seen = HashSet::from([start]);
        let mut at = start;
        let mut is_cycle = false;
        while let Some(following) = next.get(&at).copied() {
            if !seen.insert(following) {
                is_cycle = true;
                let from = tids.iter().position(|tid| *tid == following).unwrap_or(0);
                add_cycle(&mut cycles, tids.get(from..).unwrap_or_default());
                break;
            }
            if tids.len() >= MAX_CHAIN {
                break;
            }
            tids.push(following);
            at = following;
        }
        if !waited_for.contains(&start) && tids.len() > 1 {
            chains.push(Chain { tids, is_cycle });
        }
    }
    (chains, cycles)
}

/// Adds a cycle, turned so that its lowest thread comes first, if it is new.
fn add_cycle(cycles: &mut Vec<Vec<i32>>, tids: &[i32]) {
    let lowest = (0..tids.len()).min_by_key(|position| tids.get(*position));
    let mut cycle = tids.to_vec();
    cycle.rotate_left(lowest.unwrap_or(0));
    if !cycles.contains(&cycle) {
        cycles.push(cycle);
    }
}
