//! Where `vmcore convert` writes to: the file itself, or a file that is compressed afterwards.

use super::beside::Beside;
use crate::advice::Result;
use crate::context::Context;
use crate::progress::Progress;
use std::path::Path;
use vmcore::source::{Access, Source};
use vmcore_pipeline::compress::{self, Compressed, Method};
use vmcore_pipeline::output::OutputFile;

/// The file that a conversion writes. The formats are written out of order, so what is to be
/// compressed is written beside its place first.
pub(super) struct Out<'a> {
    path: &'a Path,
    packed: Option<(Method, Beside)>,
    force: bool,
}

impl<'a> Out<'a> {
    pub(super) fn new(context: &Context, path: &'a Path, method: Option<Method>) -> Result<Self> {
        let force = context.common().force;
        if method.is_some() {
            // Whether it may be written is told before the work begins.
            drop(OutputFile::create(path, force)?);
        }
        Ok(Self {
            path,
            packed: method.map(|method| (method, Beside::of(path))),
            force,
        })
    }

    /// What the conversion writes.
    pub(super) fn plain(&self) -> &Path {
        self.packed
            .as_ref()
            .map_or(self.path, |(_, plain)| plain.path())
    }

    /// How it is compressed.
    pub(super) fn method(&self) -> Option<Method> {
        self.packed.as_ref().map(|(method, _)| *method)
    }

    /// Compresses what was written, if it is to be. `len_bytes` are those that were written.
    pub(super) fn finish(self, context: &Context, len_bytes: u64) -> Result<Compressed> {
        let Some((method, plain)) = &self.packed else {
            return Ok(Compressed {
                path: self.path.to_owned(),
                len_bytes,
                expanded_bytes: len_bytes,
            });
        };
        let mut progress = Progress::new(context, "compressing");
        let source = Source::open(plain.path(), Access::Positional)?;
        Ok(compress::convert(
            &source,
            *method,
            self.path,
            self.force,
            |done, total| {
                progress.at(done, total);
            },
        )?)
    }
}
