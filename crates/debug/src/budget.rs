//! What reading the debug information of one file may cost: work and memory in proportion to its
//! length, with a floor for small files.
//!
//! Debug information multiplies: one byte makes a row of a line table, a reference names a string of
//! a megabyte, a compressed section is a thousand times as long. Whatever is kept or repeated is
//! paid for here first. What cannot be paid for is left out, and the answer says so.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use thiserror::Error;

/// Bytes of memory for every file, and for each of its bytes.
const MEMORY_FLOOR: u64 = 16 << 20;
const MEMORY_FACTOR: u64 = 8;
/// Steps for every file, and for each of its bytes: an attribute, a row, some bytes of a string.
const WORK_FLOOR: u64 = 64 << 20;
const WORK_FACTOR: u64 = 64;
/// Steps that are paid for at once.
const PORTION: u64 = 4096;

/// The budget does not allow it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("its debug information costs too much to read for its size")]
pub(crate) struct Spent;

/// What is left of the costs that a file may cause.
#[derive(Debug)]
pub(crate) struct Budget {
    memory: AtomicU64,
    work: AtomicU64,
    refused: AtomicBool,
}

impl Budget {
    /// That of a file of so many bytes.
    pub(crate) fn of(len: usize) -> Self {
        let len = len as u64;
        let limit = |floor: u64, factor: u64| AtomicU64::new(floor + len.saturating_mul(factor));
        Self {
            memory: limit(MEMORY_FLOOR, MEMORY_FACTOR),
            work: limit(WORK_FLOOR, WORK_FACTOR),
            refused: AtomicBool::new(false),
        }
    }

    /// Pays for memory that is kept.
    pub(crate) fn memory(&self, bytes: u64) -> Result<(), Spent> {
        self.pay(&self.memory, bytes)
    }

    /// Memory that is free again.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.memory.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of memory that are left.
    pub(crate) fn memory_left(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Pays for work.
    pub(crate) fn work(&self, steps: u64) -> Result<(), Spent> {
        self.pay(&self.work, steps)
    }

    /// Work in small steps.
    pub(crate) const fn steps(&self) -> Steps<'_> {
        Steps {
            budget: self,
            prepaid: 0,
        }
    }

    /// Whether something had to be left out.
    pub(crate) fn is_spent(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Notes that something is left out.
    pub(crate) fn refuse(&self) -> Spent {
        self.refused.store(true, Ordering::Relaxed);
        Spent
    }

    fn pay(&self, left: &AtomicU64, amount: u64) -> Result<(), Spent> {
        let paid = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(amount)
        });
        paid.map(drop).map_err(|_| self.refuse())
    }
}

/// Pays for many small steps of work in portions.
#[derive(Debug)]
pub(crate) struct Steps<'b> {
    budget: &'b Budget,
    prepaid: u64,
}

impl Steps<'_> {
    /// Pays for some more.
    pub(crate) fn spend(&mut self, steps: u64) -> Result<(), Spent> {
        if let Some(left) = self.prepaid.checked_sub(steps) {
            self.prepaid = left;
            return Ok(());
        }
        self.budget.work(steps.saturating_add(PORTION))?;
        self.prepaid += PORTION;
        Ok(())
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        self.budget.work.fetch_add(self.prepaid, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_refused_and_what_is_given_back_is_there_again() {
        let budget = Budget::of(1000);
        let all = MEMORY_FLOOR + 1000 * MEMORY_FACTOR;
        assert_eq!(budget.memory(all + 1), Err(Spent));
        assert!(budget.is_spent());
        assert_eq!(budget.memory(all), Ok(()));
        assert_eq!(budget.memory(1), Err(Spent));
        budget.give_back(1);
        assert_eq!(budget.memory(1), Ok(()));
    }

    #[test]
    fn steps_that_were_not_taken_are_not_paid_for() {
        let budget = Budget::of(0);
        for _ in 0..10 * WORK_FLOOR / PORTION {
            assert_eq!(budget.steps().spend(1), Ok(()));
        }
        assert_eq!(
            budget.work.load(Ordering::Relaxed),
            WORK_FLOOR - 10 * WORK_FLOOR / PORTION
        );
        assert_eq!(budget.steps().spend(WORK_FLOOR), Err(Spent));
    }
}
