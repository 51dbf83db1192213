//! `vmcore convert` that leaves the dump as it is: compressed, or freed of what is around it.

use crate::advice::{Advice, Result};
use crate::context::Context;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::progress::Progress;
use crate::text;
use serde::Serialize;
use std::io::Write as _;
use std::path::Path;
use vmcore::source::Damage;
use vmcore::{Dump, OpenOptions};
use vmcore_pipeline::compress::{self, CompressError, Compressed, Method};
use vmcore_pipeline::plain;

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    to: &'static str,
    file: String,
    len_bytes: u64,
    expanded_bytes: u64,
    damage: Option<&'a Damage>,
}

/// Writes the bytes of the chosen dump to `out`.
pub(super) fn run(context: &Context, method: Option<Method>, out: &Path) -> Result<Status> {
    let dump = context
        .dump()
        .ok_or_else(|| Failure::new("no dump"))?
        .to_owned();
    // A dump that is cut is copied as it is.
    let options = context.options(&OpenOptions {
        up_to: vmcore::format::layout::Section::Header,
        ..OpenOptions::default()
    });
    let dump = Dump::open(&dump, &options)?;
    let source = dump.memory().source();
    let mut progress = Progress::new(context, "writing");
    let force = context.common().force;
    let on_progress = |done, total| progress.at(done, total);
    let done = match method {
        Some(method) => compress::convert(source, method, out, force, on_progress),
        None => plain::copy(source, out, force, on_progress).map(|len_bytes| Compressed {
            path: out.to_owned(),
            len_bytes,
            expanded_bytes: len_bytes,
        }),
    };
    let done = done?;
    drop(progress);
    let damage = source.damage();
    let to = match method {
        Some(Method::Zstd) => "zstd",
        Some(Method::Gzip) => "gzip",
        None => "plain",
    };
    if context.common().json {
        let answer = Answer {
            to,
            file: done.path.display().to_string(),
            len_bytes: done.len_bytes,
            expanded_bytes: done.expanded_bytes,
            damage: damage.as_ref(),
        };
        context.json(Some(&dump), answer)?;
    } else {
        print(context, &done, method.is_some())?;
    }
    if let Some(damage) = damage {
        context.note(&format!("vmcore: {damage}"));
        return Ok(Status::Incomplete);
    }
    Ok(Status::Done)
}

fn print(context: &Context, done: &Compressed, is_packed: bool) -> Result<()> {
    let mut out = context.out();
    let file = out.paint(Style::Strong, &text::path(&done.path));
    let size = text::size(done.len_bytes);
    if is_packed {
        let whole = text::size(done.expanded_bytes);
        writeln!(out, "{file}: {size}, of {whole}")?;
    } else {
        writeln!(out, "{file}: {size}")?;
    }
    let next = format!("vmcore info {}", text::shell_word(&done.path));
    writeln!(out, "  {}", out.paint(Style::Faint, &next))?;
    Ok(out.finish()?)
}

impl Advice for CompressError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            CompressError::Output(error) => error.advice(context),
            _ => Failure::new(self.to_string())
                .line("nothing was written; what is sound can be read in place")
                .next(context.suggest("verify")),
        }
    }
}
