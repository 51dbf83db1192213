//! Prints the panic message and the processes of a dump: `processes vmcore.0 kernel`.

use std::error::Error;
use std::path::Path;
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session, info, process};

/// The panic message, the clock rate, and a line for each process.
pub fn processes(dump: &Path, kernel: &Path) -> Result<String, Box<dyn Error>> {
    let kernel = KernelChoice::Given(kernel);
    let session = Session::open(dump, kernel, &OpenOptions::default())?;
    let info = info::info(&session)?;
    let panic = info.panic.map_or("unknown".to_owned(), |panic| panic.value);
    let hz = session.symbol("hz")?;
    let rate = session.space()?.read_u32(hz.address)?;
    let mut text = format!("panic: {panic}\nhz = {rate} at {}\n", hz.address);
    for process in process::list(&session)?.processes {
        let threads = process.threads.len();
        let name = process.comm.escape_ascii();
        text += &format!("{:>6} {name:<20} {threads:>4} threads\n", process.pid);
    }
    Ok(text)
}

#[expect(clippy::print_stdout, reason = "a program prints")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args_os().skip(1);
    let (Some(dump), Some(kernel)) = (paths.next(), paths.next()) else {
        return Err("usage: processes DUMP KERNEL".into());
    };
    print!("{}", processes(Path::new(&dump), Path::new(&kernel))?);
    Ok(())
}
