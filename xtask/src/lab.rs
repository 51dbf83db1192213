//! `./x lab`: the lab kernel in QEMU, for a person, for a script, and for the tests.

mod backtraces;
mod cases;
mod checks;
mod dump;
mod dump_key;
mod machine;
mod pages;
mod server;

use crate::tools::{self, CC, OPENSSL, QEMU};
use crate::{Result, shell};
use machine::{Boot, Machine};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const HELP: &str = "\
./x lab [OPTIONS] [COMMAND...]   boot, type each COMMAND at the prompt, and switch off
./x lab [OPTIONS] --interactive  the serial line is yours: Control-A X ends it
./x lab test [CASE...]           the tests; without names all of them

  --memory SIZE     as QEMU writes it [256M]
  --cpus N          [2]
  --cpu MODEL       QEMU's name of the processor; `max` has pages of 1 GiB
  --tune NAME=VALUE a boot tunable; any number of them
  --disk FILE       the dump disk [target/lab/disk.img, made when it is missing]
  --disk-size MIB   of a disk that is made [1024]
  --net             a network: `vmcore serve DIR` on this host receives what `netdump` sends
  --dump-key FILE   an RSA public key: dumps can be encrypted then, `dumpon -C chacha20 vtblk0`
  --keep-zeros      write zeros to it like anything else, where they become holes otherwise; for
                    `bench disk`
";

/// Where the lab keeps disks, dumps and logs.
const FOLDER: &str = "target/lab";
/// How long a command at the prompt may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the command.
pub(crate) fn run(args: &[String]) -> Result {
    if args.first().is_some_and(|first| first == "test") {
        return cases::run(&args[1..]);
    }
    let mut boot = Boot::default();
    let mut disk = PathBuf::from(FOLDER).join("disk.img");
    let (mut interactive, mut keep_zeros, mut disk_mib) = (false, false, 1024);
    let mut commands = Vec::new();
    let mut public_key = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || {
            let value = args.next();
            value
                .cloned()
                .ok_or_else(|| format!("{arg} needs a value\n\n{HELP}"))
        };
        match arg.as_str() {
            "--memory" => boot.memory = value()?,
            "--cpus" => boot.cpus = value()?,
            "--cpu" => boot.cpu = Some(value()?),
            "--tune" => boot.tunables.push(value()?),
            "--disk" => disk = value()?.into(),
            "--disk-size" => disk_mib = value()?.parse().map_err(|_| "--disk-size: no number")?,
            "--net" => boot.network = true,
            "--dump-key" => public_key = Some(PathBuf::from(value()?)),
            "--keep-zeros" => keep_zeros = true,
            "--interactive" => interactive = true,
            "-h" | "--help" => {
                print!("{HELP}");
                return Ok(());
            }
            option if option.starts_with("--") => {
                return Err(format!("{option}: what is that?\n\n{HELP}"));
            }
            _ => commands.push(arg.clone()),
        }
    }
    let kernel = build()?;
    make_disk(&disk, disk_mib)?;
    if let Some(public_key) = public_key {
        tools::need(&[OPENSSL])?;
        std::fs::create_dir_all(FOLDER).map_err(|error| format!("{FOLDER}: {error}"))?;
        let handed = PathBuf::from(FOLDER).join("dumpkey");
        dump_key::hand_over(&public_key, &handed)?;
        boot.dump_key = Some(handed);
    }
    boot.drive = match keep_zeros {
        true => machine::plain_drive(&disk),
        false => machine::raw_drive(&disk),
    };
    if interactive {
        return shell::run(&mut machine::interactive(&boot, &kernel));
    }
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    talk(&boot, &kernel, &commands)
}

/// Boots an 8 GiB machine with a dump disk, types the commands, and switches it off. What it says
/// is shown.
pub(crate) fn crash(kernel: &Path, disk: &Path, tunables: &[&str], commands: &[&str]) -> Result {
    let boot = Boot {
        memory: "8G".to_owned(),
        tunables: tunables
            .iter()
            .map(|tunable| (*tunable).to_owned())
            .collect(),
        drive: machine::raw_drive(disk),
        ..Boot::default()
    };
    talk(&boot, kernel, commands)
}

/// Boots, types each command at the prompt, and switches off.
fn talk(boot: &Boot, kernel: &Path, commands: &[&str]) -> Result {
    let folder = Path::new(FOLDER);
    std::fs::create_dir_all(folder).map_err(|error| format!("{FOLDER}: {error}"))?;
    let mut machine = Machine::start(boot, kernel, &folder.join("serial.txt"))?;
    machine.echo = true;
    machine.prompt(PATIENCE)?;
    for command in commands {
        machine.send(&format!("{command}\r"))?;
        if machine.prompt(PATIENCE).is_err() {
            break;
        }
    }
    if machine.has_ended() {
        return Ok(());
    }
    machine.send("poweroff\r")?;
    machine.end(PATIENCE)
}

/// Builds the kernel, and tells where it is.
pub(crate) fn build() -> Result<PathBuf> {
    build_in(Path::new("lab"), "lab-kernel")
}

/// Builds a kernel that has a folder of its own.
pub(crate) fn build_in(folder: &Path, name: &str) -> Result<PathBuf> {
    tools::need(&[CC, QEMU])?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--locked", "--quiet"]);
    // Its flags are in its own folder; those of the environment would replace them.
    cargo
        .current_dir(folder)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    shell::run(&mut cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or_else(|| folder.join("target"), PathBuf::from);
    let kernel = target.join("x86_64-unknown-linux-gnu/release").join(name);
    match kernel.is_file() {
        true => Ok(kernel),
        false => Err(format!("{} was not built", kernel.display())),
    }
}

/// Makes an empty disk, which takes no room, unless there is one.
pub(crate) fn make_disk(path: &Path, mib: u64) -> Result {
    let failed = |error| format!("{}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    if path.exists() {
        return Ok(());
    }
    std::fs::File::create(path)
        .and_then(|file| file.set_len(mib << 20))
        .map_err(failed)
}
