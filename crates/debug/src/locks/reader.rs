//! Reads locks: their names, classes and owners.

use super::sleep_queues::{LOCKMGR, SX, SleepQueues};
use super::{Holder, Lock};
use crate::target::Target;
use std::collections::HashMap;
use vmcore::process::ProcessList;
use vmcore_format::addr::VirtAddr;

/// `LO_CLASSMASK` and its shift: the class of a lock in `lo_flags`.
const CLASS_MASK: u32 = 0x0f00_0000;
const CLASS_SHIFT: u32 = 24;
/// Longest name of a lock.
const NAME_MAX: usize = 64;
#[derive(Debug)]
pub(super) struct Reader<'a, 't> {
    pub(super) target: &'a Target<'t>,
    tids: HashMap<VirtAddr, i32>,
    lo_name: u64,
    lo_flags: u64,
    ts_lockobj: Option<u64>,
    ts_owner: Option<u64>,
    classes: Vec<String>,
    sleep_queues: Option<SleepQueues>,
}

impl<'a, 't> Reader<'a, 't> {
    /// `None` if the types do not know locks.
    pub(super) fn of(target: &'a Target<'t>, list: &ProcessList) -> Option<Self> {
        let offset = |structure: &str, path: &str| target.types.offset_of(structure, path);
        let threads = list.threads();
        let mut reader = Self {
            target,
            tids: threads.map(|thread| (thread.address, thread.tid)).collect(),
            lo_name: offset("lock_object", "lo_name")?,
            lo_flags: offset("lock_object", "lo_flags")?,
            ts_lockobj: offset("turnstile", "ts_lockobj"),
            ts_owner: offset("turnstile", "ts_owner"),
            classes: Vec::new(),
            sleep_queues: SleepQueues::of(target, list),
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

    pub(super) fn lock_at_turnstile(&self, turnstile: VirtAddr) -> Option<Lock> {
        let lock = self.word(turnstile, self.ts_lockobj?)?;
        let mut lock = self.lock(VirtAddr(lock))?;
        // Read-mostly locks have no word that names their owner.
        let owner = self.ts_owner.and_then(|owner| self.word(turnstile, owner));
        if let (Holder::Unknown, Some(owner)) = (&lock.holder, owner.filter(|owner| *owner != 0)) {
            lock.holder = self.held_by(VirtAddr(owner));
        }
        Some(lock)
    }

    pub(super) fn held_by(&self, thread: VirtAddr) -> Holder {
        Holder::By {
            thread,
            tid: self.tids.get(&thread).copied(),
        }
    }

    /// The lock that a thread sleeps on, if it sleeps on one: the type of the sleep queue says so. Without
    /// the sleep queues, what is at the wait channel must look like a lock in every respect.
    pub(super) fn sleep_lock(&self, channel: VirtAddr, message: Option<&str>) -> Option<Lock> {
        let queues = self.sleep_queues.as_ref();
        let lock = match queues.map(|queues| queues.type_of(channel)) {
            Some(Some(SX)) => self.lock(channel).filter(|lock| lock.class == "sx")?,
            Some(Some(LOCKMGR)) => self.lock(channel).filter(|lock| lock.class == "lockmgr")?,
            Some(_) => return None,
            None => self
                .lock(channel)
                .filter(|lock| matches!(lock.class.as_str(), "sx" | "lockmgr"))?,
        };
        // A thread that sleeps on an sx lock has its name as the wait message.
        (lock.class != "sx" || message.is_none_or(|message| message == lock.name)).then_some(lock)
    }

    pub(super) fn lock(&self, address: VirtAddr) -> Option<Lock> {
        let name = self.word(address, self.lo_name)?;
        let flags_at = VirtAddr(address.0.wrapping_add(self.lo_flags));
        let flags = self.target.space.read_u32(flags_at).ok()?;
        let class = usize::try_from((flags & CLASS_MASK) >> CLASS_SHIFT).ok()?;
        let class = self.classes.get(class).filter(|name| !name.is_empty())?;
        let name = self.string(name)?;
        // Random memory has class bits too, but points to no text.
        let is_text = name.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        is_text.then(|| Lock {
            address,
            name,
            class: class.clone(),
            holder: self.holder(address, class),
            owner_does: None,
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
