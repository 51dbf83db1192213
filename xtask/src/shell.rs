//! Running programs, and saying what runs and for how long.

use crate::Result;
use std::ffi::OsStr;
use std::process::Command;
use std::time::{Duration, Instant};

/// A program with its arguments, as one types them; words in single quotes are one argument.
pub(crate) fn command_line(line: &str) -> Command {
    let (program, arguments) = line.split_once(' ').unwrap_or((line, ""));
    command(program, arguments)
}

/// A program with its arguments in a line.
pub(crate) fn command(program: impl AsRef<OsStr>, arguments: &str) -> Command {
    let mut command = Command::new(program);
    command.args(words(arguments));
    command
}

/// Runs a program to its end; it prints where we print.
pub(crate) fn run(command: &mut Command) -> Result {
    let status = command
        .status()
        .map_err(|error| no_start(command, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed ({status})", text(command)))
    }
}

/// Runs a program to its end: what it prints, warnings included.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .map_err(|error| no_start(command, &error))?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said += &String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(said),
        false => Err(format!(
            "{} failed ({}):\n{said}",
            text(command),
            output.status
        )),
    }
}

/// Whether a program can be started and says that all is well; what it prints is dropped.
pub(crate) fn works(line: &str) -> bool {
    command_line(line)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Runs something and tells how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// A command as one would type it.
pub(crate) fn text(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!(
            "{}={}",
            name.to_string_lossy(),
            quoted(&value?.to_string_lossy())
        ))
    });
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// A message for a program that did not start.
pub(crate) fn no_start(command: &Command, error: &std::io::Error) -> String {
    format!(
        "{} could not be started: {error}",
        command.get_program().to_string_lossy()
    )
}

/// A duration as a person reads it.
pub(crate) fn human(time: Duration) -> String {
    match time.as_millis() {
        0..1000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// A word as one types it in a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{word}'")
    }
}

/// Splits a line at spaces outside single quotes.
fn words(line: &str) -> Vec<&str> {
    let halves = line.split('\'').enumerate();
    halves.fold(Vec::new(), |mut words, (number, part)| {
        if number % 2 == 1 {
            words.push(part);
        } else {
            words.extend(part.split_whitespace());
        }
        words
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut doc = command_line("cargo doc --no-deps");
        doc.env("RUSTDOCFLAGS", "-D warnings").arg("");
        assert_eq!(
            text(&doc),
            "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps ''"
        );
    }

    #[test]
    fn quoted_words_stay_together() {
        assert_eq!(
            words("gdb -ex 'print (int) hz' core"),
            ["gdb", "-ex", "print (int) hz", "core"]
        );
    }
}
