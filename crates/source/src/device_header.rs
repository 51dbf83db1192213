//! What the header of a dump device says of the dump.

use vmcore_format::kerneldump::DumpHeader;

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
