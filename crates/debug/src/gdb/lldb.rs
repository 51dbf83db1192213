//! What lldb is told before it takes a person's commands: where the kernel and its modules are.
//!
//! lldb supposes nothing about a kernel: without this it knows threads and memory, but no names. Of
//! modules it asks the stub, but takes a module for a library that lies in one piece.

use super::{displacement, first_segment};
use crate::target::Target;
use std::fmt::Write as _;
use std::path::Path;
use vmcore_format::endian::Endian;

/// Commands that connect lldb to the stub at `url`, as lldb writes it (`connect://HOST:PORT`,
/// `unix-connect://PATH`), and load the files that are known; `kernel` as lldb can read it.
#[must_use]
pub fn commands(target: &Target<'_>, kernel: &Path, url: &str) -> Vec<String> {
    let kernel = quoted(kernel);
    let mut commands = vec![
        "settings set target.load-script-from-symbol-file false".to_owned(),
        format!("target create {kernel}"),
        format!("process connect --plugin gdb-remote {url}"),
        // By default lldb leaves it where it was linked, but does not know that it is there.
        format!(
            "target modules load --file {kernel} --slide {:#x}",
            displacement(target)
        ),
    ];
    for module in target.files().modules() {
        let (Some(path), (by_section, places)) = (module.plain_file(), module.section_addresses())
        else {
            continue;
        };
        if !is_one_line(path) {
            continue;
        }
        let file = quoted(path);
        let mut load = format!("target modules load --file {file}");
        for (name, address) in places {
            if !by_section {
                let _ = write!(load, " --slide {address:#x}");
            } else if is_plain(&name) {
                let _ = write!(load, " {name} {address:#x}");
            }
        }
        commands.push(load);
    }
    commands
}

/// Commands that load the kernel beside a core that was made of the dump. `target create` refuses it
/// there where the kernel file names FreeBSD, for the core's notes are Linux'. `None` for big-endian
/// machines: lldb ends itself at their cores.
#[must_use]
pub fn core_commands(target: &Target<'_>, kernel: &Path) -> Option<Vec<String>> {
    if target.space().endian() == Endian::Big {
        return None;
    }
    let triple = triple(target);
    let script = std::path::absolute(kernel).unwrap_or_else(|_| kernel.to_owned());
    let script = format!("{:?}", script.to_string_lossy());
    let kernel = quoted(kernel);
    Some(vec![
        format!("script lldb.target.AddModule({script}, {triple:?}, None)"),
        format!(
            "target modules load --file {kernel} --slide {:#x}",
            displacement(target)
        ),
    ])
}

/// What lldb calls the machine.
pub(super) fn triple(target: &Target<'_>) -> String {
    let machine = target.machine();
    let endian = target.space().endian();
    let cpu = machine.gdb.cpu.unwrap_or(machine.arch.machine_arch(endian));
    format!("{cpu}-unknown-freebsd")
}

/// Puts the kernel file's headers where they were loaded, if the dump has not got them there: without,
/// lldb from release 19 on ends itself as soon as it is connected. `bytes` are those at `address`, of which the
/// first `len` are known; gives how many are then.
pub(super) fn with_headers(
    target: &Target<'_>,
    address: u64,
    bytes: &mut [u8],
    len: usize,
) -> usize {
    const MAGIC: &[u8] = b"\x7fELF";
    /// Room for the file header and some program headers.
    const HEADERS_LEN: usize = 1024;
    let Some((start, 0)) = first_segment(target) else {
        return len;
    };
    let Some(skipped) = start.checked_sub(address) else {
        return len;
    };
    let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
    let (Some(place), true) = (bytes.get_mut(skipped..), len >= skipped) else {
        return len;
    };
    let known = len - skipped;
    let kernel = target.session().kernel();
    let headers = kernel.map_or(&[][..], |kernel| kernel.data());
    let count = HEADERS_LEN.min(headers.len()).min(place.len());
    let is_there = known >= MAGIC.len() && place.starts_with(MAGIC);
    match (place.get_mut(..count), headers.get(..count)) {
        (Some(place), Some(headers)) if !is_there => place.copy_from_slice(headers),
        _ => return len,
    }
    len.max(skipped + count)
}

/// Whether a section's name, which comes from a file, is one word of a command and no option.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    !name.is_empty() && name.bytes().all(is_plain)
}

/// Whether a file's name stays within its command: lldb begins another one at a new line.
fn is_one_line(path: &Path) -> bool {
    !path.to_string_lossy().chars().any(char::is_control)
}

/// A file's name as lldb takes it in a command. It knows a file that it has opened by its whole name
/// only.
fn quoted(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    super::commands::quoted(&path)
}
