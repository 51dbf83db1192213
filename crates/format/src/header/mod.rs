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

pub(crate) mod amd64;
pub(crate) mod arm;
pub(crate) mod arm64;
pub(crate) mod i386;
pub(crate) mod mips;
pub(crate) mod powerpc64;
pub(crate) mod riscv64;

use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::arch::{Arch, MinidumpFacts};
use crate::bitmap::WordOrder;
use crate::endian::{Endian, Width};
use core::fmt;
use thiserror::Error;

/// The first bytes of every minidump.
pub const MINIDUMP_PREFIX: &[u8; 8] = b"minidump";

/// Bytes of the magic field, except on powerpc64.
const MAGIC_LEN: usize = 24;
/// Bytes of powerpc64's.
const LONG_MAGIC_LEN: usize = 32;

/// Minidumps of systems that are known but not read: their magic is named in the error.
const KNOWN_UNREAD: [&str; 1] = ["minidump DFlyBSD/x86_64"];

/// How the kernel's addresses are translated, where an architecture has more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mmu {
    /// In the architecture's only way.
    Usual,
    /// i386: 64-bit entries.
    Pae,
    /// arm before version 6: descriptors of type 3 are tiny pages.
    ArmV4,
    /// powerpc64.
    Powerpc64(Powerpc64Mmu),
}

/// What powerpc64's header says besides the sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Powerpc64Mmu {
    /// The section is a hashed page table, not the root of a radix tree.
    pub hashed: bool,
    /// `kernend`: the last address of the kernel map.
    pub kernend: VirtAddr,
    /// `hw_direct_map`: hashed entries of the direct map are for 16 MiB pages.
    pub hw_direct_map: bool,
    /// `startkernel`: where the kernel, linked at [`Powerpc64Mmu::LINKED_AT`], ran.
    pub startkernel: VirtAddr,
    /// `endkernel`.
    pub endkernel: VirtAddr,
}

impl Powerpc64Mmu {
    /// The address that powerpc64 kernels are linked at.
    pub const LINKED_AT: u64 = 0x10_0100;

    /// How far the kernel ran from where it was linked.
    #[must_use]
    pub const fn displacement(&self) -> u64 {
        self.startkernel.0.wrapping_sub(Self::LINKED_AT)
    }
}

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
    /// How addresses are translated, where the architecture has more than one way.
    pub mmu: Mmu,
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
    /// powerpc64: a hashed page table is a power of two of groups, 128 bytes each.
    #[error("the hashed page table has {0} bytes, not a power of two of 128-byte groups")]
    HashedTable(u32),
    /// A header to be written says what its architecture and version cannot.
    #[error("this minidump version cannot express {0}")]
    Unwritable(&'static str),
}

/// The newest minidump version of an architecture; 0 if it has no minidumps.
#[must_use]
pub fn newest_version(arch: Arch) -> u32 {
    let facts = arch.facts().minidump.as_ref();
    let versions = facts.map_or(0, |facts| facts.header_bytes.len());
    u32::try_from(versions).unwrap_or(0)
}

/// Whether minidumps of this version number their pages by `dump_avail`.
#[must_use]
pub const fn has_dump_avail(arch: Arch, version: u32) -> bool {
    match &arch.facts().minidump {
        Some(facts) => version >= facts.dump_avail_since,
        None => false,
    }
}

/// The full magic string of an architecture's minidumps; empty if it has none.
#[must_use]
pub const fn magic(arch: Arch) -> &'static str {
    match &arch.facts().minidump {
        Some(facts) => facts.magic,
        None => "",
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
        let facts = identify(bytes)?;
        (facts.decode)(bytes)
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
        match &self.arch.facts().minidump {
            Some(facts) => (facts.encode)(self, page),
            None => Err(HeaderError::Unwritable("this architecture")),
        }
    }

    /// Bytes of the structure of its version: behind them the header page is zero.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let lengths = self
            .arch
            .facts()
            .minidump
            .as_ref()
            .map(|facts| facts.header_bytes);
        let number = self
            .version
            .checked_sub(1)
            .and_then(|number| usize::try_from(number).ok());
        number
            .and_then(|number| lengths?.get(number))
            .copied()
            .unwrap_or(0)
    }

    /// The order of bits in the bitmap: of the kernel's words, or of 32-bit ones in early versions.
    #[must_use]
    pub const fn bitmap_order(&self) -> WordOrder {
        let facts = self.arch.facts();
        let word = match &facts.minidump {
            Some(minidump) if self.version < minidump.bitmap_of_words_since => Width::W32,
            _ => facts.word,
        };
        WordOrder::of(self.endian, word)
    }

    /// Whether the addresses of `dump_avail` could have 32 bits: [`crate::dump_avail::is_narrow`] tells.
    #[must_use]
    pub fn could_have_narrow_ranges(&self) -> bool {
        let facts = self.arch.facts().minidump.as_ref();
        facts.is_some_and(|facts| facts.has_narrow_dump_avail)
    }

    /// Whether the page-table section holds 64-bit entries of an i386.
    #[must_use]
    pub const fn is_pae(&self) -> bool {
        matches!(self.mmu, Mmu::Pae)
    }

    /// How far the kernel ran from the addresses in its file.
    #[must_use]
    pub const fn displacement(&self) -> u64 {
        match &self.mmu {
            Mmu::Powerpc64(mmu) => mmu.displacement(),
            _ => 0,
        }
    }
}

/// Which architecture's magic is at the start of `bytes`: equality up to the first NUL, as in
/// FreeBSD, so that `arm` and `arm64` are kept apart.
fn identify(bytes: &[u8]) -> Result<&'static MinidumpFacts, HeaderError> {
    if !bytes.starts_with(MINIDUMP_PREFIX) {
        return Err(HeaderError::NotMinidump);
    }
    let field: &[u8; MAGIC_LEN] = bytes.first_chunk().ok_or(HeaderError::Truncated {
        have: bytes.len(),
        need: MAGIC_LEN,
    })?;
    // powerpc64's field is longer than the others and has its NUL behind them.
    let text = until_nul(bytes.get(..LONG_MAGIC_LEN).unwrap_or(bytes));
    let mut known = Arch::ALL
        .into_iter()
        .filter_map(|arch| arch.facts().minidump.as_ref());
    if let Some(facts) = known.clone().find(|facts| facts.magic.as_bytes() == text) {
        return Ok(facts);
    }
    // Only a long magic can be cut behind `MAGIC_LEN`.
    let is_cut = text.len() == bytes.len();
    if is_cut && known.any(|facts| facts.magic.as_bytes().starts_with(text)) {
        return Err(HeaderError::Truncated {
            have: bytes.len(),
            need: LONG_MAGIC_LEN,
        });
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

/// The byte order in which `version` makes sense, for architectures that know both; little-endian if
/// neither does.
fn order_of(arch: Arch, version: [u8; 4]) -> Endian {
    let newest = newest_version(arch);
    match Endian::Big.u32(version) {
        big if (1..=newest).contains(&big) => Endian::Big,
        _ => Endian::Little,
    }
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
