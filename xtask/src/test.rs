//! `./x test`: everything that CI checks, in order, up to the first failure.

use crate::tools::{
    self, CC, CHROMIUM, CXX, GDB, GDB_MULTIARCH, LLDB, OPENSSL, QEMU, READELF, ZSTD,
};
use crate::verdict::Verdict;
use crate::{Result, corpus, house, portability, publish, shell};
use std::process::Command;
use std::time::Duration;

/// A check.
struct Step {
    name: &'static str,
    what: What,
    /// Whether it is part of `--quick`: no browser, emulator or debugger, and little time.
    is_quick: bool,
}

/// What a step does.
enum What {
    /// Runs these commands, in order.
    Lines(&'static [&'static str]),
    /// Calls a function; the text says what it checks.
    Calls(fn() -> Result<Verdict>, &'static str),
}

const fn quick(name: &'static str, lines: &'static [&'static str]) -> Step {
    Step {
        name,
        what: What::Lines(lines),
        is_quick: true,
    }
}

const fn slow(name: &'static str, lines: &'static [&'static str]) -> Step {
    Step {
        is_quick: false,
        ..quick(name, lines)
    }
}

const fn call(name: &'static str, check: fn() -> Result<Verdict>, says: &'static str) -> Step {
    Step {
        name,
        what: What::Calls(check, says),
        is_quick: false,
    }
}

const STEPS: &[Step] = &[
    quick(
        "format",
        &[
            "cargo fmt --all --check",
            "cargo fmt --manifest-path fuzz/Cargo.toml --check",
            "cargo fmt --manifest-path lab/Cargo.toml --check",
            "cargo fmt --manifest-path examples/adopting/Cargo.toml --check",
            "cargo fmt --manifest-path crates/writer/loom/Cargo.toml --check",
            "cargo fmt --manifest-path crates/writer/proof/Cargo.toml --check",
        ],
    ),
    Step {
        is_quick: true,
        ..call("house", house::check, "the rules that no tool knows")
    },
    quick(
        "lint",
        &["cargo clippy --workspace --all-targets --locked -- -D warnings"],
    ),
    slow(
        "lint-more",
        &[
            "cargo build --locked -p vmcore-format -p vmcore-writer -p vmcore-kit --no-default-features",
            "cargo clippy --manifest-path fuzz/Cargo.toml --locked -- -D warnings",
            // The kernel's flags are in its own folder.
            "cargo --config lab/.cargo/config.toml clippy --release --locked \
             --manifest-path lab/Cargo.toml -- -D warnings",
            "cargo --config examples/adopting/.cargo/config.toml clippy --release --locked \
             --manifest-path examples/adopting/Cargo.toml -- -D warnings",
        ],
    ),
    slow("doc", &["cargo doc --no-deps --workspace --locked"]),
    quick("test", &["cargo test --workspace --locked"]),
    slow("capi", &["cargo xtask capi"]),
    // Every interleaving of the writer's atomics; the map's own tests are for real ones.
    slow(
        "loom",
        &["cargo test --locked --manifest-path crates/writer/loom/Cargo.toml -- --skip map::tests"],
    ),
    slow(
        "proof",
        &["cargo run --release --locked --manifest-path crates/writer/proof/Cargo.toml"],
    ),
    slow("lab", &["cargo xtask lab test"]),
    call(
        "deny",
        publish::deny,
        "licences and sources of dependencies",
    ),
    call("package", publish::package, "what would be published"),
    call(
        "semver",
        publish::semver,
        "the public interface since the last tag",
    ),
    call(
        "portability",
        portability::check,
        "other systems and processors",
    ),
];

/// The tests of debuggers and browsers are skipped if it is set.
const QUICK: &str = "VMCORE_QUICK";

/// What became of a step.
enum Outcome {
    Passed(Duration),
    Skipped(String),
    Failed(Duration, String),
}

/// Runs all steps, the quick ones, or those that are named.
pub(crate) fn run(args: &[String]) -> Result {
    let is_quick = args == ["--quick"];
    let named = if is_quick { &[] } else { args };
    if let Some(unknown) = named
        .iter()
        .find(|arg| STEPS.iter().all(|step| step.name != *arg))
    {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        return Err(format!(
            "unknown step {unknown:?}; --quick, or steps: {}",
            names.join(" ")
        ));
    }
    if is_quick {
        tools::need(&[CC, READELF])?;
    } else {
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
    }
    tools::need_components()?;
    corpus::announce()?;
    let wanted = STEPS.iter().filter(|step| match is_quick {
        true => step.is_quick,
        false => named.is_empty() || named.iter().any(|arg| arg == step.name),
    });
    let mut done = Vec::new();
    for step in wanted {
        let outcome = run_step(step, is_quick);
        let failed = matches!(outcome, Outcome::Failed(..));
        done.push((step.name, outcome));
        if failed {
            break;
        }
    }
    print!("\n{}", table(&done));
    match done.pop() {
        Some((name, Outcome::Failed(_, message))) => Err(format!(
            "{name}: {message}\nto run it again:\n  ./x test {name}"
        )),
        _ => Ok(()),
    }
}

fn run_step(step: &Step, is_quick: bool) -> Outcome {
    println!("\n== {} ==", step.name);
    let (result, time) = shell::timed(|| match step.what {
        What::Lines(lines) => lines
            .iter()
            .try_for_each(|line| {
                println!("$ {line}");
                shell::run(&mut cargo(line, is_quick))
            })
            .map(|()| Verdict::Passed),
        What::Calls(check, says) => {
            println!("{says}");
            check()
        }
    });
    println!("-- {}: {}", step.name, shell::human(time));
    match result {
        Ok(Verdict::Passed) => Outcome::Passed(time),
        Ok(Verdict::Skipped(why)) => Outcome::Skipped(why),
        Err(message) => Outcome::Failed(time, message),
    }
}

/// A cargo command with the environment of the checks. `RUSTFLAGS` stays out of it: it would
/// replace the flags of `.cargo/config.toml`.
fn cargo(line: &str, is_quick: bool) -> Command {
    let mut command = shell::command_line(line);
    if line.starts_with("cargo doc") {
        command.env("RUSTDOCFLAGS", "-D warnings");
    }
    if let (true, Some(folder)) = (line.starts_with("cargo test"), corpus::find()) {
        command.env(corpus::VARIABLE, folder);
    }
    if is_quick {
        command.env(QUICK, "1");
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
            ("deny", Outcome::Skipped("not here".to_owned())),
            ("test", Outcome::Failed(2 * second, String::new())),
        ];
        let expected = "step          seconds\nformat            1.0\ndeny                -  skipped: not here\n\
                        test              2.0  FAILED\nall               3.0\n";
        assert_eq!(table(&done), expected);
    }
}
