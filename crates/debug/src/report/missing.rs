//! What is not in the dump, or could not be answered, and what would help.

use super::Report;
use super::crash::template;
use crate::target::Target;
use crate::unwind::End;
use std::collections::HashMap;
use vmcore::dump::Completeness;
use vmcore::process::{OffsetSource, ProcessList};
use vmcore::text::{count, counted};

/// Lines that differ in numbers alone are not repeated from here on.
const ALIKE: usize = 2;
/// The most lines of a list of what is missing, and the most names in one.
const LINES: usize = 24;
const NAMES: usize = 16;

/// What is not there, and what it costs.
pub(super) fn of(target: &Target<'_>, list: &ProcessList, report: &Report) -> Vec<String> {
    let mut missing = Vec::new();
    match report.info.state {
        Completeness::Complete { .. } => {}
        Completeness::Truncated {
            missing_bytes,
            missing_pages,
        } => missing.push(format!(
            "the file is truncated: {} ({}) missing",
            counted(missing_bytes, "byte", "bytes"),
            counted(missing_pages, "page", "pages")
        )),
        Completeness::TruncatedSection { section } => {
            missing.push(format!("the file is truncated inside its {section}"));
        }
    }
    if let Some(pages) = report
        .info
        .pages
        .mapped_but_absent
        .filter(|pages| *pages > 0)
    {
        missing.push(format!(
            "{} not in the dump (device memory or no-dump)",
            counted(pages, "mapped kernel page is", "mapped kernel pages are")
        ));
    }
    if target.types().is_empty() {
        missing.push(
            "the kernel file has no types: no wait messages, locks, lines (-k kernel.debug)"
                .to_owned(),
        );
    }
    let without = report
        .modules
        .iter()
        .filter(|module| module.file == "no file");
    let names: Vec<&str> = without.map(|module| module.name.as_str()).collect();
    if !names.is_empty() {
        let more = match names.len().saturating_sub(NAMES) {
            0 => String::new(),
            more => format!(" and {} more", count(more as u64)),
        };
        let names: Vec<&str> = names.into_iter().take(NAMES).collect();
        missing.push(format!(
            "no file for {}{more} (--sysroot, --modules)",
            names.join(", ")
        ));
    }
    missing.extend(
        list.problems
            .iter()
            .map(|problem| format!("a list breaks off: {problem}")),
    );
    missing.extend(report.locks.problems.iter().cloned());
    missing.extend(
        report
            .memory
            .problems
            .iter()
            .map(|problem| format!("a list of memory breaks off: {problem}")),
    );
    missing.extend(target.files.problems());
    match list.offsets {
        OffsetSource::Constants | OffsetSource::Recorded => {}
        OffsetSource::Types => missing
            .push("the kernel exports no offsets: threads were found by its types".to_owned()),
        OffsetSource::Release => missing.push(
            "the kernel exports no offsets: used those of its release, a guess (-k kernel.debug)"
                .to_owned(),
        ),
    }
    if let Some(thread) = &report.thread
        && let Some(End::Unreadable { reason, .. }) = &thread.stack.end
    {
        missing.push(format!("the stack is cut: {reason}"));
    }
    if list.crashed_tid.is_none() {
        missing.push(list.why_none_crashed().to_owned());
    }
    alike_once(missing)
}

/// A truncated dump breaks off many lists in the same way: of lines that differ in numbers alone, the
/// first stays, with how many there are. A damaged one may break off as many in as many ways: of those
/// no more than a page is told.
#[must_use]
pub fn alike_once(lines: Vec<String>) -> Vec<String> {
    let mut counts = HashMap::new();
    for line in &lines {
        *counts.entry(template(line)).or_insert(0_usize) += 1;
    }
    let mut kept = Vec::new();
    for line in lines {
        match counts.get_mut(&template(&line)) {
            Some(0) => {}
            Some(alike) if *alike >= ALIKE => {
                kept.push(format!("{line} (and {} more like this)", *alike - 1));
                *alike = 0;
            }
            _ => kept.push(line),
        }
    }
    let more = kept.len().saturating_sub(LINES);
    kept.truncate(LINES);
    kept.extend((more > 0).then(|| format!("{} more of other kinds", count(more as u64))));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_in_numbers_are_counted() {
        let line = |address: u64| format!("a list breaks off: {address:#x} is not in the dump");
        let lines = vec![
            line(0x1000),
            "no file for a.ko".to_owned(),
            line(0x2000),
            line(0x3000),
        ];
        let expected = [
            format!("{} (and 2 more like this)", line(0x1000)),
            "no file for a.ko".to_owned(),
        ];
        assert_eq!(alike_once(lines), expected);
    }

    #[test]
    fn a_list_is_no_longer_than_a_page_however_many_kinds_there_are() {
        let word = |number: usize| "x".repeat(number + 1);
        let lines: Vec<String> = (0..2_000).map(word).collect();
        let told = alike_once(lines.clone());
        assert_eq!(told[..LINES], lines[..LINES]);
        assert_eq!(told[LINES..], ["1,976 more of other kinds"]);
        assert_eq!(alike_once(lines[..LINES].to_vec()), lines[..LINES]);
    }
}
