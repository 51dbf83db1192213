//! Who waits for whom: locks with their owners and waiters, chains, and cycles, which are
//! deadlocks.
//!
//! A thread that is blocked on a mutex or a read-write lock stands at a turnstile, which names the
//! lock; a sleep on a sx lock or a vnode's lock has the lock as its wait channel. The lock's word
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

use crate::details::Details;
use crate::target::Target;
use crate::unwind::Frame;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use vmcore::process::ProcessList;
use vmcore_format::addr::VirtAddr;

/// `LO_CLASSMASK` and its shift: the class of a lock in `lo_flags`.
const CLASS_MASK: u32 = 0x0f00_0000;
const CLASS_SHIFT: u32 = 24;
/// Longest name of a lock.
const NAME_MAX: usize = 64;
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
    /// Whether it sleeps; if not, it is blocked at a turnstile.
    pub sleeping: bool,
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

#[derive(Debug)]
struct Reader<'a, 't> {
    target: &'a Target<'t>,
    tids: HashMap<VirtAddr, i32>,
    lo_name: u64,
    lo_flags: u64,
    ts_lockobj: Option<u64>,
    ts_owner: Option<u64>,
    classes: Vec<String>,
}

/// Finds locks that threads wait for.
#[must_use]
pub fn find(target: &Target<'_>, list: &ProcessList) -> Locks {
    let mut locks = Locks::default();
    let Some(reader) = Reader::of(target, list) else {
        locks
            .problems
            .push("the kernel file has no type of locks".to_owned());
        return locks;
    };
    let threads = || list.processes.iter().flat_map(|process| &process.threads);
    let details = Details::of(target);
    let mut known = BTreeMap::new();
    for thread in threads() {
        let waits = details.thread(thread);
        let blocked = waits
            .blocked_on
            .and_then(|turnstile| reader.lock_at_turnstile(turnstile));
        let sleeping = waits.wait_channel.filter(|_| blocked.is_none());
        let lock = blocked.or_else(|| sleeping.and_then(|channel| reader.sleep_lock(channel)));
        let Some(lock) = lock else { continue };
        locks.waits.push(Wait {
            tid: thread.tid,
            lock: lock.address,
            sleeping: sleeping.is_some(),
        });
        known.insert(lock.address, lock);
    }
    (locks.chains, locks.cycles) = chains(&locks.waits, &known);
    locks.locks = known.into_values().collect();
    locks
}

/// Names the locks that CPUs spin on.
#[derive(Debug)]
pub struct Spinning<'a, 't> {
    reader: Reader<'a, 't>,
    /// From a lock's word back to the lock.
    words: Vec<u64>,
}

impl<'a, 't> Spinning<'a, 't> {
    /// `None` without types.
    #[must_use]
    pub fn of(target: &'a Target<'t>, list: &ProcessList) -> Option<Self> {
        let offset = |structure: &str, path: &str| target.types.offset_of(structure, path);
        let words = [
            Some(0),
            offset("mtx", "mtx_lock"),
            offset("rwlock", "rw_lock"),
            offset("sx", "sx_lock"),
        ];
        Some(Self {
            reader: Reader::of(target, list)?,
            words: words.into_iter().flatten().collect(),
        })
    }

    /// The lock that `thread` spins on: the one that the registers of its frames point at and that
    /// another thread holds. Nothing if there is none, or if there are several.
    #[must_use]
    pub fn lock(&self, thread: VirtAddr, frames: &[Frame]) -> Option<Lock> {
        let machine = self.reader.target.machine();
        let mut found: Option<Lock> = None;
        let interrupted = frames.iter().filter_map(|frame| frame.trap.as_ref());
        let registers = interrupted
            .map(|trap| &trap.registers)
            .chain(frames.iter().map(|frame| &frame.registers))
            .flat_map(|registers| registers.named(machine));
        for (_, value) in registers {
            for before in &self.words {
                let address = VirtAddr(value.wrapping_sub(*before));
                let Some(lock) = self.reader.lock(address) else {
                    continue;
                };
                let is_held = matches!(&lock.holder, Holder::By { thread: by, tid: Some(_) } if *by != thread);
                if !is_held || lock.name.is_empty() {
                    continue;
                }
                match &found {
                    Some(known) if known.address != lock.address => return None,
                    _ => found = Some(lock),
                }
            }
        }
        found
    }
}

impl<'a, 't> Reader<'a, 't> {
    /// `None` if the types do not know locks.
    fn of(target: &'a Target<'t>, list: &ProcessList) -> Option<Self> {
        let offset = |structure: &str, path: &str| target.types.offset_of(structure, path);
        let threads = list.processes.iter().flat_map(|process| &process.threads);
        let mut reader = Self {
            target,
            tids: threads.map(|thread| (thread.address, thread.tid)).collect(),
            lo_name: offset("lock_object", "lo_name")?,
            lo_flags: offset("lock_object", "lo_flags")?,
            ts_lockobj: offset("turnstile", "ts_lockobj"),
            ts_owner: offset("turnstile", "ts_owner"),
            classes: Vec::new(),
        };
        reader.classes = reader.class_names();
        Some(reader)
    }

    fn word(&self, at: VirtAddr, offset: u64) -> Option<u64> {
        let at = VirtAddr(at.0.wrapping_add(offset));
        self.target.space.read_word(at).ok()
    }

    fn string(&self, at: u64) -> Option<String> {
        let text = self.target.space.read_string(VirtAddr(at), NAME_MAX).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// The names of the 16 classes.
    fn class_names(&self) -> Vec<String> {
        let lc_name = self.target.types.offset_of("lock_class", "lc_name");
        let table = self.target.symbols.find("lock_classes");
        let (Some(lc_name), Some(table)) = (lc_name, table) else {
            return Vec::new();
        };
        let word = self.target.space.word().bytes();
        (0..16)
            .map(|class| {
                let class = self.word(table.address, class * word).filter(|at| *at != 0);
                class
                    .and_then(|class| self.word(VirtAddr(class), lc_name))
                    .and_then(|name| self.string(name))
                    .unwrap_or_default()
            })
            .collect()
    }

    fn lock_at_turnstile(&self, turnstile: VirtAddr) -> Option<Lock> {
        let lock = self.word(turnstile, self.ts_lockobj?)?;
        let mut lock = self.lock(VirtAddr(lock))?;
        // Read-mostly locks have no word that names their owner.
        let owner = self.ts_owner.and_then(|owner| self.word(turnstile, owner));
        if let (Holder::Unknown, Some(owner)) = (&lock.holder, owner.filter(|owner| *owner != 0)) {
            lock.holder = self.held_by(VirtAddr(owner));
        }
        Some(lock)
    }

    fn held_by(&self, thread: VirtAddr) -> Holder {
        Holder::By {
            thread,
            tid: self.tids.get(&thread).copied(),
        }
    }

    /// The lock that a wait channel is, if it is one.
    fn sleep_lock(&self, channel: VirtAddr) -> Option<Lock> {
        let lock = self.lock(channel)?;
        matches!(lock.class.as_str(), "sx" | "lockmgr").then_some(lock)
    }

    fn lock(&self, address: VirtAddr) -> Option<Lock> {
        let name = self.word(address, self.lo_name)?;
        let flags_at = VirtAddr(address.0.wrapping_add(self.lo_flags));
        let flags = self.target.space.read_u32(flags_at).ok()?;
        let class = usize::try_from((flags & CLASS_MASK) >> CLASS_SHIFT).ok()?;
        let class = self.classes.get(class).filter(|name| !name.is_empty())?;
        Some(Lock {
            address,
            name: self.string(name)?,
            class: class.clone(),
            holder: self.holder(address, class),
        })
    }

    /// Who holds a lock, by its word. The low bits are flags; readers are counted above them.
    fn holder(&self, address: VirtAddr, class: &str) -> Holder {
        let (structure, member, has_readers) = match class {
            "sx" => ("sx", "sx_lock", true),
            "rw" => ("rwlock", "rw_lock", true),
            "lockmgr" => ("lock", "lk_lock", true),
            "sleep mutex" | "spin mutex" => ("mtx", "mtx_lock", false),
            _ => return Holder::Unknown,
        };
        let offset = self.target.types.offset_of(structure, member);
        let Some(word) = offset.and_then(|offset| self.word(address, offset)) else {
            return Holder::Unknown;
        };
        if has_readers && word & 1 == 1 {
            return match word >> 5 {
                0 => Holder::Free,
                count => Holder::Shared { count },
            };
        }
        // Threads are aligned to more than the flags of any kernel take; a known thread decides.
        let masks: [u64; 3] = if has_readers {
            [0x1f, 0xf, 0x7]
        } else {
            [0x7, 0x7, 0x7]
        };
        let candidates = masks.map(|mask| VirtAddr(word & !mask));
        let known = candidates.iter().find(|at| self.tids.contains_key(at));
        let thread = *known.unwrap_or(&candidates[0]);
        // `LK_KERNPROC`: all ones but for the flags.
        let disowned = self.target.arch().va_max() & !0x1f;
        match thread.0 & !0x1f {
            0 => Holder::Free,
            at if at == disowned && class == "lockmgr" => Holder::Disowned,
            _ => self.held_by(thread),
        }
    }
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
