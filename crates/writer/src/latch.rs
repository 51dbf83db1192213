//! One dump at a time, and never twice: the owner of a dump, and what becomes of who comes second.
//!
//! A kernel that panics again while it dumps (a second panic, an NMI, a fault in the driver) must
//! not start over: the first dump is half on the device, and what broke will break again. Entering
//! the latch fails then, records how far the dump had come, and the kernel resets the machine. A
//! dump that has ended, well or not, leaves the latch open for the next device or for another dump
//! from a debugger.
//!
//! ```
//! use vmcore_writer::latch::{Latch, Stage};
//! static LATCH: Latch = Latch::new();
//! let owner = LATCH.enter().map_err(|_| "dumping already")?;
//! let second = LATCH.enter().unwrap_err(); // what a panic in the panic path sees: reset now
//! assert_eq!(second.stage, Stage::Started);
//! drop(owner);
//! assert!(LATCH.enter().is_ok());
//! # Ok::<(), &str>(())
//! ```

use core::sync::atomic::{AtomicU32, Ordering};
use thiserror::Error;

/// Declares the stages and their numbers.
macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal),+ $(,)?) => {
        /// How far a dump has come.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Stage {
            $($(#[$doc])* $name = $number,)+
        }

        impl Stage {
            const fn from_number(number: u32) -> Self {
                match number {
                    $($number => Self::$name,)+
                    _ => Self::Started,
                }
            }

            /// What it is called on the console.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

stages! {
    /// The latch has an owner; nothing is done yet.
    Started = 1 "started",
    /// Choosing pages.
    Select = 2 "choosing pages",
    /// Computing the layout, checking the room on the device.
    Plan = 3 "planning",
    /// Writing the header page, or the headers of a full dump.
    Header = 4 "writing the header",
    /// Writing the message buffer.
    MessageBuffer = 5 "writing the message buffer",
    /// Writing the RAM ranges.
    DumpAvail = 6 "writing the RAM ranges",
    /// Writing the bitmap.
    Bitmap = 7 "writing the bitmap",
    /// Writing the page tables.
    PageTables = 8 "writing the page tables",
    /// Writing pages.
    Pages = 9 "writing pages",
    /// Writing the extension.
    Extension = 10 "writing the extension",
    /// Flushing, and writing the dump headers.
    Finish = 11 "finishing",
}

/// A dump was going on already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a dump was going on already ({}): reset the machine", .stage.name())]
pub struct Reentry {
    /// How far it had come when it was interrupted for the first time.
    pub stage: Stage,
    /// How often it was interrupted so far.
    pub count: u32,
}

/// Who may dump. One static for the whole kernel.
#[derive(Debug, Default)]
pub struct Latch {
    /// Number of the stage; 0 if no dump is in progress.
    stage: AtomicU32,
    /// Number of the stage in which the dump was interrupted first; 0 if it was not.
    interrupted: AtomicU32,
    interruptions: AtomicU32,
    /// Dumps that were begun since boot.
    dumps: AtomicU32,
    /// Whether a dump that is broken off may be begun again: [`NOT_ALLOWED`], [`ALLOWED`], [`USED_UP`].
    restart: AtomicU32,
}

const NOT_ALLOWED: u32 = 0;
const ALLOWED: u32 = 1;
const USED_UP: u32 = 2;

impl Latch {
    /// A latch without an owner.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            stage: AtomicU32::new(0),
            interrupted: AtomicU32::new(0),
            interruptions: AtomicU32::new(0),
            dumps: AtomicU32::new(0),
            restart: AtomicU32::new(NOT_ALLOWED),
        }
    }

    /// Acquires the latch, or records the failed attempt. Never blocks.
    ///
    /// # Errors
    /// Returns an error if a dump is going on: the caller resets the machine, and touches neither the
    /// writer nor the device.
    pub fn enter(&self) -> Result<Owner<'_>, Reentry> {
        let started = Stage::Started as u32;
        let order = (Ordering::AcqRel, Ordering::Acquire);
        match self.stage.compare_exchange(0, started, order.0, order.1) {
            Ok(_) => {
                self.dumps.fetch_add(1, Ordering::Relaxed);
                Ok(Owner { latch: self })
            }
            Err(stage) => {
                let first = self
                    .interrupted
                    .compare_exchange(0, stage, order.0, order.1);
                let stage = Stage::from_number(first.map_or_else(|first| first, |_| stage));
                let count = self
                    .interruptions
                    .fetch_add(1, Ordering::AcqRel)
                    .wrapping_add(1);
                Err(Reentry { stage, count })
            }
        }
    }

    /// Takes the latch from a dump that panicked, once since boot, if its owner has allowed that.
    ///
    /// For a panic on the CPU that dumps, and for nothing else: the caller that gets the latch must know that
    /// the owner of before never goes on. It writes a plain dump, without the layer that panicked.
    #[must_use]
    pub fn restart(&self) -> Option<Owner<'_>> {
        let order = (Ordering::AcqRel, Ordering::Acquire);
        self.restart
            .compare_exchange(ALLOWED, USED_UP, order.0, order.1)
            .ok()?;
        self.dumps.fetch_add(1, Ordering::Relaxed);
        self.stage.store(Stage::Started as u32, Ordering::Release);
        Some(Owner { latch: self })
    }

    /// Whether, when and how often a dump was interrupted since boot.
    #[must_use]
    pub fn interrupted(&self) -> Option<Reentry> {
        let count = self.interruptions.load(Ordering::Acquire);
        let stage = self.interrupted.load(Ordering::Acquire);
        (count > 0).then(|| Reentry {
            stage: Stage::from_number(stage),
            count,
        })
    }
}

/// The right to dump, until it is dropped.
#[derive(Debug)]
pub struct Owner<'a> {
    latch: &'a Latch,
}

impl Owner<'_> {
    /// How far the dump has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        Stage::from_number(self.latch.stage.load(Ordering::Acquire))
    }

    /// Says that this dump goes through a layer that might panic, and may be begun again without it:
    /// [`Latch::restart`]. It holds until the owner is dropped.
    pub fn allow_restart(&self) {
        let (order, failed) = (Ordering::AcqRel, Ordering::Acquire);
        // Once used up it stays so; that is not an error.
        let _ = self
            .latch
            .restart
            .compare_exchange(NOT_ALLOWED, ALLOWED, order, failed);
    }

    pub(crate) fn reach(&self, stage: Stage) {
        self.latch.stage.store(stage as u32, Ordering::Release);
    }

    /// How many dumps were begun since boot, this one included.
    pub(crate) fn sequence(&self) -> u32 {
        self.latch.dumps.load(Ordering::Relaxed)
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        let (order, failed) = (Ordering::AcqRel, Ordering::Acquire);
        let restart = &self.latch.restart;
        let _ = restart.compare_exchange(ALLOWED, NOT_ALLOWED, order, failed);
        self.latch.stage.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_second_learns_the_stage_of_the_first_interruption() {
        let latch = Latch::new();
        let owner = latch.enter().unwrap();
        assert_eq!(latch.interrupted(), None);
        owner.reach(Stage::Pages);
        assert_eq!(
            latch.enter().unwrap_err(),
            Reentry {
                stage: Stage::Pages,
                count: 1
            }
        );
        owner.reach(Stage::Finish);
        assert_eq!(
            latch.enter().unwrap_err(),
            Reentry {
                stage: Stage::Pages,
                count: 2
            }
        );
        assert_eq!(
            latch.interrupted(),
            Some(Reentry {
                stage: Stage::Pages,
                count: 2
            })
        );
        assert_eq!(owner.stage(), Stage::Finish);
    }

    #[test]
    fn a_dump_that_has_ended_leaves_the_latch_open() {
        let latch = Latch::new();
        for sequence in 1..4 {
            let owner = latch.enter().unwrap();
            assert_eq!(
                (owner.sequence(), owner.stage()),
                (sequence, Stage::Started)
            );
        }
    }

    #[test]
    fn a_dump_through_a_layer_is_begun_again_once() {
        let latch = Latch::new();
        let plain = latch.enter().unwrap();
        assert!(latch.restart().is_none());
        drop(plain);
        let layered = latch.enter().unwrap();
        layered.allow_restart();
        layered.reach(Stage::Pages);
        // A panic: the owner is never heard of again.
        core::mem::forget(layered);
        let again = latch.restart().unwrap();
        assert_eq!((again.stage(), again.sequence()), (Stage::Started, 3));
        again.allow_restart();
        assert!(latch.restart().is_none());
        assert!(latch.enter().is_err());
        drop(again);
        let next = latch.enter().unwrap();
        next.allow_restart();
        assert!(latch.restart().is_none());
    }

    #[test]
    fn a_dump_that_ended_cannot_be_begun_again() {
        let latch = Latch::new();
        let layered = latch.enter().unwrap();
        layered.allow_restart();
        drop(layered);
        assert!(latch.restart().is_none());
    }
}
