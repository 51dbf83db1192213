//! The commands that the documents name are run, each on a dump with debug information.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use vmcore_testkit::TestKernel;
use vmcore_testkit::command::run;

/// What needs a device, a network, a debugger, or the CPUs that this dump lacks.
const NOT_RUN: [&str; 6] = [
    "vmcore save",
    "vmcore serve",
    "vmcore gdb",
    "vmcore check",
    "vmcore decrypt",
    "vmcore bt vmcore.0 --cpus",
];

/// The commands in back quotes or on indented lines that begin with `vmcore`; remarks after two spaces are
/// cut off.
fn commands_of(text: &str) -> BTreeSet<String> {
    let indented = text.lines().filter_map(|line| line.strip_prefix("    "));
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .chain(indented.map(|line| line.trim_start_matches("$ ")))
        .filter(|command| command.starts_with("vmcore ") && command.contains(".0"))
        .map(|command| command.split("  ").next().unwrap().trim().to_owned())
        .collect()
}

/// The words of a command line; single quotes hold spaces together.
fn words_of(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for character in command.chars() {
        match character {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words.split_off(1)
}

#[test]
fn every_command_in_the_documents_answers() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    kernel.log = "panic: page fault\n".to_owned();
    kernel.write_dump();
    let folder = kernel.dir.path();
    fs::copy(folder.join("kernel"), folder.join("kernel.debug")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut count = 0;
    for document in ["README.md", "docs/from-kgdb.md", "crates/cli/README.md"] {
        let text = fs::read_to_string(root.join(document)).unwrap();
        for command in commands_of(&text) {
            if NOT_RUN.iter().any(|name| command.starts_with(name)) {
                continue;
            }
            let answer = run(folder, &words_of(&command));
            assert!(
                matches!(answer.status, 0 | 3),
                "{document}: {command}\n{answer:?}"
            );
            assert!(!answer.stdout.is_empty(), "{document}: {command}");
            for made in ["core.elf", "core.elf.frames.elf"] {
                let _ = fs::remove_file(folder.join(made));
            }
            count += 1;
        }
    }
    assert!(count >= 32, "only {count} commands were found");
}
