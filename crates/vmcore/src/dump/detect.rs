//! Which kind of dump it is, and what its device header said.

use super::OpenError;
use crate::kinds;
use crate::source::Source;
use crate::textdump;
use std::path::Path;
use vmcore_format::arch::Arch;
use vmcore_format::elf::{ELF_MAGIC, ET_CORE, FileHeader};
use vmcore_format::header::MINIDUMP_PREFIX;
use vmcore_format::kerneldump::DumpHeader;
use vmcore_format::sparc64;

/// Formats that can be read.
pub(super) enum Format {
    Minidump,
    Elf,
    Sparc64,
}

/// What a device's dump header says about the dump behind it. Strings are as the kernel wrote
/// them, without their NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceHeader {
    /// Version of the header.
    pub version: u32,
    /// `MACHINE_ARCH`.
    pub architecture: Vec<u8>,
    /// Seconds since 1970.
    pub dumptime: u64,
    /// Bytes of the dump.
    pub dumplength: u64,
    /// Host name.
    pub hostname: Vec<u8>,
    /// The kernel's version string.
    pub versionstring: Vec<u8>,
    /// The panic message.
    pub panicstring: Vec<u8>,
}

impl DeviceHeader {
    pub(crate) fn of(header: &DumpHeader<'_>) -> Self {
        Self {
            version: header.version,
            architecture: header.architecture.to_vec(),
            dumptime: header.dumptime,
            dumplength: header.dumplength,
            hostname: header.hostname.to_vec(),
            versionstring: header.versionstring.to_vec(),
            panicstring: header.panicstring.to_vec(),
        }
    }
}

/// Tells formats apart by their first bytes.
pub(super) fn detect(path: &Path, source: &Source, first: &[u8]) -> Result<Format, OpenError> {
    let path = || path.to_owned();
    if first.is_empty() {
        return Err(OpenError::Empty { path: path() });
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
    if textdump::is_archive(first) {
        return Err(OpenError::Textdump { path: path() });
    }
    Err(match kinds::of(first) {
        Some(kind) => OpenError::OtherKind { path: path(), kind },
        None if textdump::ends_in_archive(source) => OpenError::Textdump { path: path() },
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
