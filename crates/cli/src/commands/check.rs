//! `vmcore check`: is this host ready to dump?

use crate::advice::{Result, Run};
use crate::context::Context;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::text;
use clap::Args;
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use vmcore::list::CRASH_DIRECTORY;
use vmcore_pipeline::check::{self, Finding, Question, Verdict};

/// The link that dumpon makes.
const DUMP_DEVICE: &str = "/dev/dumpdev";

/// Is this host ready to dump? Device, size, key, free space
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore check [DEVICE] [DIR] [OPTIONS]",
    after_help = "\
Nothing is written. The size of a minidump is guessed from the memory that the kernel has wired
now (sysctl), else from all RAM.

Exit status 1: a dump would be lost."
)]
pub(crate) struct Check {
    /// The dump device [else /dev/dumpdev]
    device: Option<PathBuf>,
    /// Where dumps will be saved [else /var/crash]
    #[arg(value_name = "DIR", conflicts_with = "directory")]
    place: Option<PathBuf>,
    /// RAM in MiB, if it is another host's device
    #[arg(long, value_name = "MIB")]
    ram: Option<u64>,
    /// The RSA public key that dumpon is given
    #[arg(long, value_name = "PEM")]
    public_key: Option<PathBuf>,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    device: String,
    ready: bool,
    checks: &'a [Finding],
}

impl Run for Check {
    fn run(&self, context: &Context) -> Result<Status> {
        let device = self.device.as_deref().unwrap_or(Path::new(DUMP_DEVICE));
        if self.device.is_none() && !device.exists() {
            return Err(
                Failure::new("no dump device is configured: there is no /dev/dumpdev")
                    .line("dumpon(8) configures one, and dumpdev in /etc/rc.conf at every start")
                    .next("vmcore check DEVICE")
                    .into(),
            );
        }
        let common = context.common().directory.as_deref();
        let directory = self.place.as_deref().or(common);
        let memory_bytes = match self.ram {
            Some(mib) => Some(mib.saturating_mul(1 << 20)),
            None => memory_bytes(),
        };
        let question = Question {
            device,
            directory: directory.unwrap_or(Path::new(CRASH_DIRECTORY)),
            memory_bytes,
            kernel_bytes: self.ram.is_none().then(wired_bytes).flatten(),
            public_key: self.public_key.as_deref(),
        };
        let findings = check::check(&question);
        let ready = findings
            .iter()
            .all(|finding| finding.verdict != Verdict::Bad);
        if context.common().json {
            let answer = Answer {
                device: device.display().to_string(),
                ready,
                checks: &findings,
            };
            context.json(None, answer)?;
        } else {
            print(context, device, &findings)?;
        }
        if ready {
            return Ok(Status::Done);
        }
        Err(Failure::new("a dump would be lost")
            .next("vmcore check again, once it is mended")
            .into())
    }
}

fn print(context: &Context, device: &Path, findings: &[Finding]) -> Result<()> {
    let mut out = context.out();
    let name = out.paint(Style::Strong, &text::path(device));
    writeln!(out, "{name}")?;
    for finding in findings {
        let (word, style) = match finding.verdict {
            Verdict::Good => ("good", Style::Good),
            Verdict::Unknown => ("unknown", Style::Faint),
            Verdict::Doubtful => ("doubtful", Style::Warning),
            Verdict::Bad => ("bad", Style::Bad),
        };
        let word = out.paint(style, &format!("{word:<9}"));
        let detail = text::escape(finding.detail.as_bytes());
        writeln!(out, "  {:<10}{word} {detail}", finding.name)?;
    }
    Ok(out.finish()?)
}

/// A number that sysctl(8) tells.
fn sysctl(name: &str) -> Option<u64> {
    let run = Command::new("sysctl").args(["-n", name]).output().ok()?;
    String::from_utf8(run.stdout).ok()?.trim().parse().ok()
}

/// Bytes of RAM.
fn memory_bytes() -> Option<u64> {
    if cfg!(target_os = "freebsd") {
        return sysctl("hw.physmem");
    }
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Bytes that the kernel has wired, which is about what a minidump has.
fn wired_bytes() -> Option<u64> {
    if !cfg!(target_os = "freebsd") {
        return None;
    }
    sysctl("vm.stats.vm.v_wire_count")?.checked_mul(sysctl("hw.pagesize")?)
}
