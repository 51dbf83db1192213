//! Crashes of compiled kernels, to be damaged: their dumps and kernel files.

use crate::file::InputFile;
use crate::input::Input;
use crate::limit;
use object::{Object as _, ObjectSection as _};
use std::ops::Range;
use std::sync::OnceLock;
use vmcore::session::{KernelChoice, Session};
use vmcore::{OpenOptions, process};
use vmcore_debug::{DebugFiles, Target};
use vmcore_testkit::TestKernel;
use vmcore_testkit::interrupted;

/// The most changes to a file.
const CHANGES: usize = 256;
/// Threads of each kernel.
const FAULTS: usize = 9;
const PANICS: usize = 6;

/// A dump and its kernel file.
#[derive(Debug)]
pub struct Crash {
    /// The dump.
    pub dump: Vec<u8>,
    /// The kernel file.
    pub kernel: Vec<u8>,
    /// Where the debug information is in it.
    pub debug: Vec<Range<usize>>,
}

/// The crashes: bad pointers, failed checks, without and with optimization.
pub fn crashes() -> &'static [Crash] {
    static CRASHES: OnceLock<Vec<Crash>> = OnceLock::new();
    CRASHES.get_or_init(|| {
        let flags: [&[&str]; 2] = [&["-O2", "-gdwarf-5"], &["-O0", "-gdwarf-4"]];
        let made = flags.iter().flat_map(|flags| {
            let faults = interrupted::faults("gcc", flags, FAULTS);
            [faults, interrupted::panics("gcc", flags, PANICS)]
        });
        made.flatten().map(|kernel| Crash::of(&kernel)).collect()
    })
}

impl Crash {
    fn of(kernel: &TestKernel) -> Self {
        let read = |path| std::fs::read(path).expect("a file that was written");
        let (dump, kernel) = (read(&kernel.write_dump()), read(&kernel.file));
        let file = object::File::parse(&*kernel).expect("a compiled kernel");
        let debug = file
            .sections()
            .filter(|section| section.name().is_ok_and(|name| name.starts_with(".debug_")))
            .filter_map(|section| section.file_range())
            .map(|(start, len)| start as usize..(start + len) as usize);
        Self {
            debug: debug.collect(),
            dump,
            kernel,
        }
    }
}

/// Overwrites some bytes in these ranges of a file, as the input says.
pub fn damage(input: &mut Input<'_>, bytes: &mut [u8], ranges: &[Range<usize>]) {
    for _ in 0..usize::from(input.byte()).min(CHANGES) {
        let range = &ranges[usize::from(input.byte()) % ranges.len().max(1)];
        let at = range.start + input.u32() as usize % range.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = input.byte();
        }
    }
}

/// Asks a dump with its kernel file, if both can still be opened.
pub fn with_target(dump: &[u8], kernel: &[u8], ask: impl FnOnce(&Target<'_>)) {
    let (dump_file, kernel_file) = (InputFile::new(dump), InputFile::new(kernel));
    limit::memory(dump.len() + kernel.len(), || {
        let choice = KernelChoice::Given(kernel_file.path());
        let options = OpenOptions::default();
        let Ok(session) = Session::open(dump_file.path(), choice, &options) else {
            return;
        };
        let session = session.with_force(true);
        let Ok(files) = DebugFiles::of(&session) else {
            return;
        };
        if let Ok(target) = Target::new(&session, &files) {
            ask(&target);
        }
    });
}

/// Does something with each thread of a target.
pub fn each_thread(
    target: &Target<'_>,
    mut work: impl FnMut(&process::ProcessList, &process::Thread),
) {
    let Ok(list) = target.processes() else {
        return;
    };
    for thread in list.processes.iter().flat_map(|one| &one.threads) {
        work(&list, thread);
    }
}
