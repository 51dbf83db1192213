//! How a run of the command ends: with an answer, whole or not, or with a failure.

use std::fmt;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The answer is complete.
    Done,
    /// The dump is incomplete for this answer.
    Incomplete,
}

impl Status {
    /// `Done` if nothing is missing.
    pub(crate) const fn complete_if(is_complete: bool) -> Self {
        match is_complete {
            true => Self::Done,
            false => Self::Incomplete,
        }
    }
}

/// Exit status of a failure.
const FAILED: u8 = 1;
/// Exit status for wrong arguments.
const USAGE: u8 = 2;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    sentence: String,
    more: Vec<String>,
    status: u8,
}

impl Failure {
    /// A failure with its sentence: no capital, no full stop.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            more: Vec::new(),
            status: FAILED,
        }
    }

    /// The arguments are wrong.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self {
            status: USAGE,
            ..Self::new(sentence)
        }
    }

    /// A line with facts.
    pub(crate) fn line(mut self, line: impl Into<String>) -> Self {
        self.more.push(line.into());
        self
    }

    /// What to type next.
    pub(crate) fn next(self, command: impl fmt::Display) -> Self {
        self.line(format!("try: {command}"))
    }

    /// Another command to type next.
    pub(crate) fn instead(mut self, command: impl fmt::Display) -> Self {
        self.more.retain(|line| !line.starts_with("try: "));
        self.next(command)
    }

    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    pub(crate) fn more(&self) -> &[String] {
        &self.more
    }

    pub(crate) const fn status(&self) -> u8 {
        self.status
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}
