//! What lies around a dump says about the crash: the header before it, `info.N` beside it, the boot
//! messages in it. No kernel file is needed.

use crate::container::DeviceHeader;
use crate::dump::Dump;
use crate::message_buffer::{self, Log};
use crate::names;
use crate::source::{read_small, utc};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The longest `info.N` that is read.
const INFO_MAX: usize = 64 << 10;

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Known {
    /// The value.
    pub value: String,
    /// Where it is: `info.3`, `log`, `kernel memory`, `dump header`, `identity block`.
    pub sources: Vec<String>,
}

/// Surroundings that have several sources.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) panic: Option<Known>,
    pub(crate) version: Option<Known>,
    pub(crate) host: Option<Known>,
    pub(crate) crashed: Option<Known>,
    pub(crate) uptime: Option<Known>,
    /// `info.N` beside the dump, if it was read.
    pub(crate) info_file: Option<String>,
}

/// Adds a source's word: the first one is the value, those that agree are named with it.
pub(crate) fn add(fact: &mut Option<Known>, source: &str, value: Option<String>) {
    let Some(value) = value
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
    else {
        return;
    };
    match fact {
        None => {
            *fact = Some(Known {
                value,
                sources: vec![source.to_owned()],
            })
        }
        Some(known) if known.value == value => known.sources.push(source.to_owned()),
        Some(_) => {}
    }
}

/// The version strings that need no kernel file, each with its source: of the dump header, `info.N`
/// and the boot messages.
pub(crate) fn versions(dump: &Dump) -> Vec<(String, String)> {
    let mut header = Surroundings::default();
    if let Some(found) = dump.device_header() {
        from_header(&mut header, found);
    }
    let mut messages = None;
    if let Ok(Some(log)) = message_buffer::of_section(dump) {
        add(&mut messages, "log", boot_banner(&log));
    }
    let found = [header.version, beside(dump.path()).version, messages];
    let found = found.into_iter().flatten();
    found
        .filter_map(|known| Some((known.value, known.sources.into_iter().next()?)))
        .collect()
}

/// The kernel's version as it prints it when it boots, after its copyright; the last boot's. Other
/// lines that look so may be a jail's or a program's.
fn boot_banner(log: &Log) -> Option<String> {
    let mut after: Option<&[u8]> = None;
    for line in log.lines().rev() {
        if let Some(version) = after
            && ["trademark", "Copyright", "reserved"]
                .iter()
                .any(|word| memchr::memmem::find(line.text, word.as_bytes()).is_some())
        {
            return Some(String::from_utf8_lossy(version).into_owned());
        }
        after = line.priority.is_none().then_some(line.text).filter(|text| {
            text.strip_prefix(b"FreeBSD ")
                .and_then(|release| release.first())
                .is_some_and(u8::is_ascii_digit)
        });
    }
    None
}

/// What `info.N` says of a dump that cannot be opened itself.
pub(crate) fn beside(dump: &Path) -> Surroundings {
    let mut facts = Surroundings::default();
    from_info_file(&mut facts, dump);
    facts
}

impl Surroundings {
    /// What a textdump says: its header, `info.N` beside it, and its files.
    pub(crate) fn of_text(
        path: &Path,
        header: Option<&DeviceHeader>,
        panic: Option<(&str, String)>,
        version: Option<(&str, String)>,
        log: Option<&[u8]>,
    ) -> Self {
        let mut facts = Self::default();
        if let Some(header) = header {
            from_header(&mut facts, header);
        }
        from_info_file(&mut facts, path);
        if let Some((source, panic)) = panic {
            add(&mut facts.panic, source, Some(panic));
        }
        if let Some((source, version)) = version {
            add(&mut facts.version, source, Some(first_line(version)));
        }
        if let Some(log) = log {
            from_log(&mut facts, &Log::of_text(log));
        }
        facts
    }
}

pub(crate) fn from_header(facts: &mut Surroundings, header: &DeviceHeader) {
    let source = "dump header";
    let version = first_line(header.versionstring.clone());
    add(&mut facts.panic, source, Some(header.panicstring.clone()));
    add(&mut facts.version, source, Some(version));
    add(&mut facts.host, source, Some(header.hostname.clone()));
    add(&mut facts.crashed, source, Some(utc(header.dumptime)));
}

pub(crate) fn from_info_file(facts: &mut Surroundings, dump: &Path) {
    let Some((name, info)) = info_file(dump) else {
        return;
    };
    facts.info_file = Some(name.clone());
    // savecore writes the strings of a dump raw: one with a newline in it makes lines. A field that
    // is there twice is not believed.
    let field = |label: &str| {
        let prefix = format!("  {label}: ");
        let mut lines = info.lines().filter_map(|line| line.strip_prefix(&prefix));
        let value = lines.next()?;
        lines.next().is_none().then(|| value.to_owned())
    };
    // savecore's words, and those of the server that receives dumps.
    let either = |saved: &str, received: &str| field(saved).or_else(|| field(received));
    let panic = either("Panic String", "Panicstring");
    add(&mut facts.panic, &name, panic);
    let version = either("Version String", "Versionstring");
    add(&mut facts.version, &name, version);
    add(&mut facts.host, &name, field("Hostname"));
    // As the kernel's clock would print it, so that equal times are seen to be equal.
    let in_utc = |time: String| match time.strip_suffix(" +0000") {
        Some(time) => format!("{time} UTC"),
        None => time,
    };
    add(&mut facts.crashed, &name, field("Dumptime").map(in_utc));
}

pub(crate) fn first_line(text: String) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The newest lines of the log that tell: an old boot's may precede them.
pub(crate) fn from_log(facts: &mut Surroundings, log: &Log) {
    let last = |wanted: fn(&str) -> Option<String>| {
        log.lines()
            .rev()
            .find_map(|line| wanted(&String::from_utf8_lossy(line.text)))
    };
    let panic = last(|line| line.strip_prefix("panic: ").map(str::to_owned));
    let has_panicked = panic.is_some();
    add(&mut facts.panic, "log", panic);
    add(
        &mut facts.version,
        "log",
        last(|line| {
            let release = line.strip_prefix("FreeBSD ")?;
            release
                .starts_with(|first: char| first.is_ascii_digit())
                .then(|| line.to_owned())
        }),
    );
    if has_panicked {
        let time = last(|line| line.strip_prefix("time = ").map(str::to_owned));
        add(
            &mut facts.crashed,
            "log",
            time.and_then(|time| time.trim().parse().ok()).map(utc),
        );
        add(
            &mut facts.uptime,
            "log",
            last(|line| line.strip_prefix("Uptime: ").map(str::to_owned)),
        );
    }
}

/// `info.N` beside `vmcore.N`.
fn info_file(dump: &Path) -> Option<(String, String)> {
    let name = format!("info.{}", names::tail(dump)?);
    let path: PathBuf = dump.with_file_name(&name);
    let text = read_small(&path, INFO_MAX + 1).ok()?;
    (text.len() <= INFO_MAX).then_some(())?;
    Some((name, String::from_utf8_lossy(&text).into_owned()))
}

/// A time span as the kernel prints it at a panic: `41d2h3m4s`.
pub(crate) fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{seconds}s"),
        (0, ..) => format!("{hours}h{minutes}m{seconds}s"),
        _ => format!("{days}d{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_files_of_savecore_and_of_the_server_tell_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let saved = "Dump header from device: /dev/ada0p3\n  Hostname: h\n  \
                     Dumptime: 2026-03-02 04:11:09 +0000\n  Version String: FreeBSD 15.1\n  \
                     Panic String: page fault\n";
        let received = "Dump from h [192.0.2.1]\n  Hostname: h\n  \
                        Dumptime: 2026-03-02 04:11:09 +0000\n  Versionstring: FreeBSD 15.1\n  \
                        Panicstring: page fault\n";
        for (tail, text) in [("3", saved), ("192.0.2.1.3", received)] {
            let name = format!("info.{tail}");
            std::fs::write(dir.path().join(&name), text).unwrap();
            let facts = beside(&dir.path().join(format!("vmcore.{tail}.zst")));
            for (fact, value) in [
                (facts.panic, "page fault"),
                (facts.version, "FreeBSD 15.1"),
                (facts.host, "h"),
                (facts.crashed, "2026-03-02 04:11:09 UTC"),
            ] {
                let (value, sources) = (value.to_owned(), vec![name.clone()]);
                assert_eq!(fact, Some(Known { value, sources }));
            }
        }
    }

    #[test]
    fn forged_lines_of_an_info_file_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let info = "Dump header from device: /dev/ada0p3\n  Hostname: h\n  Version String: FreeBSD\n  \
                    Panic String: all is ok\n    Dumptime: never\n  Panic String: page fault\n";
        std::fs::write(dir.path().join("info.0"), info).unwrap();
        let facts = beside(&dir.path().join("vmcore.0"));
        let value = |fact: Option<Known>| fact.map(|known| known.value);
        assert_eq!(value(facts.host).as_deref(), Some("h"));
        assert_eq!(value(facts.version).as_deref(), Some("FreeBSD"));
        assert_eq!(value(facts.panic), None);
        assert_eq!(value(facts.crashed), None);
    }

    #[test]
    fn durations_leave_leading_zeros_out() {
        assert_eq!(duration(9), "9s");
        assert_eq!(duration(3_550_984), "41d2h23m4s");
    }
}
