//! `./x test`: everything that CI checks, in order, up to the first failure.

use crate::tools::{
    self, CC, CHROMIUM, CXX, GDB, GDB_MULTIARCH, LLDB, OPENSSL, QEMU, READELF, ZSTD,
};
use crate::{Result, corpus, house, shell};
use std::process::Command;
use std::time::Duration;

/// A check: its name, and the cargo command that makes it or `None` for the house rules.
type Step = (&'static str, Option<&'static str>);

const STEPS: &[Step] = &[
    ("format", Some("cargo fmt --all --check")),
    (
        "format-fuzz",
        Some("cargo fmt --manifest-path fuzz/Cargo.toml --check"),
    ),
    (
        "format-lab",
        Some("cargo fmt --manifest-path lab/Cargo.toml --check"),
    ),
    (
        "format-loom",
        Some("cargo fmt --manifest-path crates/writer/loom/Cargo.toml --check"),
    ),
    (
        "format-proof",
        Some("cargo fmt --manifest-path crates/writer/proof/Cargo.toml --check"),
    ),
    ("house", None),
    (
        "no-std",
        Some("cargo build --locked -p vmcore-format -p vmcore-writer --no-default-features"),
    ),
    (
        "lint",
        Some("cargo clippy --workspace --all-targets --locked -- -D warnings"),
    ),
    (
        "lint-fuzz",
        Some("cargo clippy --manifest-path fuzz/Cargo.toml --locked -- -D warnings"),
    ),
    ("lint-lab", Some(LINT_LAB)),
    ("doc", Some("cargo doc --no-deps --workspace --locked")),
    ("test", Some("cargo test --workspace --locked")),
    ("capi", Some("cargo xtask capi")),
    ("loom", Some(LOOM)),
    (
        "proof",
        Some("cargo run --release --locked --manifest-path crates/writer/proof/Cargo.toml"),
    ),
    ("lab", Some("cargo xtask lab test")),
    ("deny", Some(DENY)),
];

/// The kernel's flags are in its own folder.
const LINT_LAB: &str = "cargo --config lab/.cargo/config.toml clippy --release --locked \
                        --manifest-path lab/Cargo.toml -- -D warnings";

/// Every interleaving of the writer's atomics. The flag joins those of `.cargo/config.toml`.
const LOOM: &str = "cargo test --locked --manifest-path crates/writer/loom/Cargo.toml \
                    --config 'target.\"cfg(all())\".rustflags=[\"--cfg\",\"loom\"]'";

/// Advisories are left out: they need a download, and change from day to day.
const DENY: &str = "cargo deny check bans licenses sources";

/// What became of a step.
enum Outcome {
    Passed(Duration),
    Skipped(&'static str),
    Failed(Duration, String),
}

/// Runs all steps, or those that are named.
pub(crate) fn run(args: &[String]) -> Result {
    if let Some(unknown) = args
        .iter()
        .find(|arg| STEPS.iter().all(|(name, _)| name != arg))
    {
        let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "there is no step {unknown:?}; steps: {}",
            names.join(" ")
        ));
    }
    tools::need(&[
        CC,
        CXX,
        READELF,
        GDB,
        GDB_MULTIARCH,
        LLDB,
        ZSTD,
        QEMU,
        OPENSSL,
        CHROMIUM,
    ])?;
    tools::need_components()?;
    corpus::announce()?;
    let wanted = STEPS
        .iter()
        .filter(|(name, _)| args.is_empty() || args.iter().any(|arg| arg == name));
    let mut done = Vec::new();
    for (name, line) in wanted {
        let outcome = step(name, *line);
        let failed = matches!(outcome, Outcome::Failed(..));
        done.push((*name, outcome));
        if failed {
            break;
        }
    }
    print!("\n{}", table(&done));
    match done.pop() {
        Some((name, Outcome::Failed(_, message))) => {
            let again = match STEPS.iter().find(|(step, _)| *step == name) {
                Some((_, Some(line))) => shell::text(&cargo(line)),
                _ => format!("./x test {name}"),
            };
            Err(format!("{name}: {message}\nto run it again:\n  {again}"))
        }
        _ => Ok(()),
    }
}

fn step(name: &str, line: Option<&str>) -> Outcome {
    println!(
        "\n== {name}: {} ==",
        line.unwrap_or("the rules that no tool knows")
    );
    if line == Some(DENY) && !shell::works("cargo deny --version") {
        return Outcome::Skipped("cargo-deny is not installed");
    }
    let (result, time) = shell::timed(|| match line {
        Some(line) => shell::run(&mut cargo(line)),
        None => house::check(),
    });
    println!("-- {name}: {}", shell::human(time));
    match result {
        Ok(()) => Outcome::Passed(time),
        Err(message) => Outcome::Failed(time, message),
    }
}

/// A cargo command with the environment of the checks. `RUSTFLAGS` stays out of it: it would
/// replace the flags of `.cargo/config.toml`.
fn cargo(line: &str) -> Command {
    let mut command = shell::command_line(line);
    if line.starts_with("cargo doc") {
        command.env("RUSTDOCFLAGS", "-D warnings");
    }
    if let (true, Some(folder)) = (line.starts_with("cargo test"), corpus::find()) {
        command.env(corpus::VARIABLE, folder);
    }
    command
}

/// The steps with their seconds.
fn table(done: &[(&str, Outcome)]) -> String {
    let mut text = format!("{:<12} {:>8}\n", "step", "seconds");
    let mut total = 0.0;
    for (name, outcome) in done {
        let (time, note) = match outcome {
            Outcome::Passed(time) => (time.as_secs_f64(), ""),
            Outcome::Failed(time, _) => (time.as_secs_f64(), "FAILED"),
            Outcome::Skipped(why) => {
                text += &format!("{name:<12} {:>8}  skipped: {why}\n", "-");
                continue;
            }
        };
        total += time;
        text += format!("{name:<12} {time:>8.1}  {note}").trim_end();
        text.push('\n');
    }
    text + &format!("{:<12} {total:>8.1}\n", "all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_passed_failed_and_skipped() {
        let second = Duration::from_secs(1);
        let done = [
            ("format", Outcome::Passed(second)),
            ("deny", Outcome::Skipped("not here")),
            ("test", Outcome::Failed(2 * second, String::new())),
        ];
        let expected = "step          seconds\nformat            1.0\ndeny                -  skipped: not here\n\
                        test              2.0  FAILED\nall               3.0\n";
        assert_eq!(table(&done), expected);
    }
}
