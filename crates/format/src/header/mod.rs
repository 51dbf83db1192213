//! The minidump header: which architecture and version, and how long each section is.
//!
//! Source of truth: `sys/<arch>/include/minidump.h` of FreeBSD, one file here for each. The magic
//! is a NUL-padded string; the version is a plain integer in the kernel's byte order at byte 24.
//! Fields that a version does not have are ignored, whatever they hold. Everything here is
//! decoded but not believed: sizes are checked against the file by [`crate::layout`].
//!
//! ```
//! use vmcore_format::header::{Header, HeaderError};
//! let mut page = [0u8; 4096];
//! page[..22].copy_from_slice(b"minidump FreeBSD/amd64");
//! page[24] = 9;
//! assert_eq!(
//!     Header::parse(&page),
//!     Err(HeaderError::BadVersion { arch: "amd64", version: 9, newest: 3 })
//! );
//! ```

mod amd64;
mod arm64;
mod i386;
mod riscv64;

use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::arch::Arch;
use crate::bitmap::WordOrder;
use crate::endian::Endian;
use core::fmt;
use thiserror::Error;

/// The first bytes of every minidump.
pub const MINIDUMP_PREFIX: &[u8; 8] = b"minidump";

/// Bytes of the magic field, except on powerpc64.
const MAGIC_LEN: usize = 24;

/// Architectures that have minidumps but no reader here yet: their magic is named in the error.
const KNOWN_UNREAD: [&str; 4] = [
    "minidump FreeBSD/arm",
    "minidump FreeBSD/mips",
    "minidump FreeBSD/powerpc64",
    "minidump DFlyBSD/x86_64",
];

/// The linear mapping of physical memory in the kernel's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DirectMap {
    /// First virtual address.
    pub base: VirtAddr,
    /// First virtual address behind it.
    pub end: VirtAddr,
    /// Physical address that `base` maps.
    pub phys: PhysAddr,
}

impl DirectMap {
    /// The physical address behind `va`, or `None` outside the direct map.
    #[inline]
    #[must_use]
    pub const fn phys_of(&self, va: VirtAddr) -> Option<PhysAddr> {
        if va.0 < self.base.0 || va.0 >= self.end.0 {
            return None;
        }
        self.phys.checked_add(va.0 - self.base.0)
    }

    /// The virtual address of `pa`, or `None` if the direct map does not reach it.
    #[inline]
    #[must_use]
    pub const fn virt_of(&self, pa: PhysAddr) -> Option<VirtAddr> {
        let Some(offset) = pa.checked_sub(self.phys) else {
            return None;
        };
        match self.base.checked_add(offset) {
            Some(va) if va.0 < self.end.0 => Some(va),
            _ => None,
        }
    }
}

/// A minidump header of any architecture and version, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Architecture, from the magic.
    pub arch: Arch,
    /// Version of the header, 1 to [`newest_version`].
    pub version: u32,
    /// Byte order of the header, `dump_avail` and the page tables.
    pub endian: Endian,
    /// Page size of every section.
    pub page_size: PageSize,
    /// Bytes of the message buffer's ring.
    pub msgbufsize: u32,
    /// Bytes of the page bitmap.
    pub bitmapsize: u32,
    /// Bytes of the page-table section (`ptesize` in older versions).
    pub pmapsize: u32,
    /// Bytes of the `dump_avail` array; `None` in versions without it.
    pub dumpavailsize: Option<u32>,
    /// First virtual address that the page-table section covers.
    pub kernbase: VirtAddr,
    /// The direct map; `None` where the architecture has none.
    pub direct_map: Option<DirectMap>,
    /// i386 only: the page-table section holds 64-bit entries.
    pub pae: bool,
}

/// Why bytes are not a minidump header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file does not start with `minidump`.
    #[error("not a minidump: it does not start with \"minidump\"")]
    NotMinidump,
    /// The magic field has no terminating NUL, or names nothing known.
    #[error("a minidump with the unknown magic \"{}\"", printable(.0))]
    UnknownMagic([u8; MAGIC_LEN]),
    /// A minidump of a system that is known but not read.
    #[error("a dump with the magic \"{0}\", which is not supported yet")]
    UnsupportedArch(&'static str),
    /// The file ends inside the header.
    #[error("truncated inside the minidump header: {have} bytes, {need} needed")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes that the header has.
        need: usize,
    },
    /// A version that nobody has written yet.
    #[error("{arch} minidump version {version}; versions 1 to {newest} are known")]
    BadVersion {
        /// Name of the architecture.
        arch: &'static str,
        /// The version in the file.
        version: u32,
        /// The newest version known.
        newest: u32,
    },
    /// The version makes sense only in the other byte order.
    #[error(
        "{arch} minidump version {version} in the other byte order: not a {arch} kernel's dump"
    )]
    OtherEndian {
        /// Name of the architecture.
        arch: &'static str,
        /// The version after swapping its bytes.
        version: u32,
    },
    /// arm64 with a page size that FreeBSD has not defined.
    #[error("unsupported page size: the page-size flags are {0}")]
    PageSize(u32),
    /// A header to be written says what its architecture and version cannot.
    #[error("this minidump version cannot express {0}")]
    Unwritable(&'static str),
}

/// The newest minidump version of an architecture.
#[must_use]
pub const fn newest_version(arch: Arch) -> u32 {
    match arch {
        Arch::Amd64 | Arch::Arm64 => 3,
        Arch::I386 | Arch::Riscv64 => 2,
    }
}

/// Whether minidumps of this version number their pages by `dump_avail`.
#[must_use]
pub const fn has_dump_avail(arch: Arch, version: u32) -> bool {
    match arch {
        Arch::Amd64 => version >= 3,
        Arch::Arm64 | Arch::I386 | Arch::Riscv64 => version >= 2,
    }
}

/// The full magic string of an architecture's minidumps.
#[must_use]
pub const fn magic(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "minidump FreeBSD/amd64",
        Arch::Arm64 => "minidump FreeBSD/arm64",
        Arch::I386 => "minidump FreeBSD/i386",
        Arch::Riscv64 => "minidump FreeBSD/riscv",
    }
}

impl Header {
    /// Decodes the header at the start of a dump. `bytes` are the file's first bytes: a page, or
    /// all there is.
    ///
    /// # Errors
    /// Returns an error if the magic, the version or the page size is unknown, or if `bytes` end
    /// inside the header.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let arch = identify(bytes)?;
        let header = match arch {
            Arch::Amd64 => amd64::decode(bytes),
            Arch::Arm64 => arm64::decode(bytes),
            Arch::I386 => i386::decode(bytes),
            Arch::Riscv64 => riscv64::decode(bytes),
        }?;
        Ok(header)
    }

    /// Writes the header to the start of `page` and clears the rest of it.
    ///
    /// # Errors
    /// Returns an error if the version is unknown, if the header says what its architecture and
    /// version cannot express, or if `page` is too short.
    pub fn encode(&self, page: &mut [u8]) -> Result<(), HeaderError> {
        check_version(self.arch, self.version)?;
        if self.dumpavailsize.is_some() != has_dump_avail(self.arch, self.version) {
            return Err(HeaderError::Unwritable("dump_avail being there or not"));
        }
        page.fill(0);
        match self.arch {
            Arch::Amd64 => amd64::encode(self, page),
            Arch::Arm64 => arm64::encode(self, page),
            Arch::I386 => i386::encode(self, page),
            Arch::Riscv64 => riscv64::encode(self, page),
        }
    }

    /// The order of bits in the bitmap: little-endian for every kernel read here.
    #[must_use]
    pub const fn bitmap_order(&self) -> WordOrder {
        match (self.endian, self.arch) {
            (Endian::Little, _) => WordOrder::Little,
            (Endian::Big, Arch::I386) => WordOrder::Big32,
            (Endian::Big, _) => WordOrder::Big64,
        }
    }
}

/// Which architecture's magic is at the start of `bytes`: equality up to the first NUL, as in
/// FreeBSD, so that `arm` and `arm64` are kept apart.
fn identify(bytes: &[u8]) -> Result<Arch, HeaderError> {
    if !bytes.starts_with(MINIDUMP_PREFIX) {
        return Err(HeaderError::NotMinidump);
    }
    let field: &[u8; MAGIC_LEN] = bytes.first_chunk().ok_or(HeaderError::Truncated {
        have: bytes.len(),
        need: MAGIC_LEN,
    })?;
    // powerpc64's field is longer than the others and has its NUL behind them.
    let text = until_nul(bytes.get(..32).unwrap_or(field));
    if let Some(arch) = Arch::ALL
        .into_iter()
        .find(|arch| magic(*arch).as_bytes() == text)
    {
        return Ok(arch);
    }
    match KNOWN_UNREAD
        .into_iter()
        .find(|known| known.as_bytes() == text)
    {
        Some(known) => Err(HeaderError::UnsupportedArch(known)),
        None => Err(HeaderError::UnknownMagic(*field)),
    }
}

/// The bytes in front of the first NUL.
fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A magic for people: a file may hold anything there.
fn printable(magic: &[u8]) -> impl fmt::Display + '_ {
    until_nul(magic).escape_ascii()
}

/// Checks a version against the newest one, recognising a swapped one.
fn check_version(arch: Arch, version: u32) -> Result<u32, HeaderError> {
    let newest = newest_version(arch);
    if (1..=newest).contains(&version) {
        return Ok(version);
    }
    let swapped = version.swap_bytes();
    if (1..=newest).contains(&swapped) {
        return Err(HeaderError::OtherEndian {
            arch: arch.name(),
            version: swapped,
        });
    }
    Err(HeaderError::BadVersion {
        arch: arch.name(),
        version,
        newest,
    })
}

/// The structure at the start of `bytes`.
fn read<T>(bytes: &[u8]) -> Result<&T, HeaderError>
where
    T: zerocopy::FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    T::ref_from_prefix(bytes)
        .map(|(header, _)| header)
        .map_err(|_| HeaderError::Truncated {
            have: bytes.len(),
            need: size_of::<T>(),
        })
}

/// The magic of an architecture, padded with NULs.
fn magic_field(arch: Arch) -> [u8; MAGIC_LEN] {
    let mut field = [0; MAGIC_LEN];
    for (to, from) in field.iter_mut().zip(magic(arch).as_bytes()) {
        *to = *from;
    }
    field
}

/// Writes a structure to the start of `page`.
fn write<T>(raw: &T, page: &mut [u8]) -> Result<(), HeaderError>
where
    T: zerocopy::IntoBytes + zerocopy::Immutable,
{
    let have = page.len();
    raw.write_to_prefix(page)
        .map_err(|_| HeaderError::Truncated {
            have,
            need: size_of::<T>(),
        })
}

#[cfg(test)]
mod encoded;
#[cfg(test)]
mod tests;
