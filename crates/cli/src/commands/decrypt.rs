//! `vmcore decrypt`: an encrypted dump without its encryption.

use crate::advice::{Result, Run};
use crate::context::Context;
use crate::help;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::progress::Progress;
use crate::signals;
use crate::text;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use vmcore::container::{self, Layer};
use vmcore::{Dump, OpenOptions};
use vmcore_pipeline::plain;

/// Decrypt an encrypted dump with the RSA private key
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore decrypt [FILE] OUT --key PEM [OPTIONS]",
    after_help = help::with_files("\
Every command reads an encrypted dump in place with --key PEM; this writes a file for other programs.

FILE is vmcore_encrypted.N with key.N beside it (else --key-block KEY.N), a dump device, or a disk.
A dump that is compressed stays so: OUT is a .gz or .zst then. OUT is created for its owner alone,
and not overwritten without --force. Nothing in the format tells a damaged dump from a sound one;
whether OUT starts like a dump is checked and told.

By the name decryptcore the command takes FreeBSD's options:
decryptcore [-fLv] -p PEM -k KEY.N -e ENCRYPTED -c OUT, decryptcore [-fLv] [-d DIR] -p PEM -n N.")
)]
pub(crate) struct Decrypt {
    /// The dump; then the file to write
    #[arg(hide = true)]
    words: Vec<OsString>,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    file: String,
    len_bytes: u64,
    layers: &'a [Layer],
    is_dump: bool,
}

impl Run for Decrypt {
    fn run(&self, context: &Context) -> Result<Status> {
        signals::clean_up_when_ended();
        let out = context.choose_with(&self.words, "OUT")?;
        let out = Path::new(&out);
        let dump = context.dump().ok_or_else(|| Failure::new("no dump"))?;
        let options = context.container_options();
        let Some(opened) = container::open_decrypted(dump, &options)? else {
            return Err(
                Failure::new(format!("{} is not encrypted", text::path(dump)))
                    .line("(an encrypted file needs its key.N: beside it, or --key-block KEY.N)")
                    .next(context.suggest("info"))
                    .into(),
            );
        };
        let mut progress = Progress::new(context, "decrypting");
        let force = context.common().force;
        let len_bytes = plain::copy(&opened.source, out, force, |done, total| {
            progress.at(done, total);
        })?;
        drop(progress);
        let is_dump = Dump::open(out, &OpenOptions::default()).is_ok();
        if context.common().json {
            let answer = Answer {
                file: out.display().to_string(),
                len_bytes,
                layers: &opened.layers,
                is_dump,
            };
            context.json(None, answer)?;
        } else {
            let mut to = context.out();
            let file = to.paint(Style::Strong, &text::path(out));
            writeln!(to, "{file}: {}", text::size(len_bytes))?;
            let next = format!("vmcore info {}", text::shell_word(out));
            writeln!(to, "  {}", to.paint(Style::Faint, &next))?;
            to.finish()?;
        }
        if !is_dump {
            context.note("vmcore: warning: it does not start like a dump: the encrypted bytes or key.N are damaged, or another dump's");
            return Ok(Status::Incomplete);
        }
        Ok(Status::Done)
    }
}
