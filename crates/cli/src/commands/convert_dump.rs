//! `vmcore convert` to FreeBSD's own formats: a minidump, or a full dump.

use super::convert_out::Out;
use crate::advice::{Advice, Result};
use crate::context::Context;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::progress::Progress;
use crate::text::{self, counted};
use serde::Serialize;
use std::io::Write as _;
use vmcore::Session;
use vmcore_pipeline::compress::Method;
use vmcore_pipeline::rewrite::{self, Choice, RewriteError, Rewritten, TargetFormat};

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    to: TargetFormat,
    file: String,
    len_bytes: u64,
    pages: u64,
    version: Option<u32>,
    choice: Option<Choice>,
    missing_pages: u64,
    damage: u64,
    cpus: u32,
    message_buffer_bytes: Option<u32>,
    identity: &'a str,
    kernel: Option<String>,
    compressed: Option<Method>,
    expanded_bytes: u64,
}

/// Writes the dump of `session` as `target` to `out`.
pub(super) fn run(
    context: &Context,
    session: &Session,
    target: TargetFormat,
    out: Out<'_>,
) -> Result<Status> {
    let mut progress = Progress::new(context, "writing");
    let force = context.common().force;
    let done = rewrite::convert(session, target, out.plain(), force, |done, total| {
        progress.at(done, total);
    })?;
    drop(progress);
    let method = out.method();
    let packed = out.finish(context, done.len_bytes)?;
    let done = Rewritten {
        path: packed.path,
        len_bytes: packed.len_bytes,
        ..done
    };
    if context.common().json {
        let kernel = session.kernel();
        let answer = Answer {
            to: target,
            file: done.path.display().to_string(),
            len_bytes: done.len_bytes,
            pages: done.pages,
            version: done.version,
            choice: done.choice,
            missing_pages: done.missing_pages,
            damage: done.damage,
            cpus: done.cpus,
            message_buffer_bytes: done.version.map(|_| done.message_buffer_bytes),
            identity: &done.dump_id,
            kernel: kernel.map(|kernel| kernel.path().display().to_string()),
            compressed: method,
            expanded_bytes: packed.expanded_bytes,
        };
        context.json(Some(session.dump()), answer)?;
    } else {
        print(context, session, target, &done)?;
    }
    if done.missing_pages > 0 {
        let lost = counted(done.missing_pages, "page is", "pages are");
        context.note(&format!(
            "vmcore: {lost} missing: they belong into the dump, but the file does not have them"
        ));
        return Ok(Status::Incomplete);
    }
    Ok(Status::Done)
}

fn print(
    context: &Context,
    session: &Session,
    target: TargetFormat,
    done: &Rewritten,
) -> Result<()> {
    let mut out = context.out();
    let file = out.paint(Style::Strong, &text::path(&done.path));
    let version = done
        .version
        .map(|version| format!(" version {version}"))
        .unwrap_or_default();
    writeln!(
        out,
        "{file}: {}{version}, {}, {}",
        target.name(),
        text::size(done.len_bytes),
        counted(done.pages, "page", "pages"),
    )?;
    if let Some(choice) = done.choice {
        writeln!(out, "  {}", choice.name())?;
    }
    let needs = match session.kernel() {
        Some(_) => "",
        None => " (they need the kernel file, -k)",
    };
    if done.version.is_some() && done.message_buffer_bytes == 0 {
        writeln!(out, "  no message buffer: not found{needs}")?;
    }
    match done.cpus {
        0 => writeln!(out, "  no registers of CPUs{needs}")?,
        cpus => writeln!(
            out,
            "  registers of {}",
            counted(cpus.into(), "CPU", "CPUs")
        )?,
    }
    if done.damage > 0 {
        let times = counted(done.damage, "page table or page", "page tables or pages");
        writeln!(out, "  {times} could not be read")?;
    }
    Ok(out.finish()?)
}

impl Advice for RewriteError {
    fn advice(&self, context: &Context) -> Failure {
        let failure = Failure::new(self.to_string());
        match self {
            RewriteError::Session(error) => error.advice(context),
            RewriteError::Absent(reason) => reason.advice(context),
            RewriteError::Output(error) => error.advice(context),
            RewriteError::IsMinidump(_) | RewriteError::NoRoot => failure
                .line("a full dump, or a hypervisor's memory file, can be converted")
                .next(context.suggest("convert OUT --to elf")),
            RewriteError::Architecture(_) => failure.next(context.suggest("convert OUT --to elf")),
            RewriteError::NoKernelMap => failure.next(context.suggest_again("-k DIR/kernel")),
            RewriteError::Ram => failure.next(context.suggest("info")),
            _ => failure.next(context.suggest("verify")),
        }
    }
}
