//! What the demo looks like: headings, commands as one types them, and a screenful of their output.

use crate::{Result, shell};
use std::path::{Path, PathBuf};
use std::process::Output;

/// Lines of output that are shown.
const LINES: usize = 20;
/// Characters of a line that are shown.
const WIDTH: usize = 110;
/// Exit status of `vmcore`: answered, but the dump is incomplete for this answer.
const INCOMPLETE: i32 = 3;

/// Which part of long output is shown.
#[derive(Clone, Copy)]
pub(super) enum Keep {
    Start,
    End,
}

/// Runs commands for people to look at, and remembers which failed.
pub(super) struct Screen {
    vmcore: PathBuf,
    failed: Vec<String>,
}

impl Screen {
    pub(super) const fn new(vmcore: PathBuf) -> Self {
        Self {
            vmcore,
            failed: Vec::new(),
        }
    }

    /// Runs a command and shows it as typed, its output and its time; gives its standard output.
    pub(super) fn run(&mut self, line: &str, keep: Keep) -> String {
        println!("$ {line}");
        let mut command = match line.strip_prefix("vmcore ") {
            Some(arguments) => shell::command(&self.vmcore, arguments),
            None => shell::command_line(line),
        };
        let (output, time) = shell::timed(|| command.output());
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                println!("  {}\n", shell::no_start(&command, &error));
                self.failed.push(line.to_owned());
                return String::new();
            }
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{}", cut(&text, keep));
        print!("{}", cut(&String::from_utf8_lossy(&output.stderr), keep));
        println!("  [{}{}]\n", shell::human(time), note(&output));
        if !matches!(output.status.code(), Some(0 | INCOMPLETE)) {
            self.failed.push(line.to_owned());
        }
        text
    }

    /// Whether every command did what it should.
    ///
    /// # Errors
    /// Returns an error that names the commands that failed.
    pub(super) fn verdict(self) -> Result {
        if self.failed.is_empty() {
            return Ok(());
        }
        Err(format!(
            "these commands failed:\n  {}",
            self.failed.join("\n  ")
        ))
    }
}

/// A heading.
pub(super) fn heading(text: &str) {
    println!("\n{text}\n{}", "-".repeat(text.chars().count()));
}

/// The size of a file, for people.
pub(super) fn mib(path: &Path) -> Result<String> {
    let bytes = path
        .metadata()
        .map_err(|error| format!("{}: {error}", path.display()))?
        .len();
    Ok(match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    })
}

/// What an exit status means, if it is not plain success.
fn note(output: &Output) -> String {
    match output.status.code() {
        Some(0) => String::new(),
        Some(INCOMPLETE) => ", exit status 3: the dump is incomplete for this answer".into(),
        _ => format!(", {}", output.status),
    }
}

/// A screenful of a text, with a note of how much is left out.
fn cut(text: &str, keep: Keep) -> String {
    let lines: Vec<String> = text.lines().map(narrow).collect();
    let left_out = lines.len().saturating_sub(LINES);
    if left_out == 0 {
        return join(&lines);
    }
    match keep {
        Keep::Start => join(&lines[..LINES]) + &format!("  ... {left_out} more lines\n"),
        Keep::End => format!("  ... {left_out} lines before\n") + &join(&lines[left_out..]),
    }
}

fn join(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A line that fits the screen.
fn narrow(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_is_cut_to_a_screenful() {
        let text: String = (0..LINES + 5).map(|number| format!("{number}\n")).collect();
        assert!(cut(&text, Keep::Start).starts_with("0\n1\n"));
        assert!(cut(&text, Keep::Start).ends_with("19\n  ... 5 more lines\n"));
        assert!(cut(&text, Keep::End).starts_with("  ... 5 lines before\n5\n"));
        assert_eq!(cut("short\n", Keep::End), "short\n");
        assert_eq!(narrow(&"ü".repeat(WIDTH + 1)), "ü".repeat(WIDTH) + "...");
    }
}
