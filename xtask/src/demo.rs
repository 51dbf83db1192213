//! `./x demo`: a crashed machine, and what the command says about it.

mod screen;
mod story;

use crate::tools::{self, GDB, QEMU, READELF, ZSTD};
use crate::{Result, corpus, shell};
use screen::{Keep, Screen, heading, mib};
use std::fs;
use std::path::{Path, PathBuf};

/// Where everything is made.
const FOLDER: &str = "target/demo";
/// Where the real dumps are unpacked.
const REAL: &str = "target/demo/real";

/// Shows the demo.
pub(crate) fn run(args: &[String]) -> Result {
    if let Some(arg) = args.first() {
        return Err(format!("what is {arg:?}? ./x demo takes nothing"));
    }
    println!("A kernel crashes and leaves a dump on its disk. This is how it gets there, and what");
    println!(
        "`vmcore` makes of it, here, without FreeBSD. All output below is real; what is long is"
    );
    println!("cut. Everything is made below {FOLDER}, and needs 200 MiB of disk: zeros are holes.");
    let vmcore = build()?;
    let mut screen = Screen::new(vmcore);
    remove(FOLDER)?;
    fs::create_dir_all(FOLDER).map_err(|error| format!("{FOLDER}: {error}"))?;
    match tools::need(&[QEMU]) {
        Ok(()) => story::tell(&mut screen)?,
        Err(message) => {
            println!("\n{message}\nWithout it no kernel can crash here; so take a generated dump.");
            generated(&mut screen)?;
        }
    }
    if let Some(corpus) = corpus::find() {
        real_dumps(&mut screen, &corpus)?;
    }
    next();
    screen.verdict()
}

/// Builds the command; gives its path.
fn build() -> Result<PathBuf> {
    heading("Building the command (the first time takes minutes)");
    let mut build = shell::command_line(
        "cargo build --release --locked -p vmcore-cli -p vmcore-synth --bin vmcore --example demo_machine",
    );
    shell::run(&mut build)?;
    let xtask = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
    let target = xtask.ancestors().nth(2).unwrap_or(Path::new("target"));
    Ok(target
        .join("release")
        .join(format!("vmcore{}", std::env::consts::EXE_SUFFIX)))
}

/// A generated machine, where there is none to crash.
fn generated(screen: &mut Screen) -> Result {
    heading("A machine with 8 GiB of RAM crashes");
    let mut make = shell::command_line(
        "cargo run --quiet --release --locked -p vmcore-synth --example demo_machine --",
    );
    let (made, time) = shell::timed(|| shell::run(make.arg(FOLDER)));
    made?;
    println!(
        "the dump and its kernel were made in {}",
        shell::human(time)
    );
    show(screen, FOLDER)
}

/// What the command says about `vmcore.0` in a folder, whose kernel is beside it.
fn show(screen: &mut Screen, folder: &str) -> Result {
    let (dump, core) = (format!("{folder}/vmcore.0"), format!("{folder}/vmcore.elf"));
    heading("What happened?");
    screen.run(&format!("vmcore list -d {folder}"), Keep::Start);
    screen.run(&format!("vmcore info {dump}"), Keep::Start);
    screen.run(&format!("vmcore log {dump}"), Keep::End);

    heading("Who was running? (the kernel file is found by its build id)");
    screen.run(&format!("vmcore ps {dump}"), Keep::Start);
    screen.run(&format!("vmcore bt {dump}"), Keep::Start);

    heading("All that on one page");
    screen.run(&format!("vmcore report {dump}"), Keep::Start);

    heading("One variable, from its name to its byte in the file");
    let symbol = screen.run(&format!("vmcore sym {dump} hz"), Keep::Start);
    if let Some(address) = first_address(&symbol) {
        screen.run(&format!("vmcore translate {dump} {address}"), Keep::Start);
    }
    screen.run(&format!("vmcore read {dump} hz 4"), Keep::Start);

    heading("What is in the dump?");
    screen.run(&format!("vmcore map {dump}"), Keep::Start);
    screen.run(&format!("vmcore search {dump} panic"), Keep::Start);
    screen.run(&format!("vmcore verify {dump}"), Keep::Start);

    heading("For every other tool: an ELF core");
    screen.run(
        &format!("vmcore convert {dump} {core} --to elf"),
        Keep::Start,
    );
    if !Path::new(&core).is_file() {
        return Ok(());
    }
    println!("{core}: {}\n", mib(Path::new(&core))?);
    if READELF.is_there() {
        screen.run(&format!("readelf -hW {core}"), Keep::Start);
    }
    if GDB.is_there() {
        screen.run(
            &format!(
                "gdb -nx -batch -iex 'set auto-load off' -iex 'set osabi GNU/Linux' \
                 -ex 'file {folder}/kernel' -ex 'core-file {core}' -ex 'set language c' \
                 -ex 'print (int) hz'"
            ),
            Keep::End,
        );
    }
    Ok(())
}

/// The dumps of real machines, if there are any.
fn real_dumps(screen: &mut Screen, corpus: &Path) -> Result {
    heading("Dumps that real FreeBSD kernels wrote");
    tools::need(&[ZSTD])?;
    fs::create_dir_all(REAL).map_err(|error| format!("{REAL}: {error}"))?;
    let dumps = unpack(corpus)?;
    println!("They were made small by their publishers: most pages are cut off or blank.\n");
    for dump in dumps {
        let architecture = dump.split('-').nth(1).unwrap_or_default();
        let kernel = format!("{REAL}/kernel-{architecture}");
        screen.run(
            &format!("vmcore info {REAL}/{dump} -k {kernel}"),
            Keep::Start,
        );
        screen.run(&format!("vmcore ps {REAL}/{dump} -k {kernel}"), Keep::Start);
    }
    Ok(())
}

/// Unpacks the dumps and kernels of a folder; gives the names of the dumps.
fn unpack(corpus: &Path) -> Result<Vec<String>> {
    let failed = |error| format!("{}: {error}", corpus.display());
    let mut dumps = Vec::new();
    for entry in fs::read_dir(corpus).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(name) = name.strip_suffix(".zst") else {
            continue;
        };
        let mut zstd = shell::command_line("zstd -d -q -f -o");
        shell::run(zstd.arg(Path::new(REAL).join(name)).arg(&path))?;
        if name.starts_with("vmcore-") {
            dumps.push(name.to_owned());
        }
    }
    dumps.sort();
    Ok(dumps)
}

/// The first hexadecimal address in what a command printed.
fn first_address(text: &str) -> Option<&str> {
    let is_hex = |word: &&str| {
        word.strip_prefix("0x")
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit()))
    };
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .find(is_hex)
}

fn next() {
    heading("What to try next");
    println!("  vmcore info YOUR-DUMP                a dump of your own, from any FreeBSD machine");
    println!("  vmcore ps YOUR-DUMP -k YOUR-KERNEL   who was running");
    println!("  vmcore help                          every command; each has --help and --json");
    println!("  cargo install --path crates/cli      puts `vmcore` into your search path");
    println!("  ./x lab --interactive                the lab kernel is yours to crash");
    println!("  ./x bench                            how fast it is, beside plain loops and cp");
}

/// Removes a folder that an earlier demo made.
fn remove(folder: &str) -> Result {
    if Path::new(folder).exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_text() {
        assert_eq!(
            first_address("hz = 0xffffffff81d4053c (4 bytes)"),
            Some("0xffffffff81d4053c")
        );
        assert_eq!(first_address("hz: no such symbol"), None);
    }
}
