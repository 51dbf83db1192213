//! The commands, one file each: arguments, printing, exit status.

mod beside;
pub(crate) mod bt;
pub(crate) mod check;
pub(crate) mod convert;
mod convert_bytes;
mod convert_dump;
mod convert_out;
mod crashinfo;
mod debug_files;
pub(crate) mod decrypt;
pub(crate) mod decryptcore;
pub(crate) mod dis;
pub(crate) mod gdb;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod locks;
pub(crate) mod log;
pub(crate) mod map;
mod map_svg;
pub(crate) mod mods;
pub(crate) mod netdumpd;
pub(crate) mod print;
pub(crate) mod ps;
pub(crate) mod read;
pub(crate) mod redact;
pub(crate) mod report;
mod report_html;
pub(crate) mod save;
pub(crate) mod savecore;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod sym;
mod textdump;
mod tool;
pub(crate) mod translate;
pub(crate) mod verify;
pub(crate) mod whatis;
pub(crate) mod why;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The tool of FreeBSD's that the command is called by the name of: it has its own options and exit
/// statuses.
pub(crate) fn by_name(program: Option<OsString>) -> Option<fn() -> ExitCode> {
    let program = program?;
    let name = Path::new(&program).file_stem()?;
    match name.to_str()? {
        "decryptcore" => Some(decryptcore::main),
        "savecore" => Some(savecore::main),
        "crashinfo" => Some(crashinfo::main),
        "netdumpd" => Some(netdumpd::main),
        _ => None,
    }
}
