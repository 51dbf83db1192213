//! `./x fuzz`: every fuzz target for a while, from seeds that the dump builder makes.
//!
//! The code is safe, so that no sanitizer is needed: panics, hangs and memory are what can go wrong.
//! Without one the stable compiler does, and a target runs several times as fast.

use crate::tools::{self, CC, CXX};
use crate::{Result, shell};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the targets are, one file each.
const TARGETS: &str = "fuzz/fuzz_targets";
/// Where the inputs are, one folder a target.
const CORPUS: &str = "fuzz/corpus";
/// A source with the types of a kernel, and an expression over them.
const TYPES: &str = "crates/testkit/c/kernel.c";
const EXPRESSION: &str = "((struct proc *)allproc.lh_first)->p_matrix[1][2] + *(int *)&hz";
/// Seconds for a target by default.
const SECONDS: u32 = 60;
/// An input that takes longer has found a hang, a process that grows larger a leak. A single input
/// is limited by the targets, in proportion to its length.
const LIMITS: [&str; 3] = ["-timeout=10", "-report_slow_units=2", "-rss_limit_mb=1024"];

/// What a target is fed with in the beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seeds {
    /// Its input has its own shape, and it finds that out alone.
    None,
    /// Dumps and kernel files.
    Files,
    /// A dump and its kernel file in one: the length of the dump in four bytes, dump, kernel file.
    Pairs,
    /// An expression and an object file with types in one, put together in the same way.
    Types,
}

/// The seeds of a target, and the most bytes of an input: large ones take time and find nothing.
fn diet(target: &str) -> (Seeds, u32) {
    match target {
        "bitmap" | "container" | "debug_info" | "disassemble" | "extension" | "findings"
        | "frame_values" | "identity" | "key_block" | "layer_cipher" | "layer_gzip"
        | "layer_zstd" | "message_buffer" | "netdump_message" | "page_tables" | "partition"
        | "ranges" | "server_packets" | "sparc64" | "stub" => (Seeds::None, 4096),
        "dump_header" | "elf_header" | "minidump_header" => (Seeds::Files, 4096),
        "convert" | "redact" | "session" | "stacks" => (Seeds::Pairs, 1 << 18),
        "types" => (Seeds::Types, 1 << 16),
        _ => (Seeds::Files, 1 << 18),
    }
}

/// Fuzzes one target or all of them.
pub(crate) fn run(args: &[String]) -> Result {
    let (wanted, seconds) = parse(args)?;
    let all = targets()?;
    let names: Vec<&String> = all
        .iter()
        .filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == *name))
        .collect();
    if names.is_empty() {
        return Err(format!("unknown target; targets: {}", all.join(" ")));
    }
    prepare()?;
    let seeds = make_seeds()?;
    let mut failed = Vec::new();
    for name in names {
        let (kind, max_len) = diet(name);
        feed(kind, &seeds, &Path::new(CORPUS).join(name))?;
        println!("\n== {name}: {seconds} s ==");
        let mut fuzz = shell::command_line("cargo fuzz run --sanitizer none");
        fuzz.arg(name)
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={max_len}"));
        if let Err(message) = shell::run(fuzz.args(LIMITS)) {
            println!("{message}");
            failed.push(name.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!(
        "failed: {}\nthe inputs are in fuzz/artifacts; to run one again:\n  \
         cargo fuzz run --sanitizer none TARGET fuzz/artifacts/TARGET/INPUT",
        failed.join(" ")
    ))
}

/// The target, if one is named, and the seconds for each.
fn parse(args: &[String]) -> Result<(Option<String>, u32)> {
    let (mut target, mut seconds) = (None, SECONDS);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--seconds" {
            let value = args.next().and_then(|value| value.parse().ok());
            seconds = value.ok_or("--seconds takes a number")?;
        } else if arg.starts_with('-') || target.is_some() {
            return Err(format!("what is {arg:?}? ./x fuzz [TARGET] [--seconds N]"));
        } else {
            target = Some(arg.clone());
        }
    }
    Ok((target, seconds))
}

/// The names of the targets.
fn targets() -> Result<Vec<String>> {
    let mut names: Vec<String> = files(Path::new(TARGETS))?
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// Makes sure that cargo-fuzz and what it needs are there.
fn prepare() -> Result {
    tools::need(&[CC, CXX])?;
    if shell::works("cargo fuzz --version") {
        return Ok(());
    }
    println!("cargo-fuzz is missing: installing it");
    shell::run(&mut shell::command_line(
        "cargo install cargo-fuzz --locked",
    ))
}

/// Makes small dumps of every kind; gives the folder that they are in.
fn make_seeds() -> Result<PathBuf> {
    let folder = Path::new(CORPUS).join("seeds");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut make =
        shell::command_line("cargo run --quiet --locked -p vmcore-synth --example make --");
    shell::run(make.arg(&folder))?;
    Ok(folder)
}

/// Puts the seeds of a target into its folder; what it found in earlier runs stays there.
fn feed(kind: Seeds, seeds: &Path, folder: &Path) -> Result {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    match kind {
        Seeds::None => return Ok(()),
        Seeds::Types => return feed_types(folder),
        Seeds::Files | Seeds::Pairs => {}
    }
    for path in files(seeds)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let seed = read(&path)?;
        let seed = match kind {
            Seeds::Pairs if name.starts_with("kernel-") => continue,
            Seeds::Pairs => {
                let kernel = name.replacen("vmcore-", "kernel-", 1);
                let kernel = seeds.join(kernel);
                let kernel = match kernel != path && kernel.is_file() {
                    true => read(&kernel)?,
                    false => Vec::new(),
                };
                pair(&seed, &kernel)
            }
            _ => seed,
        };
        let to = folder.join(name.as_ref());
        fs::write(&to, seed).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

/// Compiles the kernel of the debugger's tests with each version of DWARF, and puts an expression in
/// front of it.
fn feed_types(folder: &Path) -> Result {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let to = folder.join(version.trim_start_matches('-'));
        let mut compile = shell::command_line("cc -c -O1 -ffreestanding -fno-pic");
        compile.args([version, TYPES, "-o"]).arg(&to);
        shell::run(&mut compile)?;
        let seed = pair(EXPRESSION.as_bytes(), &read(&to)?);
        fs::write(&to, seed).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

/// Two files as one input.
fn pair(dump: &[u8], kernel: &[u8]) -> Vec<u8> {
    let len = u32::try_from(dump.len()).unwrap_or(u32::MAX);
    [&len.to_le_bytes(), dump, kernel].concat()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The files in a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Option<String>, u32)> {
        parse(
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn arguments() {
        assert_eq!(parsed(""), Ok((None, 60)));
        assert_eq!(parsed("open --seconds 5"), Ok((Some("open".into()), 5)));
        assert!(parsed("open other").is_err());
        assert!(parsed("--seconds").is_err());
        assert!(parsed("--second 5").is_err());
    }

    #[test]
    fn a_pair_says_where_its_second_file_begins() {
        assert_eq!(pair(b"dump", b"kernel"), b"\x04\0\0\0dumpkernel");
        assert_eq!(pair(b"", b""), b"\0\0\0\0");
    }
}
