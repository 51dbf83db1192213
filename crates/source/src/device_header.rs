//! The header of a dump, decoded and owned: one type for every place that a header is found at.

use crate::time::utc;
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use vmcore_format::kerneldump::{
    self, Compression, DumpHeader, DumpHeaderError, HEADER_LEN, HeaderKind, MAGIC, MAGIC_TEXT,
};

/// What a dump header says of its dump. Strings are as the kernel wrote them, without their NUL; bytes
/// that are not UTF-8 are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceHeader {
    /// What the dump is; of a header that is marked as saved, what it was.
    pub kind: HeaderKind,
    /// Version of the header.
    pub version: u32,
    /// `MACHINE_ARCH`.
    pub architecture: String,
    /// 2 on amd64 and i386, 1 elsewhere, 4 for a textdump.
    pub architectureversion: u32,
    /// Seconds since 1970 by the kernel's clock.
    pub dumptime: u64,
    /// Bytes of the dump on the device.
    pub dumplength: u64,
    /// Bytes reserved on the device.
    pub dumpextent: u64,
    /// Bytes of the encrypted key; 0 if the dump is not encrypted.
    pub dumpkeysize: u32,
    /// Bytes of a sector.
    pub blocksize: u32,
    /// How the dump is compressed.
    pub compression: Compression,
    /// Host name.
    pub hostname: String,
    /// The kernel's version string; it ends in a newline.
    pub versionstring: String,
    /// The panic message; empty if the dump was asked for.
    pub panicstring: String,
    /// The parity field, as savecore prints it on a little-endian host.
    pub parity: u32,
}

impl DeviceHeader {
    /// Decodes a header whatever its parity and version, and one that is marked as saved as it was
    /// before.
    ///
    /// # Errors
    /// Returns an error if the magic is missing.
    pub fn parse_damaged(stored: &[u8; HEADER_LEN]) -> Result<Self, DumpHeaderError> {
        let mut raw = *stored;
        kerneldump::revive(&mut raw);
        let header = DumpHeader::parse_damaged(&raw)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Self {
            kind: header.kind,
            version: header.version,
            architecture: text(header.architecture),
            architectureversion: header.architectureversion,
            dumptime: header.dumptime,
            dumplength: header.dumplength,
            dumpextent: header.dumpextent,
            dumpkeysize: header.dumpkeysize,
            blocksize: header.blocksize,
            compression: header.compression,
            hostname: text(header.hostname),
            versionstring: text(header.versionstring),
            panicstring: text(header.panicstring),
            parity: raw
                .last_chunk()
                .map_or(0, |bytes| u32::from_le_bytes(*bytes)),
        })
    }

    /// Whether the dump is a textdump: an archive of text files, written backwards.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.kind == HeaderKind::Text
    }

    /// Whether the dump is encrypted. A textdump never is, whatever its header says.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.dumpkeysize != 0 && !self.is_text()
    }

    /// Whether the dump's bytes are memory: not text, neither compressed nor encrypted.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.is_text() && self.compression == Compression::None && !self.is_encrypted()
    }

    /// `none`, `gzip`, `zstd`, or `???` for a number without a known meaning.
    #[must_use]
    pub const fn compression_name(&self) -> &'static str {
        match self.compression {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Unknown(_) => "???",
        }
    }

    /// The magic, as it was before the header was marked as saved.
    #[must_use]
    pub fn magic(&self) -> &'static str {
        let magic = if self.is_text() { MAGIC_TEXT } else { MAGIC };
        std::str::from_utf8(magic).unwrap_or_default()
    }

    /// The dump's time in UTC, as `info.N` has it: `2025-01-31 14:03:22 +0000`.
    #[must_use]
    pub fn time(&self) -> String {
        utc(self.dumptime).replace("UTC", "+0000")
    }
}

/// By the names that savecore's `info.N` has for the fields.
impl Serialize for DeviceHeader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("DeviceHeader", 15)?;
        fields.serialize_field("architecture", &self.architecture)?;
        fields.serialize_field("architecture_version", &self.architectureversion)?;
        fields.serialize_field("dump_length_bytes", &self.dumplength)?;
        fields.serialize_field("blocksize", &self.blocksize)?;
        fields.serialize_field("compression", self.compression_name())?;
        fields.serialize_field("dumptime", &self.time())?;
        fields.serialize_field("hostname", &self.hostname)?;
        fields.serialize_field("magic", self.magic())?;
        fields.serialize_field("version_string", &self.versionstring)?;
        fields.serialize_field("panic_string", &self.panicstring)?;
        fields.serialize_field("dump_parity", &self.parity)?;
        fields.serialize_field("header_version", &self.version)?;
        fields.serialize_field("extent_bytes", &self.dumpextent)?;
        fields.serialize_field("key_bytes", &self.dumpkeysize)?;
        let dump_type = if self.is_text() { "textdump" } else { "kernel" };
        fields.serialize_field("dump_type", dump_type)?;
        fields.end()
    }
}
