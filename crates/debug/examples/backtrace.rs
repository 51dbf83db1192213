//! Prints the backtrace of the thread that crashed: `backtrace vmcore.0 kernel.debug`.

use std::error::Error;
use std::path::Path;
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_debug::{DebugFiles, Target};

/// One line for each frame.
pub fn backtrace(dump: &Path, kernel: &Path) -> Result<String, Box<dyn Error>> {
    let kernel = KernelChoice::Given(kernel);
    let session = Session::open(dump, kernel, &OpenOptions::default())?;
    let files = DebugFiles::of(&session)?;
    let target = Target::new(&session, &files)?;
    let list = target.processes()?;
    let mut threads = list.processes.iter().flat_map(|process| &process.threads);
    let crashed = threads.find(|thread| thread.crashed);
    let thread = crashed.ok_or_else(|| list.why_none_crashed())?;
    let mut text = format!("thread {}\n", thread.tid);
    for (number, frame) in target.stack(thread).frames.iter().enumerate() {
        let function = frame.function().unwrap_or("??");
        text += &format!("#{number:<3} {} {function}\n", frame.frame.pc);
    }
    Ok(text)
}

#[expect(clippy::print_stdout, reason = "a program prints")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args_os().skip(1);
    let (Some(dump), Some(kernel)) = (paths.next(), paths.next()) else {
        return Err("usage: backtrace DUMP KERNEL".into());
    };
    print!("{}", backtrace(Path::new(&dump), Path::new(&kernel))?);
    Ok(())
}
