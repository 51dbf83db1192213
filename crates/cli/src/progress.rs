//! Progress of a long pass: one line on a terminal, nothing elsewhere.

use crate::context::Context;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Passes that end sooner show nothing; later the line changes this often.
const EVERY: Duration = Duration::from_millis(200);

/// A line of progress. It is wiped when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    label: &'static str,
    last: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// `label` says what is being done.
    pub(crate) fn new(context: &Context, label: &'static str) -> Self {
        let wanted = !context.common().quiet && std::io::stderr().is_terminal();
        Self {
            label,
            last: wanted.then(Instant::now),
            shown: false,
        }
    }

    /// `done` of `total` is done.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        let now = match self.last {
            Some(last) if last.elapsed() >= EVERY => Instant::now(),
            _ => return,
        };
        self.last = Some(now);
        self.shown = true;
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        let _ = write!(
            std::io::stderr(),
            "\r{} {:>3} %\x1b[K",
            self.label,
            percent.min(100)
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
