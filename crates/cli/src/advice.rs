//! Errors as a person needs them: one sentence, facts, the command to type next. Each error gives
//! its advice beside the commands that meet it; what several commands meet is here and below.

pub(crate) mod memory;
pub(crate) mod opening;

use crate::context::Context;
use crate::outcome::{Failure, Status};
use crate::output::NotWritten;
use crate::text;
use std::error::Error as StdError;
use std::path::Path;
use std::{fmt, io};
use vmcore_pipeline::output::OutputError;

/// A command: its options, and what it does with them. Its doc comment is its line in the help.
pub(crate) trait Run: clap::Args {
    fn run(&self, context: &Context) -> Result<Status>;
}

/// An error that explains itself.
pub(crate) trait Advice: StdError {
    /// Why there is no answer, and what to type next.
    fn advice(&self, context: &Context) -> Failure;
}

/// Any error of a command.
pub(crate) struct Error(Box<dyn Advice>);

/// What a command returns.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl<E: Advice + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl Error {
    /// The failure to print.
    pub(crate) fn explain(&self, context: &Context) -> Failure {
        self.0.advice(context)
    }

    /// Whether the reader of our output has closed the pipe.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&*self.0);
        while let Some(error) = cause {
            let io = error.downcast_ref::<io::Error>();
            if io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl Advice for Failure {
    fn advice(&self, _: &Context) -> Failure {
        self.clone()
    }
}

impl Advice for io::Error {
    fn advice(&self, _: &Context) -> Failure {
        Failure::new(
            match self.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(NotWritten(error)) => {
                    format!("writing the answer failed: {}", text::os_error(error))
                }
                None => text::os_error(self),
            },
        )
    }
}

impl Advice for serde_json::Error {
    fn advice(&self, _: &Context) -> Failure {
        Failure::new(self.to_string())
    }
}

impl Advice for fmt::Error {
    fn advice(&self, _: &Context) -> Failure {
        Failure::new(self.to_string())
    }
}

impl Advice for clap::Error {
    fn advice(&self, _: &Context) -> Failure {
        Failure::usage(self.to_string())
    }
}

impl Advice for OutputError {
    fn advice(&self, _: &Context) -> Failure {
        match self {
            OutputError::Exists { path } => {
                Failure::new(format!("{} exists, and is not overwritten", path.display()))
                    .next("another name, or --force")
            }
            OutputError::Io { path, source } => {
                let failure = Failure::new(format!(
                    "writing {} failed: {}",
                    path.display(),
                    text::os_error(source)
                ));
                match source.kind() {
                    std::io::ErrorKind::NotFound => {
                        failure.next(format!("mkdir -p {}, or another OUT", directory(path)))
                    }
                    std::io::ErrorKind::PermissionDenied => {
                        failure.next("another OUT, in a directory that can be written")
                    }
                    _ => failure.next(format!("df -h {}", directory(path))),
                }
            }
            _ => Failure::new(self.to_string()).next("another OUT, which is a file"),
        }
    }
}

pub(crate) fn directory(path: &Path) -> String {
    match path.parent() {
        _ if path.is_dir() => text::shell_word(path),
        Some(parent) if !parent.as_os_str().is_empty() => text::shell_word(parent),
        _ => ".".to_owned(),
    }
}
