//! The commands, one file each: arguments, printing, exit status.

pub(crate) mod convert;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod log;
pub(crate) mod map;
mod map_svg;
pub(crate) mod ps;
pub(crate) mod read;
pub(crate) mod search;
pub(crate) mod sym;
pub(crate) mod translate;
pub(crate) mod verify;
