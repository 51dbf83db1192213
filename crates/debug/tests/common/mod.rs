//! Opens the dumps of compiled kernels.
#![allow(dead_code, reason = "each test uses a part of it")]

use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_debug::{DebugFiles, Target};
use vmcore_testkit::TestKernel;

pub(crate) trait Open {
    /// Writes the dump and opens it.
    fn session(&self) -> Session;
}

impl Open for TestKernel {
    fn session(&self) -> Session {
        let kernel = KernelChoice::Given(&self.file);
        Session::open(&self.write_dump(), kernel, &OpenOptions::default()).unwrap()
    }
}

/// Asks the dump of a test kernel.
pub(crate) fn with_target<T>(kernel: &TestKernel, ask: impl FnOnce(&Target<'_>) -> T) -> T {
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    ask(&Target::new(&session, &files).unwrap())
}
