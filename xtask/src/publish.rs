//! What others would get: the packages, what they depend on, the public interface. Each check is
//! skipped where its tool is not installed.

use crate::verdict::Verdict;
use crate::{Result, shell};

/// Licences, sources and bans. Advisories need a download, and change from day to day.
pub(crate) fn deny() -> Result<Verdict> {
    with_tool("cargo-deny", || {
        let mut deny = shell::command_line("cargo deny check bans licenses sources");
        shell::run(&mut deny)
    })
}

/// Every package, in the order in which they would be published. Nothing is built: a file that a
/// package lacks is found by its list.
pub(crate) fn package() -> Result<Verdict> {
    let mut package = shell::command_line(
        "cargo package --quiet --workspace --exclude xtask --exclude vmcore-capi --exclude vmcore-synth \
         --exclude vmcore-testkit --locked --offline --allow-dirty --no-verify",
    );
    shell::run(&mut package)?;
    Ok(Verdict::Passed)
}

/// Whether what changed since the last tag is a compatible change of the interface.
pub(crate) fn semver() -> Result<Verdict> {
    let last = shell::command_line("git describe --tags --abbrev=0").output();
    let tag = last.ok().filter(|output| output.status.success());
    let Some(tag) = tag.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    else {
        return Ok(Verdict::Skipped("no tag to compare with".into()));
    };
    with_tool("cargo-semver-checks", || {
        let mut check = shell::command_line("cargo semver-checks --workspace --baseline-rev");
        shell::run(check.arg(tag))
    })
}

fn with_tool(name: &str, check: impl FnOnce() -> Result) -> Result<Verdict> {
    let command = name.replacen('-', " ", 1);
    if !shell::works(&format!("{command} --version")) {
        return Ok(Verdict::Skipped(format!(
            "not installed: cargo install {name} --locked"
        )));
    }
    check().map(|()| Verdict::Passed)
}
