//! Converts a dump to an ELF core: `to_elf vmcore.0 kernel core.elf`.

use std::error::Error;
use std::path::Path;
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_pipeline::elf;

/// Writes the core, and returns what was converted.
pub fn to_elf(dump: &Path, kernel: &Path, core: &Path) -> Result<String, Box<dyn Error>> {
    let kernel = KernelChoice::Given(kernel);
    let session = Session::open(dump, kernel, &OpenOptions::default())?;
    let converted = elf::convert(&session, core, false, |_done, _total| {})?;
    Ok(format!(
        "{} pages in {} segments, {} bytes\n",
        converted.pages, converted.segments, converted.len_bytes
    ))
}

#[expect(clippy::print_stdout, reason = "a program prints")]
fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let [dump, kernel, core] = paths.as_slice() else {
        return Err("usage: to_elf DUMP KERNEL CORE".into());
    };
    let text = to_elf(dump.as_ref(), kernel.as_ref(), core.as_ref())?;
    print!("{text}");
    Ok(())
}
