//! Text for people: file names, shell words, sizes, system errors.

use std::path::Path;
pub(crate) use vmcore::text::{count, counted, escape, is_unsafe};

/// A file name without control characters.
pub(crate) fn path(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// A word, quoted for a shell.
pub(crate) fn shell_word(path: &Path) -> String {
    let word = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into_owned();
    }
    format!("'{}'", escape(word.replace('\'', r"'\''").as_bytes()))
}

/// A size, rounded: `68 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let (whole, tenths) = (bytes / unit, bytes % unit * 10 / unit);
            return if whole < 10 && tenths > 0 {
                format!("{whole}.{tenths} {name}")
            } else {
                format!("{whole} {name}")
            };
        }
    }
    counted(bytes, "byte", "bytes")
}

/// An error of the operating system, without its number.
pub(crate) fn os_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((message, _)) => message.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(
            escape(b"a\x1b[31m\r\n\0\x7f"),
            "a\\x1b[31m\\x0d\\x0a\\x00\\x7f"
        );
        assert_eq!(
            escape("\u{9b}31m\u{202e}gpj".as_bytes()),
            "\\u{9b}31m\\u{202e}gpj"
        );
        assert_eq!(escape(b"caf\xc3\xa9 \xff\xc3"), "café \\xff\\xc3");
        assert_eq!(escape(b"\tif_em0"), "\tif_em0");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [0, 999, 1000, 71_303_168].map(count),
            ["0", "999", "1,000", "71,303,168"]
        );
        assert_eq!(
            [1, 1536, 71_303_168, 1 << 41].map(size),
            ["1 byte", "1.5 KiB", "68 MiB", "2 TiB"]
        );
        assert_eq!(counted(1, "page", "pages"), "1 page");
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(
            shell_word("/var/crash/vmcore.0".as_ref()),
            "/var/crash/vmcore.0"
        );
        assert_eq!(shell_word("my dump's".as_ref()), r"'my dump'\''s'");
    }
}
