//! Which kind of dump it is.

use super::open::OpenError;
use crate::container::ContainerError;
use crate::kinds;
use crate::source::Source;
use crate::text_archive;
use std::path::Path;
use vmcore_format::arch::Arch;
use vmcore_format::elf::{ELF_MAGIC, ET_CORE, FileHeader};
use vmcore_format::header::MINIDUMP_PREFIX;
use vmcore_format::sparc64;

/// Formats that can be read.
pub(super) enum Format {
    Minidump,
    Elf,
    Sparc64,
}

/// Tells formats apart by their first bytes.
pub(super) fn detect(path: &Path, source: &Source, first: &[u8]) -> Result<Format, OpenError> {
    let path = || path.to_owned();
    if first.is_empty() {
        return Err(ContainerError::Empty { path: path() }.into());
    }
    if first.starts_with(MINIDUMP_PREFIX) {
        return Ok(Format::Minidump);
    }
    if first.starts_with(ELF_MAGIC) {
        let header = FileHeader::parse(first).map_err(|source| OpenError::Elf {
            path: path(),
            source,
        })?;
        if header.e_type == ET_CORE {
            return Ok(Format::Elf);
        }
        let arch = Arch::from_elf(header.e_machine, header.class).map_or_else(
            || format!("machine {}", header.e_machine),
            |arch| arch.to_string(),
        );
        return Err(OpenError::KernelFile { path: path(), arch });
    }
    if sparc64::is_header(first) {
        return Ok(Format::Sparc64);
    }
    if text_archive::is_archive(first) {
        return Err(OpenError::Textdump { path: path() });
    }
    Err(match kinds::of(first) {
        Some(kind) => OpenError::OtherKind { path: path(), kind },
        None if text_archive::ends_in_archive(source) => OpenError::Textdump { path: path() },
        None => OpenError::UnknownFormat { path: path() },
    })
}

/// Refuses an ELF core that is not a kernel's, or another system's kernel's.
pub(super) fn refuse_foreign_core(
    path: &Path,
    source: &Source,
    first: &[u8],
) -> Result<(), OpenError> {
    let elf = FileHeader::parse(first).ok();
    match elf.and_then(|elf| kinds::of_core(source, &elf)) {
        Some(kind) => Err(OpenError::OtherKind {
            path: path.to_owned(),
            kind,
        }),
        None => Ok(()),
    }
}
