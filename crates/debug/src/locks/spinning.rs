//! The locks that CPUs spin on: no queue names them, but the registers of the spinning thread do, and the
//! words of a panic about it.

use super::reader::Reader;
use super::{Holder, Lock};
use crate::target::Target;
use crate::unwind::Frame;
use vmcore::process::ProcessList;
use vmcore_format::addr::VirtAddr;

/// Functions that only spin on a lock.
const SPINNING: [&str; 10] = [
    "_mtx_lock_indefinite_check",
    "_mtx_lock_spin_cookie",
    "__mtx_lock_spin_flags",
    "thread_lock_flags_",
    "_thread_lock",
    "__mtx_lock_sleep",
    "lock_delay",
    "__rw_wlock_hard",
    "__rw_rlock_hard",
    "_sx_xlock_hard",
];

/// Whether a function, by its name without offset, only spins on a lock.
pub(crate) fn is_spinning(function: &str) -> bool {
    SPINNING.contains(&function)
}

/// Names the locks that CPUs spin on.
#[derive(Debug)]
pub struct Spinning<'a, 't> {
    pub(super) reader: Reader<'a, 't>,
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

    /// The lock at an address, if one is there.
    pub(crate) fn lock_at(&self, address: VirtAddr) -> Option<Lock> {
        self.reader.lock(address)
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
