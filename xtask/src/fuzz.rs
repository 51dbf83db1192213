//! `cargo xtask fuzz`: every fuzz target for a while, from seeds that the dump builder makes.

use crate::tools::{self, CC, CXX};
use crate::{Result, shell};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the targets are, one file each.
const TARGETS: &str = "fuzz/fuzz_targets";
/// Where the inputs are, one folder a target.
const CORPUS: &str = "fuzz/corpus";
/// Seconds for a target if nobody says otherwise.
const SECONDS: u32 = 60;

/// Fuzzes one target or all of them.
pub(crate) fn run(args: &[String]) -> Result {
    let (wanted, seconds) = parse(args)?;
    let all = targets()?;
    let names: Vec<&String> = all
        .iter()
        .filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == *name))
        .collect();
    if names.is_empty() {
        return Err(format!(
            "there is no such target; targets: {}",
            all.join(" ")
        ));
    }
    prepare()?;
    let seeds = make_seeds()?;
    let mut failed = Vec::new();
    for name in names {
        let folder = Path::new(CORPUS).join(name);
        copy(&seeds, &folder)?;
        println!("\n== {name}: {seconds} s ==");
        let mut fuzz = shell::command_line("cargo +nightly fuzz run");
        fuzz.arg(name)
            .arg("--")
            .arg(format!("-max_total_time={seconds}"));
        if let Err(message) = shell::run(fuzz.args(["-rss_limit_mb=2048", "-timeout=10"])) {
            println!("{message}");
            failed.push(name.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!(
        "failed: {}\nthe inputs are in fuzz/artifacts; to run one again:\n  \
         cargo +nightly fuzz run TARGET fuzz/artifacts/TARGET/INPUT",
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
            return Err(format!(
                "what is {arg:?}? cargo xtask fuzz [TARGET] [--seconds N]"
            ));
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

/// Makes sure that a nightly compiler and cargo-fuzz are there.
fn prepare() -> Result {
    tools::need(&[CC, CXX])?;
    if !shell::works("cargo +nightly --version") {
        return Err(
            "fuzzing needs a nightly compiler: type this, and try again:\n  \
                    rustup toolchain install nightly --profile minimal"
                .into(),
        );
    }
    if shell::works("cargo +nightly fuzz --version") {
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

/// Copies the files of one folder into another.
fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    for path in files(from)? {
        let name = path.file_name().unwrap_or_default();
        fs::copy(&path, to.join(name)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
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
}
