//! A dump and a kernel file: stacks, variables, instructions, reasons, locks, modules and the report.
//! The input is as for `session`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::session::{KernelChoice, Session};
use vmcore::{OpenOptions, process};
use vmcore_debug::reason;
use vmcore_debug::report::{self, Share};
use vmcore_debug::show::Options;
use vmcore_debug::{DebugFiles, Target};
use vmcore_fuzz::file::InputFile;
use vmcore_fuzz::input::Input;
use vmcore_fuzz::limit;

/// Frames that a stack may have.
const FRAMES: usize = 1000;
/// Frames whose variables and instructions are read, and bytes of these.
const VALUED: usize = 8;
const CODE_BYTES: u64 = 64;
/// Symbols whose values are printed.
const SYMBOLS: usize = 16;

fuzz_target!(|data: &[u8]| {
    let (dump, kernel) = Input(data).two_files();
    let (dump, kernel) = (InputFile::new(dump), InputFile::new(kernel));
    limit::memory(data.len(), || {
        let kernel = KernelChoice::Given(kernel.path());
        let Ok(session) = Session::open(dump.path(), kernel, &OpenOptions::default()) else {
            return;
        };
        // Another kernel's file is as good as one that fits.
        let session = session.with_force(true);
        let Ok(files) = DebugFiles::of(&session) else {
            return;
        };
        let Ok(files) = files.with_modules(&session, &Default::default()) else {
            return;
        };
        let (Ok(target), Ok(list)) = (Target::new(&session, &files), process::list(&session))
        else {
            return;
        };
        for thread in list.processes.iter().flat_map(|process| &process.threads) {
            let stack = target.stack(thread);
            assert!(stack.frames.len() <= FRAMES + 1);
            for number in 0..stack.frames.len().min(VALUED) {
                let _ = target.shown_variables(&stack.frames, number, &Options::default());
                let pc = stack.frames[number].frame.pc;
                let _ = target.instructions_of(pc, CODE_BYTES);
            }
            let _ = reason::of(&target, &list, thread);
        }
        if let Ok(report) = report::of(&target, &list) {
            assert!(report.to_string().starts_with("PANIC "));
            let _ = Share::new(&target, &report).to_string();
        }
        if let Some(kernel) = session.kernel() {
            for symbol in kernel.symbols().iter().take(SYMBOLS) {
                let name = String::from_utf8_lossy(symbol.name);
                if let Ok(value) = target.evaluate(&name) {
                    let _ = target.print(&value, &Options::default()).to_string();
                }
            }
        }
    });
});
