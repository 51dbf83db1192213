//! Prints the backtrace of the thread that crashed: `backtrace vmcore.0 kernel.debug`.

use std::error::Error;
use std::path::Path;
use vmcore::session::KernelChoice;
use vmcore_debug::Debugger;

/// One line for each frame.
pub fn backtrace(dump: &Path, kernel: &Path) -> Result<String, Box<dyn Error>> {
    let debugger = Debugger::open(dump, KernelChoice::Given(kernel))?;
    Ok(debugger.backtrace(None)?.to_string())
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
