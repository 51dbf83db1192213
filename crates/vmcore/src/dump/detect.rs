//! Which kind of file it is, and the device header that may stand in front.

use super::OpenError;
use crate::source::Source;
use std::path::Path;
use vmcore_format::arch::Arch;
use vmcore_format::elf::{ELF_MAGIC, ET_CORE, FileHeader};
use vmcore_format::header::MINIDUMP_PREFIX;
use vmcore_format::kerneldump::{self, Compression, DumpHeader, Kind};

/// Formats that can be read.
pub(super) enum Format {
    Minidump,
    Elf,
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

/// If a dump header stands in front, checks that what follows can be read in place, and skips it.
pub(super) fn skip_device_header(
    path: &Path,
    source: Source,
) -> Result<(Source, Option<DeviceHeader>), OpenError> {
    let mut first = [0; kerneldump::HEADER_LEN];
    let len = source
        .read_positional(0, &mut first)
        .map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        })?;
    let first = first.get(..len).unwrap_or_default();
    if first.is_empty() {
        return Err(OpenError::Empty {
            path: path.to_owned(),
        });
    }
    let Ok(header) = DumpHeader::parse(first) else {
        return Ok((source, None));
    };
    let wrapped = match (header.kind, header.compression, header.dumpkeysize) {
        (Kind::Text, ..) => Some("a textdump"),
        (_, Compression::Gzip | Compression::Zstd | Compression::Unknown(_), _) => {
            Some("compressed")
        }
        (_, _, 1..) => Some("encrypted"),
        _ => None,
    };
    if let Some(what) = wrapped {
        return Err(OpenError::Wrapped {
            path: path.to_owned(),
            what,
        });
    }
    let device_header = DeviceHeader {
        version: header.version,
        architecture: header.architecture.to_vec(),
        dumptime: header.dumptime,
        dumplength: header.dumplength,
        hostname: header.hostname.to_vec(),
        versionstring: header.versionstring.to_vec(),
        panicstring: header.panicstring.to_vec(),
    };
    let skip = u64::from(header.blocksize.max(512));
    Ok((source.starting_at(skip), Some(device_header)))
}

/// Tells formats apart by their first bytes.
pub(super) fn detect(path: &Path, first: &[u8]) -> Result<Format, OpenError> {
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
        let arch = Arch::from_elf_machine(header.e_machine).map_or_else(
            || format!("machine {}", header.e_machine),
            |arch| arch.to_string(),
        );
        return Err(OpenError::KernelFile { path: path(), arch });
    }
    for (magic, how) in [
        (&[0x28, 0xb5, 0x2f, 0xfd][..], "zstd"),
        (&[0x1f, 0x8b][..], "gzip"),
    ] {
        if first.starts_with(magic) {
            return Err(OpenError::Compressed { path: path(), how });
        }
    }
    Err(OpenError::UnknownFormat { path: path() })
}
