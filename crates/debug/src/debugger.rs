//! A debugger that owns what it looks at: a dump, its kernel and their debug information in one value,
//! which clones for nothing and may be asked from several threads.
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore_debug::Debugger;
//! let debugger = Debugger::open("vmcore.0".as_ref(), KernelChoice::Find(&[]))?;
//! println!("{}", debugger.backtrace(None)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::stack::Stack;
use crate::target::{DebugFiles, Target};
use self_cell::self_cell;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use thiserror::Error;
use vmcore::process::{ProcessList, Thread};
use vmcore::session::{KernelChoice, SessionError};
use vmcore::{OpenOptions, Session};

/// A dump with its debug information, owned.
#[derive(Clone, Debug)]
pub struct Debugger {
    shared: Arc<Shared>,
}

struct Shared {
    cell: OwnedTarget,
    processes: OnceLock<ProcessList>,
}

/// What a [`Target`] borrows.
struct Owner {
    session: Session,
    files: DebugFiles,
}

self_cell!(
    struct OwnedTarget {
        owner: Owner,
        #[not_covariant]
        dependent: Target,
    }
);

/// Why there is no stack.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ThreadError {
    /// The threads cannot be told.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// No thread has this number.
    #[error("there is no thread {0}")]
    NoThread(i32),
    /// No thread made the dump.
    #[error("{0}")]
    NoneCrashed(&'static str),
}

impl Debugger {
    /// Opens a dump, its kernel and the debug information that belongs to it.
    ///
    /// # Errors
    /// Returns an error if the dump cannot be opened, or there is no kernel file that matches it.
    pub fn open(dump: &Path, kernel: KernelChoice<'_>) -> Result<Self, SessionError> {
        let session = Session::open(dump, kernel, &OpenOptions::default())?;
        let files = DebugFiles::of(&session)?;
        Self::new(session, files)
    }

    /// A debugger of parts that are open: with the files of modules, for one.
    ///
    /// # Errors
    /// Returns an error without a matching kernel file, or without its page tables.
    pub fn new(session: Session, files: DebugFiles) -> Result<Self, SessionError> {
        let owner = Owner { session, files };
        let cell = OwnedTarget::try_new(owner, |owner| Target::new(&owner.session, &owner.files))?;
        Ok(Self {
            shared: Arc::new(Shared {
                cell,
                processes: OnceLock::new(),
            }),
        })
    }

    /// The dump and its kernel.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.shared.cell.borrow_owner().session
    }

    /// The files with debug information.
    #[must_use]
    pub fn files(&self) -> &DebugFiles {
        &self.shared.cell.borrow_owner().files
    }

    /// Asks the target, which borrows from this.
    pub fn with<R>(&self, ask: impl FnOnce(&Target<'_>) -> R) -> R {
        self.shared.cell.with_dependent(|_, target| ask(target))
    }

    /// Processes and threads, read once.
    ///
    /// # Errors
    /// As of [`Target::processes`].
    pub fn processes(&self) -> Result<&ProcessList, SessionError> {
        if let Some(list) = self.shared.processes.get() {
            return Ok(list);
        }
        let list = self.with(|target| target.processes())?;
        Ok(self.shared.processes.get_or_init(|| list))
    }

    /// A thread; the one that made the dump without a number.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub fn thread(&self, tid: Option<i32>) -> Result<&Thread, ThreadError> {
        let list = self.processes()?;
        let mut threads = list.threads();
        match tid {
            Some(tid) => threads
                .find(|thread| thread.tid == tid)
                .ok_or(ThreadError::NoThread(tid)),
            None => threads
                .find(|thread| thread.crashed)
                .ok_or(ThreadError::NoneCrashed(list.why_none_crashed())),
        }
    }

    /// The stack of a thread; of the one that made the dump without a number.
    ///
    /// # Errors
    /// As of [`Debugger::thread`].
    pub fn backtrace(&self, tid: Option<i32>) -> Result<Stack, ThreadError> {
        let thread = self.thread(tid)?;
        Ok(self.with(|target| target.stack(thread)))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dump = self.cell.borrow_owner().session.dump().path();
        f.debug_struct("Shared")
            .field("dump", &dump)
            .finish_non_exhaustive()
    }
}
