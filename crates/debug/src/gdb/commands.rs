//! The commands that make stock gdb load a kernel, and the file that leads it through trap frames.
//!
//! The same for a dump behind the stub, and for a core that was made of one.

use super::displacement;
use crate::target::Target;
use std::path::Path;

/// The `osabi` of gdb for the stub: stock gdb does not know FreeBSD, and takes such a kernel for 32-bit.
pub const OSABI_STUB: &str = "none";
/// The `osabi` of gdb for cores, whose notes are Linux': of FreeBSD's, stock gdb reads none.
pub const OSABI_CORE: &str = "GNU/Linux";

/// What stock gdb is to be told: `kernel` as gdb can read it, `frames` with what [`for_gdb`](super::frames::for_gdb)
/// gave.
#[must_use]
pub fn load(target: &Target<'_>, osabi: &str, kernel: &Path, frames: Option<&Path>) -> Vec<String> {
    let mut commands = vec![format!("set osabi {osabi}"), "set confirm off".to_owned()];
    // Of two descriptions of an entry gdb takes the first.
    commands.extend(frames.map(|frames| format!("add-symbol-file {} -o 0", quoted(frames))));
    let kernel = quoted(kernel);
    commands.push(match displacement(target) {
        0 => format!("file {kernel}"),
        bytes => format!("symbol-file -o {bytes:#x} {kernel}"),
    });
    commands
}

/// A file's name as debuggers take it in a command.
pub(super) fn quoted(path: &Path) -> String {
    let name = path.to_string_lossy();
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
