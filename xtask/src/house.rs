//! The house rules that no tool knows: short files, each with its purpose on top, nothing unfinished,
//! and documents that name files that exist.

use crate::Result;
use crate::verdict::Verdict;
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of logic in a file; tests at its end do not count.
const MAX_LOGIC_LINES: usize = 700;
/// Words of unfinished work, put together here so that this file has none of them.
const UNFINISHED: [&str; 4] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!"),
    concat!("unimplement", "ed!"),
];
/// Where the paths that documents name begin.
const FOLDERS: [&str; 6] = [
    "bindings/",
    "crates/",
    "docs/",
    "examples/",
    "fuzz/",
    "lab/",
];
/// Folders of things that are made, not written.
const MADE: [&str; 4] = ["target", "artifacts", "corpus", "coverage"];

/// Checks every Rust file, manifest and document of the workspace.
///
/// # Errors
/// Returns an error if a file breaks a rule; all that do are printed.
pub(crate) fn check() -> Result<Verdict> {
    let mut files = Vec::new();
    collect(Path::new("."), &mut files)?;
    files.sort();
    let mut faults = Vec::new();
    for path in &files {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        faults.extend(faults_of(path, &text));
    }
    for fault in &faults {
        println!("{fault}");
    }
    match faults.len() {
        0 => {
            println!("{} files are in order", files.len());
            Ok(Verdict::Passed)
        }
        count => Err(format!("{count} breaches of the house rules")),
    }
}

/// All Rust files, manifests and documents below a folder.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result {
    let failed = |error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        if entry.file_type().map_err(failed)?.is_dir() {
            if !name.starts_with('.') && !MADE.contains(&name.as_ref()) {
                collect(&path, files)?;
            }
        } else if name.ends_with(".rs") || name.ends_with(".md") || name == "Cargo.toml" {
            files.push(path.strip_prefix(".").unwrap_or(&path).to_owned());
        }
    }
    Ok(())
}

/// What is wrong with a file, one line each.
fn faults_of(path: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let place = path.display();
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
            faults.push(format!(
                "{place}:{}: {word}: finish it, or open an issue",
                number + 1
            ));
        }
    }
    if path.extension().is_some_and(|extension| extension == "md") {
        let missing = missing_paths(text).map(|name| format!("{place}: no such file: {name}"));
        faults.extend(missing);
    }
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    if !is_rust || path.file_name().is_some_and(|name| name == "tests.rs") {
        return faults;
    }
    if !text.starts_with("//!") {
        faults.push(format!(
            "{place}:1: does not begin with //! and what the file holds"
        ));
    }
    let is_test = path.components().any(|part| part.as_os_str() == "tests");
    let lines = logic_lines(text);
    if !is_test && lines > MAX_LOGIC_LINES {
        faults.push(format!(
            "{place}: {lines} lines of logic, at most {MAX_LOGIC_LINES}: split it"
        ));
    }
    faults
}

/// The paths in back quotes that are not in the repository.
fn missing_paths(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
        .filter(|path| !path.contains(['*', '{', ' ', '\n']) && !path.contains("target/"))
        .filter(|path| !Path::new(path).exists())
}

/// Lines before the test module.
fn logic_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> usize {
        faults_of(Path::new(path), text).len()
    }

    #[test]
    fn a_file_says_what_it_holds() {
        assert_eq!(faults("src/a.rs", "//! Addresses.\n"), 0);
        assert_eq!(faults("src/a.rs", "use std::fs;\n"), 1);
        assert_eq!(faults("src/a/tests.rs", "use super::*;\n"), 0);
        assert_eq!(faults("Cargo.toml", "[package]\n"), 0);
    }

    #[test]
    fn logic_is_short_and_tests_may_be_long() {
        let long = "x\n".repeat(MAX_LOGIC_LINES);
        assert_eq!(faults("src/a.rs", &format!("//! A.\n{long}")), 1);
        assert_eq!(
            faults(
                "src/a.rs",
                &format!("//! A.\n#[cfg(test)]\nmod tests {{\n{long}}}\n")
            ),
            0
        );
        assert_eq!(faults("tests/a.rs", &format!("//! A.\n{long}")), 0);
    }

    #[test]
    fn nothing_is_left_unfinished() {
        for word in UNFINISHED {
            assert_eq!(faults("src/a.rs", &format!("//! A.\n// {word} later\n")), 1);
            assert_eq!(
                faults("Cargo.toml", &format!("description = \"{word}\"\n")),
                1
            );
        }
    }
}
