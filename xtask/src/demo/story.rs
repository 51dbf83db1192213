//! The whole story: a kernel boots, runs into a bug, dumps to its disk; the dump is
//! saved from the disk and read. Once as a minidump, once as a full dump of the same machine.

use super::screen::{Keep, Screen, heading, mib};
use crate::{Result, lab, shell};
use std::fs;
use std::path::Path;

/// The disk that the kernel dumps on, and where dumps are saved.
const DISK: &str = "target/demo/disk.img";
const MINI: &str = "target/demo/crash";
const FULL: &str = "target/demo/crash-full";
/// Bytes of the disk: a full dump of 8 GiB fits. What is not written takes no room.
const DISK_MIB: u64 = 10 << 10;

/// Tells the story.
pub(super) fn tell(screen: &mut Screen) -> Result {
    heading("Building the lab kernel, which knows nothing but the writer crate");
    let (kernel, time) = shell::timed(lab::build);
    let kernel = kernel?;
    println!("{}, built in {}", mib(&kernel)?, shell::human(time));
    lab::make_disk(Path::new(DISK), DISK_MIB)?;

    heading(
        "A machine with 8 GiB of RAM boots, works, and runs into a bug: a packet without interface",
    );
    let crash = [
        "sysctl debug.minidump",
        "ddb",
        "panic null-member",
        "show dump",
        "dump",
    ];
    boot(&kernel, &[], &crash)?;
    save(screen, MINI, &kernel)?;
    heading("Why? (one sentence, and its evidence)");
    screen.run(&format!("vmcore why {MINI}/vmcore.0"), Keep::Start);
    super::show(screen, MINI)?;

    heading("The same machine with the boot tunable debug.minidump=0: all of its RAM");
    boot(
        &kernel,
        &["debug.minidump=0"],
        &["sysctl debug.kdb.panic=1", "dump"],
    )?;
    save(screen, FULL, &kernel)?;
    screen.run(&format!("vmcore info {FULL}/vmcore.0"), Keep::Start);
    screen.run(&format!("vmcore log {FULL}/vmcore.0"), Keep::End);
    screen.run(&format!("vmcore ps {FULL}/vmcore.0"), Keep::Start);
    for folder in [MINI, FULL] {
        println!(
            "{folder}/vmcore.0: {}",
            mib(&Path::new(folder).join("vmcore.0"))?
        );
    }
    Ok(())
}

/// Lets the machine run; what it says on its serial line is shown.
fn boot(kernel: &Path, tunables: &[&str], commands: &[&str]) -> Result {
    let (result, time) = shell::timed(|| lab::crash(kernel, Path::new(DISK), tunables, commands));
    println!("\n  [{}]", shell::human(time));
    result
}

/// Takes the dump off the disk, and puts the kernel beside it, where its build id finds it.
fn save(screen: &mut Screen, folder: &str, kernel: &Path) -> Result {
    let failed = |error| format!("{folder}: {error}");
    fs::create_dir_all(folder).map_err(failed)?;
    fs::copy(kernel, Path::new(folder).join("kernel")).map_err(failed)?;
    println!(
        "\nThe machine is off, and the dump is on its disk. --clear marks it there as saved.\n"
    );
    screen.run(&format!("vmcore save {DISK} {folder} --clear"), Keep::Start);
    screen.run(&format!("cat {folder}/info.0"), Keep::Start);
    Ok(())
}
