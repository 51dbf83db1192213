//! The man pages: one for each function, and in order as far as groff sees.

use crate::functions;
use std::fs;
use std::path::Path;
use std::process::Command;

fn pages() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let mut pages: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    pages.sort();
    pages
}

#[test]
fn every_function_has_a_page() {
    let all: Vec<String> = pages().into_iter().map(|(_, text)| text).collect();
    let header = include_str!("../../include/kvm.h");
    for name in functions() {
        let has = |text: &str, request: &str| {
            text.lines().any(|line| {
                line.trim_end() == format!("{request} {name}")
                    || line.trim_end() == format!("{request} {name} ,")
            })
        };
        assert!(
            all.iter().any(|text| has(text, ".Nm")),
            "{name} is in no NAME section"
        );
        let synopsis = format!("\" {name}");
        let is_shown = all.iter().any(|text| {
            text.lines().any(|line| {
                line.starts_with(".Fn ")
                    && (line.contains(&synopsis) || line.contains(&format!(".Fn {name} ")))
            })
        });
        assert!(is_shown, "{name} is in no SYNOPSIS");
        assert!(
            header.contains(&format!("{name}(")),
            "{name} is not in kvm.h"
        );
    }
}

#[test]
fn pages_are_sound_mdoc() {
    for (name, text) in pages() {
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "RETURN VALUES",
            "SEE ALSO",
        ] {
            assert!(
                text.contains(&format!(".Sh {section}\n")),
                "{name} has no {section}"
            );
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("man")
            .join(&name);
        let groff = Command::new("groff")
            .args(["-mdoc", "-Tascii", "-ww"])
            .arg(path)
            .output();
        let Ok(output) = groff else { continue };
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && errors.is_empty(),
            "{name}: {errors}"
        );
    }
}
